package vm_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/vm"
)

// mirror starts a mirror of this bench's provider, which need not run yet.
func (b *bench) mirror() *lab.Mirror {
	b.Helper()
	m, err := lab.NewMirror(b.ports.HTTP)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Stop)
	return m
}

// mirrored publishes a release that is found at mirrors alone, and writes a medium
// that knows these.
func (b *bench) mirrored(r release.Release, policy string, mirrors ...*lab.Mirror) {
	b.Helper()
	r.Bases = nil
	options := ""
	for _, m := range mirrors {
		r.Bases = append(r.Bases, m.Base())
		options += " phase.provider=" + m.Base()
	}
	b.publish(r, "")
	b.medium(lab.ImageOptions{Options: options, Policy: policy}) // before there is a provider whose DHT it would know
	b.serve()
}

// start powers the machine on.
func (b *bench) start(ctx context.Context, o lab.BootOptions) *booted {
	b.Helper()
	o.Image, o.Run = b.image, b.run
	machine, err := b.lab.Boot(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { machine.Quit(context.WithoutCancel(ctx)) })
	return &booted{machine: machine}
}

// reported is the seed's account of an artifact.
func (b *bench) reported(o *lab.Outcome, name string) fetch.Report {
	b.Helper()
	i := slices.IndexFunc(o.Fetched, func(r fetch.Report) bool { return r.Name == name })
	if i < 0 {
		b.Fatalf("the seed does not say where the %s came from: %+v", name, o.Fetched)
	}
	return o.Fetched[i]
}

// gave is how many bytes a report ascribes to sources whose name holds a text.
func gave(r fetch.Report, source string) (n int64) {
	for _, s := range r.Sources {
		if strings.Contains(s.Source, source) {
			n += s.Bytes
		}
	}
	return n
}

// hostOf is the host and port of a mirror's base URL.
func hostOf(m *lab.Mirror) string { return strings.TrimPrefix(m.Base(), "http://") }

// TestMirrorDies lets the only known source of a release die when it has sent 60 %
// of the root file system. A machine that has come onto the LAN meanwhile, and is
// found by multicast DNS, gives the rest; nobody is blamed for wrong bytes.
func TestMirrorDies(t *testing.T) {
	nettest.Root(t, "to put a machine of its own on the LAN")
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
	defer cancel()
	lan := &vm.LAN{}
	neighbour := attach(t, lan)
	rootfs := b.lab.Node.Rootfs
	mirror, dying, replaced := b.mirror(), make(chan struct{}), make(chan struct{})
	mirror.Misbehave(lab.Fault{Blob: rootfs.Digest, After: rootfs.Size * 6 / 10, Then: func(m *lab.Mirror) {
		close(dying)
		select {
		case <-replaced:
		case <-ctx.Done():
		}
		m.Die()
	}})
	own := "[[network.interfaces]]\nmac = \"" + secondCard.String() + "\"\nmethod = \"static\"\naddress = \"169.254.9.9/16\"\n"
	b.mirrored(b.release(1), timeOf("", "")+own, mirror)

	m := b.start(ctx, lab.BootOptions{Nets: []vm.Net{{}, {Kind: vm.NetLAN, LAN: lan, MAC: secondCard.String()}}})
	select {
	case <-dying:
	case <-ctx.Done():
		t.Fatalf("the mirror was not asked for 60 %% of the root file system:\n%s", strings.Join(m.machine.ConsoleTail(1000), "\n"))
	}
	b.serveOn(neighbour)
	close(replaced)
	b.last = lab.ReceiptShown // nobody is left who takes it
	b.follow(ctx, m)
	b.verified(m.outcome, m.console)

	r := b.reported(m.outcome, "rootfs")
	// The neighbour has an IPv6 address as well.
	near, far := gave(r, neighbourAddress.Addr().String())+gave(r, "[fe80::"), gave(r, hostOf(mirror))
	if near == 0 || far == 0 || near+far != rootfs.Size {
		t.Errorf("of %d bytes the mirror gave %d, the neighbour %d: %+v", rootfs.Size, far, near, r)
	}
	b.shows(m.console, " sources: ")
	if strings.Contains(unwrap(m.console), unwrap("wrong bytes")) {
		t.Errorf("somebody is blamed:\n%s", calm(m.console))
	}
	t.Logf("the mirror sent %d of %d bytes; %+v", mirror.Sent(rootfs.Digest), rootfs.Size, r)
}

