package release

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/delta"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/manifest"
)

// worth is by how much smaller than its artifact a patch has to be, as a divisor.
// A patch asks more of everybody than the artifact does: it lies on fewer
// providers, it is checked only when it has been applied, and a machine for which
// it comes to nothing has fetched it in vain. At half of the artifact such a
// machine fetches one and a half times as much; above half, one for which all
// goes well would not even gain the factor that others risk.
const worth = 2

// Previous is a release whose machines shall get the next one by patches.
type Previous struct {
	Dir      string // a folder with its files, as published: <dir>/blobs/<aa>/<hex>.bin
	Manifest manifest.Manifest
}

// OpenPrevious reads the release that is published in dir for a channel and an
// architecture or, if file is not empty, the one that this manifest file
// describes and whose files are in dir. Nobody's signature counts: who names
// another release than they mean gets patches that nobody can use.
func OpenPrevious(dir, channel, arch, file string) (Previous, error) {
	if file == "" {
		file = filepath.Join(dir, channel, arch, manifestName)
	}
	raw, err := ReadDocument(file)
	if err != nil {
		return Previous{}, fmt.Errorf("previous release: %w", err)
	}
	d, err := manifest.OpenManifestDraft(raw)
	if err != nil {
		return Previous{}, fmt.Errorf("previous release %s: %w", file, err)
	}
	return Previous{dir, d.Manifest()}, nil
}

// ParsePrevious reads what people write: FOLDER, or MANIFEST=FOLDER. A folder
// whose name has an equals sign in it is taken for a folder.
func ParsePrevious(text, channel, arch string) (Previous, error) {
	if info, err := os.Stat(text); err == nil && info.IsDir() {
		return OpenPrevious(text, channel, arch, "")
	}
	file, dir, ok := strings.Cut(text, "=")
	if !ok || file == "" || dir == "" {
		return Previous{}, &FolderError{fmt.Sprintf("%s is not a folder", text), "Name a published folder, or MANIFEST=FOLDER."}
	}
	return OpenPrevious(dir, channel, arch, file)
}

// artifact finds an artifact by the name that placed has.
func (p Previous) artifact(name string) (placed, bool) {
	list := artifactsOf(p.Manifest)
	i := slices.IndexFunc(list, func(a placed) bool { return a.name == name })
	if i < 0 {
		return placed{}, false
	}
	return list[i], true
}

// Patch says what came of patching an artifact of a previous release.
type Patch struct {
	Artifact string
	Release  int64 // the previous one's number; 0: not known
	Full     int64 // size of the artifact, bytes
	Delta    manifest.Delta
	Kept     bool   // false: the patch was too large to be worth it and is not there
	Refused  string // why there was none to look at; empty: it was made
}

// Percent is the size of the patch in hundredths of the artifact's.
func (p Patch) Percent() float64 { return 100 * float64(p.Delta.Size) / float64(max(p.Full, 1)) }

// Patcher makes patches from previous releases to the files of a new one.
type Patcher struct {
	Dir      string // patches are written to <dir>/blobs/<aa>/<hex>.bin
	Previous []Previous
	Progress Progress // nil: nobody is told
}

// Make makes the patches for the artifact called name, whose file is at path, and
// adds those that are worth it to a. Each was applied once, and gave the artifact.
// For an artifact of one chunk, one that a previous release had as it is, and one
// that is too large to be compared, there are none. Memory is that of package delta.
func (p Patcher) Make(name, path string, a *manifest.Artifact) ([]Patch, error) {
	if len(p.Previous) > manifest.MaxDeltas {
		return nil, &FolderError{fmt.Sprintf("%d previous releases, at most %d are allowed", len(p.Previous), manifest.MaxDeltas),
			"Name those that most machines still have."}
	}
	var made []Patch
	seen := map[blob.Digest]bool{a.Hash: true}
	for _, previous := range p.Previous {
		old, ok := previous.artifact(name)
		if !ok || seen[old.want] || a.Size <= blob.ChunkSize {
			continue
		}
		seen[old.want] = true
		old.path = BlobPath(previous.Dir, old.want)
		number := previous.Manifest.ManifestVersion
		patch := Patch{Artifact: name, Release: number, Full: a.Size}
		d, err := p.patch(old, placed{name: name, path: path, want: a.Hash, size: a.Size}, number)
		var refused *delta.Error
		switch {
		case errors.As(err, &refused) && refused.Reason == delta.TooLarge: // no reason to publish nothing
			patch.Refused = refused.Error()
		case err != nil:
			return made, fmt.Errorf("patch of the %s from release %d: %w", name, number, err)
		}
		patch.Delta, patch.Kept = d, !d.Hash.IsZero()
		if made = append(made, patch); patch.Kept {
			a.Deltas = append(a.Deltas, d)
		}
	}
	return made, nil
}

