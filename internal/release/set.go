package release

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// Set is a release that was signed by people elsewhere, on its way into a
// published folder. What is missing in it (no new root, the same files, the
// same manifest under a fresh pointer) is taken from the folder; it is checked
// like the rest.
type Set struct {
	Dir      string            // the folder that is served
	Pointer  []byte            // pointer file; required
	Manifest []byte            // manifest file; nil: the folder's
	Proof    []byte            // log proof; nil: the folder's, if the manifest is as well
	Roots    [][]byte          // root files, in any order; those of the folder are added
	Files    map[string]string // paths by name: kernel, initramfs, rootfs, "dtb NAME"
	Blobs    []string          // further files to serve by digest
	Patches  string            // folder to take patches from, as Patcher.Dir; empty: they are in Dir

	Log      *logproof.Policy // what media ask of log proofs; nil: nothing
	Now      time.Time
	Progress Progress // nil: nobody is told
}

// Checked is a Set that a machine with version 1 of the root would boot.
type Checked struct {
	layout  layout
	Channel string
	Arch    string
	Release int64     // manifest version
	Roots   []int64   // versions
	Expires time.Time // of the pointer
	Patches []Patch   // that the manifest names; of what releases is not known
	Notes   []string  // what a person should know before it is written
}

// FolderError says why a set must not replace what is published.
type FolderError struct{ Detail, Advice string }

func (e *FolderError) Error() string { return e.Detail }

// Hint says in one sentence what to do next.
func (e *FolderError) Hint() string { return e.Advice }

// Check applies every check that a machine makes, from version 1 of the root
// on, and compares with what is published already: a machine that followed the
// folder must be able to follow the set. Nothing is written.
func (s Set) Check() (*Checked, error) {
	meant, err := manifest.InspectPointer(s.Pointer)
	if err != nil {
		return nil, err
	}
	home := filepath.Join(s.Dir, meant.Channel, meant.Arch) // names that InspectPointer checked
	chain, err := s.chain(home)
	if err != nil {
		return nil, err
	}
	root := chain[len(chain)-1].Root
	if s, err = s.withDocuments(home); err != nil {
		return nil, err
	}
	v := manifest.Verifier{Root: root, Log: s.Log, Want: manifest.Want{Channel: meant.Channel, Arch: meant.Arch}}
	floor, notes, err := s.published(home, v, chain, meant)
	if err != nil {
		return nil, err
	}
	v.Floor = floor
	ptr, err := v.Pointer(s.Pointer, s.Now)
	if err != nil {
		return nil, err
	}
	verified, err := v.Manifest(s.Manifest, s.Proof, ptr, s.Now)
	if err != nil {
		return nil, err
	}
	c := &Checked{
		layout: layout{
			dir: s.Dir, home: home, blobs: s.Blobs, patches: s.Patches, roots: chain,
			manifest: s.Manifest, proof: s.Proof, pointer: s.Pointer, progress: s.Progress,
		},
		Channel: meant.Channel, Arch: meant.Arch, Release: meant.ManifestVersion, Expires: meant.ExpiresAt,
		Notes: append(notes, outlived(ptr.Pointer(), verified.Manifest(), root)...),
	}
	for version := range root.Version() {
		c.Roots = append(c.Roots, version+1)
	}
	if c.layout.artifacts, err = s.sources(verified.Manifest()); err != nil {
		return nil, err
	}
	c.Patches, err = c.layout.findPatches()
	return c, err
}

// Dir is <dir>/<channel>/<arch>.
func (c *Checked) Dir() string { return c.layout.home }

// Write lays the release out. Files are hashed as they are copied; one that is
// not the file that was signed ends the work before anything that has a name
// was changed. What an interrupted Write has left is removed: hold the Lock.
func (c *Checked) Write() error {
	if err := c.layout.sweep(); err != nil {
		return err
	}
	return c.layout.write()
}

