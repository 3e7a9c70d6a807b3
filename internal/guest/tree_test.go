package guest

import (
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeRoot makes a root with files (content) and links (a target behind "->").
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(content, "->"); link {
			err = os.Symlink(target, full)
		} else {
			err = os.WriteFile(full, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFind(t *testing.T) {
	first := fakeRoot(t, map[string]string{
		"usr/bin/tool":      "#!/bin/sh\n",
		"usr/sbin/absolute": "->/usr/bin/tool",
		"usr/sbin/relative": "->../bin/../bin/tool",
		"usr/bin/outside":   "->../../../../../../../etc/passwd",
		"usr/bin/circle":    "->circle",
		"sbin":              "->usr/sbin",
	})
	second := fakeRoot(t, map[string]string{"usr/bin/tool": "shadowed", "usr/bin/other": "other"})
	r := roots{first, second}
	tool := filepath.Join(first, "usr/bin/tool")
	for name, want := range map[string]string{
		"/usr/bin/tool": tool, "/usr/sbin/absolute": tool, "/sbin/relative": tool, "/usr/bin/../bin/tool": tool,
		"/usr/bin/other":   filepath.Join(second, "usr/bin/other"),
		"/usr/bin/outside": "", "/usr/bin/circle": "", "/none": "",
	} {
		got, err := r.find(name)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{"tool": "/usr/bin/tool", "other": "/usr/bin/other", "relative": "/usr/sbin/relative", "/sbin/absolute": "/sbin/absolute", "bin": ""} {
		if got, err := r.program(name); got != want || (err == nil) != (want != "") {
			t.Errorf("program %s: %q, %v", name, got, err)
		}
	}
}

// TestScripts: what a script is run by comes along, under its real name.
func TestScripts(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"usr/bin/sh": "no more", "usr/bin/script": "#! /bin/sh -e\necho", "usr/bin/orphan": "#!/bin/none\n", "bin": "->usr/bin",
		"usr/bin/broken": elf.ELFMAG + "and nothing else",
	})
	b := &builder{roots: roots{root}}
	b.skeleton()
	if err := b.program(t.Context(), "script"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"usr/bin/script", "usr/bin/sh"} {
		if !b.tree.Has(name) {
			t.Errorf("no %s", name)
		}
	}
	for name, want := range map[string]string{"orphan": "/bin/none", "broken": "broken", "none": "find program none"} {
		if err := b.program(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLibraries: a real program's libraries, with and without somebody who has
// them.
func TestLibraries(t *testing.T) {
	sh, err := roots{"/"}.find("/bin/sh")
	if err != nil {
		t.Skipf("there is no /bin/sh here: %v", err)
	}
	n, err := needs(sh)
	if err != nil || n.interp == "" || len(n.libs) == 0 {
		t.Skipf("/bin/sh has no libraries here: %+v, %v", n, err)
	}
	content, err := os.ReadFile(sh)
	if err != nil {
		t.Fatal(err)
	}
	alone := fakeRoot(t, map[string]string{"bin/sh": string(content), n.interp: "linker"})
	b := &builder{roots: roots{alone}}
	err = b.program(t.Context(), "/bin/sh")
	if err == nil || !strings.Contains(err.Error(), "find library "+n.libs[0]) {
		t.Errorf("alone: %v", err)
	}
	asked := 0
	b = &builder{roots: roots{alone}}
	b.supply = func(context.Context, string) (bool, error) {
		asked++
		b.roots = append(b.roots, "/")
		return asked == 1, nil
	}
	if err := b.program(t.Context(), "/bin/sh"); err != nil || asked != 1 {
		t.Errorf("supplied %d times: %v", asked, err)
	}
	for _, name := range []string{place(n.interp), "usr/lib/" + n.libs[0], "usr/bin/sh"} {
		if !b.tree.Has(name) {
			t.Errorf("no %s", name)
		}
	}
}

func TestPlace(t *testing.T) {
	for name, want := range map[string]string{"/bin/sh": "usr/bin/sh", "/usr/bin/sh": "usr/bin/sh", "/lib64/ld.so": "usr/lib64/ld.so", "/library/x": "library/x", "/a/../sbin/x/": "usr/sbin/x"} {
		if got := place(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for entry, want := range map[string][2]string{"testdata": {"/w/testdata", "/w/testdata"}, "/etc/x=../y": {"/etc/x", "/y"}, "/a=/b": {"/a", "/b"}} {
		if name, from := fileNames("/w", entry); name != want[0] || from != want[1] {
			t.Errorf("%s: %s from %s", entry, name, from)
		}
	}
}

func TestAddFolder(t *testing.T) {
	root := fakeRoot(t, map[string]string{"data/a": "1", "data/deep/b": "->../a", "data/dangling": "->nowhere"})
	b := &builder{roots: roots{root}}
	if err := b.add("/there", "/data"); err != nil {
		t.Fatal(err)
	}
	entries, err := b.tree.Entries()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Path)
	}
	if want := []string{"there", "there/a", "there/deep", "there/deep/b"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}
