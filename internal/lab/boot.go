package lab

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/vm"
	"github.com/phasebased/phase/receipt"
)

// BootOptions say how to boot a medium.
type BootOptions struct {
	Image    string   // the medium; what the machine writes to it stays
	Run      string   // folder for the run's files
	Accel    string   // vm.AccelAuto, …
	Memory   int      // MiB; 0: the default
	Bus      string   // how the medium is plugged in, as vm.Disk
	NoNet    bool     // no network card
	Nets     []vm.Net // the network cards; nil: one on QEMU's user-mode network
	Snapshot bool     // forget what the machine writes to the medium
	ReadOnly bool     // the medium is write-protected
	RTC      time.Time
	Vars     string   // file of the firmware's variables, kept from boot to boot; "": new ones
	Extra    []string // further arguments of QEMU: what makes this machine unlike others
	Reboot   bool     // let the machine restart; else that ends it
	// SecureBoot is firmware that checks signatures, with Microsoft's keys unless Vars
	// holds others.
	SecureBoot bool
	// Direct starts the seed's kernel without firmware and boot loader, with
	// these options beside the lab's own. Firmware that meets a clock in the
	// 1970s takes it for the 2070s; so the kernel sees what the clock shows.
	Direct string
}

// Boot powers a machine on that starts from the medium.
func (l *Lab) Boot(ctx context.Context, o BootOptions) (*vm.Machine, error) {
	cfg := vm.Config{
		Arch: l.cfg.Arch, Memory: o.Memory, Accel: o.Accel, ProbeCache: l.cfg.Work, RTC: o.RTC,
		Vars: o.Vars, Extra: o.Extra, Reboot: o.Reboot, SecureBoot: o.SecureBoot,
		Disks: []vm.Disk{{Path: o.Image, Bus: o.Bus, Snapshot: o.Snapshot, ReadOnly: o.ReadOnly}}, Nets: []vm.Net{{Kind: vm.NetUser}},
		Dir: filepath.Join(o.Run, "machine"), ConsoleLog: filepath.Join(o.Run, "console.log"), Report: true,
	}
	if o.Nets != nil {
		cfg.Nets = o.Nets
	}
	if o.NoNet {
		cfg.Nets = nil
	}
	if o.Direct != "" {
		cfg.Kernel, cfg.Initrd, cfg.Append = l.build.Inputs.Kernel.Image, l.Seed, l.options(o.Direct)
	}
	return vm.Start(ctx, cfg)
}

// Collect takes the receipt that was delivered to the provider (or, in private
// mode, shown on the report port) and verifies it:
// signed by the key that the machine showed on its own port, for the job, the
// answer and the release that were expected.
func (l *Lab) Collect(p *Provider, o *Outcome, published *release.Published) error {
	if o.Node == nil {
		return errors.New("the machine did not say who it is")
	}
	key, err := ParseKey(o.Node.Key)
	if err != nil {
		return err
	}
	raw := o.shown
	if o.last == ReceiptDelivered {
		if raw, err = p.newest(); err != nil {
			return err
		}
	}
	statement, err := receipt.Verify(raw, key)
	if err != nil {
		return fmt.Errorf("verify the receipt: %w", err)
	}
	o.Receipt = &Receipt{Raw: raw, Statement: statement}
	return checkHello(statement, published)
}

// checkHello compares a verified receipt with what was asked for.
func checkHello(s receipt.Statement, published *release.Published) error {
	spec, err := HelloJob()
	if err != nil {
		return err
	}
	hello, err := job.Parse(spec)
	if err != nil {
		return err
	}
	booted := s.Observation.Booted
	switch {
	case s.Result.JobID != hello.ID():
		return fmt.Errorf("the receipt is for job %s, not for %s", s.Result.JobID, hello.ID())
	case s.Result.Module != blob.Of(examples.Hello):
		return errors.New("the receipt is for another module")
	case s.Result.Stdout.Digest != blob.Of([]byte(HelloAnswer+"\n")):
		return fmt.Errorf("the job did not answer %q", HelloAnswer)
	case booted == nil:
		return errors.New("the receipt does not say what the machine booted")
	case booted.ManifestDigest != published.Manifest || booted.ManifestVersion != published.Version:
		return fmt.Errorf("the machine booted manifest %s (release %d), not %s", booted.ManifestDigest, booted.ManifestVersion, published.Manifest)
	}
	return nil
}

// ParseKey reads a key as KeyText writes it.
func ParseKey(text string) (ed25519.PublicKey, error) {
	digits, ok := strings.CutPrefix(text, "ed25519:")
	key, err := hex.DecodeString(digits)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%.80q is no Ed25519 key", text)
	}
	return key, nil
}
