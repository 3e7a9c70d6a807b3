//go:build unix

package durable

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// place makes the file that a case is about in a new folder.
func place(t *testing.T, do func(path string) error) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	if err := do(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func content(text string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
}

func TestReadSmall(t *testing.T) {
	for _, text := range []string{"", "a", "12345678"} {
		got, err := ReadSmall(place(t, content(text)), 8, RefuseLinks)
		if err != nil || string(got) != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	got, err := ReadSmall(place(t, content("1234567890")), 8, RefuseLinks)
	if !errors.Is(err, ErrTooLarge) || string(got) != "123456789" {
		t.Errorf("ten bytes: %q, %v", got, err)
	}
	if _, err := ReadSmall(filepath.Join(t.TempDir(), "none"), 8, RefuseLinks); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestReadSmallOfNoFile: each is refused at once, through a link as well.
func TestReadSmallOfNoFile(t *testing.T) {
	for name, do := range map[string]func(string) error{
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"socket": func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		},
		"device": func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		path := place(t, do)
		link := place(t, func(link string) error { return os.Symlink(path, link) })
		for _, p := range []string{path, link} {
			for _, links := range []Links{RefuseLinks, FollowLinks} {
				if data, err := ReadSmall(p, 8, links); !errors.Is(err, ErrNotRegular) || len(data) != 0 {
					t.Errorf("%s %s: %q, %v", name, p, data, err)
				}
			}
		}
	}
}

func TestReadSmallLinks(t *testing.T) {
	path := place(t, content("kept"))
	link := place(t, func(link string) error { return os.Symlink(path, link) })
	if got, err := ReadSmall(link, 8, FollowLinks); err != nil || string(got) != "kept" {
		t.Errorf("followed: %q, %v", got, err)
	}
	if got, err := ReadSmall(link, 8, RefuseLinks); !errors.Is(err, ErrNotRegular) || got != nil {
		t.Errorf("refused: %q, %v", got, err)
	}
}

func TestWriteBelow(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"first", "second"} {
		if err := WriteBelow(dir, "a/b/file", []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "a", "b", "file"))
		if err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got := names(t, filepath.Join(dir, "a", "b")); got != "file" {
		t.Errorf("the folder holds %s", got)
	}
	info, err := os.Stat(filepath.Join(dir, "a", "b", "file"))
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestWriteBelowFollowsNothing: wherever a link lies on the way, nothing is
// written behind it.
func TestWriteBelowFollowsNothing(t *testing.T) {
	for _, at := range []string{"a", "a/b"} {
		for _, inside := range []bool{false, true} {
			dir, elsewhere := t.TempDir(), t.TempDir()
			if inside {
				elsewhere = filepath.Join(dir, "other")
			}
			link := filepath.Join(dir, filepath.FromSlash(at))
			if err := errors.Join(os.MkdirAll(filepath.Join(elsewhere, "b"), 0o755), os.MkdirAll(filepath.Dir(link), 0o755),
				os.Symlink(elsewhere, link)); err != nil {
				t.Fatal(err)
			}
			if err := WriteBelow(dir, "a/b/file", []byte("x"), 0o644); !errors.Is(err, ErrNotFolder) {
				t.Errorf("%s is a link: %v", at, err)
			}
			if got := names(t, elsewhere); got != "b" {
				t.Errorf("%s is a link: elsewhere holds %s", at, got)
			}
		}
	}
	dir, kept := t.TempDir(), place(t, content("kept"))
	if err := os.Symlink(kept, filepath.Join(dir, "file")); err != nil {
		t.Fatal(err)
	}
	if err := WriteBelow(dir, "file", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(kept); string(got) != "kept" {
		t.Errorf("the link was followed: %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "file")); string(got) != "new" {
		t.Errorf("the link was not replaced: %q", got)
	}
}

func TestWriteBelowRefusals(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{"a/file": ErrNotFolder, "../file": nil, "b/../../file": nil, "": nil, ".": nil} {
		if err := WriteBelow(dir, path, nil, 0o600); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if err := WriteBelow(filepath.Join(dir, "none"), "file", nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "full", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteBelow(dir, "full", nil, 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	if got := names(t, dir); got != "a b full" && got != "a full" {
		t.Errorf("left behind: %s", got)
	}
}
