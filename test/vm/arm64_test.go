package vm_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestARM64 boots arm64 machines in each mode, from power-on to a verified receipt,
// from one release: firmware, boot loader, both kernels and the node are arm64,
// whatever this machine is.
func TestARM64(t *testing.T) {
	for _, mode := range []string{"internet", "local", "private"} {
		t.Run(mode, func(t *testing.T) {
			b := setupArch(t, vm.ARM64)
			b.publish(b.release(1), "")
			b.serve()
			options := lab.ImageOptions{Mode: mode}
			if mode == "local" {
				options.Options = "phase.provider=" + b.ports.Base()
			}
			b.medium(options)
			before := digest(t, b.image)
			if mode == "private" {
				b.last = lab.ReceiptShown
			}
			outcome, console := b.boot(lab.BootOptions{})
			b.verified(outcome, console)
			b.bootedARM64(outcome, console)
			switch mode {
			case "local":
				if strings.Contains(console, "dht ") {
					t.Errorf("local mode has asked the DHT:\n%s", console)
				}
			case "private":
				if !bytes.Equal(before, digest(t, b.image)) {
					t.Error("private mode has written to the medium")
				}
			}
		})
	}
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
	b := setupArch(t, vm.ARM64)
	outcome, console := b.bootFrom(b.release(1), "kernel")
	want := "FATAL: Artifact kernel hash mismatch (expected " + b.published.Blobs["kernel"].String() + ")"
	b.refused(outcome, console, "FETCH-002", want)
}
