//go:build unix

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// probeDeadline is how long the probe's guest has to speak. Where KVM works it
// needs about half a second, where not it hangs for ever.
const probeDeadline = 3 * time.Second

// Probe is the answer of ProbeKVM.
type Probe struct {
	// KVM says that a guest ran under KVM on this host.
	KVM bool `json:"kvm"`
	// Reason is one sentence for people: why KVM cannot be used, or that it can.
	Reason string `json:"reason"`
	// Detail is what QEMU said, for who wants to mend it; may be empty.
	Detail string `json:"detail,omitempty"`
}

// Accel is the accelerator to use.
func (p Probe) Accel() string {
	if p.KVM {
		return AccelKVM
	}
	return AccelTCG
}

// ProbeKVM finds out whether guests really run under KVM on this host. The
// device node says little: it may be there and not be permitted, and on nested
// or para-virtual hosts QEMU aborts, or the guest hangs, or crawls. So a guest
// of a few instructions is started (see sectorCode and greetingCode), which does
// some work in 64-bit mode and greets on its serial port; the greeting within
// three seconds is the only "yes".
//
// qemu is the emulator's path; empty looks for it. Hosts are x86_64 or arm64.
func ProbeKVM(ctx context.Context, qemu string) Probe {
	return probeKVM(ctx, qemu)
}

// smmMachine is for guests that need system management mode, as Secure Boot does
// on x86_64. KVM may be built without (CONFIG_KVM_SMM); the BIOS of the probe's
// guest enters it.
var smmMachine = []string{"-machine", "smm=on"}

func probeKVM(ctx context.Context, qemu string, extra ...string) Probe {
	arch := hostArch()
	if arch != X8664 && arch != ARM64 {
		return Probe{Reason: "KVM is not probed on " + arch}
	}
	if p, ok := probeDevice("/dev/kvm"); !ok {
		return p
	}
	return probeGuest(ctx, arch, qemu, AccelKVM, probeDeadline, extra...)
}

// probeDevice looks for the cheap reasons to say no.
func probeDevice(path string) (Probe, bool) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case err == nil:
		_ = f.Close() // nothing was written
		return Probe{}, true
	case errors.Is(err, os.ErrNotExist):
		return Probe{Reason: "this machine has no " + path}, false
	case errors.Is(err, os.ErrPermission):
		return Probe{Reason: "no permission to use " + path + " (add yourself to the group kvm)"}, false
	}
	return Probe{Reason: err.Error()}, false
}

// probeGuest runs the probe's guest under an accelerator, with further arguments
// of QEMU.
func probeGuest(ctx context.Context, arch, qemu, accel string, deadline time.Duration, extra ...string) (p Probe) {
	dir, err := os.MkdirTemp("", "phase-kvm-")
	if err != nil {
		return Probe{Reason: err.Error()}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cfg, err := greetingGuest(arch, filepath.Join(dir, "greeting"))
	if err != nil {
		return Probe{Reason: err.Error()}
	}
	cfg.Accel, cfg.CPUs, cfg.Memory, cfg.Dir, cfg.QEMU, cfg.Extra = accel, 1, 64, dir, qemu, extra
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	m, err := Start(ctx, cfg)
	if err != nil {
		return Probe{Reason: fmt.Sprintf("%s does not start: %v", strings.ToUpper(accel), err)}
	}
	_, err = m.WaitConsole(ctx, func(line string) bool { return strings.Contains(line, greeting) })
	took := time.Since(m.PowerOn()).Round(10 * time.Millisecond)
	exit := m.Quit(ctx)
	switch {
	case err == nil:
		return Probe{KVM: accel == AccelKVM, Reason: fmt.Sprintf("a guest ran under %s within %v", strings.ToUpper(accel), took)}
	case errors.Is(err, ErrEnded):
		return Probe{Reason: fmt.Sprintf("%s is here but does not work on this machine", strings.ToUpper(accel)), Detail: exit.Stderr}
	}
	return Probe{Reason: fmt.Sprintf("guests hang or crawl under %s on this machine (no greeting within %v)", strings.ToUpper(accel), deadline)}
}

// probeFor answers for a machine with AccelAuto: only a guest of the host's
// own architecture can use KVM. With cfg.ProbeCache the answer is kept there.
func probeFor(ctx context.Context, cfg Config) Probe {
	if cfg.Arch != hostArch() {
		return Probe{Reason: "the guest is " + cfg.Arch + ", this machine is " + hostArch()}
	}
	name, extra := "kvm-probe.json", []string(nil)
	if cfg.SecureBoot && cfg.Arch == X8664 {
		name, extra = "kvm-smm-probe.json", smmMachine
	}
	if cfg.ProbeCache == "" {
		return probeKVM(ctx, cfg.QEMU, extra...)
	}
	boot := bootID()
	path := filepath.Join(cfg.ProbeCache, name)
	if p, ok := loadProbe(path, boot); ok {
		return p
	}
	p := probeKVM(ctx, cfg.QEMU, extra...)
	// An answer forced by the caller's hurry is not worth keeping; a cache that
	// cannot be written costs the next start a probe, no more.
	if ctx.Err() == nil {
		_ = saveProbe(path, boot, p)
	}
	return p
}

func hostArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return X8664
	case "arm64":
		return ARM64
	}
	return runtime.GOARCH
}

// cachedProbe is the cache file: an answer and the boot of the host for which
// it holds.
type cachedProbe struct {
	Boot  string `json:"boot"`
	Probe Probe  `json:"probe"`
}

// bootID identifies the host's current boot; empty where there is no such id.
func bootID() string {
	f, err := os.Open("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	defer f.Close()
	id, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func loadProbe(path, boot string) (Probe, bool) {
	f, err := os.Open(path)
	if err != nil {
		return Probe{}, false
	}
	defer f.Close()
	var c cachedProbe
	if err := json.NewDecoder(io.LimitReader(f, 4096)).Decode(&c); err != nil {
		return Probe{}, false
	}
	return c.Probe, boot != "" && c.Boot == boot
}

func saveProbe(path, boot string, p Probe) error {
	data, err := json.Marshal(cachedProbe{Boot: boot, Probe: p})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
