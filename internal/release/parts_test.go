package release

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/delta"
	"github.com/phasebased/phase/manifest"
)

// content is n bytes in which nothing repeats; another seed gives others.
func content(n int, seed uint64) []byte {
	data := make([]byte, n)
	source := rand.New(rand.NewPCG(seed, 1))
	for i := range data {
		data[i] = byte(source.Uint32())
	}
	return data
}

func put(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// editions are three versions of a file of more than two chunks: the second is a
// small change of the first, the third has nothing in common with them.
func editions() (one, two, three []byte) {
	one = content(2*blob.ChunkSize+100, 1)
	two = slices.Concat(one[:700_000], []byte("a change"), one[700_000:])
	return one, two, content(len(one), 3)
}

// withRootfs is the release of testRelease with another number and root file
// system.
func withRootfs(t *testing.T, number int64, rootfs []byte) Release {
	t.Helper()
	r := testRelease(t)
	r.Version, r.Rootfs = number, put(t, filepath.Join(t.TempDir(), "root.img"), rootfs)
	return r
}

func publishAll(t *testing.T, dir string, keys *Keys, r Release) (*Published, manifest.Manifest) {
	t.Helper()
	root, err := keys.RootFile(day.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Publish(dir, r, keys, root)
	if err != nil {
		t.Fatal(err)
	}
	d, err := manifest.OpenManifestDraft(read(t, p.Dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	return p, d.Manifest()
}

// TestChunkListsArePublished: what has more than one chunk has a list that says
// what its chunks are.
func TestChunkListsArePublished(t *testing.T) {
	one, _, _ := editions()
	dir := t.TempDir()
	_, m := publishAll(t, dir, testKeys(t), withRootfs(t, 3, one))
	if !m.Kernel.Chunks.IsZero() || !m.Initramfs.Chunks.IsZero() {
		t.Errorf("files of one chunk have lists: %+v", m)
	}
	list, err := blob.ParseChunks(read(t, BlobPath(dir, m.Rootfs.Chunks)), m.Rootfs.Size)
	if err != nil || list.Len() != 3 {
		t.Fatalf("%d chunks, %v", list.Len(), err)
	}
	for i := range list.Len() {
		off, n := list.Bounds(i)
		if blob.Of(one[off:off+n]) != list.Digest(i) {
			t.Errorf("chunk %d is another one", i)
		}
	}
}

// TestPatchesArePublished: from what a previous release had, a small change comes
// as a small patch; what has nothing in common with it, or is the same, as none.
func TestPatchesArePublished(t *testing.T) {
	one, two, three := editions()
	keys, dir := testKeys(t), t.TempDir()
	publishAll(t, dir, keys, withRootfs(t, 3, one))
	third := previous(t, dir)
	elsewhere := t.TempDir()
	publishAll(t, elsewhere, keys, withRootfs(t, 2, three))

	r := withRootfs(t, 4, two)
	r.Previous = []Previous{third, previous(t, elsewhere), third} // the same twice counts once
	told := map[string]int64{}
	r.Progress = func(name string, done, size int64) error {
		if told[name] > done || done > size {
			t.Errorf("%s: %d after %d, of %d", name, done, told[name], size)
		}
		told[name] = done
		return nil
	}
	p, m := publishAll(t, dir, keys, r)
	if len(p.Patches) != 2 || len(m.Rootfs.Deltas) != 1 || m.Kernel.Deltas != nil {
		t.Fatalf("made %+v, named %+v", p.Patches, m.Rootfs.Deltas)
	}
	small, large, d := p.Patches[0], p.Patches[1], m.Rootfs.Deltas[0]
	if !small.Kept || small.Release != 3 || small.Delta != d || small.Full != int64(len(two)) || small.Percent() > 5 {
		t.Errorf("the small patch is %+v, named %+v", small, d)
	}
	if large.Kept || large.Release != 2 || large.Delta.Size <= large.Full/worth || !large.Delta.Hash.IsZero() {
		t.Errorf("the large patch is %+v", large)
	}
	if d.From != blob.Of(one) {
		t.Errorf("it is from %s", d.From)
	}
	var out bytes.Buffer
	patch := read(t, BlobPath(dir, d.Hash))
	if err := delta.Apply(&out, bytes.NewReader(one), int64(len(one)), bytes.NewReader(patch), m.Rootfs.Size); err != nil || !bytes.Equal(out.Bytes(), two) || int64(len(patch)) != d.Size {
		t.Errorf("the patch of %d bytes gives %d bytes, %v", len(patch), out.Len(), err)
	}
	for _, name := range []string{"patch of rootfs from 3", "check of patch of rootfs from 3", "patch of rootfs from 2"} {
		if told[name] != int64(len(two)) {
			t.Errorf("progress said %v of %s", told[name], name)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "blobs", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	r.Previous = []Previous{previous(t, dir)} // of which only this very root file system is left
	if p, m := publishAll(t, dir, keys, r); len(p.Patches) != 0 || m.Rootfs.Deltas != nil {
		t.Errorf("from itself: %+v", p.Patches)
	}
}

func previous(t *testing.T, dir string) Previous {
	t.Helper()
	p, err := OpenPrevious(dir, "stable", "x86_64", "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPatcherRefuses(t *testing.T) {
	one, two, _ := editions()
	stop := errors.New("stop")
	for name, tt := range map[string]struct {
		spoil func(p *Patcher)
		want  string
		cause error
	}{
		"origin is missing": {func(p *Patcher) {
			if err := os.Remove(BlobPath(p.Previous[0].Dir, blob.Of(one))); err != nil {
				t.Fatal(err)
			}
		}, "is missing", nil},
		"origin is another file": {func(p *Patcher) {
			put(t, BlobPath(p.Previous[0].Dir, blob.Of(one)), two)
		}, "content goes on", nil},
		"nine releases": {func(p *Patcher) {
			p.Previous = slices.Repeat(p.Previous, 9)
		}, "at most 8 are allowed", nil},
		"interrupted while it is made": {func(p *Patcher) {
			p.Progress = func(string, int64, int64) error { return stop }
		}, "", stop},
		"interrupted while it is checked": {func(p *Patcher) {
			p.Progress = func(name string, _, _ int64) error {
				if strings.HasPrefix(name, "check") {
					return stop
				}
				return nil
			}
		}, "", stop},
	} {
		dir, to := t.TempDir(), t.TempDir()
		publishAll(t, dir, testKeys(t), withRootfs(t, 3, one))
		p := Patcher{Dir: to, Previous: []Previous{previous(t, dir)}}
		tt.spoil(&p)
		a := manifest.Artifact{Hash: blob.Of(two), Size: int64(len(two))}
		_, err := p.Make("rootfs", put(t, filepath.Join(t.TempDir(), "two"), two), &a)
		if err == nil || !strings.Contains(err.Error(), tt.want) || tt.cause != nil && !errors.Is(err, tt.cause) || a.Deltas != nil {
			t.Errorf("%s: %v, %+v", name, err, a.Deltas)
		}
		err = filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
			if !d.IsDir() {
				err = fmt.Errorf("%s is left", path)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPatchIsTried: a patch that does not make the artifact is not published,
// whatever was written.
func TestPatchIsTried(t *testing.T) {
	one, two, three := editions()
	dir := t.TempDir()
	old := placed{name: "rootfs", path: put(t, filepath.Join(dir, "one"), one), want: blob.Of(one), size: int64(len(one))}
	var patch bytes.Buffer
	if err := delta.Make(&patch, bytes.NewReader(one), int64(len(one)), bytes.NewReader(two), int64(len(two))); err != nil {
		t.Fatal(err)
	}
	good := put(t, filepath.Join(dir, "patch"), patch.Bytes())
	new := placed{name: "rootfs", want: blob.Of(two), size: int64(len(two))}
	if err := tryPatch(good, old, new, nil); err != nil {
		t.Fatal(err)
	}
	var mismatch *blob.MismatchError
	new.want = blob.Of(three)
	if err := tryPatch(good, old, new, nil); !errors.As(err, &mismatch) || mismatch.Got != blob.Of(two) {
		t.Errorf("it gives another file: %v", err)
	}
	new.want = blob.Of(two)
	var bad *delta.Error
	if err := tryPatch(put(t, filepath.Join(dir, "bad"), []byte("no patch")), old, new, nil); !errors.As(err, &bad) {
		t.Errorf("no patch: %v", err)
	}
}

func TestOpenPreviousRefuses(t *testing.T) {
	dir := t.TempDir()
	junk := put(t, filepath.Join(dir, "junk.json"), []byte("{"))
	for name, file := range map[string]string{"no release": "", "no manifest": junk, "missing": filepath.Join(dir, "none")} {
		if _, err := OpenPrevious(dir, "stable", "x86_64", file); err == nil || !strings.Contains(err.Error(), "previous release") {
			t.Errorf("%s: %v", name, err)
		}
	}
	publishAll(t, dir, testKeys(t), testRelease(t))
	p, err := OpenPrevious("elsewhere", "", "", filepath.Join(dir, "stable", "x86_64", manifestName))
	if err != nil || p.Dir != "elsewhere" || p.Manifest.ManifestVersion != 3 {
		t.Errorf("%+v, %v", p, err)
	}
	if a, ok := p.artifact("rootfs"); !ok || a.want != blob.Of([]byte("rootfs")) {
		t.Errorf("rootfs: %+v, %v", a, ok)
	}
	if a, ok := p.artifact("dtb board.dtb"); ok {
		t.Errorf("a device tree: %+v", a)
	}
}

// TestParsePrevious: a folder is a folder, whatever its name.
func TestParsePrevious(t *testing.T) {
	t.Chdir(t.TempDir())
	publishAll(t, "a=b", testKeys(t), testRelease(t))
	for text, dir := range map[string]string{"a=b": "a=b", "a=b/stable/x86_64/manifest.json=c": ""} {
		p, err := ParsePrevious(text, "stable", "x86_64")
		if (err == nil) != (dir != "") || p.Dir != dir {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
	if err := os.Rename(filepath.Join("a=b", "stable", "x86_64", manifestName), "m.json"); err != nil {
		t.Fatal(err)
	}
	if p, err := ParsePrevious("m.json=c", "", ""); err != nil || p.Dir != "c" || p.Manifest.ManifestVersion != 3 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, text := range []string{"", "none", "=a=b", "m.json="} {
		if p, err := ParsePrevious(text, "stable", "x86_64"); err == nil {
			t.Errorf("%q is %+v", text, p)
		}
	}
}

// parted is a set whose root file system has a chunk list and a patch from the
// release that is published, which lies in patches.
func parted(t *testing.T) (h *house, s Set, one, two []byte, patches string) {
	t.Helper()
	one, two, _ = editions()
	h, patches = newHouse(t), t.TempDir()
	describe := func(number int64, rootfs []byte) manifest.Artifact {
		h.files["rootfs"] = put(t, filepath.Join(t.TempDir(), "root.img"), rootfs)
		f, err := Describe(h.files["rootfs"], nil)
		if err != nil {
			t.Fatal(err)
		}
		a := f.Artifact()
		h.content.ManifestVersion, h.content.Rootfs = number, &a
		return a
	}
	describe(5, one)
	h.publish(h.set())
	a := describe(6, two)
	if _, err := (Patcher{Dir: patches, Previous: []Previous{previous(t, h.dir)}}).Make("rootfs", h.files["rootfs"], &a); err != nil || len(a.Deltas) != 1 {
		t.Fatal(a.Deltas, err)
	}
	h.content.Rootfs = &a
	s = h.set()
	s.Patches = patches
	return h, s, one, two, patches
}

// TestPartsAreLaidOut: a chunk list is made from the file itself, a patch comes
// from the folder in which it was made, and both are there for machines before
// the manifest is.
func TestPartsAreLaidOut(t *testing.T) {
	h, s, _, _, _ := parted(t)
	h.publish(s)
	d := h.content.Rootfs.Deltas[0]
	if f, err := Describe(BlobPath(h.dir, d.Hash), nil); err != nil || f.Digest != d.Hash || f.Size != d.Size {
		t.Errorf("patch: %+v, %v", f, err)
	}
	if f, err := Describe(BlobPath(h.dir, h.content.Rootfs.Chunks), nil); err != nil || f.Digest != h.content.Rootfs.Chunks {
		t.Errorf("chunk list: %+v, %v", f, err)
	}
	s.Patches = "" // from now on the folder has all there is
	s.Files = nil
	h.publish(s)
}

func TestBadPartsAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, h *house, s *Set, one, two []byte)
		want  string
	}{
		"patch is nowhere": {func(_ *testing.T, _ *house, s *Set, _, _ []byte) { s.Patches = "" }, "does not hold the patch"},
		"patch of another size": {func(t *testing.T, h *house, s *Set, _, _ []byte) {
			put(t, BlobPath(s.Patches, h.content.Rootfs.Deltas[0].Hash), nil)
		}, "content ended"},
		"patch of another bytes": {func(t *testing.T, h *house, s *Set, _, _ []byte) { changePatch(t, h, s) }, "hash mismatch"},
		"patch that fails": {func(t *testing.T, h *house, s *Set, one, two []byte) {
			junk := content(5000, 9)
			d := manifest.Delta{From: blob.Of(one), Hash: blob.Of(junk), Size: int64(len(junk))}
			if err := os.MkdirAll(filepath.Dir(BlobPath(s.Patches, d.Hash)), 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, BlobPath(s.Patches, d.Hash), junk)
			h.content.Rootfs.Deltas[0] = d
		}, "the patch is malformed"},
		"chunk list of another file, at hand": {func(t *testing.T, h *house, s *Set, one, two []byte) {
			wrong := bytes.Clone(two)
			wrong[blob.ChunkSize+5] ^= 1
			list, _, _, err := blob.ChunksOf(bytes.NewReader(wrong))
			if err != nil {
				t.Fatal(err)
			}
			s.Blobs = []string{put(t, filepath.Join(t.TempDir(), "list"), list.Bytes())}
			h.content.Rootfs.Chunks = blob.Of(list.Bytes())
		}, "chunk 1, at byte 1048576,"},
		"chunk list of another file": {func(_ *testing.T, h *house, _ *Set, _, _ []byte) {
			h.content.Rootfs.Chunks = blob.Of([]byte("list"))
		}, "names the chunk list " + blob.Of([]byte("list")).String()},
	} {
		t.Run(name, func(t *testing.T) {
			h, s, one, two, _ := parted(t)
			before := read(t, h.dir, "stable", "x86_64", manifestName)
			tt.spoil(t, h, &s, one, two)
			spoilt := h.set()
			spoilt.Patches, spoilt.Blobs = s.Patches, s.Blobs
			c, err := spoilt.Check()
			if err == nil {
				err = c.Write()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "rootfs") {
				t.Errorf("%v", err)
			}
			var chunk *ChunkError
			if errors.As(err, &chunk) && chunk.Hint() == "" {
				t.Error("no hint")
			}
			if !bytes.Equal(before, read(t, h.dir, "stable", "x86_64", manifestName)) || bytes.Equal(two, read(t, h.dir, "stable", "x86_64", "rootfs")) {
				t.Error("something that has a name changed")
			}
		})
	}
}

func changePatch(t *testing.T, h *house, s *Set) {
	t.Helper()
	path := BlobPath(s.Patches, h.content.Rootfs.Deltas[0].Hash)
	data := read(t, path)
	data[len(data)/2] ^= 1
	put(t, path, data)
}

// TestTooLargeForAPatch: a file that nobody can compare is published without a
// patch, and it is said why.
func TestTooLargeForAPatch(t *testing.T) {
	h, _, _, _, _ := parted(t)
	a := manifest.Artifact{Hash: blob.Of([]byte("huge")), Size: delta.MaxMake + 1}
	made, err := (Patcher{Dir: t.TempDir(), Previous: []Previous{previous(t, h.dir)}}).Make("rootfs", h.files["rootfs"], &a)
	if err != nil || len(made) != 1 || made[0].Kept || !strings.Contains(made[0].Refused, "too large") || len(a.Deltas) > 0 {
		t.Errorf("%+v, %v, %+v", made, err, a.Deltas)
	}
}
