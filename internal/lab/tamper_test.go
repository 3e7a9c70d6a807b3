package lab

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestRotShowsInNothingButTheContent, and once in each file.
func TestRotShowsInNothingButTheContent(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "kernel"), filepath.Join(dir, "blob")
	if err := os.WriteFile(file, []byte("kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{rot: new(sync.Map)}
	l.rot.Store(dir, []string{file, link})
	for range 2 { // the second time there is nothing left to do
		if err := l.Rot(dir); err != nil {
			t.Fatal(err)
		}
	}
	after, err := os.Stat(file)
	if err != nil || !after.ModTime().Equal(before.ModTime()) || after.Size() != before.Size() {
		t.Errorf("%v, %v instead of %v", after, err, before)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "keroel" {
		t.Errorf("%q, %v", data, err)
	}
}
