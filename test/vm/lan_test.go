package vm_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/vm"
)

// The cards of the machines on a closed LAN.
var (
	firstCard  = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0xa}
	secondCard = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0xb}
	thirdCard  = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0xc}
)

// TestNeighboursThatCannotBeBelieved lets strangers on the closed LAN announce
// themselves: one with a pointer of his own, then one with a kernel that is not
// what the publisher signed. The machine asks both, says what is wrong, and starts
// nothing.
func TestNeighboursThatCannotBeBelieved(t *testing.T) {
	nettest.Root(t, "to put a machine of its own on the LAN")
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	lan := &vm.LAN{}
	neighbour := attach(t, lan)
	b.medium(lab.ImageOptions{Mode: "local"})

	b.publish(b.release(1), "pointer")
	stranger := b.serveOn(neighbour)
	m := b.on(ctx, "machine", lab.BootOptions{Nets: []vm.Net{{Kind: vm.NetLAN, LAN: lan, MAC: secondCard.String()}}})
	b.refused(m.outcome, m.console, codeSignature, "FATAL: Pointer signature verification failed")
	b.shows(m.console, "mdns plasmd-")
	stranger.Stop()

	r := b.release(1)
	r.Bases = []string{"http://" + neighbourAddress.Addr().String() + ":8080"} // one that cannot be reached might have it
	b.publish(r, "kernel")
	b.serveOn(neighbour)
	before := len(m.console)
	b.sends(m, "r")
	b.follow(ctx, m)
	want := "FATAL: Artifact kernel hash mismatch (expected " + b.published.Blobs["kernel"].String() + ")"
	b.refused(m.outcome, m.console[min(before, len(m.console)):], "FETCH-002", want)
}

// neighbourAddress is that of the test's own machine on a LAN.
var neighbourAddress = netip.MustParsePrefix("169.254.7.7/16")

// attach puts a machine of the test's own on a LAN.
func attach(t *testing.T, lan *vm.LAN) *nettest.Host {
	t.Helper()
	host := nettest.NewHost(t, "neighbour")
	var tap *os.File
	var err error
	host.Do(func() { tap, err = vm.Tap("lan0") })
	if err != nil {
		t.Fatal(err)
	}
	host.Address("lan0", neighbourAddress.String())
	host.Up("lan0")
	detached := make(chan error, 1)
	go func() { detached <- lan.Attach(tap) }()
	t.Cleanup(func() { tap.Close(); <-detached })
	return host
}

// serveOn serves what is published now from a machine on the LAN, which announces
// it.
func (b *bench) serveOn(host *nettest.Host) *nettest.Program {
	b.Helper()
	folder := filepath.Join(b.run, "published")
	program := host.StartCommand("announced on the local network", exec.Command(filepath.Join(repository, "build", "bin", "plasmd"),
		"serve", "--artifacts", folder, "--arch", vm.X8664, "--no-dht"))
	if err := b.lab.Rot(folder); err != nil {
		b.Fatal(err)
	}
	return program
}

// honest asks a node's provider how it is, and what it told the network: that it
// is announced under this name, and that its record is on the DHT.
func (b *bench) honest(base, name string) {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), filepath.Join(repository, "build", "bin", "plasmd"), "provider", "status", "--url", base).CombinedOutput()
	if err != nil {
		b.Errorf("plasmd provider status: %v", err)
	}
	for _, want := range []string{"healthy", "stable x86_64 version 1", "version 1, as " + name, "/phase/stable/x86_64/manifest, confirmed by"} {
		if !strings.Contains(string(out), want) {
			b.Errorf("the first machine's provider does not say %q:\n%s", want, out)
		}
	}
}

// booted is a machine that goes on running.
type booted struct {
	machine *vm.Machine
	outcome *lab.Outcome
	console string
	seen    vm.Line // up to where the console was read
}

// await waits for the next line of the console that has text in it.
func (m *booted) await(ctx context.Context, text string) error {
	line, err := m.machine.WaitConsoleAfter(ctx, m.seen, func(line string) bool { return strings.Contains(line, text) })
	if err == nil {
		m.seen = line
	}
	return err
}

// on boots a machine from the medium as it is now and leaves it on until the test
// ends.
func (b *bench) on(ctx context.Context, name string, o lab.BootOptions) *booted {
	b.Helper()
	o.Image, o.Run = b.image, filepath.Join(b.run, name)
	machine, err := b.lab.Boot(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { machine.Quit(context.WithoutCancel(ctx)) })
	m := &booted{machine: machine}
	b.follow(ctx, m)
	b.Logf("%s machine, %s: %.1f s", name, m.outcome.Accel, m.outcome.Elapsed.Seconds())
	return m
}

// follow waits for the machine's next last word.
func (b *bench) follow(ctx context.Context, m *booted) {
	b.Helper()
	var err error
	if m.outcome, err = lab.Follow(ctx, m.machine, b.last); err == nil {
		err = m.await(ctx, b.lastWord(m.outcome))
	}
	m.console = strings.Join(m.machine.ConsoleTail(1000), "\n")
	if err != nil {
		b.Fatalf("%v; the console shows:\n%s", err, m.console)
	}
}
