package vm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/secureboot"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/vm"
)

// lockedDown is what Debian's kernel says when it was started with Secure Boot on.
const lockedDown = "Kernel is locked down from EFI Secure Boot"

// TestStockPC boots a machine as PCs are sold, Secure Boot on and Microsoft's keys in
// the firmware, from a medium with Debian's signed shim, GRUB and kernel.
//
// The first boot is one whose kernel may start no other: GRUB starts the verified
// system, once. The second is by kexec, in Private mode, which changes no variable of
// the firmware, and its seed is an attacker's: another root key lies in it, and so it
// boots a release that the publisher never signed. This chain vouches for kernels, and
// not for the seed; see docs/secure-boot.md.
func TestStockPC(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Chain: system.ChainStock, Options: noKexec})
	vars := filepath.Join(b.run, "vars.fd")
	outcome, console := b.boot(lab.BootOptions{SecureBoot: true, Reboot: true, Vars: vars})
	b.verified(outcome, console)
	for _, want := range []string{"Welcome to GRUB", "Restarting this machine", "loader.oneshot=started", lockedDown} {
		b.shows(console, want)
	}
	b.noGRUBEntry(vars)

	b.provider.Stop()
	check(t, os.RemoveAll(filepath.Join(b.run, "published")))
	b.lab = attacker(b)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Chain: system.ChainStock, Mode: "private"})
	before, medium := b.variables(vars), digest(t, b.image)
	b.last = lab.ReceiptShown
	outcome, console = b.boot(lab.BootOptions{SecureBoot: true, Vars: vars})
	b.verified(outcome, console)
	for _, want := range []string{"Private Mode", lockedDown} {
		b.shows(console, want)
	}
	after := b.variables(vars)
	for name := range mergedKeys(before, after) {
		if name != monotonic && before[name] != after[name] {
			t.Errorf("Private mode: firmware variable %s was %q and is %q", name, before[name].Data, after[name].Data)
		}
	}
	if !bytes.Equal(medium, digest(t, b.image)) {
		t.Error("Private mode has written to the medium")
	}
}

// TestKernelsThatSecureBootRefuses offers a machine with Secure Boot kernels that the
// publisher has put into releases, correctly, but that Debian has not signed. Each is
// refused with the reason, without a restart that would not help. Then the medium's
// own kernel is changed, which shim does not let GRUB start; and nobody gets GRUB to
// do something else.
func TestKernelsThatSecureBootRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	honest, err := os.ReadFile(b.release(1).Kernel)
	check(t, err)
	releases := int64(0)
	offer := func(kernel []byte) {
		r := b.release(releases + 1)
		releases++
		r.Kernel = filepath.Join(b.run, "vmlinuz")
		check(t, os.WriteFile(r.Kernel, kernel, 0o600))
		b.publish(r, "")
	}
	offer(unsigned(t, honest))
	b.serve()
	b.medium(lab.ImageOptions{Chain: system.ChainStock, Mode: "local", Options: "phase.provider=" + b.ports.Base()})
	m := b.on(ctx, "machine", lab.BootOptions{SecureBoot: true})
	for i, refusal := range []struct {
		kernel []byte // of the next release
		text   string
	}{
		{flipped(honest), "the new kernel is not signed, and the running one asks for a signature"},
		{foreign(t, honest), "the new kernel's signature is wrong or its key was revoked"},
		{nil, "the new kernel is signed by a key that this machine does not know"},
	} {
		if i > 0 {
			b.types(ctx, m, "r", nil)
			b.follow(ctx, m)
		}
		b.refused(m.outcome, m.console, "KEXEC-050", refusal.text)
		b.says(m.outcome, "restart: Secure Boot would refuse")
		b.shows(m.console, "Turn Secure Boot off in the firmware, or use a system whose kernel is signed")
		if refusal.kernel != nil {
			offer(refusal.kernel)
		}
	}
	m.machine.Quit(ctx)
	b.changeKernel(honest)
	b.grubRefuses(ctx)
}

