package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestShelfKeepsWhatWasUsedLast: a folder for reuse does not grow for ever.
func TestShelfKeepsWhatWasUsedLast(t *testing.T) {
	dir := t.TempDir()
	s, other := shelf{dir, "seed"}, shelf{dir, "seed-logged"}
	key := func(n int) string { return fmt.Sprintf("%0*d", keyLength, n) }
	source := write(t, filepath.Join(t.TempDir(), "output"), []byte("content"))
	if err := other.put(key(0), source); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "seed-1.partial"), nil)
	write(t, filepath.Join(dir, "seed-2.partial"), nil)
	old := time.Now().Add(-2 * abandonedAfter)
	if err := os.Chtimes(filepath.Join(dir, "seed-1.partial"), old, old); err != nil {
		t.Fatal(err)
	}
	for n := range mostKept {
		if err := s.put(key(n), source); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(time.Duration(n-mostKept) * time.Minute)
		if err := os.Chtimes(s.path(key(n)), when, when); err != nil {
			t.Fatal(err)
		}
	}
	if !s.take(key(0), filepath.Join(t.TempDir(), "copy")) { // the oldest, used again
		t.Fatal("what was put on the shelf is not there")
	}
	if err := s.put(key(mostKept), source); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		s.path(key(0)): true, s.path(key(1)): false, s.path(key(2)): true, s.path(key(mostKept)): true,
		other.path(key(0)): true, filepath.Join(dir, "seed-1.partial"): false, filepath.Join(dir, "seed-2.partial"): true,
	} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", filepath.Base(name), err == nil, want)
		}
	}
}

// TestShelfIsShared lets many builders put and take the same few outputs: whoever
// gets one gets the whole of it.
func TestShelfIsShared(t *testing.T) {
	s, folder := shelf{t.TempDir(), "seed"}, t.TempDir()
	content := strings.Repeat("the same output ", 1<<14)
	source := write(t, filepath.Join(folder, "output"), []byte(content))
	var builders sync.WaitGroup
	for i := range 4 {
		builders.Go(func() {
			for n := range 3 * mostKept {
				key, copied := fmt.Sprintf("%0*d", keyLength, n), filepath.Join(folder, fmt.Sprint(i))
				if s.take(key, copied) {
					if got, err := os.ReadFile(copied); err != nil || string(got) != content {
						t.Errorf("took %d bytes, %v", len(got), err)
					}
					continue
				}
				if err := s.put(key, source); err != nil {
					t.Error(err)
				}
			}
		})
	}
	builders.Wait()
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) > mostKept+4 {
		t.Errorf("%d outputs are kept, %v", len(entries), err)
	}
}
