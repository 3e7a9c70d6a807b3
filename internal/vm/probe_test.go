package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The probe must be able to say yes: its guest, under the accelerator that
// works everywhere.
func TestProbeGuestRuns(t *testing.T) {
	extra := map[string][]string{X8664: smmMachine} // what more a guest may need
	for _, arch := range []string{X8664, ARM64} {
		t.Run(arch, func(t *testing.T) {
			needQEMUFor(t, arch)
			p := probeGuest(testContext(t), arch, "", AccelTCG, 30*time.Second, extra[arch]...)
			if !strings.HasPrefix(p.Reason, "a guest ran under TCG") {
				t.Errorf("got %+v", p)
			}
			if p.KVM {
				t.Error("TCG taken for KVM")
			}
		})
	}
}

// On this machine the answer is whatever it is, but it comes in time and with
// a reason.
func TestProbeKVMAnswers(t *testing.T) {
	needQEMU(t)
	ctx := testContext(t)
	p := ProbeKVM(ctx, "")
	if p.Reason == "" || ctx.Err() != nil {
		t.Errorf("%+v, %v", p, ctx.Err())
	}
	t.Logf("%+v", p)
}

// program writes a shell script that plays QEMU.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const greets = `echo '{"QMP":{}}' >&4; `

func TestProbeGuest(t *testing.T) {
	tests := []struct {
		name, script string
		kvm          bool
		want         string // in the reason or the detail
	}{
		{"works", greets + "echo " + greeting + " >&3; exec sleep 100", true, "a guest ran under KVM"},
		{"hangs", greets + "exec sleep 100", false, "hang or crawl"},
		{"hangs before its monitor answers", "exec sleep 100", false, "does not start"},
		{"says something else", greets + "echo SeaBIOS >&3; exec sleep 100", false, "hang or crawl"},
		{"aborts", greets + "echo 'failed to set MSR' >&2; exit 1", false, "failed to set MSR"},
		{"refuses", "echo 'could not access KVM' >&2; exit 1", false, "could not access KVM"},
		{"resets at once", greets + "exit 0", false, "does not work on this machine"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			within := time.Minute
			if strings.HasPrefix(tt.name, "hangs") || tt.name == "says something else" {
				within = 3 * time.Second // it ends with that, and before, a busy machine has to start the shell
			}
			p := probeGuest(testContext(t), X8664, program(t, tt.script), AccelKVM, within)
			if p.KVM != tt.kvm || !strings.Contains(p.Reason+" "+p.Detail, tt.want) {
				t.Errorf("got %+v, want %v with %q", p, tt.kvm, tt.want)
			}
		})
	}
}

func TestProbeDevice(t *testing.T) {
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked")
	if err := os.WriteFile(locked, nil, 0o000); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		ok         bool
		want       string
	}{
		{"absent", filepath.Join(dir, "kvm"), false, "has no"},
		{"no device", dir, false, "is a directory"},
		{"usable", "/dev/null", true, ""},
	}
	for _, tt := range tests {
		p, ok := probeDevice(tt.path)
		if ok != tt.ok || !strings.Contains(p.Reason, tt.want) || p.KVM {
			t.Errorf("%s: got %+v, %v", tt.name, p, ok)
		}
	}
	if os.Geteuid() == 0 {
		t.Log("running as root: no file is forbidden, that case is not tested")
		return
	}
	if p, ok := probeDevice(locked); ok || !strings.Contains(p.Reason, "group kvm") {
		t.Errorf("forbidden: got %+v, %v", p, ok)
	}
}

func TestProbeCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "kvm-probe.json")
	want := Probe{KVM: true, Reason: "it ran"}
	if err := saveProbe(path, "boot-1", want); err != nil {
		t.Fatal(err)
	}
	if p, ok := loadProbe(path, "boot-1"); !ok || p != want {
		t.Errorf("same boot: %+v, %v", p, ok)
	}
	if _, ok := loadProbe(path, "boot-2"); ok {
		t.Error("the answer of another boot was used")
	}
	if err := saveProbe(path, "", want); err != nil {
		t.Fatal(err)
	}
	if _, ok := loadProbe(path, ""); ok {
		t.Error("an answer was used where boots cannot be told apart")
	}
	if err := os.WriteFile(path, []byte(`{"boot":"boot-1"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := loadProbe(path, "boot-1"); ok {
		t.Error("a torn file was used")
	}
}

func TestProbeForUsesItsCache(t *testing.T) {
	foreign := map[string]string{X8664: ARM64, ARM64: X8664}[hostArch()]
	if foreign == "" {
		t.Skip("only x86_64 and arm64 hosts are probed")
	}
	dir := t.TempDir()
	want := Probe{KVM: true, Reason: "remembered"}
	if err := saveProbe(filepath.Join(dir, "kvm-probe.json"), bootID(), want); err != nil {
		t.Fatal(err)
	}
	if p := probeFor(t.Context(), Config{Arch: hostArch(), ProbeCache: dir}); p != want {
		t.Errorf("got %+v", p)
	}
	if hostArch() == X8664 {
		secure := Probe{Reason: "remembered: no system management mode"}
		if err := saveProbe(filepath.Join(dir, "kvm-smm-probe.json"), bootID(), secure); err != nil {
			t.Fatal(err)
		}
		if p := probeFor(t.Context(), Config{Arch: X8664, SecureBoot: true, ProbeCache: dir}); p != secure {
			t.Errorf("with Secure Boot: got %+v", p)
		}
	}
	if p := probeFor(t.Context(), Config{Arch: foreign, ProbeCache: dir}); p.KVM || p.Accel() != AccelTCG {
		t.Errorf("for a foreign guest: %+v", p)
	}
}