// TestTransfers boots one medium again and again: cut off in the middle of a
// transfer; going on; with everything in its cache; with a rotten cache and a liar
// among the mirrors; and with the next release, which differs in one file.
func TestTransfers(t *testing.T) {
	b := setup(t)
	needE2fsprogs(t)
	rootfs := b.lab.Node.Rootfs
	honest, liar := b.mirror(), b.mirror()
	liar.Misbehave(lab.Fault{Absent: true})
	b.mirrored(b.release(1), "", honest, liar)

	b.powerCut(honest, rootfs.Digest, rootfs.Size)
	kept := b.goesOn(honest, rootfs.Digest)
	t.Logf("%d bytes survived the power cut", kept)
	b.transfersNothing(honest)
	b.liesAndRot(honest, liar, rootfs.Digest)
	liar.Misbehave(lab.Fault{Absent: true})
	b.bootsByPatch(honest)
}

// powerCut ends the machine without warning in the middle of a transfer, when a
// part of it is on the medium.
func (b *bench) powerCut(mirror *lab.Mirror, d blob.Digest, size int64) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), bootWithin)
	defer cancel()
	half, over := make(chan struct{}), make(chan struct{})
	mirror.Misbehave(lab.Fault{Blob: d, After: size * 6 / 10, Then: func(*lab.Mirror) {
		close(half)
		<-over
	}})
	defer close(over)
	m := b.start(ctx, lab.BootOptions{})
	select {
	case <-half:
	case <-ctx.Done():
		b.Fatalf("nobody asked for 60 %% of the root file system:\n%s", strings.Join(m.machine.ConsoleTail(1000), "\n"))
	}
	for b.onMedium(d) < 4<<20 {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			b.Fatalf("only %d bytes of the transfer reached the medium", b.onMedium(d))
		}
	}
	m.machine.Quit(ctx)
}

// onMedium is how many MiB of an interrupted transfer a loss of power would leave
// on the medium now, in bytes.
func (b *bench) onMedium(d blob.Digest) (n int64) {
	b.Helper()
	whole, err := os.ReadFile(b.lab.Node.Rootfs.Path)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	path, out := filepath.Join(dir, "cache.img"), filepath.Join(dir, "part")
	if err := os.WriteFile(path, b.readCache(), 0o644); err != nil {
		b.Fatal(err)
	}
	// The file system is in use: what the tools say of it does not matter.
	_ = exec.CommandContext(b.Context(), sbin("e2fsck"), "-fy", path).Run()
	_ = exec.CommandContext(b.Context(), sbin("debugfs"), "-R", "dump /store/tmp/"+d.Hex()+".part "+out, path).Run()
	part, err := os.ReadFile(out)
	if err != nil {
		return 0
	}
	for at := 0; at+blob.ChunkSize <= min(len(whole), len(part)); at += blob.ChunkSize {
		if bytes.Equal(whole[at:at+blob.ChunkSize], part[at:at+blob.ChunkSize]) {
			n += blob.ChunkSize
		}
	}
	return n
}

// goesOn boots after the power cut: what had arrived is not fetched again.
func (b *bench) goesOn(mirror *lab.Mirror, d blob.Digest) (kept int64) {
	b.Helper()
	mirror.Misbehave(lab.Fault{})
	mirror.Forget()
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	r := b.reported(outcome, "rootfs")
	if sent := mirror.Sent(d); r.Kept < 4<<20 || sent != r.Size-r.Kept {
		b.Errorf("of %d bytes %d were there after the power cut, and %d were sent again", r.Size, r.Kept, sent)
	}
	b.shows(console, "was here")
	return r.Kept
}

// documents are what a machine asks for whose cache has everything.
var documents = []string{"/pointer.json", "/manifest.json", ".root.json", "/receipts"}

