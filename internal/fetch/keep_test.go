package fetch

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
)

// keepable is a root file system of three chunks with what passes for a tree, the
// server that has it, and how often that was asked for it.
type keepable struct {
	data []byte
	v    *manifest.Verified
	urls []string
	hits atomic.Int32
	lie  atomic.Bool // one byte of what is served is another
	cut  atomic.Bool // each answer breaks off, when there is got
	got  chan struct{}
}

func newKeepable(t *testing.T, chunks, verity bool) *keepable {
	t.Helper()
	const dataSize = 600 * manifest.VerityBlock
	k := &keepable{data: content(int(dataSize + manifest.VerityTreeSize(dataSize))), got: make(chan struct{})}
	list, digest, size, err := blob.ChunksOf(bytes.NewReader(k.data))
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/blobs/"+blob.Of(list.Bytes()).Hex()[:2]+"/"+blob.Of(list.Bytes()).Hex()+".bin" {
			honest(list.Bytes())(w, r)
			return
		}
		k.hits.Add(1)
		data := k.data
		if k.lie.Load() {
			data = slices.Clone(data)
			data[2<<20+5] ^= 1
		}
		if k.cut.Load() {
			w = &cutting{w, 1_500_000, func() {
				select {
				case <-k.got:
				case <-r.Context().Done():
				}
			}}
		}
		honest(data)(w, r)
	})
	a := manifest.Artifact{Hash: digest, Size: size, URLs: []string{url + "/stable/x86_64/rootfs"}}
	k.urls = a.URLs
	if chunks {
		a.Chunks = blob.Of(list.Bytes())
	}
	if verity {
		a.Verity = &manifest.Verity{Root: blob.Of([]byte("root")), Salt: []byte{7}, DataSize: dataSize}
	}
	k.v = verified(t, manifest.Manifest{
		Kernel: manifest.Artifact{Hash: blob.Of([]byte("k")), Size: 1}, Initramfs: manifest.Artifact{Hash: blob.Of([]byte("i")), Size: 1}, Rootfs: &a,
	})
	return k
}

