package fetch

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
)

// content is size reproducible bytes.
func content(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// serve runs a server with one handler and returns its base URL.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// honest serves data with ranges and a validator.
func honest(data []byte) http.HandlerFunc {
	tag := fmt.Sprintf(`"%x"`, crc32.ChecksumIEEE(data))
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// quick is a Fetcher that does not pause between rounds.
func quick(t testing.TB) *Fetcher {
	client := NewClient(nil, nil)
	t.Cleanup(client.CloseIdleConnections)
	return &Fetcher{
		Client:  client,
		Stall:   10 * time.Second,
		Timeout: 30 * time.Second,
		Backoff: time.Millisecond,
	}
}

// impatient is quick that drops slow sources at once, as far as a busy
// machine's own pauses allow.
func impatient(t testing.TB) *Fetcher {
	f := quick(t)
	f.Stall = 250 * time.Millisecond
	return f
}

// patient is impatient for sources that are too slow, and quick for the others.
// One that drips must not seem silent because this machine is busy.
func patient(t testing.TB, want error) *Fetcher {
	f := quick(t)
	switch want {
	case ErrStalled:
		f = impatient(t)
	case ErrSlow:
		f.Stall = 3 * time.Second
	}
	return f
}

func jobFor(data []byte, urls ...string) job {
	return newJob("kernel", blob.Of(data), int64(len(data)), urls)
}

// mustFile fetches and checks the content, the seals and the attempts' count.
func mustFile(t *testing.T, f *Fetcher, j job, want []byte) {
	t.Helper()
	file, err := f.file(context.Background(), j)
	if err != nil {
		t.Fatalf("fetch: %v%s", err, attempts(err))
	}
	defer file.Close()
	got, err := io.ReadAll(io.NewSectionReader(file.File(), 0, file.Size()+1))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes that are not the %d wanted", len(got), len(want))
	}
}

func attempts(err error) string {
	var b strings.Builder
	var e *Error
	if errors.As(err, &e) {
		for _, a := range e.Attempts {
			fmt.Fprintf(&b, "\n  round %d %s: %v (%v)", a.Round, a.URL, a.Err, a.Took)
		}
	}
	return b.String()
}

func TestArtifactOfAVerifiedManifest(t *testing.T) {
	kernel, initramfs := content(300_000), content(1000)
	base := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/k":
			honest(kernel)(w, r)
		case "/blobs/" + blob.Of(initramfs).Hex()[:2] + "/" + blob.Of(initramfs).Hex() + ".bin":
			honest(initramfs)(w, r)
		default:
			http.NotFound(w, r)
		}
	})
	v := verified(t, manifest.Manifest{
		Kernel:    manifest.Artifact{Hash: blob.Of(kernel), Size: int64(len(kernel)), URLs: []string{base + "/k"}},
		Initramfs: manifest.Artifact{Hash: blob.Of(initramfs), Size: int64(len(initramfs))},
	})
	f := quick(t)
	file, err := f.Artifact(context.Background(), v, "kernel", nil)
	if err != nil {
		t.Fatal(err, attempts(err))
	}
	defer file.Close()
	if file.Name() != "kernel" || file.Digest() != blob.Of(kernel) || file.Size() != int64(len(kernel)) {
		t.Errorf("file is %s %s %d", file.Name(), file.Digest(), file.Size())
	}
	path := filepath.Join(t.TempDir(), "initramfs")
	if err := f.ArtifactTo(context.Background(), v, "initramfs", []string{base + "/"}, path); err != nil {
		t.Fatal(err, attempts(err))
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, initramfs) {
		t.Error("initramfs on disk differs")
	}
	if _, err := f.Artifact(context.Background(), v, "rootfs", nil); !errors.Is(err, ErrNoArtifact) {
		t.Errorf("rootfs: %v, want ErrNoArtifact", err)
	}
	if _, err := f.Artifact(context.Background(), new(manifest.Verified), "kernel", nil); err == nil {
		t.Error("a manifest that nobody verified was accepted")
	}
}

