package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestFindFirmware(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("x")}
	both := func(f Firmware) fstest.MapFS {
		return fstest.MapFS{f.Code[1:]: file, f.Vars[1:]: file}
	}
	for arch, places := range firmwarePlaces {
		for _, want := range places {
			if got, err := FindFirmwareIn(both(want), arch); err != nil || got != want {
				t.Errorf("%s: got %v, %v, want %v", arch, got, err, want)
			}
		}
	}
	half := fstest.MapFS{"usr/share/OVMF/OVMF_CODE_4M.fd": file}
	var missing *NoFirmwareError
	if _, err := FindFirmwareIn(half, X8664); !errors.As(err, &missing) || !strings.Contains(missing.Hint(), "ovmf") {
		t.Errorf("code without variables: %v", err)
	}
	if _, err := FindFirmwareIn(half, ARM64); !errors.As(err, &missing) || !strings.Contains(missing.Hint(), "aarch64") {
		t.Errorf("nothing for arm64: %v", err)
	}
}

func TestCopyVars(t *testing.T) {
	dir := t.TempDir()
	template, path := filepath.Join(dir, "template"), filepath.Join(dir, "vars.fd")
	put := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(template, "new")
	for _, step := range []struct {
		keep bool
		want string
	}{{true, "new"}, {true, "guest"}, {false, "new"}} {
		if err := copyVars(path, template, step.keep); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != step.want {
			t.Errorf("keep=%v: got %q, want %q", step.keep, got, step.want)
		}
		put(path, "guest")
	}
	if err := copyVars(path, filepath.Join(dir, "absent"), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no template: %v", err)
	}
	if err := os.Truncate(template, maxVars+1); err != nil {
		t.Fatal(err)
	}
	if err := copyVars(path, template, false); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("huge template: %v", err)
	}
}
