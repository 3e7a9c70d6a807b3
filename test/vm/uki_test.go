package vm_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/pefile"
	"github.com/phasebased/phase/internal/secureboot"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/vm"
)

// A signer makes one of the tests' keys, once.
type signer func() (*secureboot.Key, error)

func newSigner(name, role string) signer {
	return sync.OnceValues(func() (*secureboot.Key, error) {
		key, _, err := secureboot.NewKey(name, role, labTime)
		return key, err
	})
}

var ownSigner, foreignSigner = newSigner("Test", secureboot.RoleMOK), newSigner("Stranger", secureboot.RoleMOK)

func (b *bench) signer(s signer) *secureboot.Key {
	b.Helper()
	key, err := s()
	if err != nil {
		b.Fatal(err)
	}
	return key
}

// owned is the firmware of a machine that trusts its owner only.
func (b *bench) owned(key *secureboot.Key) (path string) {
	b.Helper()
	var vars []vm.Variable
	for _, role := range secureboot.OwnerRoles() {
		vars = append(vars, vm.Variable{
			Name:       secureboot.VariableName(role),
			Attributes: vm.VariableNonVolatile | vm.VariableBootServices | vm.VariableRuntime | vm.VariableTimeAuthenticated,
			Data:       string(secureboot.SignatureList(key.Cert)),
		})
	}
	firmware, err := vm.FindFirmware(vm.X8664)
	if err != nil {
		skip(b.T, err.Error())
	}
	template, err := os.ReadFile(firmware.Vars)
	if err != nil {
		b.Fatal(err)
	}
	path = filepath.Join(b.run, "vars.fd")
	if err := os.WriteFile(path, template, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := vm.WriteVariables(path, labTime, vars...); err != nil {
		b.Fatal(err)
	}
	return path
}

// signedMedium is a medium of a unified kernel image, with shim or, for machines of
// one's own, without.
func (b *bench) signedMedium(key *secureboot.Key, own bool, o lab.ImageOptions) {
	b.Helper()
	o.Chain, o.Signing = system.ChainUKI, system.Signing{Key: key}
	if own {
		o.Signing.Owner = map[string][]byte{}
	}
	b.medium(o)
}

// sealed asserts that whatever programs on the medium the key vouches for carry what
// they start, wherever they lie, and that there is one.
func (b *bench) sealed(key *secureboot.Key, tier int) {
	b.Helper()
	f, err := os.Open(b.image)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	files, err := image.ReadESP(f, info.Size(), func(string) bool { return true })
	if err != nil {
		b.Fatal(err)
	}
	signed := 0
	for name, data := range files {
		if secureboot.Verify(data, []*x509.Certificate{key.Cert}) != nil {
			continue
		}
		signed++
		program, err := pefile.Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		for _, section := range []string{".linux", ".initrd", ".cmdline"} {
			if content, _ := program.Content(section); len(content) == 0 {
				b.Errorf("%s is signed by the owner and has no %s of its own", name, section)
			}
		}
	}
	if signed != 1 {
		b.Errorf("the owner's key vouches for %d programs, expected the one image", signed)
	}
	if m := secureboot.Inspect(files); m.Tier != tier || !strings.HasPrefix(m.Why, "one image, signed by ") || strings.Contains(m.Why, "but") {
		b.Errorf("tier %d: %s", m.Tier, m.Why)
	}
}

// down is the arrow key.
const down = "\x1b[B"

// TestEnrolledByAPerson boots a signed medium on a PC as it is sold. Shim refuses the
// key that it does not know and offers to enrol it; a person does, with the
// certificate that lies on the medium. After that the medium boots to a receipt,
// with Secure Boot on, and kexec starts a kernel of Debian.
func TestEnrolledByAPerson(t *testing.T) {
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.signedMedium(b.signer(ownSigner), false, lab.ImageOptions{})
	b.sealed(b.signer(ownSigner), secureboot.TierMOK)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	machine, err := b.lab.Boot(ctx, lab.BootOptions{Image: b.image, Run: b.run, SecureBoot: true, Reboot: true})
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Quit(context.WithoutCancel(ctx))
	m := &booted{machine: machine}
	for _, step := range []struct{ shown, keys string }{
		{"Security Violation", "\r"},
		{"Press any key to perform MOK management", "\r"},
		{"Enroll key from disk", down + "\r"},
		{"PHASE-ESP", "\r"},
		{system.CertificateFile, down + down + "\r"},
		{"View key 0", down + "\r"},
		{"Enroll the key(s)?", ""},
		{"Yes", down + "\r"},
		{"Reboot", "\r"},
	} {
		b.await(ctx, m, step.shown)
		b.sends(m, step.keys)
	}
	b.follow(ctx, m)
	b.verified(m.outcome, m.console)
	b.shows(m.console, "Kernel is locked down from EFI Secure Boot")
}

// TestOwnerKeys boots a machine whose firmware trusts its owner alone. Its kernel
// refuses to start Debian's, whose key it does not know; the next release has a
// kernel that the owner has signed. Nothing that the owner has signed on the medium
// starts what is not, and the mode is chosen on the seed's own menu.
func TestOwnerKeys(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	key := b.signer(ownSigner)
	b.publish(b.release(1), "")
	b.serve()
	b.signedMedium(key, true, lab.ImageOptions{Mode: "private", Menu: 600})
	b.sealed(key, secureboot.TierOwner)
	machine, err := b.lab.Boot(ctx, lab.BootOptions{Image: b.image, Run: b.run, SecureBoot: true, Vars: b.owned(key)})
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Quit(context.WithoutCancel(ctx))
	m := &booted{machine: machine}
	b.await(ctx, m, "Private Mode starts after 10m0s")
	b.sends(m, "1")
	b.follow(ctx, m)
	b.shows(m.console, "Internet Mode")
	b.refused(m.outcome, m.console, "KEXEC-050", "the new kernel is signed by a key that this machine does not know")

	b.provider.Stop()
	r := b.release(2)
	kernel, err := os.ReadFile(r.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	if kernel, err = secureboot.Sign(kernel, key); err != nil {
		t.Fatal(err)
	}
	r.Kernel = filepath.Join(b.run, "kernel")
	if err := os.WriteFile(r.Kernel, kernel, 0o600); err != nil {
		t.Fatal(err)
	}
	b.publish(r, "")
	b.serve()
	b.sends(m, "r")
	b.follow(ctx, m)
	b.verified(m.outcome, m.console)
}

// TestNoRestartWithoutALoader: where no boot loader starts an entry once, the machine
// says so before it downloads anything, and writes nothing to its medium.
func TestNoRestartWithoutALoader(t *testing.T) {
	b := setup(t)
	key := b.signer(ownSigner)
	b.signedMedium(key, true, lab.ImageOptions{Options: "phase.handover=restart"})
	outcome, console := b.boot(lab.BootOptions{SecureBoot: true, Vars: b.owned(key), NoNet: true})
	b.refused(outcome, console, "KEXEC-060", "the boot loader takes no entries for one start")
	b.sealed(key, secureboot.TierOwner)
}

// TestFirmwareRefuses: what the owner has not signed, or not like this, does not
// start, and the screen says so.
func TestFirmwareRefuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		by    signer // nil: nobody
		alter bool   // one byte of the seed in the image
		shown string
	}{
		{"nobody's", nil, false, "failed to load Boot0001"},
		{"a stranger's", foreignSigner, false, "failed to load Boot0001"},
		{"another seed", ownSigner, true, "failed to load Boot0001"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			var key *secureboot.Key
			if tt.by != nil {
				key = b.signer(tt.by)
			}
			b.signedMedium(key, true, lab.ImageOptions{})
			if tt.alter {
				b.alterSeed()
			}
			ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
			defer cancel()
			machine, err := b.lab.Boot(ctx, lab.BootOptions{Image: b.image, Run: b.run, SecureBoot: true, Vars: b.owned(b.signer(ownSigner)), NoNet: true})
			if err != nil {
				t.Fatal(err)
			}
			defer machine.Quit(context.WithoutCancel(ctx))
			within, cancelWait := context.WithTimeout(ctx, 2*time.Minute)
			defer cancelWait()
			_, err = machine.WaitConsole(within, func(line string) bool { return strings.Contains(line, tt.shown) })
			console := strings.Join(machine.ConsoleTail(200), "\n")
			if err != nil || strings.Contains(console, "Internet Mode") {
				t.Errorf("%v; the console shows:\n%s", err, console)
			}
		})
	}
}

// alterSeed changes a byte in the middle of the initramfs in the image on the medium.
func (b *bench) alterSeed() {
	b.Helper()
	seed, err := os.ReadFile(b.lab.Seed)
	if err != nil {
		b.Fatal(err)
	}
	sample := seed[len(seed)/2:][:64]
	medium, err := os.ReadFile(b.image)
	if err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(b.image, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	found := 0
	for at := 0; ; found++ {
		next := bytes.Index(medium[at:], sample)
		if next < 0 {
			break
		}
		at += next
		if _, err := f.WriteAt([]byte{medium[at] ^ 1}, int64(at)); err != nil {
			b.Fatal(err)
		}
		at += len(sample)
	}
	if found != 1 {
		b.Fatalf("the seed lies %d times on the medium, expected once", found)
	}
}