// verified signs and verifies m.
func verified(t *testing.T, m manifest.Manifest) *manifest.Verified {
	t.Helper()
	seed := sha256.Sum256([]byte("fetch test"))
	key := ed25519.NewKeyFromSeed(seed[:])
	root, err := manifest.KeyRoot(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	m.ManifestVersion, m.Channel, m.Arch = 1, manifest.ChannelStable, manifest.ArchX8664
	m.CreatedAt, m.ExpiresAt = now, now.Add(24*time.Hour)
	raw, err := manifest.SignManifest(m, key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := manifest.Verifier{Root: root, Want: manifest.Want{Channel: m.Channel, Arch: m.Arch}}.Manifest(raw, nil, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSizesAroundTheBuffer(t *testing.T) {
	for _, size := range []int{0, 1, bufferSize + 1, blob.ChunkSize - 1, blob.ChunkSize, blob.ChunkSize + 1, blob.ChunkSize + 2*bufferSize, 9*bufferSize + 7} {
		data := content(size)
		for name, chunked := range map[string]bool{"length": false, "chunked": true} {
			t.Run(fmt.Sprintf("%s %d", name, size), func(t *testing.T) {
				url := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if chunked {
						w.(http.Flusher).Flush()
					}
					w.Write(data)
				})
				mustFile(t, quick(t), jobFor(data, url), data)
			})
		}
	}
}

func TestSmall(t *testing.T) {
	doc := []byte(`{"hello":"world"}`)
	url := serve(t, honest(doc))
	f := quick(t)
	got, err := f.Small(context.Background(), "manifest", blob.Of(doc), int64(len(doc)), []string{url})
	if err != nil || !bytes.Equal(got, doc) {
		t.Fatalf("got %q, %v", got, err)
	}
	for _, size := range []int64{-1, MaxSmall + 1} {
		if _, err := f.Small(context.Background(), "manifest", blob.Of(doc), size, []string{url}); err == nil {
			t.Errorf("size %d was accepted", size)
		}
	}
	if _, err := f.Small(context.Background(), "manifest", blob.Digest{}, 5, []string{url}); err == nil {
		t.Error("no digest was accepted")
	}
}

func TestGet(t *testing.T) {
	doc := []byte("pointer")
	chunked := func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); w.Write(doc) }
	html := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html><body>sign in") }
	stall := func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); <-r.Context().Done() }
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		max  int64
		want error
	}{
		{"exact", honest(doc), 7, nil},
		{"chunked", chunked, 7, nil},
		{"stated too large", honest(doc), 6, ErrTooLarge},
		{"grows too large", chunked, 6, ErrTooLarge},
		{"portal", html, 1000, ErrWebPage},
		{"stalls", stall, 1000, ErrStalled},
		{"gzip", gzipped, 1000, ErrEncoded},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := patient(t, c.want).Get(context.Background(), serve(t, c.h), c.max)
			if !errors.Is(err, c.want) || (err == nil) != bytes.Equal(got, doc) {
				t.Errorf("got %q, %v; want %v", got, err, c.want)
			}
		})
	}
	f := quick(t)
	var status *StatusError
	if _, err := f.Get(context.Background(), serve(t, http.NotFound), 10); !errors.As(err, &status) || status.Code != 404 {
		t.Errorf("404: %v", err)
	}
	for _, u := range []string{"", "/x", "file:///etc/passwd", "ftp://h/x", "http://", "http://u:p@h/x", "http:x", "http://h/\x00", "http://h/" + strings.Repeat("x", 2048)} {
		if _, err := f.Get(context.Background(), u, 10); !errors.Is(err, ErrURL) {
			t.Errorf("%.30q: %v, want ErrURL", u, err)
		}
	}
}

func TestBlobURLs(t *testing.T) {
	d := blob.Of(nil)
	want := "http://a:1/x/blobs/e3/" + d.Hex() + ".bin"
	got := BlobURLs(d, []string{"http://a:1/x", "http://a:1/x/", "file:///", "nonsense", ""})
	if !slices.Equal(got, []string{want}) {
		t.Errorf("got %q, want %q once", got, want)
	}
}

func TestProgressIsBoundedAndEndsAtTheTotal(t *testing.T) {
	data := content(3 << 20)
	var calls []Progress
	f := quick(t)
	f.Progress = func(p Progress) { calls = append(calls, p) }
	start := time.Now()
	url := serve(t, honest(data))
	mustFile(t, f, jobFor(data, url), data)
	if limit := int(time.Since(start)/progressInterval) + 2; len(calls) > limit {
		t.Errorf("%d calls, at most %d expected", len(calls), limit)
	}
	last := calls[len(calls)-1]
	if (last != Progress{Name: "kernel", Done: 3 << 20, Total: 3 << 20, Source: url}) {
		t.Errorf("last report %+v", last)
	}
}

