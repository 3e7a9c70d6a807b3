package vm_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// noKexec is a kernel option by which the seed's kernel starts no other, as
// hardened kernels have it.
const noKexec = "sysctl.kernel.kexec_load_disabled=1"

// loaderVariable is the name of one of the boot loader's variables.
func loaderVariable(name string) string { return name + "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" }

const bootNext = "BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// TestRestartInsteadOfKexec boots a machine whose kernel refuses every kexec: it
// restarts into the verified system, which then removes what that took.
func TestRestartInsteadOfKexec(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Options: noKexec})
	vars := filepath.Join(b.run, "vars.fd")
	outcome, console := b.boot(lab.BootOptions{Reboot: true, Vars: vars})
	b.verified(outcome, console)
	b.shows(console, "Restarting this machine")
	b.noEntry(vars)
}

// TestNoWayInPrivateMode boots the same machine in Private mode, which writes
// nothing, not even to be able to boot: it says of each way why not.
func TestNoWayInPrivateMode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "private", Options: noKexec})
	before := digest(t, b.image)
	vars := filepath.Join(b.run, "vars.fd")
	outcome, console := b.boot(lab.BootOptions{Reboot: true, Vars: vars})
	b.refused(outcome, console, "KEXEC-050", "no way leads from here to the new system")
	b.says(outcome, "kexec_load, kexec_file_load: ", "kexec_load_disabled", "restart: ", "nothing may be written")
	b.shows(console, "Take sysctl.kernel.kexec_load_disabled out")
	if !bytes.Equal(before, digest(t, b.image)) {
		t.Error("private mode has written to the medium")
	}
	b.noEntry(vars)
}

// TestBootPartitionIsFull refuses a system that a restart could not start, before
// it is downloaded.
func TestBootPartitionIsFull(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.release(1)
	r.Initramfs = b.padded(r.Initramfs, 300<<20)
	b.publish(r, "")
	b.serve()
	b.medium(lab.ImageOptions{Options: noKexec})
	vars := filepath.Join(b.run, "vars.fd")
	outcome, console := b.boot(lab.BootOptions{Reboot: true, Vars: vars, Memory: 2048})
	b.refused(outcome, console, "KEXEC-050", "the boot partition has ")
	if len(outcome.Fetched) > 0 {
		t.Errorf("%d artifacts were downloaded for nothing", len(outcome.Fetched))
	}
	b.noEntry(vars)
}

// TestHandoverByKexecFileLoad boots by the newer system call alone.
func TestHandoverByKexecFileLoad(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Options: "phase.handover=kexec_file_load"})
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
}

// TestLockedDownKernel boots from a seed whose kernel is locked down without Secure
// Boot: it refuses kexec_load to everybody, and knows no signer, so that
// kexec_file_load refuses the new kernel only when it has seen it. The machine
// restarts into the verified system.
func TestLockedDownKernel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Options: "lockdown=integrity"})
	vars := filepath.Join(b.run, "vars.fd")
	outcome, console := b.boot(lab.BootOptions{Reboot: true, Vars: vars})
	b.verified(outcome, console)
	b.shows(console, "locked down and could not verify the new one")
	b.shows(console, "trying restart")
	b.noEntry(vars)
}

// TestLockedDownKernelAlone is the same in Private mode, which does not restart.
func TestLockedDownKernelAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "private", Options: "lockdown=integrity"})
	outcome, console := b.boot(lab.BootOptions{})
	b.refused(outcome, console, "KEXEC-050", "no way leads from here to the new system")
	b.says(outcome, "kexec_load: ", "locked down", "kexec_file_load: ", "could not verify the new one", "restart: ")
}

// padded is a copy of an initramfs with zeros behind it, which kernels pass over.
func (b *bench) padded(initramfs string, size int64) string {
	b.Helper()
	data, err := os.ReadFile(initramfs)
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.run, "initramfs")
	if err := errors.Join(os.WriteFile(path, data, 0o600), os.Truncate(path, size)); err != nil {
		b.Fatal(err)
	}
	return path
}

// noEntry asserts that neither the medium nor the firmware has a one-shot entry.
func (b *bench) noEntry(vars string) {
	b.Helper()
	out, err := exec.Command("mdir", "-/", "-b", "-i", b.image+"@@1M", "::").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "internet.conf") {
		b.Fatalf("mdir: %v: %s", err, out)
	}
	if strings.Contains(strings.ToLower(string(out)), "oneshot") {
		b.Errorf("the boot partition holds:\n%s", out)
	}
	kept, err := vm.ReadVariables(vars)
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{loaderVariable("LoaderEntryOneShot"), bootNext} {
		if v, there := kept[name]; there {
			b.Errorf("the firmware keeps %s = %q", name, v.Data)
		}
	}
}
