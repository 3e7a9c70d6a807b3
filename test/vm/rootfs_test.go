package vm_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/system"
)

// root is what the node says of its root file system.
func (b *bench) root(o *lab.Outcome) string {
	b.Helper()
	for _, s := range o.Stages {
		if s.Name == "root" {
			return s.Note
		}
	}
	b.Errorf("the node says nothing of its root file system: %+v", o.Stages)
	return ""
}

// rootIs asserts what the root file system is, where, and where is written.
func (b *bench) rootIs(o *lab.Outcome, overlay, format, place string) {
	b.Helper()
	if got, want := b.root(o), fmt.Sprintf("overlay in %s over a read-only %s in %s", overlay, format, place); got != want {
		b.Errorf("the node has an %s, want an %s", got, want)
	}
}

// logWalk shows where the time goes.
func (b *bench) logWalk(what string, o *lab.Outcome) {
	b.Logf("%s: %.2f s from the seed's init to the hand-over", what, o.Seed.Seconds())
	for _, s := range o.Stages {
		b.Logf("  %-8s %-12s %7.3f %7.3f  %s", s.Kernel, s.Name, s.Start.Seconds(), (s.End - s.Start).Seconds(), s.Note)
	}
}

// TestRootfsStaysInTheCache: with a hash tree the root file system is opened where
// it lies, at the first boot and at those without a provider; without one, or
// without a cache, it is loaded. Both formats, in both places.
func TestRootfsStaysInTheCache(t *testing.T) {
	t.Parallel()
	for _, format := range []string{system.FormatSquashfs, system.FormatEROFS} {
		t.Run(format, func(t *testing.T) {
			b := setup(t)
			var err error
			if b.lab, err = b.lab.Formatted(t.Context(), format, true); err != nil {
				t.Fatal(err)
			}
			b.publish(b.release(1), "")
			b.serve()
			b.medium(lab.ImageOptions{Mode: "local", Options: "phase.provider=" + b.ports.Base()})
			outcome, console := b.boot(lab.BootOptions{})
			b.verified(outcome, console)
			b.rootIs(outcome, "memory", format, "cache")
			b.logWalk("over the network", outcome)

			b.provider.Stop()
			b.last = lab.ReceiptShown
			outcome, console = b.boot(lab.BootOptions{})
			b.verified(outcome, console)
			b.rootIs(outcome, "memory", format, "cache")
			b.logWalk("from the cache", outcome)
		})
	}
	t.Run("no tree", func(t *testing.T) {
		b := setup(t)
		var err error
		if b.lab, err = b.lab.Formatted(t.Context(), system.FormatEROFS, false); err != nil {
			t.Fatal(err)
		}
		outcome, console := b.bootFrom(b.release(1), "")
		b.verified(outcome, console)
		b.rootIs(outcome, "memory", system.FormatEROFS, "initramfs")
	})
}

// TestRottenRootfs changes blocks of the root file system in the cache: what is
// wrong is never used, the machine says so and starts again, and the seed mends it.
func TestRottenRootfs(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(size int) []int{
		// The first block stands for all that is read before the root is entered.
		"superblock": func(int) []int { return []int{0} },
		// So many that what plasmd is made of must be among them; the tables, which the
		// mount reads, are at the end.
		"programs": func(size int) []int {
			var all []int
			for off := 1 << 20; off < size*6/10; off += 64 << 10 {
				all = append(all, off)
			}
			return all
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.local(b.release(1))
			raw, err := os.ReadFile(b.lab.Node.Rootfs.Path)
			if err != nil {
				t.Fatal(err)
			}
			b.rotBlocks(raw, at(int(b.lab.Node.Verity.DataSize)))
			outcome, console := b.boot(lab.BootOptions{})
			if outcome.Failure == nil || outcome.Failure.Code != "NODE-042" || !strings.Contains(outcome.Failure.Text, "a block of it is not what its publisher signed") {
				t.Fatalf("the node said %+v; the console shows:\n%s", outcome.Failure, calm(console))
			}
			b.shows(console, "this machine starts again")

			outcome, console = b.boot(lab.BootOptions{})
			b.verified(outcome, console)
			b.rootIs(outcome, "memory", system.FormatSquashfs, "cache")
			b.shows(console, "never said that it came up: its root file system is read through")

			outcome, console = b.boot(lab.BootOptions{})
			b.verified(outcome, console)
			if strings.Contains(unwrap(console), unwrap("its root file system is read through")) {
				t.Errorf("it is read through for ever:\n%s", calm(console))
			}
			b.logWalk("from the cache", outcome)
		})
	}
}

// TestOverlayInTheCache: what a system writes stays for its next boot, if the
// policy says so, and is gone for another release.
func TestOverlayInTheCache(t *testing.T) {
	t.Parallel()
	b := setup(t)
	needE2fsprogs(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "local", Options: "phase.overlay=cache phase.provider=" + b.ports.Base()})
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.rootIs(outcome, "the cache", system.FormatSquashfs, "cache")

	// The hello job is written over, as a person on the machine might have done.
	own := "/overlay/" + b.published.Manifest.Hex()
	folder := own + "/upper"
	for _, dir := range []string{"usr", "share", "phase", "jobs"} {
		folder += "/" + dir
		b.debugfs("mkdir " + folder)
	}
	b.putCache([]byte("no job at all"), folder+"/hello.json")
	outcome, console = b.boot(lab.BootOptions{})
	if outcome.Failure == nil || !strings.Contains(outcome.Failure.Text, "hello.json") {
		t.Fatalf("what was written did not stay: %+v\n%s", outcome.Failure, calm(console))
	}

	b.replace(b.other(2), nil)
	outcome, console = b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.rootIs(outcome, "the cache", system.FormatSquashfs, "cache")
	if list := b.debugfs("ls /overlay"); strings.Contains(list, own[len("/overlay/"):]) || !strings.Contains(list, b.published.Manifest.Hex()) {
		t.Errorf("the folder has %s", list)
	}
}

// TestOverlayInAFullCache goes on in memory, and says so.
func TestOverlayInAFullCache(t *testing.T) {
	t.Parallel()
	b := setup(t)
	needE2fsprogs(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "local", Options: "phase.overlay=cache phase.provider=" + b.ports.Base()})
	b.putCache(bytes.Repeat([]byte{1}, testCache/2), "/of-somebody-else")
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.rootIs(outcome, "memory", system.FormatSquashfs, "cache")
	b.shows(console, "WARNING: what is written now is gone with the power: the cache has no room")
}

// TestPrivateOverlay: Private mode writes nowhere, whatever the policy asks for.
func TestPrivateOverlay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "private", Options: "phase.overlay=cache"})
	before := digest(t, b.image)
	b.last = lab.ReceiptShown
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.rootIs(outcome, "memory", system.FormatSquashfs, "initramfs")
	if !bytes.Equal(before, digest(t, b.image)) {
		t.Error("the medium was written to")
	}
}
