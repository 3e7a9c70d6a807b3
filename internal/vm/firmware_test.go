package vm

import (
	"errors"
	"io/fs"
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
	plain := func(root fs.FS, arch string) (Firmware, error) { return FindFirmwareIn(root, arch) }
	for _, tt := range []struct {
		find   func(fs.FS, string) (Firmware, error)
		places map[string][]Firmware
		secure bool
	}{{plain, firmwarePlaces, false}, {FindSecureFirmware, securePlaces, true}} {
		for arch, places := range tt.places {
			for _, want := range places {
				if got, err := tt.find(both(want), arch); err != nil || got != want {
					t.Errorf("%s: got %v, %v, want %v", arch, got, err, want)
				}
			}
		}
		half := fstest.MapFS{"usr/share/OVMF/OVMF_CODE_4M.fd": file, "usr/share/OVMF/OVMF_CODE_4M.secboot.fd": file}
		for arch, pkg := range map[string]string{X8664: "ovmf", ARM64: "qemu-efi-aarch64"} {
			var missing *NoFirmwareError
			_, err := tt.find(half, arch)
			if !errors.As(err, &missing) || !strings.Contains(missing.Hint(), pkg) || strings.Contains(err.Error(), "Secure Boot") != tt.secure {
				t.Errorf("nothing for %s: %v", arch, err)
			}
		}
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
	for range 2 { // the second time over what a guest wrote
		if err := copyVars(path, template); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != "new" {
			t.Errorf("got %q", got)
		}
		put(path, "guest")
	}
	if err := copyVars(path, filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no template: %v", err)
	}
	if err := os.Truncate(template, maxVars+1); err != nil {
		t.Fatal(err)
	}
	if err := copyVars(path, template); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("huge template: %v", err)
	}
}

// TestVariablesAreChosen prepares machines without starting them.
func TestVariablesAreChosen(t *testing.T) {
	absent := func() string { return filepath.Join(t.TempDir(), "absent") }
	put := func(content string) string {
		path := absent()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	enrolled, empty, kept := put(string(storeOf(variable(variableAdded, "PK", "a key")))), put(string(storeOf())), put("kept")
	for _, tt := range []struct {
		name   string
		cfg    Config
		want   string // file whose content the machine's variables have
		refuse error
	}{
		{"plain", Config{Firmware: Firmware{absent(), empty}}, empty, nil},
		{"plain, another file", Config{Firmware: Firmware{absent(), empty}, Vars: absent()}, empty, nil},
		{"plain, kept", Config{Firmware: Firmware{absent(), empty}, Vars: kept}, kept, nil},
		{"secure", Config{SecureBoot: true, Firmware: Firmware{absent(), enrolled}}, enrolled, nil},
		{"secure, kept", Config{SecureBoot: true, Firmware: Firmware{absent(), empty}, Vars: kept}, kept, nil},
		{"secure without keys", Config{SecureBoot: true, Firmware: Firmware{absent(), empty}}, "", ErrNoKeys},
		{"secure, no store", Config{SecureBoot: true, Firmware: Firmware{absent(), kept}}, "", ErrVariables},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := plan{Config: tt.cfg}
			p.Dir = t.TempDir()
			if err := p.prepareFirmware(); !errors.Is(err, tt.refuse) || (err == nil) != (tt.refuse == nil) {
				t.Fatalf("got %v, want %v", err, tt.refuse)
			}
			if tt.refuse != nil {
				return
			}
			got, err := os.ReadFile(p.vars)
			want, wantErr := os.ReadFile(tt.want)
			if err != nil || wantErr != nil || string(got) != string(want) {
				t.Errorf("%d bytes, want those of %s (%v, %v)", len(got), tt.want, err, wantErr)
			}
		})
	}
}