func TestStoreIsFilledAndUsedFirst(t *testing.T) {
	data := content(700_000)
	var hits atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { hits.Add(1); honest(data)(w, r) })
	f := quick(t)
	f.Store = openStore(t)
	for range 2 {
		mustFile(t, f, jobFor(data, url), data)
	}
	if hits.Load() != 1 {
		t.Errorf("%d requests, want 1 and then the cache", hits.Load())
	}
	// A rotten cache is removed, named, and replaced from the network.
	path := f.Store.Path(blob.Of(data))
	rotten := slices.Clone(data)
	rotten[500_000] ^= 1
	for name, bad := range map[string][]byte{"bit": rotten, "short": data[:10], "empty": nil} {
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		before := hits.Load()
		mustFile(t, f, jobFor(data, url), data)
		if hits.Load() != before+1 {
			t.Errorf("%s: the network was not asked", name)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, data) {
			t.Errorf("%s: the cache was not repaired", name)
		}
	}
	// With no other source, rot is an error and the file is gone.
	os.WriteFile(path, rotten, 0o644)
	_, err := f.file(context.Background(), jobFor(data))
	var e *Error
	if !errors.As(err, &e) || e.Code() != "FETCH-003" || len(e.Attempts) != 1 || e.Attempts[0].URL != "cache" {
		t.Errorf("rotten cache alone: %v%s", err, attempts(err))
	}
	if f.Store.Has(blob.Of(data)) {
		t.Error("the corrupt blob is still there")
	}
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestFailingCacheDoesNotFailTheFetch(t *testing.T) {
	data := content(400_000)
	url := serve(t, honest(data))
	t.Run("full", func(t *testing.T) {
		f := quick(t)
		var err error
		if f.Store, err = store.OpenLimited(t.TempDir(), store.Limit{Bytes: 1000}); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		f.Log = slog.New(slog.NewTextHandler(&log, nil))
		mustFile(t, f, jobFor(data, url), data)
		if !strings.Contains(log.String(), "cannot cache") {
			t.Errorf("nothing logged: %s", &log)
		}
	})
	t.Run("gone", func(t *testing.T) {
		f := quick(t)
		f.Store = openStore(t)
		os.RemoveAll(f.Store.Dir())
		mustFile(t, f, jobFor(data, url), data)
	})
	t.Run("vanishes half way", func(t *testing.T) {
		f := quick(t)
		f.Store = openStore(t)
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			os.RemoveAll(f.Store.Dir())
			honest(data)(w, r)
		})
		mustFile(t, f, jobFor(data, url), data)
		if f.Store.Has(blob.Of(data)) {
			t.Error("stored in a directory that is gone?")
		}
	})
}

// inMemory is a memory file for targets that misbehave.
func inMemory(t *testing.T) *memFile {
	t.Helper()
	m, err := newMemory("test", 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// fullSink fails as a full disk does, after some bytes.
type fullSink struct {
	*memFile
	room int64
}

func (s *fullSink) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.room {
		return 0, syscall.ENOSPC
	}
	return s.memFile.WriteAt(p, off)
}

func TestLocalFaultIsNotBlamedOnSources(t *testing.T) {
	data := content(7 * bufferSize)
	var hits atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { hits.Add(1); honest(data)(w, r) })
	err := quick(t).fetch(context.Background(), jobFor(data, url, url+"/2"), &fullSink{inMemory(t), bufferSize})
	var local *LocalError
	if !errors.As(err, &local) || local.Code() != "FETCH-005" {
		t.Fatalf("got %v, want a LocalError", err)
	}
	if hits.Load() != 1 {
		t.Errorf("%d requests: other sources cannot help a full disk", hits.Load())
	}
}

func TestArtifactToLeavesNothingBehind(t *testing.T) {
	data := content(1000)
	dir := t.TempDir()
	path := filepath.Join(dir, "kernel")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := quick(t).toPath(context.Background(), jobFor(data, serve(t, honest(content(1000)[:999]))), path)
	if err == nil {
		t.Fatal("no error")
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("a failed download changed the file to %q", got)
	}
	if err := quick(t).toPath(context.Background(), jobFor(data, serve(t, honest(data))), path); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if err := quick(t).toPath(context.Background(), jobFor(data), filepath.Join(dir, "no", "kernel")); err == nil {
		t.Error("missing directory accepted")
	}
}