// withDocuments completes a set with the manifest and the proof of the folder.
func (s Set) withDocuments(home string) (Set, error) {
	there, err := ReadDocument(filepath.Join(home, manifestName))
	if s.Manifest != nil && (err != nil || !bytes.Equal(s.Manifest, there)) {
		return s, s.keepsProof(home)
	}
	if err != nil {
		return s, fmt.Errorf("no manifest was given, and the folder's cannot be read: %w", err)
	}
	s.Manifest = there
	if s.Proof == nil {
		s.Proof, err = ReadDocument(filepath.Join(home, proofName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	return s, nil
}

// keepsProof refuses to follow a release that has a log proof by one that has
// none: media that ask for proofs could not boot it.
func (s Set) keepsProof(home string) error {
	_, err := os.Lstat(filepath.Join(home, proofName))
	if s.Proof != nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return &FolderError{"the published release has a log proof and this one has none: media with a log policy would refuse it",
		"Name its log proof; or, if no medium asks for one, remove " + filepath.Join(home, proofName) + "."}
}

// sources finds the file for each artifact: the one that was given, or the
// folder's own.
func (s Set) sources(m manifest.Manifest) ([]placed, error) {
	list := artifactsOf(m)
	for i, a := range list {
		path, given := s.Files[a.name]
		if !given {
			path = BlobPath(s.Dir, a.want)
		}
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) && !given {
			return nil, &FolderError{fmt.Sprintf("the folder does not hold the %s of this release yet (%s)", a.name, a.want), "Name the file as well."}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.name, err)
		}
		if info.Size() != a.size {
			return nil, fmt.Errorf("%s %s: %w", a.name, path, &blob.MismatchError{Want: a.want, WantSize: a.size, GotSize: info.Size()})
		}
		list[i].path = path
	}
	for name := range s.Files {
		if !slices.ContainsFunc(list, func(a placed) bool { return a.name == name }) {
			return nil, &FolderError{fmt.Sprintf("the manifest has no %s", name), "Leave that file out, or check which manifest this is."}
		}
	}
	return list, nil
}

var numbered = regexp.MustCompile(`^[1-9][0-9]{0,8}\.root\.json$`)

// chain joins the roots that were given with those of the folder, and follows
// them from version 1 to the newest as the oldest machine has to.
func (s Set) chain(home string) ([]RootFile, error) {
	var list []RootFile
	add := func(raw []byte, name string) error {
		f, err := OpenRoot(name, raw)
		list = append(list, f)
		return err
	}
	for _, raw := range s.Roots {
		if err := add(raw, "a root that was given"); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(home)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if !numbered.MatchString(e.Name()) {
			continue
		}
		raw, err := ReadDocument(filepath.Join(home, e.Name()))
		if err != nil {
			return nil, err
		}
		if err := add(raw, "the published "+e.Name()); err != nil {
			return nil, err
		}
	}
	chain, err := Chain(list)
	switch {
	case err != nil:
		return nil, err
	case len(chain) == 0:
		return nil, &FolderError{"there is no root", "Give every root from version 1 on."}
	case chain[0].Root.Version() != 1:
		return nil, &FolderError{"root version 1 is missing: a machine with an older root could not follow", "Give every root from version 1 on."}
	}
	return chain, nil
}

// published returns the floor of a machine that followed the folder until now.
// A pointer in the folder counts if the newest root vouches for it, or if the
// root that was in force vouched for it and for its manifest: an ordinary change
// of keys makes nobody forget a release. What a thief has left there, who had
// one of the keys that were replaced, is no reason to keep a proper release back.
func (s Set) published(home string, v manifest.Verifier, chain []RootFile, next manifest.Pointer) (floor manifest.Floor, notes []string, err error) {
	raw, err := ReadDocument(filepath.Join(home, pointerName))
	if errors.Is(err, fs.ErrNotExist) {
		return floor, nil, nil
	}
	if err != nil {
		return floor, nil, err
	}
	seen, err := manifest.InspectPointer(raw)
	old := s.named(home, seen)
	if err == nil {
		// Judged on the day it was made: its age is no reason to forget it.
		_, err = v.Pointer(raw, seen.CreatedAt)
	}
	if err != nil {
		notes = []string{"the published pointer does not count under the newest root and is replaced: " + err.Error()}
		if !vouched(raw, old, seen, v, chain) {
			return floor, notes, nil
		}
	}
	floor = manifest.Floor{ManifestVersion: seen.ManifestVersion, RootVersion: seen.RootVersion}
	if d, err := manifest.OpenManifestDraft(old); err == nil {
		floor.Digest = d.Digest()
	}
	if err != nil {
		return floor, notes, nil // whoever had the replaced key may have chosen its date
	}
	forgotten := v.Root.EffectiveFloor(seen.Channel, floor) != floor
	if !forgotten && next.CreatedAt.Before(seen.CreatedAt) {
		return floor, nil, &FolderError{
			fmt.Sprintf("the published pointer is newer (made at %s, this one at %s)", stamp(seen.CreatedAt), stamp(next.CreatedAt)),
			"Sign a new pointer."}
	}
	return floor, nil, nil
}

// named returns the manifest that a published pointer names, nil if there is none.
// Where a publication was interrupted, manifest.json is another one already.
func (s Set) named(home string, p manifest.Pointer) []byte {
	for _, path := range []string{filepath.Join(home, manifestName), BlobPath(s.Dir, p.ManifestHash)} {
		if raw, err := ReadDocument(path); err == nil && blob.Of(raw) == p.ManifestHash {
			return raw
		}
	}
	return nil
}

// vouched reports whether pointer and manifest were right, on the day the
// pointer was made, under the root that it names. v is the verifier under the
// newest root.
func vouched(pointer, old []byte, seen manifest.Pointer, v manifest.Verifier, chain []RootFile) bool {
	if seen.RootVersion < 1 || seen.RootVersion > int64(len(chain)) {
		return false
	}
	v.Root, v.Log = chain[seen.RootVersion-1].Root, nil
	verified, err := v.Pointer(pointer, seen.CreatedAt)
	if err == nil {
		_, err = v.Manifest(old, nil, verified, seen.CreatedAt)
	}
	return err == nil
}

// outlived says what ends before the pointer does: machines stop there.
func outlived(p manifest.Pointer, m manifest.Manifest, root *manifest.Root) (notes []string) {
	if m.ExpiresAt.Before(p.ExpiresAt) {
		notes = append(notes, fmt.Sprintf("the manifest expires at %s, before its pointer", stamp(m.ExpiresAt)))
	}
	if root.Expires().Before(p.ExpiresAt) {
		notes = append(notes, fmt.Sprintf("root version %s expires at %s, before the pointer", strconv.FormatInt(root.Version(), 10), stamp(root.Expires())))
	}
	return notes
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