// grubRefuses watches GRUB refuse to start the medium's kernel, and refuse a person
// who wants it to do something else.
func (b *bench) grubRefuses(ctx context.Context) {
	b.Helper()
	machine, err := b.lab.Boot(ctx, lab.BootOptions{Image: b.image, Run: filepath.Join(b.run, "refused"), SecureBoot: true})
	if err != nil {
		b.Fatal(err)
	}
	defer machine.Quit(ctx)
	m := &booted{machine: machine}
	for _, step := range []struct{ shows, press string }{
		{"bad shim signature", ""},
		{"Press any key to continue", " "},
		{"Phase Boot", "c"},
		{"Enter username", "nobody\r"},
		{"Enter password", "\r"},
	} {
		if err := m.await(ctx, step.shows); err != nil {
			b.Fatalf("GRUB does not show %q: %v; the console shows:\n%s", step.shows, err, strings.Join(machine.ConsoleTail(80), "\n"))
		}
		b.sends(m, step.press)
	}
	if console := strings.Join(machine.ConsoleTail(1000), "\n"); strings.Contains(console, "grub>") || banner.MatchString(console) {
		b.Errorf("GRUB does as anybody says:\n%s", console)
	}
}

// attacker is the lab of somebody who has changed the seed on a medium: an archive
// more in the initramfs, with another root.
func attacker(b *bench) *lab.Lab {
	b.Helper()
	keys, err := release.NewKeys()
	check(b.T, err)
	root, err := keys.RootFile(labTime.AddDate(10, 0, 0))
	check(b.T, err)
	seed, err := os.ReadFile(b.lab.Seed)
	check(b.T, err)
	archive := bytes.NewBuffer(append(seed, make([]byte, -len(seed)&3)...))
	files := &image.Tree{}
	files.Bytes("phase/root.json", 0o644, root)
	check(b.T, image.WriteCPIO(archive, files, labTime))
	changed := *b.lab
	changed.Keys, changed.Root, changed.Seed = keys, root, filepath.Join(b.run, "seed.img")
	check(b.T, os.WriteFile(changed.Seed, archive.Bytes(), 0o600))
	return &changed
}

// signatures is where an EFI program for 64 bits says where its signatures lie, and
// how many bytes they take.
func signatures(kernel []byte) []byte {
	optional := binary.LittleEndian.Uint32(kernel[60:]) + 24
	return kernel[optional+112+4*8:][:8]
}

// unsigned is a kernel without its signatures.
func unsigned(t *testing.T, kernel []byte) []byte {
	t.Helper()
	kernel = bytes.Clone(kernel)
	at := signatures(kernel)
	offset, size := binary.LittleEndian.Uint32(at), binary.LittleEndian.Uint32(at[4:])
	if size == 0 || int(offset+size) != len(kernel) {
		t.Fatalf("the signatures take %d of %d bytes, from %d", size, len(kernel), offset)
	}
	clear(at)
	return kernel[:offset]
}

// flipped is a kernel with another bit in its midst.
func flipped(kernel []byte) []byte {
	kernel = bytes.Clone(kernel)
	kernel[len(kernel)/2] ^= 1
	return kernel
}

// foreign is a kernel that a stranger has signed.
func foreign(t *testing.T, kernel []byte) []byte {
	t.Helper()
	key, _, err := secureboot.NewKey("stranger", secureboot.RoleDB, time.Now().AddDate(0, 0, -1))
	check(t, err)
	signed, err := secureboot.Sign(unsigned(t, kernel), key)
	check(t, err)
	return signed
}

// changeKernel flips a bit of the kernel on the medium.
func (b *bench) changeKernel(honest []byte) {
	b.Helper()
	kernel := filepath.Join(b.run, "changed")
	check(b.T, os.WriteFile(kernel, flipped(honest), 0o600))
	out, err := exec.Command("mcopy", "-o", "-i", b.image+"@@1M", kernel, "::/phase/x86_64/vmlinuz").CombinedOutput()
	if err != nil {
		b.Fatalf("mcopy: %v: %s", err, out)
	}
}

// noGRUBEntry is noEntry for media that GRUB starts: neither files nor GRUB's memory.
func (b *bench) noGRUBEntry(vars string) {
	b.Helper()
	out, err := exec.Command("mdir", "-/", "-b", "-i", b.image+"@@1M", "::").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "grub.cfg") || strings.Contains(strings.ToLower(string(out)), "oneshot") {
		b.Errorf("mdir: %v; the boot partition holds:\n%s", err, out)
	}
	env, err := exec.Command("mtype", "-i", b.image+"@@1M", "::/boot/grub/grubenv").CombinedOutput()
	if err != nil || len(env) != 1024 || !strings.Contains(string(env), "next_entry=\n") {
		b.Errorf("mtype: %v; GRUB keeps:\n%s", err, env)
	}
	if v, there := b.variables(vars)[bootNext]; there {
		b.Errorf("the firmware keeps BootNext = %q", v.Data)
	}
}

// variables is what the firmware keeps.
func (b *bench) variables(path string) map[string]vm.Variable {
	b.Helper()
	kept, err := vm.ReadVariables(path)
	check(b.T, err)
	return kept
}
