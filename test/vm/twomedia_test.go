package vm_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/lab"
)

// TestTwoMedia boots a medium in a machine whose own disk was prepared to stand in for
// it. A disk with another policy under the same names is passed over, and said. One
// that is a copy of the medium, with all its identifiers, cannot be told from it:
// nothing is started.
func TestTwoMedia(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	inner := filepath.Join(b.run, "inner.img")
	b.medium(lab.ImageOptions{Policy: "channel = \"nightly\"\n" + timeOf("", "")})
	check(t, os.Rename(b.image, inner))
	b.medium(lab.ImageOptions{})

	outcome, console := b.boot(lab.BootOptions{Snapshot: true, Extra: builtIn(inner)})
	b.verified(outcome, console)
	b.shows(console, "is not of the medium that was booted: it is not used")
	if strings.Contains(console, "nightly") {
		t.Errorf("the policy of the machine's own disk was used:\n%s", console)
	}

	outcome, console = b.boot(lab.BootOptions{Snapshot: true, Extra: builtIn(b.image)})
	b.refused(outcome, console, "BOOT-010", "2 partitions are named phase-seed")
}

// builtIn plugs in a disk of the machine, which the firmware does not start from. Only
// what it is called, and what is on it, tells it from the medium.
func builtIn(path string) []string {
	return []string{
		"-drive", fmt.Sprintf("if=none,id=inner,format=raw,file=%s,snapshot=on", path),
		"-device", "virtio-blk-pci,drive=inner",
	}
}

// TestChangedPolicy boots a medium of signed images on a machine that trusts its owner
// alone, after somebody has put another policy on it, which asks for programs of the
// cache in the running system. The signed options name the policy: it is refused
// before anybody on the network was asked.
func TestChangedPolicy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := *b
	other.run = filepath.Join(b.run, "other")
	check(t, os.Mkdir(other.run, 0o700))
	other.medium(lab.ImageOptions{Policy: "overlay = \"cache\"\n" + timeOf("", "")})
	b.signedMedium(b.signer(ownSigner), true, lab.ImageOptions{})
	exchangeSeed(t, b.image, other.image)
	outcome, console := b.boot(lab.BootOptions{SecureBoot: true, Vars: b.owned(b.signer(ownSigner))})
	b.refused(outcome, console, "BOOT-009", "policy.toml: not the one that this medium was made with")
	if strings.Contains(console, "10.0.2.15") {
		t.Errorf("the network was set up:\n%s", console)
	}
}

// exchangeSeed puts the seed partition of one image in the place of that of another.
func exchangeSeed(t *testing.T, to, from string) {
	t.Helper()
	open := func(path string) (*os.File, image.Partition) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		check(t, err)
		t.Cleanup(func() { f.Close() })
		info, err := f.Stat()
		check(t, err)
		parts, err := image.ReadGPT(f, info.Size())
		check(t, err)
		for _, p := range parts {
			if p.Label == "phase-seed" {
				return f, p
			}
		}
		t.Fatalf("%s has no seed partition", path)
		return nil, image.Partition{}
	}
	in, p := open(from)
	out, q := open(to)
	if p.Size != q.Size {
		t.Fatalf("seed partitions of %d and %d bytes", p.Size, q.Size)
	}
	_, err := io.Copy(io.NewOffsetWriter(out, q.Offset), io.NewSectionReader(in, p.Offset, p.Size))
	check(t, err)
}
