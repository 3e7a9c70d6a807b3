package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/phasebased/phase/blob"
)

func open(t *testing.T, dir string, limit Limit) *Store {
	t.Helper()
	s, err := OpenLimited(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *Store, data string) blob.Digest {
	t.Helper()
	d := blob.Of([]byte(data))
	if err := s.Put(d, int64(len(data)), strings.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return d
}

func read(s *Store, d blob.Digest, size int64) (string, error) {
	r, err := s.Open(d, size)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}

// tempFiles are the names in tmp.
func tempFiles(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir(), tempDir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestPutThenOpen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "a", "b"), Limit{})
	for _, data := range []string{"", "x", strings.Repeat("phase", 300_000)} {
		d := put(t, s, data)
		if !s.Has(d) {
			t.Error("Has is false")
		}
		want := filepath.Join(dir, "a", "b", "blobs", d.Hex()[:2], d.Hex()+".bin")
		if s.Path(d) != want {
			t.Errorf("path %s, want %s", s.Path(d), want)
		}
		if got, err := read(s, d, int64(len(data))); err != nil || got != data {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		info, err := os.Stat(want)
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	if left := tempFiles(t, s); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
	again := open(t, s.Dir(), Limit{})
	if !again.Has(blob.Of([]byte("x"))) {
		t.Error("gone after opening again")
	}
}

func TestPutRefusesOtherBytes(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	d := blob.Of([]byte("right"))
	for name, c := range map[string]struct {
		size int64
		r    io.Reader
	}{
		"other content": {5, strings.NewReader("wrong")},
		"short":         {5, strings.NewReader("righ")},
		"long":          {5, strings.NewReader("right!")},
		"stated short":  {4, strings.NewReader("right")},
		"stated long":   {6, strings.NewReader("right")},
		"empty":         {5, strings.NewReader("")},
		"endless":       {5, endless{}},
	} {
		var mismatch *blob.MismatchError
		if err := s.Put(d, c.size, c.r); !errors.As(err, &mismatch) {
			t.Errorf("%s: %v, want a mismatch", name, err)
		}
	}
	broken := errors.New("line is dead")
	if err := s.Put(d, 5, io.MultiReader(strings.NewReader("ri"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("failing reader: %v", err)
	}
	if err := s.Put(blob.Digest{}, 5, strings.NewReader("right")); err == nil {
		t.Error("no digest accepted")
	}
	if err := s.Put(d, -1, strings.NewReader("right")); err == nil {
		t.Error("negative size accepted")
	}
	if s.Has(d) || len(tempFiles(t, s)) > 0 {
		t.Errorf("something was left: %v", tempFiles(t, s))
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestOpenFindsRot(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	data := strings.Repeat("x", 100_000)
	d := put(t, s, data)
	for name, bad := range map[string]string{
		"bit":   data[:50_000] + "y" + data[50_001:],
		"short": data[1:],
		"long":  data + "x",
		"empty": "",
	} {
		if err := os.WriteFile(s.Path(d), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := read(s, d, int64(len(data)))
		var corrupt *CorruptError
		var mismatch *blob.MismatchError
		if !errors.As(err, &corrupt) || corrupt.Digest != d || corrupt.Path != s.Path(d) || !errors.As(err, &mismatch) {
			t.Errorf("%s: %v, want a CorruptError", name, err)
		}
		if !s.Has(d) {
			t.Errorf("%s: removed without being asked", name)
		}
	}
	if f, err := s.OpenUnverified(d, 1); err == nil {
		f.Close()
		t.Error("OpenUnverified gave a file of another size")
	}
	// Put repairs.
	put(t, s, data)
	if _, err := read(s, d, int64(len(data))); err != nil {
		t.Errorf("after repair: %v", err)
	}
}

func TestOpenOfNothing(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	if _, err := read(s, blob.Of(nil), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
	if err := s.Remove(blob.Of(nil)); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	if _, err := s.Quarantine(blob.Of(nil)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("quarantine of nothing: %v", err)
	}
}

func TestRemoveAndQuarantine(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	for range 2 { // the second replaces the first
		d := put(t, s, "bad")
		where, err := s.Quarantine(d)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(where); string(got) != "bad" || s.Has(d) {
			t.Errorf("quarantined %q, still there: %v", got, s.Has(d))
		}
	}
	d := put(t, s, "old")
	if err := s.Remove(d); err != nil || s.Has(d) {
		t.Errorf("remove: %v", err)
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := blob.Of([]byte("data"))
	for name, plant := range map[string]func(s *Store) error{
		"file to outside": func(s *Store) error {
			os.MkdirAll(filepath.Dir(s.Path(d)), 0o755)
			return os.Symlink(secret, s.Path(d))
		},
		"file to inside": func(s *Store) error {
			os.MkdirAll(filepath.Dir(s.Path(d)), 0o755)
			os.WriteFile(filepath.Join(s.Dir(), "there"), []byte("data"), 0o644)
			return os.Symlink("../../there", s.Path(d))
		},
		"folder": func(s *Store) error {
			os.WriteFile(filepath.Join(outside, d.Hex()+".bin"), []byte("data"), 0o644)
			return os.Symlink(outside, filepath.Dir(s.Path(d)))
		},
		"folder to inside": func(s *Store) error {
			os.MkdirAll(filepath.Join(s.Dir(), "there"), 0o755)
			os.WriteFile(filepath.Join(s.Dir(), "there", d.Hex()+".bin"), []byte("data"), 0o644)
			return os.Symlink("../there", filepath.Dir(s.Path(d)))
		},
		"directory in place of the file": func(s *Store) error { return os.MkdirAll(s.Path(d), 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), Limit{})
			if err := plant(s); err != nil {
				t.Fatal(err)
			}
			if s.Has(d) {
				t.Error("Has followed a link")
			}
			if got, err := read(s, d, 4); err == nil {
				t.Errorf("read %q", got)
			}
		})
	}
	t.Run("writing", func(t *testing.T) {
		s := open(t, t.TempDir(), Limit{})
		os.Symlink(outside, filepath.Dir(s.Path(d)))
		if err := s.Put(d, 4, strings.NewReader("data")); err == nil {
			t.Error("wrote through a linked folder")
		}
	})
	t.Run("blobs itself", func(t *testing.T) {
		dir := t.TempDir()
		os.Symlink(outside, filepath.Join(dir, blobDir))
		if s, err := Open(dir); err == nil {
			s.Close()
			t.Error("opened a store whose blobs folder is a link")
		}
	})
	t.Run("own name is replaced", func(t *testing.T) {
		s := open(t, t.TempDir(), Limit{})
		os.MkdirAll(filepath.Dir(s.Path(d)), 0o755)
		os.Symlink(secret, s.Path(d))
		put(t, s, "data")
		if got, err := read(s, d, 4); err != nil || got != "data" {
			t.Errorf("%q, %v", got, err)
		}
		if info, err := os.Lstat(secret); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the link's target was touched: %v %v", info, err)
		}
	})
}

// A power cut leaves a file in tmp, which the next Open removes; a Writer at
// work keeps its own.
func TestOpenRemovesLeftovers(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	if err := os.WriteFile(filepath.Join(s.Dir(), tempDir, "cut"), []byte("half a blo"), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(blob.Of([]byte("data")), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	again := open(t, s.Dir(), Limit{})
	if left := tempFiles(t, again); len(left) != 1 || left[0] == "cut" {
		t.Errorf("tmp has %v, want the living writer's file alone", left)
	}
	w.Write([]byte("data"))
	if err := w.Commit(); err != nil || !s.Has(blob.Of([]byte("data"))) {
		t.Errorf("the living writer was disturbed: %v", err)
	}
}

func TestWriterEndsOnce(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	w, err := s.CreateUnverified(blob.Of([]byte("data")), 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err == nil {
		t.Error("committed without its bytes")
	}
	w.Abort()
	if _, err := w.Write([]byte("data")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
	if err := w.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second commit: %v", err)
	}
}

func TestLimitRemovesTheLeastRecentlyUsed(t *testing.T) {
	dir := t.TempDir()
	free := open(t, dir, Limit{})
	block := func(c string) string { return strings.Repeat(c, 1000) }
	var d [4]blob.Digest
	for i := range d {
		d[i] = put(t, free, block(fmt.Sprint(i)))
		when := time.Now().Add(time.Duration(i-10) * time.Hour)
		if err := os.Chtimes(free.Path(d[i]), when, when); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, Limit{Bytes: 4500, Keep: []blob.Digest{d[1]}})
	if _, err := read(s, d[0], 1000); err != nil { // now the most recent
		t.Fatal(err)
	}
	put(t, s, block("new")[:2000])
	have := [4]bool{s.Has(d[0]), s.Has(d[1]), s.Has(d[2]), s.Has(d[3])}
	if have != [4]bool{true, true, false, false} {
		t.Errorf("kept %v; 0 was just used, 1 is protected", have)
	}

	// What cannot fit removes nothing.
	var full *FullError
	if err := s.Put(blob.Of([]byte(block("big"))), 3600, strings.NewReader("")); !errors.As(err, &full) {
		t.Errorf("got %v, want a FullError", err)
	}
	if err := s.Put(blob.Of([]byte("?")), 1<<62, strings.NewReader("")); !errors.As(err, &full) {
		t.Errorf("huge: %v, want a FullError", err)
	}
	if !s.Has(d[0]) || !s.Has(d[1]) {
		t.Error("removed blobs although that did not help")
	}
}

func TestLimitCountsWritersAtWork(t *testing.T) {
	s := open(t, t.TempDir(), Limit{Bytes: 1000})
	w, err := s.Create(blob.Of([]byte("a")), 600)
	if err != nil {
		t.Fatal(err)
	}
	var full *FullError
	if _, err := s.Create(blob.Of([]byte("b")), 600); !errors.As(err, &full) {
		t.Errorf("got %v, want a FullError", err)
	}
	w.Abort()
	w.Abort()
	w, err = s.Create(blob.Of([]byte("b")), 600)
	if err != nil {
		t.Fatalf("after Abort: %v", err)
	}
	w.Abort()
	if _, err := OpenLimited(t.TempDir(), Limit{Bytes: -1}); err == nil {
		t.Error("negative limit accepted")
	}
}

func TestForeignFilesAreIgnored(t *testing.T) {
	s := open(t, t.TempDir(), Limit{Bytes: 100})
	for _, name := range []string{"blobs/readme", "blobs/ab/" + strings.Repeat("c", 64) + ".bin", "blobs/zz/x.bin", "blobs/ab/x"} {
		path := filepath.Join(s.Dir(), name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 90), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, "twenty bytes or more")
	for _, name := range []string{"blobs/readme", "blobs/ab/x"} {
		if _, err := os.Stat(filepath.Join(s.Dir(), name)); err != nil {
			t.Errorf("a file that is not ours was removed: %v", err)
		}
	}
}

func TestConcurrentPuts(t *testing.T) {
	s := open(t, t.TempDir(), Limit{Bytes: 1 << 20})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			data := strings.Repeat(fmt.Sprint(i%4), 10_000)
			d := blob.Of([]byte(data))
			if err := s.Put(d, int64(len(data)), strings.NewReader(data)); err != nil {
				t.Error(err)
			}
			if got, err := read(s, d, int64(len(data))); err != nil || got != data {
				t.Errorf("read: %v", err)
			}
		})
	}
	wg.Wait()
}

func BenchmarkPut(b *testing.B) {
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	data := bytes.Repeat([]byte("phase"), 1<<20)
	d := blob.Of(data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := s.Put(d, int64(len(data)), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
