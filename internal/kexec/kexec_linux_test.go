package kexec

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// That Load works on a machine is shown by test/vm: here it must not get as far.
func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) *os.File {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	empty, text := file("empty", nil), file("text", []byte("text"))
	closed := file("closed", []byte("text"))
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	folder, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	for name, tt := range map[string]struct {
		kernel, initrd *os.File
		want           string
	}{
		"empty kernel":  {empty, text, "the kernel has 0 bytes"},
		"empty initrd":  {text, empty, "the initrd has 0 bytes"},
		"closed kernel": {closed, text, "the kernel cannot be read"},
		"closed initrd": {text, closed, "the initrd cannot be read"},
		"device":        {null, text, "the kernel has 0 bytes"},
		"folder":        {folder, text, "the kernel cannot be mapped"},
	} {
		if err := Load(tt.kernel, tt.initrd, ""); !is(err, kindFile) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Load(nil, nil, ""); err == nil {
		t.Error("no kernel at all was loaded")
	}
	for _, f := range []*os.File{empty, closed} {
		if n, err := Size(f); !is(err, kindFile) {
			t.Errorf("size %d, %v", n, err)
		}
	}
	if n, err := Size(text); !is(err, kindImage) {
		t.Errorf("size of text %d, %v", n, err)
	}
	// Without root the memory map has no addresses; with root, this is no kernel.
	if err := Load(text, nil, ""); !is(err, kindImage) && !is(err, kindMap) && !is(err, kindParams) && !is(err, kindTree) {
		t.Errorf("text: %v", err)
	}
}

func TestMapFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mapFile("kernel", f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil || string(m.data) != "content" {
		t.Errorf("%q, %v", m.data, err)
	}
	m.unmap()
	if m, err := mapFile("initrd", nil); err != nil || m.data != nil {
		t.Errorf("no file: %v, %v", m, err)
	}
}

// Probe answers, and whatever it says, nothing is loaded by it.
func TestProbe(t *testing.T) {
	loaded := func() string {
		text, err := os.ReadFile("/sys/kernel/kexec_loaded")
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(text))
	}
	before := loaded()
	err := Probe()
	var e *Error
	var errno unix.Errno
	if err != nil && (!errors.As(err, &e) || !errors.As(err, &errno) && runtime.GOARCH != "386") {
		t.Errorf("Probe: %v", err)
	}
	t.Logf("kexec_load here: %v", err)
	if after := loaded(); after != before {
		t.Errorf("loaded: %s, then %s", before, after)
	}
}

func TestReadBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := readBounded(path, 5); err != nil || string(data) != "12345" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := readBounded(path, 4); err == nil {
		t.Error("too much was read")
	}
	if _, err := readBounded(path+"x", 4); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
