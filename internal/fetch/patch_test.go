package fetch

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/delta"
	"github.com/phasebased/phase/manifest"
)

// patchFrom is a patch that makes large from old.
func patchFrom(t *testing.T, old []byte) []byte {
	t.Helper()
	var patch bytes.Buffer
	err := delta.Make(&patch, bytes.NewReader(old), int64(len(old)), bytes.NewReader(large), int64(len(large)))
	if err != nil {
		t.Fatal(err)
	}
	return patch.Bytes()
}

// older is what large was before.
func older() []byte {
	b := append([]byte("some bytes more"), large...)
	copy(b[5<<20:], "and others there")
	return b
}

func TestPatch(t *testing.T) {
	t.Parallel()
	old := older()
	patch := patchFrom(t, old)
	list := listOf(t, large).Bytes()
	rotten := bytes.Clone(old)
	rotten[9<<20] ^= 1
	broken := bytes.Clone(patch)
	broken[len(broken)/2] ^= 1
	for name, c := range map[string]struct {
		old   []byte
		patch []byte // that the manifest names
		serve http.HandlerFunc
		list  bool
		used  bool
	}{
		"good":                     {old, patch, blobs(patch), false, true},
		"good, with a list":        {old, patch, blobs(patch, list), true, true},
		"old is rotten":            {rotten, patch, blobs(patch), false, false},
		"old is rotten, list":      {rotten, patch, blobs(patch, list), true, false},
		"patch is withheld":        {old, patch, blobs(list), true, false},
		"other bytes":              {old, patch, honest(broken), false, false},
		"the publisher's is wrong": {old, broken, blobs(broken), false, false},
		"noise":                    {old, large[:5000], blobs(large[:5000], list), true, false},
		"old is empty":             {nil, patch, blobs(patch), false, false},
	} {
		for _, where := range []string{"store", "elsewhere"} {
			t.Run(name+", "+where, func(t *testing.T) {
				f := quick(t)
				from := blob.Of(old)
				if where == "store" {
					f.Store = openStore(t)
					path := f.Store.Path(from)
					os.MkdirAll(filepath.Dir(path), 0o755)
					if err := os.WriteFile(path, c.old, 0o644); err != nil {
						t.Fatal(err)
					}
				} else {
					f.Old = func(d blob.Digest) (io.ReaderAt, int64, bool) {
						return bytes.NewReader(c.old), int64(len(c.old)), d == from
					}
				}
				j := jobFor(large, serve(t, honest(large)))
				j.bases = []string{serve(t, c.serve)}
				if c.list {
					j.chunks = blob.Of(list)
				}
				f.Backoff = time.Nanosecond
				j.deltas = []manifest.Delta{{From: blob.Of(nil), Hash: blob.Of(large[:3]), Size: 3}, {From: from, Hash: blob.Of(c.patch), Size: int64(len(c.patch))}}
				r := reported(f)
				path := filepath.Join(t.TempDir(), "kernel")
				if err := f.toPath(context.Background(), j, path); err != nil {
					t.Fatal(err, attempts(err))
				}
				if got, _ := os.ReadFile(path); !bytes.Equal(got, large) {
					t.Error("wrong content")
				}
				if used := r.Sources[0].Bytes == 0; used != c.used {
					t.Errorf("used is %v, want %v: %+v", used, c.used, *r)
				}
				if f.Store != nil && !f.Store.Has(j.digest) {
					t.Error("it is not in the cache")
				}
				if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
					t.Errorf("left behind: %v", entries)
				}
				if c.used {
					f.Store = nil
					mustFile(t, f, j, large) // into memory as well
				}
			})
		}
	}
}

// TestPatchOfMoreThanIsMissing: what is here already may be more than a patch
// could spare.
func TestPatchOfMoreThanIsMissing(t *testing.T) {
	j := chunkedJob(t, large, serve(t, honest(large)))
	j.deltas = []manifest.Delta{{From: blob.Of(older()), Hash: blob.Of([]byte("x")), Size: 2 << 20}}
	f := quick(t)
	f.Old = func(blob.Digest) (io.ReaderAt, int64, bool) { return bytes.NewReader(nil), 0, true }
	d := &download{f: f, job: j}
	if d.patchFor(3<<20) == nil || d.patchFor(2<<20) != nil {
		t.Error("the patch has 2 MiB")
	}
}
