package release

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/manifest"
)

// Names of the documents in the folder of a channel and architecture.
const (
	rootName     = "root.json" // the newest; version N is N.root.json as well
	manifestName = "manifest.json"
	proofName    = "manifest.tlog-proof"
	pointerName  = "pointer.json"
)

// layout is everything that belongs in a published folder.
type layout struct {
	dir, home string // the folder that is served; <dir>/<channel>/<arch>
	artifacts []placed
	blobs     []string // paths of further files
	patches   string   // folder with patches, as Patcher.Dir; empty: none but dir
	roots     []RootFile
	manifest  []byte
	proof     []byte // nil: none
	pointer   []byte
	progress  Progress
}

// placed is an artifact and where it comes from.
type placed struct {
	name string // "kernel", "initramfs", "rootfs"; or "dtb NAME", which is served by digest only
	path string
	want blob.Digest
	size int64

	chunks blob.Digest // of its chunk list; zero: none
	deltas []manifest.Delta
}

// named reports whether the artifact is served under its name as well.
func (a placed) named() bool { return !strings.Contains(a.name, " ") }

// Progress is told how many bytes of a file of size bytes were read. An error
// from it ends the work.
type Progress func(name string, done, size int64) error

// write lays everything out. What is found by its digest comes first, so that
// nothing which has a name changes before every file proved to be the one that
// was signed. The pointer comes last: a reader of the folder never sees one that
// names a manifest which is not there yet.
func (l layout) write() error {
	if err := durable.MkdirAll(l.home, 0o755); err != nil {
		return fmt.Errorf("make the release folder: %w", err)
	}
	for _, a := range l.artifacts {
		if err := l.placeWhole(a); err != nil {
			return fmt.Errorf("publish %s: %w", a.name, err)
		}
	}
	for _, path := range l.blobs {
		if err := l.placeExtra(path); err != nil {
			return fmt.Errorf("publish %s: %w", path, err)
		}
	}
	l.progress = nil // told once
	for _, a := range l.artifacts {
		if !a.named() {
			continue
		}
		if _, err := l.place(BlobPath(l.dir, a.want), filepath.Join(l.home, a.name), a); err != nil {
			return fmt.Errorf("publish %s: %w", a.name, err)
		}
	}
	return l.writeDocuments()
}

func (l layout) writeDocuments() error {
	var files []struct {
		path string
		data []byte
	}
	add := func(path string, data []byte) {
		files = append(files, struct {
			path string
			data []byte
		}{path, data})
	}
	for _, r := range l.roots {
		add(filepath.Join(l.home, fmt.Sprintf("%d.%s", r.Root.Version(), rootName)), r.Raw)
	}
	if n := len(l.roots); n > 0 {
		add(filepath.Join(l.home, rootName), l.roots[n-1].Raw)
	}
	add(BlobPath(l.dir, blob.Of(l.manifest)), l.manifest)
	if l.proof != nil {
		add(filepath.Join(l.home, proofName), l.proof)
	} else if err := os.Remove(filepath.Join(l.home, proofName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the log proof of another manifest: %w", err)
	}
	add(filepath.Join(l.home, manifestName), l.manifest)
	add(filepath.Join(l.home, pointerName), l.pointer)
	for _, f := range files {
		if err := writeChanged(f.path, f.data); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Base(f.path), err)
		}
	}
	return nil
}

// ReadDocument reads a signed document, proof or policy, a regular file: at most
// one byte more than the largest kind may have, for the parser to refuse.
func ReadDocument(path string) ([]byte, error) {
	data, err := durable.ReadSmall(path, manifest.MaxRootBytes, durable.FollowLinks)
	if errors.Is(err, durable.ErrTooLarge) {
		err = nil
	}
	return data, err
}

// writeChanged replaces a file unless it has this content already: whoever
// watches a folder sees a change only where there is one.
func writeChanged(path string, data []byte) error {
	if old, err := ReadDocument(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o644)
}

// placeWhole places an artifact with all that belongs to it, by digest.
func (l layout) placeWhole(a placed) error {
	chunks, err := l.place(a.path, BlobPath(l.dir, a.want), a)
	if err != nil {
		return err
	}
	if err := l.placeChunks(a, chunks); err != nil {
		return err
	}
	for _, d := range a.deltas {
		if err := l.placePatch(a, d); err != nil {
			return err
		}
	}
	return nil
}

// place copies the file at from to the path to, unless it is there already, and
// refuses it if it is not the one that was signed. The new file appears whole
// or not at all.
func (l layout) place(from, to string, a placed) (blob.Chunks, error) {
	if f, err := Describe(to, nil); err == nil && f.Digest == a.want && f.Size == a.size {
		return f.Chunks, nil
	}
	f, err := l.copy(from, to, a)
	return f.Chunks, err
}

func (l layout) copy(from, to string, a placed) (File, error) {
	in, err := os.Open(from)
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	if err := durable.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return File{}, err
	}
	out, err := os.CreateTemp(filepath.Dir(to), partial)
	if err != nil {
		return File{}, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	f, err := copyHashed(out, in, l.watch(a))
	if err != nil {
		return File{}, err
	}
	if f.Digest != a.want || f.Size != a.size {
		return f, &blob.MismatchError{Want: a.want, Got: f.Digest, WantSize: a.size, GotSize: f.Size}
	}
	if err := errors.Join(out.Chmod(0o644), out.Sync(), out.Close(), os.Rename(out.Name(), to)); err != nil {
		return File{}, err
	}
	return f, durable.SyncDir(filepath.Dir(to))
}

// partial is the name of a file that is being copied.
const partial = ".part-*"

func (l layout) sweep() error {
	for _, pattern := range []string{filepath.Join(l.home, partial), filepath.Join(l.dir, "blobs", partial), filepath.Join(l.dir, "blobs", "*", partial)} {
		left, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("look for what an interruption has left: %w", err)
		}
		for _, file := range left {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l layout) watch(a placed) func(int64) error {
	if l.progress == nil {
		return nil
	}
	return func(done int64) error { return l.progress(a.name, done, a.size) }
}

func (l layout) placeExtra(path string) error {
	f, err := Describe(path, nil)
	if err != nil {
		return err
	}
	_, err = l.place(path, BlobPath(l.dir, f.Digest), placed{name: filepath.Base(path), want: f.Digest, size: f.Size})
	return err
}

// BlobPath is where a file lies by its digest, below a provider's folder.
func BlobPath(dir string, d blob.Digest) string {
	return filepath.Join(dir, "blobs", d.Hex()[:2], d.Hex()+".bin")
}

// BlobURL is where a file is served by its digest, below a provider's base URL.
func BlobURL(base string, d blob.Digest) string {
	return strings.TrimRight(base, "/") + "/blobs/" + d.Hex()[:2] + "/" + d.Hex() + ".bin"
}

// ManifestURL is where the manifest of a channel and architecture is served,
// below a provider's base URL.
func ManifestURL(base, channel, arch string) string {
	return strings.TrimRight(base, "/") + "/" + channel + "/" + arch + "/" + manifestName
}

// artifactsOf lists the artifacts of a manifest.
func artifactsOf(m manifest.Manifest) []placed {
	var list []placed
	add := func(name string, a manifest.Artifact) {
		list = append(list, placed{name: name, want: a.Hash, size: a.Size, chunks: a.Chunks, deltas: a.Deltas})
	}
	for _, name := range []string{"kernel", "initramfs", "rootfs"} {
		if a, ok := m.Artifact(name); ok {
			add(name, a)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.DTBs)) {
		add("dtb "+name, m.DTBs[name])
	}
	return list
}
