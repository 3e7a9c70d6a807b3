package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

// writeNew makes a file that must not be there yet. The content appears whole
// or not at all, except after a crash, when the file may be cut short.
func writeNew(path string, data []byte) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return refuse("Name another file with --out, or move the old one away.", "%s is there already", path)
	}
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return durable.SyncDir(filepath.Dir(path))
}

// replace exchanges the content of a file in one step.
func replace(path string, data []byte) error {
	if err := durable.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// save writes a document: over the file it was read from, or to a new one.
func save(d document, to string) error {
	data, err := d.draft.Bytes()
	if err != nil {
		return err
	}
	if to == "" || filepath.Clean(to) == filepath.Clean(d.file) {
		return putBack(d, data)
	}
	return writeNew(to, data)
}

// putBack replaces the file that a document was read from, unless somebody else
// has signed it since: people take minutes to read.
func putBack(d document, data []byte) error {
	if d.raw != nil {
		there, err := release.ReadDocument(d.file)
		if err != nil {
			return err
		}
		if !bytes.Equal(there, d.raw) {
			return refuse("Run the command again, so that nobody's signature is lost.", "%s was changed meanwhile", d.file)
		}
	}
	return replace(d.file, data)
}

// mayPutBack refuses a link: writing through it could reach anything, and
// replacing it would leave the file that people mean as it was.
func mayPutBack(file string) error {
	if info, err := os.Lstat(file); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return refuse("Name the file itself, or write to another one with --out.", "%s is a link", file)
	}
	return nil
}

// document is a file of any of the three kinds, unverified.
type document struct {
	file  string
	raw   []byte // as it was read; nil: it was made here
	draft *manifest.Draft
}

// openDocument tells the kinds apart by trying: a file of one kind never parses
// as another.
func openDocument(file string) (document, error) {
	raw, err := release.ReadDocument(file)
	if err != nil {
		return document{}, err
	}
	var reasons []error
	for _, open := range []func([]byte) (*manifest.Draft, error){
		manifest.OpenManifestDraft, manifest.OpenPointerDraft, manifest.OpenRootDraft,
	} {
		draft, err := open(raw)
		if err == nil {
			return document{file, raw, draft}, nil
		}
		reasons = append(reasons, err)
	}
	return document{}, fmt.Errorf("%s: %w", file, mostTelling(reasons))
}

// mostTelling picks the reason of the kind that the file is: the others only
// say that it is not theirs.
func mostTelling(reasons []error) error {
	for _, err := range reasons {
		var refused *manifest.Error
		if errors.As(err, &refused) && refused.Rule != manifest.RuleMalformed && refused.Rule != manifest.RuleSize {
			return err
		}
	}
	return refuse("Name a root, manifest or pointer file.", "neither a root nor a manifest nor a pointer (%w)", reasons[0])
}

func openRootDraft(file string) (document, error) {
	return openKind(file, "root", manifest.OpenRootDraft)
}

func openManifestDraft(file string) (document, error) {
	return openKind(file, "manifest", manifest.OpenManifestDraft)
}

func openPointerDraft(file string) (document, error) {
	return openKind(file, "pointer", manifest.OpenPointerDraft)
}

func openKind(file, kind string, open func([]byte) (*manifest.Draft, error)) (document, error) {
	raw, err := release.ReadDocument(file)
	if err != nil {
		return document{}, err
	}
	draft, err := open(raw)
	if err == nil {
		return document{file, raw, draft}, nil
	}
	if other, otherErr := openDocument(file); otherErr == nil {
		return document{}, usage("%s is a %s, not a %s", file, other.draft.Object(), kind)
	}
	return document{}, fmt.Errorf("%s: %w", file, err)
}

// names are the file names of public keys, by key id. They help people to read;
// what is signed and compared are the ids.
type names map[string]string

// maxNames bounds how many .pub files are looked at.
const maxNames = 256

// findNames reads the .pub files of this folder and of those that hold files.
// What cannot be read has no name, that is all. The names of this folder come
// first; others show where they are from, as somebody else may have chosen them.
func findNames(files ...string) names {
	found := names{}
	folders := []string{"."}
	for _, file := range files {
		if folder := filepath.Dir(file); !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	for _, folder := range folders {
		list, _ := filepath.Glob(filepath.Join(folder, "*.pub"))
		for _, file := range list[:min(len(list), maxNames)] {
			pub, err := keyfile.ReadPublic(file)
			if err != nil {
				continue
			}
			if id := dsse.KeyID(pub); found[id] == "" {
				found[id] = term.Clean(file)
			}
		}
	}
	return found
}

func (n names) of(id string) string {
	if name, ok := n[id]; ok {
		return name
	}
	return "-"
}

var rootFile = regexp.MustCompile(`^[1-9][0-9]{0,17}\.root\.json$`)

// chain is a series of roots in which each is the successor of the one before.
// The first one is what the person trusts.
type chain []release.RootFile

func (c chain) newest() *manifest.Root { return c[len(c)-1].Root }

// files are those that the roots were read from.
func (c chain) files() (list []string) {
	for _, f := range c {
		list = append(list, f.Name)
	}
	return list
}

// openChain reads roots from files and folders. The one with the lowest version
// is trusted because the person named it; every other one has to follow from it
// step by step, as on a machine.
func openChain(paths []string) (chain, error) {
	files, err := rootFiles(paths)
	if err != nil {
		return nil, err
	}
	var list []release.RootFile
	for _, file := range files {
		d, err := openRootDraft(file)
		if err != nil {
			return nil, err
		}
		list = append(list, release.RootFile{Name: file, Raw: d.raw, Draft: d.draft})
	}
	c, err := release.Chain(list)
	return c, asPublisher(err)
}

// rootFiles lists the files that paths mean: a folder stands for all its
// N.root.json, or for its root.json if it has none.
func rootFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		found, err := rootsIn(path)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, refuse("Name the root file itself.", "%s holds neither a root.json nor an N.root.json", path)
		}
		files = append(files, found...)
	}
	return files, nil
}

func rootsIn(folder string) (found []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	plain := ""
	for _, e := range entries {
		switch {
		case rootFile.MatchString(e.Name()):
			found = append(found, filepath.Join(folder, e.Name()))
		case e.Name() == "root.json":
			plain = filepath.Join(folder, e.Name())
		}
	}
	if len(found) == 0 && plain != "" {
		found = append(found, plain)
	}
	return found, nil
}
