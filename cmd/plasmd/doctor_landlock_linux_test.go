package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/wasm"
)

// Why Landlock is missing is either the kernel's doing or that of whoever built the
// program; a person can mend the one and not the other.
func TestWhyNoLandlock(t *testing.T) {
	dir := t.TempDir()
	program := func(cgo string) string {
		path := filepath.Join(dir, "jail"+cgo)
		build := exec.Command("go", "build", "-o", path, "../plasm-jail")
		build.Env = append(build.Environ(), "CGO_ENABLED="+cgo)
		if out, err := build.CombinedOutput(); err != nil {
			t.Skipf("this machine does not build with CGO_ENABLED=%s: %s", cgo, out)
		}
		return path
	}
	plain, none := program("0"), filepath.Join(dir, "none")
	for _, c := range []struct {
		wall, jail string
		version    int
		want       string
	}{
		{wasm.WallFiles, plain, 0, "no Landlock"},
		{wasm.WallTCP, plain, 3, "needs version 4"},
		{wasm.WallScopes, plain, 5, "needs version 6"},
		{wasm.WallFiles, plain, 7, "container"},
		{wasm.WallFiles, none, 7, "container"},
	} {
		if got := whyNoLandlock(c.wall, c.jail, c.version); !strings.Contains(got, c.want) {
			t.Errorf("%s, version %d: %q, want %q", c.wall, c.version, got, c.want)
		}
	}
	withC := program("1")
	if got := whyNoLandlock(wasm.WallFiles, withC, 7); !strings.Contains(got, "CGO_ENABLED=0") {
		t.Errorf("built with cgo: %q", got)
	}
	if got := whyNoLandlock(wasm.WallFiles, withC, landlockC); strings.Contains(got, "cgo") {
		t.Errorf("a kernel that can: %q", got)
	}
}
