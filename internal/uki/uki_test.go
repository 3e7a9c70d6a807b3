package uki

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/pefile"
	"github.com/phasebased/phase/internal/pefile/pefiletest"
)

const stubText = "\xc3#### LoaderInfo: systemd-stub 252 ####"

func parts() Parts {
	return Parts{
		Stub: pefiletest.Program(pefile.MachineX8664, stubText), Kernel: pefiletest.Program(pefile.MachineX8664, "Linux"),
		Initramfs: bytes.Repeat([]byte("seed"), 0x600), Cmdline: "quiet phase.mode=private", OSRelease: "PRETTY_NAME=\"Phase\"\n",
	}
}

func TestBuild(t *testing.T) {
	p := parts()
	got, err := Build(p)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Build(p); err != nil || !bytes.Equal(got, again) {
		t.Errorf("the same parts gave another image: %v", err)
	}
	f, err := pefile.Parse(got)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{".linux": p.Kernel, ".initrd": p.Initramfs, ".cmdline": []byte(p.Cmdline), ".osrel": []byte(p.OSRelease)} {
		if content, ok := f.Content(name); !ok || !bytes.Equal(content, want) {
			t.Errorf("%s has %d bytes, want %d", name, len(content), len(want))
		}
	}
	for _, s := range f.Sections {
		if s.VirtualAddress%f.SectionAlignment != 0 {
			t.Errorf("%s lies at %#x, not at a multiple of %#x", s.Name, s.VirtualAddress, f.SectionAlignment)
		}
	}
}

// TestObjdump: binutils sees the same sections.
func TestObjdump(t *testing.T) {
	objdump := nettest.Tool(t, "objdump")
	image, err := Build(parts())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "uki.efi")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(objdump, "-h", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`\.text +00000400 `, `\.osrel +00000014 +0+2000 `, `\.cmdline +00000018 +0+3000 `, `\.initrd +00001800 +0+4000 `, `\.linux +00000800 +0+6000 `} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("objdump does not see %q:\n%s", want, out)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Parts){
		"no stub":          func(p *Parts) { p.Stub = nil },
		"stranger's stub":  func(p *Parts) { p.Stub = pefiletest.Program(pefile.MachineX8664, "\xc3") },
		"no kernel":        func(p *Parts) { p.Kernel = []byte("Linux") },
		"other machine":    func(p *Parts) { p.Kernel = pefiletest.Program(pefile.MachineARM64, "Linux") },
		"no initramfs":     func(p *Parts) { p.Initramfs = nil },
		"no command line":  func(p *Parts) { p.Cmdline = "" },
		"two lines":        func(p *Parts) { p.Cmdline = "a\nb" },
		"long line":        func(p *Parts) { p.Cmdline = strings.Repeat("x", maxCmdline+1) },
		"no os-release":    func(p *Parts) { p.OSRelease = "" },
		"zero in it":       func(p *Parts) { p.OSRelease = "a\x00" },
		"long os-release":  func(p *Parts) { p.OSRelease = strings.Repeat("x", maxOSRelease+1) },
		"stub is complete": func(p *Parts) { p.Stub, _ = Build(parts()) },
	} {
		p := parts()
		change(&p)
		if image, err := Build(p); err == nil || image != nil {
			t.Errorf("%s: %d bytes, %v", name, len(image), err)
		}
	}
	p := parts()
	p.Stub = nil
	if _, err := Build(p); !errors.Is(err, pefile.ErrFormat) {
		t.Errorf("%v", err)
	}
}
