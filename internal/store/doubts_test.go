package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
)

func TestDoubts(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(text string) blob.Digest {
		d := blob.Of([]byte(text))
		if err := s.Put(d, int64(len(text)), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	a, b := put("a"), put("b")
	for want := 1; want <= MaxDoubts+2; want++ {
		if n, err := s.Doubt(a); err != nil || n != min(want, MaxDoubts) || s.Doubts(a) != n {
			t.Fatalf("doubt %d: %d, %v, then %d", want, n, err, s.Doubts(a))
		}
	}
	if s.Doubts(b) != 0 {
		t.Error("another blob is doubted too")
	}
	again, err := Open(dir) // it survives
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n := again.Doubts(a); n != MaxDoubts {
		t.Errorf("opened again it has %d doubts", n)
	}
	if err := s.Undoubt(a); err != nil || s.Doubts(a) != MaxDoubts-1 {
		t.Errorf("one taken back: %d, %v", s.Doubts(a), err)
	}
	for range 2 {
		if err := s.Sure(a); err != nil || s.Doubts(a) != 0 {
			t.Errorf("sure: %d, %v", s.Doubts(a), err)
		}
	}
	if err := s.Undoubt(b); err != nil || s.Doubts(b) != 0 {
		t.Errorf("nothing to take back: %d, %v", s.Doubts(b), err)
	}
	if _, err := s.Doubt(blob.Digest{}); err == nil {
		t.Error("a doubt about no blob")
	}
}

// TestDoubtsThatCannotBeRead are the most there can be: nobody knows better.
func TestDoubtsThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := blob.Of([]byte("a"))
	path := filepath.Join(dir, doubtDir, d.Hex())
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "1", "x\n", "10\n", "-\n", "1\n\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if n := s.Doubts(d); n != MaxDoubts {
			t.Errorf("%q: %d doubts", text, n)
		}
	}
	if err := errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)); err != nil {
		t.Fatal(err)
	}
	if n := s.Doubts(d); n != MaxDoubts {
		t.Errorf("a link: %d doubts", n)
	}
}

// TestDoubtsGoWithTheBlob: a medium does not fill with what is long gone.
func TestDoubtsGoWithTheBlob(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	gone := blob.Of([]byte("gone"))
	if _, err := s.Doubt(gone); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Doubt(blob.Of([]byte("another"))); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, doubtDir, gone.Hex())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}