// transfersNothing boots the same release again.
func (b *bench) transfersNothing(mirror *lab.Mirror) {
	b.Helper()
	mirror.Forget()
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	for _, path := range mirror.Asked() {
		if !slices.ContainsFunc(documents, func(name string) bool { return strings.HasSuffix(path, name) }) {
			b.Errorf("a machine that has everything asked for %s", path)
		}
	}
	for _, name := range []string{"kernel", "initramfs", "rootfs"} {
		if r := b.reported(outcome, name); r.Kept != r.Size {
			b.Errorf("only %d bytes of the %s were there: %+v", r.Kept, name, r)
		}
	}
	b.shows(console, "from the cache")
}

// liesAndRot lets every MiB of the cached root file system rot, and one of two
// mirrors send wrong bytes: it is named, and the machine boots.
func (b *bench) liesAndRot(honest, liar *lab.Mirror, d blob.Digest) {
	b.Helper()
	b.rot(b.lab.Node.Rootfs.Path)
	b.putCache([]byte("1\n"), "/store/doubts/"+d.Hex()) // else nobody would read it before it is used
	liar.Misbehave(lab.Fault{Blob: d, Lies: true})
	honest.Misbehave(lab.Fault{Blob: d, Rate: 2 << 20}) // so that the other is needed
	honest.Forget()
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	r := b.reported(outcome, "rootfs")
	if r.Kept != 0 || gave(r, hostOf(liar)) != 0 || gave(r, hostOf(honest)) != r.Size {
		b.Errorf("the rotten root file system was replaced by %+v", r)
	}
	b.shows(console, hostOf(liar)+" gave wrong bytes of rootfs")
	if strings.Contains(unwrap(console), unwrap(hostOf(honest)+" gave wrong bytes")) {
		b.Errorf("the honest mirror is blamed:\n%s", calm(console))
	}
	honest.Misbehave(lab.Fault{})
}

// rot changes a byte in each MiB of a file in the medium's cache.
func (b *bench) rot(path string) {
	b.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	var offsets []int
	for at := 0; at+blockSize <= len(content); at += blob.ChunkSize {
		offsets = append(offsets, at)
	}
	b.rotBlocks(content, offsets)
}

// bootsByPatch offers a release whose root file system has one more file: nothing
// is sent but its patch.
func (b *bench) bootsByPatch(mirror *lab.Mirror) {
	b.Helper()
	changed, err := b.lab.Changed(b.Context(), []byte("a small change\n"))
	if err != nil {
		b.Fatal(err)
	}
	folder := filepath.Join(b.run, "published")
	before, err := release.OpenPrevious(folder, lab.Channel, vm.X8664, "")
	if err != nil {
		b.Fatal(err)
	}
	r := b.release(2)
	r.Rootfs, r.Verity = changed.Node.Rootfs.Path, changed.Node.Verity
	r.Bases, r.Previous = []string{mirror.Base()}, []release.Previous{before}
	b.provider.Stop()
	b.publish(r, "")
	b.serve()
	mirror.Forget()
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)

	total := int64(0)
	for _, request := range mirror.Requests() {
		total += request.Sent
	}
	size := changed.Node.Rootfs.Size
	b.Logf("%d bytes were sent for a root file system of %d: %.1f %%", total, size, 100*float64(total)/float64(size))
	if sent := mirror.Sent(changed.Node.Rootfs.Digest); sent != 0 || total > size/4 {
		b.Errorf("%d bytes were sent, %d of them of the root file system itself", total, sent)
	}
	b.shows(console, "made out of an older one, with a patch of ")
}

// TestTooLittleMemory offers a machine a root file system larger than its memory: it
// says so, with the figures, before it asks for any part of it.
func TestTooLittleMemory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const memory = 320 // MiB
	r := b.release(1)
	r.Rootfs, r.Verity = filepath.Join(b.run, "rootfs"), nil
	err := os.WriteFile(r.Rootfs, nil, 0o644)
	if err == nil {
		err = os.Truncate(r.Rootfs, (memory+1)<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	mirror := b.mirror()
	b.mirrored(r, "", mirror)
	outcome, console := b.boot(lab.BootOptions{Memory: memory})
	b.refused(outcome, console, "KEXEC-001", "not enough memory: this system is ")
	b.shows(console, "of free memory, but only")
	for _, path := range mirror.Asked() {
		if !slices.ContainsFunc(documents, func(name string) bool { return strings.HasSuffix(path, name) }) {
			t.Errorf("before there was a look at the memory, somebody asked for %s", path)
		}
	}
}