// patch makes one patch. If it is too large to be worth it, it has a size but no
// hash.
func (p Patcher) patch(old, new placed, number int64) (manifest.Delta, error) {
	switch f, err := Describe(old.path, nil); {
	case errors.Is(err, fs.ErrNotExist):
		return manifest.Delta{}, &FolderError{fmt.Sprintf("%s is missing", old.path), "Name the folder that holds the files of that release, or leave it out."}
	case err != nil:
		return manifest.Delta{}, err
	case f.Digest != old.want:
		return manifest.Delta{}, &blob.MismatchError{Want: old.want, Got: f.Digest, WantSize: old.size, GotSize: f.Size}
	}
	folder := filepath.Join(p.Dir, "blobs")
	if err := durable.MkdirAll(folder, 0o755); err != nil {
		return manifest.Delta{}, err
	}
	out, err := os.CreateTemp(folder, partial)
	if err != nil {
		return manifest.Delta{}, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	label := fmt.Sprintf("patch of %s from %d", new.name, number)
	size, err := p.write(out, old, new, label)
	if err != nil || size > new.size/worth {
		return manifest.Delta{From: old.want, Size: size}, err
	}
	if err := p.try(out.Name(), old, new, label); err != nil {
		return manifest.Delta{}, err
	}
	hash, err := p.keep(out)
	return manifest.Delta{From: old.want, Hash: hash, Size: size}, err
}

// write has the patch made. It counts the bytes of one that is too large but does
// not keep them.
func (p Patcher) write(out io.Writer, old, new placed, label string) (int64, error) {
	from, err := os.Open(old.path)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := os.Open(new.path)
	if err != nil {
		return 0, err
	}
	defer to.Close()
	told := &making{size: new.size, progress: p.Progress, name: label}
	capped := &capped{out: out, left: new.size / worth, told: told}
	if err := delta.Make(capped, from, old.size, watchedAt{to, told}, new.size); err != nil {
		return 0, err
	}
	return capped.size, told.end()
}

// try applies the patch in the file at path and compares what comes of it.
func (p Patcher) try(path string, old, new placed, label string) error {
	var watch func(int64) error
	if p.Progress != nil {
		watch = func(done int64) error { return p.Progress("check of "+label, min(done, new.size), new.size) }
	}
	return tryPatch(path, old, new, watch)
}

func tryPatch(path string, old, new placed, watch func(done int64) error) error {
	from, err := os.Open(old.path)
	if err != nil {
		return err
	}
	defer from.Close()
	patch, err := os.Open(path)
	if err != nil {
		return err
	}
	defer patch.Close()
	sum := result{Hash: sha256.New(), counter: counter{watch: watch}}
	if err := delta.Apply(&sum, from, old.size, patch, new.size); err != nil {
		return err
	}
	if got := blob.FromSum([sha256.Size]byte(sum.Sum(nil))); got != new.want || sum.done != new.size {
		return fmt.Errorf("what it makes is not the %s: %w", new.name, &blob.MismatchError{Want: new.want, Got: got, WantSize: new.size, GotSize: sum.done})
	}
	return nil
}

// result hashes and counts.
type result struct {
	hash.Hash
	counter
}

func (r *result) Write(b []byte) (int, error) {
	r.Hash.Write(b)
	return r.counter.Write(b)
}

// keep gives a finished patch the name of its digest.
func (p Patcher) keep(out *os.File) (blob.Digest, error) {
	f, err := Describe(out.Name(), nil)
	if err != nil {
		return blob.Digest{}, err
	}
	to := BlobPath(p.Dir, f.Digest)
	if err := durable.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return blob.Digest{}, err
	}
	if err := errors.Join(out.Chmod(0o644), out.Sync(), out.Close(), os.Rename(out.Name(), to)); err != nil {
		return blob.Digest{}, err
	}
	return f.Digest, durable.SyncDir(filepath.Dir(to))
}

// making tells how far the making of a patch is: it has begun with as much of the
// new file as was read, and is over only when end says so.
type making struct {
	done, size int64
	progress   Progress
	name       string
}

func (m *making) tell(read int64) error {
	if m.done = max(m.done, min(read, m.size-1)); m.progress == nil {
		return nil
	}
	return m.progress(m.name, m.done, m.size)
}

func (m *making) end() error {
	if m.progress == nil {
		return nil
	}
	return m.progress(m.name, m.size, m.size)
}

// watchedAt tells how far it was read.
type watchedAt struct {
	io.ReaderAt
	told *making
}

func (w watchedAt) ReadAt(b []byte, off int64) (int, error) {
	n, err := w.ReaderAt.ReadAt(b, off)
	if told := w.told.tell(off + int64(n)); told != nil {
		return 0, told
	}
	return n, err
}

// capped writes what fits and counts the rest.
type capped struct {
	out        io.Writer
	left, size int64
	told       *making
}

func (c *capped) Write(b []byte) (int, error) {
	if err := c.told.tell(0); err != nil {
		return 0, err
	}
	c.size += int64(len(b))
	fits := b[:min(int64(len(b)), c.left)]
	c.left -= int64(len(fits))
	if n, err := c.out.Write(fits); err != nil {
		return n, err
	}
	return len(b), nil
}
