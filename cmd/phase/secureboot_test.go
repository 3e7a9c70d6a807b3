package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/secureboot"
)

// TestSecureBootStatusOfMachine reads a folder as Linux shows the firmware's variables.
func TestSecureBootStatusOfMachine(t *testing.T) {
	key, _, err := secureboot.NewKey("Test", secureboot.RoleDB, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	list := string(secureboot.SignatureList(key.Cert))
	for _, tt := range []struct {
		name string
		vars map[string]string
		want []string
	}{
		{"on", map[string]string{"SecureBoot": "\x01", "SetupMode": "\x00", "db": list, "MokListRT": list}, []string{"Secure Boot  on\n", "starts       Test db\n", "shim adds    Test db\n"}},
		{"setup", map[string]string{"SecureBoot": "\x00", "SetupMode": "\x01"}, []string{"setup mode", "starts       nothing known\n"}},
		{"off", map[string]string{"SecureBoot": "\x00", "SetupMode": "\x00"}, []string{"off: this machine starts anything"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range tt.vars {
				if err := os.WriteFile(filepath.Join(dir, secureboot.VariableName(name)), []byte("\x07\x00\x00\x00"+data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, format := range []string{"text", "json"} {
				var out bytes.Buffer
				root := newRoot()
				root.SetOut(&out)
				root.SetArgs([]string{"image", "secureboot", "status", "--efivars", dir, "--format", format})
				if err := root.Execute(); err != nil {
					t.Fatal(err)
				}
				if format == "json" {
					var s secureStatus
					if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.Machine.Enabled != (tt.name == "on") || s.Machine.SetupMode != (tt.name == "setup") {
						t.Errorf("%v: %s", err, out.String())
					}
					continue
				}
				for _, want := range tt.want {
					if !strings.Contains(out.String(), want) {
						t.Errorf("no %q in:\n%s", want, out.String())
					}
				}
			}
		})
	}
}
