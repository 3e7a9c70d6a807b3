package vm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

// offer publishes a release, lets change spoil it, and serves it to a medium that
// knows the provider's address: a provider announces nothing that it can see to
// be refused.
func (b *bench) offer(r release.Release, change func(*release.Published) error) {
	b.Helper()
	b.publish(r, "")
	if change != nil {
		if err := change(b.published); err != nil {
			b.Fatal(err)
		}
	}
	b.serve()
	if b.image == "" {
		b.medium(lab.ImageOptions{Options: "phase.provider=" + b.ports.Base()})
	}
}

// replace stops the provider and offers another release at the same address.
func (b *bench) replace(r release.Release, change func(*release.Published) error) {
	b.Helper()
	b.provider.Stop()
	b.offer(r, change)
}

func TestThresholdMinusOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.offer(b.release(1), func(p *release.Published) error {
		return lab.Resign(p, lab.Resigning{Targets: b.lab.Keys.Targets[:1], Timestamp: b.lab.Keys.Timestamp})
	})
	outcome, console := b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeSignature, "FATAL: Manifest signature verification failed")
	if !strings.Contains(outcome.Failure.Text, "1 of the 2 required") {
		t.Errorf("the message does not say how many signatures there are: %s", outcome.Failure.Text)
	}
}

func TestSameVersionOtherManifest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.offer(b.release(1), nil)
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.replace(b.release(1), func(p *release.Published) error {
		return lab.Resign(p, lab.Resigning{
			Manifest: func(m *manifest.Manifest) { m.Cmdline += " quiet" },
			Targets:  b.lab.Keys.Targets[:2], Timestamp: b.lab.Keys.Timestamp,
		})
	})
	outcome, console = b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeSameVersion, "FATAL: manifest refused (same-version-other-digest)")
}

func TestExpiredPointer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.release(1)
	r.Created = r.Created.AddDate(0, 0, -10)
	r.PointerExpiry = r.Created.AddDate(0, 0, 7)
	b.offer(r, nil)
	outcome, console := b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeExpired, "FATAL: pointer refused (expired)")
	b.says(outcome, r.PointerExpiry.Format(time.RFC3339), time.Now().UTC().Format(time.DateOnly))
}

func TestExpiredManifest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.release(1)
	r.Created = r.Created.AddDate(0, 0, -10)
	r.Expires = r.Created.AddDate(0, 0, 9)
	b.offer(r, func(p *release.Published) error {
		return lab.Resign(p, lab.Resigning{
			Pointer: func(p *manifest.Pointer) { p.ExpiresAt = r.Created.AddDate(0, 0, 14) },
			Targets: b.lab.Keys.Targets[:2], Timestamp: b.lab.Keys.Timestamp,
		})
	})
	outcome, console := b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeExpired, "FATAL: manifest refused (expired)")
	b.says(outcome, r.Expires.Format(time.RFC3339), time.Now().UTC().Format(time.DateOnly))
}

// says asserts that a refusal names all of words.
func (b *bench) says(o *lab.Outcome, words ...string) {
	b.Helper()
	for _, word := range words {
		if !strings.Contains(o.Failure.Text, word) {
			b.Errorf("the message does not name %q: %s", word, o.Failure.Text)
		}
	}
}

// TestReplayedPointer offers a machine what was signed the day before: as long as
// it lives, the release that it booted last boots again, and an older one does
// not; when its life is over nothing of it boots.
func TestReplayedPointer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	yesterday := b.release(5)
	yesterday.Created = yesterday.Created.AddDate(0, 0, -1)
	yesterday.PointerExpiry = yesterday.Created.AddDate(0, 0, 7)
	b.offer(yesterday, nil)
	for range 2 {
		outcome, console := b.boot(lab.BootOptions{})
		b.verified(outcome, console)
	}
	outcome, console := b.boot(lab.BootOptions{RTC: time.Now().AddDate(0, 0, 8)})
	b.refused(outcome, console, codeExpired, "FATAL: pointer refused (expired)")
	b.says(outcome, yesterday.PointerExpiry.Format(time.RFC3339))

	older := yesterday
	older.Version = 4
	b.replace(older, nil)
	outcome, console = b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeRollback, "FATAL: Manifest version downgrade detected (possible attack)")
}
