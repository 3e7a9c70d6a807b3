package vm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

// TestLastGoodWithoutProvider boots in Local mode what was booted before, when
// the provider is gone: from the cache, and also when it has expired meanwhile,
// which the person is told.
func TestLastGoodWithoutProvider(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.release(1)
	b.local(r)
	b.provider.Stop()
	b.last = lab.ReceiptShown
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.shows(console, "Going back to release 1, which this medium booted before.")

	outcome, console = b.boot(lab.BootOptions{RTC: r.Expires.AddDate(0, 0, 10)})
	b.verified(outcome, console)
	b.shows(console, "WARNING: the manifest of release 1 expired at "+r.Expires.Format(time.RFC3339))
	b.shows(console, "Local mode starts it all the same.")

	outcome, console = b.boot(lab.BootOptions{NoNet: true})
	b.verified(outcome, console)
}

// local boots a release in Local mode while its provider is there.
func (b *bench) local(r release.Release) {
	b.Helper()
	b.publish(r, "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "local", Options: "phase.provider=" + b.ports.Base()})
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
}

// TestSecurityFloor lets the cache lose what was booted last: the release before
// it boots, unless a security floor was accepted since that it lies below.
func TestSecurityFloor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	needE2fsprogs(t)
	b.local(b.release(1))
	first := b.published

	b.replace(b.other(2), nil)
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	second := b.published
	b.forget(second.Blobs["initramfs"])
	b.provider.Stop()
	b.last, b.published = lab.ReceiptShown, first
	outcome, console = b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.shows(console, "Going back to release 1, which this medium booted before.")

	b.last = lab.ReceiptDelivered
	b.offer(b.other(3), func(p *release.Published) error {
		return lab.Resign(p, lab.Resigning{
			Manifest: func(m *manifest.Manifest) { m.SecurityFloor = 3 },
			Targets:  b.lab.Keys.Targets[:2], Timestamp: b.lab.Keys.Timestamp,
		})
	})
	outcome, console = b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.forget(b.published.Blobs["initramfs"])
	b.provider.Stop()
	outcome, console = b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeRollback, "FATAL: Manifest version downgrade detected (possible attack)")
	b.says(outcome, "it has version 2, but a newer manifest withdrew all before version 3")
}

// other is a release with an initramfs of its own.
func (b *bench) other(version int64) release.Release {
	b.Helper()
	r := b.release(version)
	initramfs, err := os.ReadFile(r.Initramfs)
	if err != nil {
		b.Fatal(err)
	}
	r.Initramfs = filepath.Join(b.run, fmt.Sprintf("initramfs-%d", version))
	// Zeros may follow an archive.
	if err := os.WriteFile(r.Initramfs, append(initramfs, make([]byte, 512*version)...), 0o644); err != nil {
		b.Fatal(err)
	}
	return r
}
