package release

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/manifest"
)

// File is what a manifest can say about a file.
type File struct {
	Digest blob.Digest
	Size   int64 // bytes
	Chunks blob.Chunks
}

// Describe reads the file at path, which must be a regular one. watch is told how
// many of its bytes were read so far, and ends the work with an error; it may be
// nil.
func Describe(path string, watch func(done, size int64) error) (File, error) {
	info, err := os.Stat(path) // nobody waits for the other end of a pipe
	if err != nil {
		return File{}, err
	}
	if !info.Mode().IsRegular() {
		return File{}, fmt.Errorf("%s is not a regular file", path)
	}
	in, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer in.Close()
	if watch == nil {
		return copyHashed(io.Discard, in, nil)
	}
	return copyHashed(io.Discard, in, func(done int64) error { return watch(done, info.Size()) })
}

// Artifact names the file and, if it has more than one chunk, its chunk list:
// the list of one chunk would say nothing that the file's own digest does not.
func (f File) Artifact() manifest.Artifact {
	a := manifest.Artifact{Hash: f.Digest, Size: f.Size}
	if f.Size > blob.ChunkSize {
		a.Chunks = blob.Of(f.Chunks.Bytes())
	}
	return a
}

func copyHashed(out io.Writer, in io.Reader, watch func(done int64) error) (File, error) {
	chunks, digest, size, err := blob.ChunksOf(io.TeeReader(in, io.MultiWriter(out, &counter{watch: watch})))
	return File{digest, size, chunks}, err
}

// counter tells how many bytes passed.
type counter struct {
	done  int64
	watch func(int64) error
}

func (c *counter) Write(p []byte) (int, error) {
	c.done += int64(len(p))
	if c.watch != nil {
		return len(p), c.watch(c.done)
	}
	return len(p), nil
}

// ChunkError says that the chunk list which a manifest names is not that of the
// artifact: machines would take good parts for damaged ones.
type ChunkError struct {
	Artifact    string
	Chunk       int   // the first that differs; -1 if the list that is named is not at hand
	Offset      int64 // of the chunk in the artifact, bytes
	Listed, Has blob.Digest
}

func (e *ChunkError) Error() string {
	if e.Chunk < 0 {
		return fmt.Sprintf("the manifest names the chunk list %s for the %s, which has %s", e.Listed, e.Artifact, e.Has)
	}
	return fmt.Sprintf("the chunk list of the %s disagrees with it: chunk %d, at byte %d, is listed as %s and is %s",
		e.Artifact, e.Chunk, e.Offset, e.Listed, e.Has)
}

// Hint says in one sentence what to do next.
func (e *ChunkError) Hint() string {
	return "Make the manifest anew with `phase release manifest create`, and have it signed."
}

// placeChunks writes the chunk list of an artifact that has proved to be the one
// which was signed. The list that its bytes have must be the one that was signed
// with it.
func (l layout) placeChunks(a placed, has blob.Chunks) error {
	if a.chunks.IsZero() {
		return nil
	}
	list := has.Bytes()
	if blob.Of(list) != a.chunks {
		return l.disagreement(a, has)
	}
	to := BlobPath(l.dir, a.chunks)
	if f, err := Describe(to, nil); err == nil && f.Digest == a.chunks {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(to, list, 0o644)
}

// disagreement finds the chunk at which the list that was signed goes wrong, if
// that list is anywhere.
func (l layout) disagreement(a placed, has blob.Chunks) error {
	paths := append(slices.Clone(l.blobs), BlobPath(l.dir, a.chunks))
	if l.patches != "" {
		paths = append(paths, BlobPath(l.patches, a.chunks))
	}
	for _, path := range paths {
		named, err := readChunks(path, a)
		if err != nil {
			continue
		}
		for i := range named.Len() {
			if named.Digest(i) != has.Digest(i) {
				off, _ := has.Bounds(i)
				return &ChunkError{a.name, i, off, named.Digest(i), has.Digest(i)}
			}
		}
	}
	return &ChunkError{Artifact: a.name, Chunk: -1, Listed: a.chunks, Has: blob.Of(has.Bytes())}
}

// readChunks reads the chunk list of an artifact from the file at path.
func readChunks(path string, a placed) (blob.Chunks, error) {
	raw, err := durable.ReadSmall(path, int(blob.ListSize(a.size)), durable.FollowLinks)
	if err != nil {
		return blob.Chunks{}, err
	}
	if got := blob.Of(raw); got != a.chunks {
		return blob.Chunks{}, &blob.MismatchError{Want: a.chunks, Got: got, WantSize: int64(len(raw)), GotSize: int64(len(raw))}
	}
	return blob.ParseChunks(raw, a.size)
}

// patchPath is where a patch is that belongs in the folder.
func (l layout) patchPath(d manifest.Delta) (string, error) {
	folders := []string{l.dir}
	if l.patches != "" {
		folders = []string{l.patches, l.dir}
	}
	for _, dir := range folders {
		path := BlobPath(dir, d.Hash)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", err
		case info.Size() != d.Size:
			return "", fmt.Errorf("%s: %w", path, &blob.MismatchError{Want: d.Hash, WantSize: d.Size, GotSize: info.Size()})
		}
		return path, nil
	}
	return "", &FolderError{fmt.Sprintf("the folder does not hold the patch %s of this release yet", d.Hash),
		"Name the folder that `phase release manifest create` has put it in with --patches."}
}

// findPatches looks for the patch of every artifact, before anything is written.
func (l layout) findPatches() ([]Patch, error) {
	var found []Patch
	for _, a := range l.artifacts {
		for _, d := range a.deltas {
			if _, err := l.patchPath(d); err != nil {
				return nil, fmt.Errorf("%s: %w", a.name, err)
			}
			found = append(found, Patch{Artifact: a.name, Full: a.size, Delta: d, Kept: true})
		}
	}
	return found, nil
}

// placePatch places a patch and, if it came from elsewhere and the folder has what
// it is from, applies it once: a patch that fails costs every machine that tries
// it.
func (l layout) placePatch(a placed, d manifest.Delta) error {
	path, err := l.patchPath(d)
	if err != nil {
		return err
	}
	to := BlobPath(l.dir, d.Hash)
	if _, err := l.place(path, to, placed{name: "patch of " + a.name, want: d.Hash, size: d.Size}); err != nil || path == to {
		return err
	}
	old := placed{path: BlobPath(l.dir, d.From), want: d.From}
	f, err := Describe(old.path, nil)
	if err != nil || f.Digest != d.From {
		return nil // nothing to try it on; machines check what they make
	}
	old.size = f.Size
	if err := tryPatch(to, old, placed{name: a.name, want: a.want, size: a.size}, l.watch(placed{name: "check of a patch of " + a.name, size: a.size})); err != nil {
		return fmt.Errorf("the patch from %s: %w", d.From, err)
	}
	return nil
}