// cutting breaks an answer off.
type cutting struct {
	http.ResponseWriter
	left int
	wait func() // before that
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		c.wait()
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

// keep must work, and leave the right bytes in the store.
func (k *keepable) keep(t *testing.T, f *Fetcher, through bool) *Kept {
	t.Helper()
	kept, err := f.Keep(context.Background(), k.v, "rootfs", nil, through)
	if err != nil {
		t.Fatal(err, attempts(err))
	}
	if kept.Name() != "rootfs" || kept.Digest() != blob.Of(k.data) || kept.Size() != int64(len(k.data)) {
		t.Errorf("it says %q, %s, %d", kept.Name(), kept.Digest(), kept.Size())
	}
	return kept
}

func (k *keepable) stored(t *testing.T, s *store.Store) {
	t.Helper()
	if got, err := os.ReadFile(s.Path(blob.Of(k.data))); err != nil || !bytes.Equal(got, k.data) {
		t.Errorf("the store has %d bytes that are not right, %v", len(got), err)
	}
}

// rot changes one byte of the stored copy.
func (k *keepable) rot(t *testing.T, s *store.Store) {
	t.Helper()
	bad := slices.Clone(k.data)
	bad[1<<20+9] ^= 1
	if err := os.WriteFile(s.Path(blob.Of(k.data)), bad, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKeep(t *testing.T) {
	for _, chunks := range []bool{true, false} {
		k := newKeepable(t, chunks, true)
		f := quick(t)
		f.Store = openStore(t)
		var reports []Report
		f.Report = func(r Report) { reports = append(reports, r) }
		if kept := k.keep(t, f, false); !kept.ReadThrough() {
			t.Error("what has just arrived was not read?")
		}
		k.stored(t, f.Store)
		asked := k.hits.Load()
		if kept := k.keep(t, f, false); kept.ReadThrough() {
			t.Error("it was read through, and nobody asked for that")
		}
		// Whoever uses it checks each block. Nobody else looks.
		k.rot(t, f.Store)
		k.keep(t, f, false)
		if k.hits.Load() != asked {
			t.Errorf("%d requests for what is there", k.hits.Load()-asked)
		}
		if kept := k.keep(t, f, true); !kept.ReadThrough() {
			t.Error("it was not read through")
		}
		if k.hits.Load() == asked {
			t.Error("rot was not noticed")
		}
		k.stored(t, f.Store)
		asked = k.hits.Load()
		if kept := k.keep(t, f, true); !kept.ReadThrough() || k.hits.Load() != asked {
			t.Error("what is right was fetched again")
		}
		if len(reports) != 5 || reports[1].Kept != int64(len(k.data)) || reports[0].Kept != 0 {
			t.Errorf("reported %+v", reports)
		}
		if chunks && reports[3].Kept != int64(len(k.data))-1<<20 {
			t.Errorf("of the rotten copy %d bytes were used, want all but one chunk", reports[3].Kept)
		}
	}
}

// TestKeepGoesOn: what an interrupted Keep left in the store is used.
func TestKeepGoesOn(t *testing.T) {
	k := newKeepable(t, true, true)
	f := quick(t)
	f.Retries = 1
	f.Store = openStore(t)
	k.cut.Store(true)
	first := sync.OnceFunc(func() { close(k.got) })
	f.Progress = func(p Progress) {
		if p.Done >= blob.ChunkSize {
			first()
		}
	}
	var failed *Error
	if _, err := f.Keep(context.Background(), k.v, "rootfs", nil, false); !errors.As(err, &failed) {
		t.Fatalf("half of it: %v", err)
	}
	if f.Store.Has(blob.Of(k.data)) {
		t.Fatal("half of it has the name of the whole")
	}
	k.cut.Store(false)
	var report Report
	f.Report = func(r Report) { report = r }
	k.keep(t, f, false)
	k.stored(t, f.Store)
	if report.Kept < 1<<20 {
		t.Errorf("only %d bytes of the first try were used", report.Kept)
	}
}

// TestKeepRefuses what is wrong, without leaving anything that has the name.
func TestKeepRefuses(t *testing.T) {
	for _, chunks := range []bool{true, false} {
		k := newKeepable(t, chunks, true)
		k.lie.Store(true)
		f := quick(t)
		f.Retries = 1
		f.Store = openStore(t)
		_, err := f.Keep(context.Background(), k.v, "rootfs", nil, false)
		var failed *Error
		if !errors.As(err, &failed) || failed.Code() != "FETCH-002" {
			t.Errorf("wrong bytes: %v", err)
		}
		if f.Store.Has(blob.Of(k.data)) {
			t.Error("they are in the store")
		}
	}
	f := quick(t)
	f.Store = openStore(t)
	if _, err := f.Keep(context.Background(), new(manifest.Verified), "rootfs", nil, false); err == nil {
		t.Error("a manifest that nobody verified")
	}
	if _, err := f.Keep(context.Background(), newKeepable(t, true, true).v, "dtb", nil, false); !errors.Is(err, ErrNoArtifact) {
		t.Errorf("an artifact that it has not: %v", err)
	}
}

// TestCannotKeep: then Artifact still can.
func TestCannotKeep(t *testing.T) {
	tree, plain := newKeepable(t, true, true), newKeepable(t, true, false)
	full, err := store.OpenLimited(t.TempDir(), store.Limit{Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { full.Close() })
	gone := openStore(t)
	if err := os.RemoveAll(filepath.Join(gone.Dir(), "tmp")); err != nil {
		t.Fatal(err)
	}
	readOnly, err := store.OpenReadOnly(openStore(t).Dir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { readOnly.Close() })
	for name, c := range map[string]struct {
		k     *keepable
		store *store.Store
		want  error
	}{
		"no store":  {tree, nil, errNoStore},
		"no tree":   {plain, openStore(t), errNoTree},
		"full":      {tree, full, nil},
		"gone":      {tree, gone, fs.ErrNotExist},
		"read-only": {tree, readOnly, fs.ErrPermission},
	} {
		f := quick(t)
		f.Store = c.store
		_, err := f.Keep(context.Background(), c.k.v, "rootfs", nil, false)
		var cannot *KeepError
		if !errors.As(err, &cannot) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		file, err := f.Artifact(context.Background(), c.k.v, "rootfs", nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		file.Close()
	}
}

// TestKeepBlob: of which nothing is known but its digest and size.
func TestKeepBlob(t *testing.T) {
	k := newKeepable(t, false, true)
	f := quick(t)
	f.Retries = 1
	if err := f.KeepBlob(context.Background(), "input", blob.Of(k.data), int64(len(k.data)), k.urls); !errors.As(err, new(*KeepError)) {
		t.Errorf("without a store: %v", err)
	}
	f.Store = openStore(t)
	if err := f.KeepBlob(context.Background(), "input", blob.Of(k.data), int64(len(k.data)), k.urls); err != nil {
		t.Fatal(err)
	}
	k.stored(t, f.Store)
	asked := k.hits.Load()
	if err := f.KeepBlob(context.Background(), "input", blob.Of(k.data), int64(len(k.data)), k.urls); err != nil || k.hits.Load() != asked {
		t.Errorf("what is there: %v, %d requests", err, k.hits.Load()-asked)
	}
	f.Store = openStore(t)
	k.lie.Store(true)
	var failed *Error
	if err := f.KeepBlob(context.Background(), "input", blob.Of(k.data), int64(len(k.data)), k.urls); !errors.As(err, &failed) || f.Store.Has(blob.Of(k.data)) {
		t.Errorf("wrong bytes: %v", err)
	}
	for name, size := range map[string]int64{"shorter": int64(len(k.data)) - 1, "longer": int64(len(k.data)) + 1, "none": 0} {
		k.lie.Store(false)
		if err := f.KeepBlob(context.Background(), "input", blob.Of(k.data), size, k.urls); err == nil || f.Store.Has(blob.Of(k.data)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
