package vm_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestARM64Local boots an arm64 machine in Local mode, from power-on to a verified
// receipt: firmware, boot loader, both kernels and the node are arm64, whatever this
// machine is.
func TestARM64Local(t *testing.T) {
	t.Parallel()
	b := setupArch(t, vm.ARM64)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "local", Options: "phase.provider=" + b.ports.Base()})
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.bootedARM64(outcome, console)
	if strings.Contains(console, "dht ") {
		t.Errorf("local mode has asked the DHT:\n%s", console)
	}
}

// TestARM64PrivateLeavesNothing boots an arm64 machine in Internet mode and then in
// Private mode, which changes no byte of any disk and no variable of the firmware,
// and sends nothing that tells the machine from others.
func TestARM64PrivateLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setupArch(t, vm.ARM64)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{})
	machine := newHardware(t, b.run, "one", "52:54:00:a1:b2:c3", "4c4f5a3e-7a11-4d2e-9c31-5d3f6a7b8c9d")
	open := b.powerOn(machine, "internet")
	b.bootedARM64(open.outcome, open.console)
	before, received := b.state(machine), b.received()
	private := b.powerOn(machine, "private")
	b.bootedARM64(private.outcome, private.console)
	b.unchanged(machine, before)
	if now := b.received(); now != received {
		t.Errorf("the Private boot delivered %d receipts", now-received)
	}
	private.tellsNothing(t, slices.Concat(machine.tells, identityTells(open.outcome.Node)))
	private.differs(t, open)
}

// bootedARM64 asserts that the architecture is the same all the way, and that the
// guest of the first job had every wall around it.
func (b *bench) bootedARM64(o *lab.Outcome, console string) {
	b.Helper()
	if !strings.Contains(console, "channel stable, arm64") {
		b.Errorf("the seed does not say that it is arm64:\n%s", calm(console))
	}
	// Debian's kernel for arm64 has no kexec_file_load, and never had: no news.
	if strings.Contains(console, "kexec_file_load") {
		b.Errorf("the seed complains of its kernel:\n%s", calm(console))
	}
	seen := o.Receipt.Statement.Observation
	if seen.Booted.Arch != vm.ARM64 {
		b.Errorf("the receipt says that %s was booted", seen.Booted.Arch)
	}
	for _, wall := range []string{
		"wasm", "process", "wall-deadline", "rlimits", "no-new-privs", "unprivileged-user", "empty-root",
		"network-namespace", "pid-namespace", "ipc-namespace", "mount-namespace",
	} {
		if !slices.Contains(seen.Walls, wall) {
			b.Errorf("the receipt lacks the wall %s: %q", wall, seen.Walls)
		}
	}
}

// TestARM64TamperedKernel shows that an arm64 machine verifies what it fetches.
func TestARM64TamperedKernel(t *testing.T) {
	t.Parallel()
	b := setupArch(t, vm.ARM64)
	outcome, console := b.bootFrom(b.release(1), "kernel")
	want := "FATAL: Artifact kernel hash mismatch (expected " + b.published.Blobs["kernel"].String() + ")"
	b.refused(outcome, console, "FETCH-002", want)
}
