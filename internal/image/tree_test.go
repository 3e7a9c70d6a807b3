package image

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestTreeRefusesPaths(t *testing.T) {
	for _, name := range []string{
		"", ".", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a/./b",
		"a\x00b", "a\nb", "\xff", strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x",
	} {
		var tree Tree
		tree.Bytes(name, 0o644, nil)
		var pe *PathError
		if !errors.As(tree.Err(), &pe) {
			t.Errorf("path %q: got %v, want a PathError", name, tree.Err())
		}
	}
}

func TestTreeRefusesConflicts(t *testing.T) {
	fill := map[string]func(*Tree){
		"file twice":       func(t *Tree) { t.Bytes("a", 0o644, nil); t.Bytes("a", 0o644, nil) },
		"file under file":  func(t *Tree) { t.Bytes("a", 0o644, nil); t.Bytes("a/b", 0o644, nil) },
		"file under link":  func(t *Tree) { t.Symlink("a", "/etc"); t.Bytes("a/passwd", 0o644, nil) },
		"file over dir":    func(t *Tree) { t.Bytes("a/b", 0o644, nil); t.Bytes("a", 0o644, nil) },
		"no such source":   func(t *Tree) { t.File("a", 0o644, "/no/such/file") },
		"directory source": func(t *Tree) { t.File("a", 0o644, "/") },
		"empty link":       func(t *Tree) { t.Symlink("a", "") },
	}
	for name, f := range fill {
		var tree Tree
		f(&tree)
		if tree.Err() == nil {
			t.Errorf("%s: accepted", name)
		}
		if err := WriteCPIO(io.Discard, &tree, epoch); err == nil {
			t.Errorf("%s: a writer ignored the mistake", name)
		}
	}
}

func TestTreeOrder(t *testing.T) {
	var tree Tree
	tree.Bytes("a-b", 0o644, nil)
	tree.Bytes("a/z", 0o644, nil)
	tree.Dir("a", 0o700)
	tree.Bytes("B", 0o644, nil)
	entries, err := tree.Entries()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Path)
	}
	if s := strings.Join(got, " "); s != "B a a/z a-b" {
		t.Errorf("order %q", s)
	}
	if entries[1].Mode.Perm() != 0o700 {
		t.Errorf("directory mode %v, want the one given", entries[1].Mode)
	}
}

func TestTreeSourceChanges(t *testing.T) {
	for name, data := range map[string]string{"shorter": "12", "longer": "12345678"} {
		path := writeFile(t, "f", []byte("12345"))
		var tree Tree
		tree.File("f", 0o644, path)
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := WriteCPIO(io.Discard, &tree, epoch); err == nil {
			t.Errorf("%s source was not noticed", name)
		}
	}
}
