package debpkg

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

func TestParseDepends(t *testing.T) {
	for in, want := range map[string]string{
		"libc6 (>= 2.34), libssl3 (>= 3.0.0), adduser": "libc6 libssl3 adduser",
		"a-b | c-d, e-f:any (>= 1), a-b":               "a-b e-f",
		",\n":                                          "",
		"../x, -o, Upper, libx [amd64]":                "libx",
	} {
		if got := strings.Join(parseDepends(in), " "); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzParseDepends(f *testing.F) {
	f.Add("libc6 (>= 2.34), libssl3 | libssl1.1, x:any")
	f.Fuzz(func(t *testing.T, s string) {
		for _, name := range parseDepends(s) {
			if !validName(name) {
				t.Errorf("%q has %q", s, name)
			}
		}
	})
}

func TestDepends(t *testing.T) {
	nettest.Require(t, "dpkg-deb")
	dir := t.TempDir()
	control := "Package: phase-test\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <n@example.org>\nDescription: test\nPre-Depends: libc6\nDepends: libx1 (>= 2), libc6\n"
	if err := os.MkdirAll(filepath.Join(dir, "root/DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root/DEBIAN/control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	p := Package{File: "x.deb", dir: dir}
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", filepath.Join(dir, "root"), p.Path()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := p.Depends(t.Context()); err != nil || !slices.Equal(got, []string{"libc6", "libx1"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := (Package{File: "none.deb", dir: dir}).Depends(t.Context()); err == nil {
		t.Error("a package that is not there")
	}
}

func TestKernelPackages(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, id := range []string{"debian", "ubuntu"} {
			key := [2]string{id, arch}
			if kernelPackages[key] == "" || genericPackages[key] == "" || kernelPackages[key] == genericPackages[key] {
				t.Errorf("%v: %q, %q", key, kernelPackages[key], genericPackages[key])
			}
		}
	}
	if _, err := kernelPackage(genericPackages, "mips"); err == nil {
		t.Error("a kernel for mips")
	}
}
