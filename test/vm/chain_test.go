package vm_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestChain boots three machines, each from the one before. The first boots over
// the Internet. From it, on a LAN with nobody else, no DHCP server and no way out,
// the second: in Local mode, from a medium that has booted nothing yet, found by
// multicast DNS alone. Then the first is switched off, and the third boots from the
// second, which had all it gives from the first.
func TestChain(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*bootWithin)
	defer cancel()
	b.publish(b.release(1), "")
	b.serve()
	traffic := &traffic{T: t}
	lan := &vm.LAN{Watch: traffic.see}

	b.medium(lab.ImageOptions{})
	own, err := lab.FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	status := netip.MustParseAddrPort(loopback(own.HTTP))
	first := b.on(ctx, "first", lab.BootOptions{Nets: []vm.Net{
		{Forwards: []vm.Forward{{Host: status, Guest: 8080}}}, {Kind: vm.NetLAN, LAN: lan, MAC: firstCard.String()},
	}})
	b.verified(first.outcome, first.console)
	name := b.offers(ctx, first)
	// Its provider on this machine is out of the others' reach, and gone as well.
	b.provider.Stop()
	b.last = lab.ReceiptShown

	second := b.fromNeighbour(ctx, "second", lan, secondCard, name)
	b.honest("http://"+status.String(), name)
	traffic.gave(firstCard, secondCard, b.everything())
	name = b.offers(ctx, second)
	first.machine.Quit(ctx)
	traffic.forget()

	b.fromNeighbour(ctx, "third", lan, thirdCard, name)
	traffic.gave(secondCard, thirdCard, b.everything())
}

// offers waits until a machine has told its network what it has, and returns the
// name under which it did.
func (b *bench) offers(ctx context.Context, m *booted) string {
	b.Helper()
	offered, err := m.machine.WaitConsole(ctx, func(line string) bool { return strings.Contains(line, "For other machines: release 1") })
	if err != nil {
		b.Fatalf("%v; the console shows:\n%s", err, strings.Join(m.machine.ConsoleTail(100), "\n"))
	}
	return regexp.MustCompile(`plasmd-[a-z0-9-]+`).FindString(offered.Text)
}

// fromNeighbour boots a new medium in Local mode on the LAN, where the machine of
// that name has everything.
func (b *bench) fromNeighbour(ctx context.Context, name string, lan *vm.LAN, card net.HardwareAddr, neighbour string) *booted {
	b.Helper()
	b.medium(lab.ImageOptions{Mode: "local"})
	m := b.on(ctx, name, lab.BootOptions{Nets: []vm.Net{{Kind: vm.NetLAN, LAN: lan, MAC: card.String()}}})
	b.verified(m.outcome, m.console)
	for _, want := range []string{"Local Mode", "mdns " + neighbour, "169.254."} {
		b.shows(m.console, want)
	}
	return m
}

// everything are the paths that a machine asks for which has nothing yet.
func (b *bench) everything() []string {
	folder := "/" + lab.Channel + "/" + vm.X8664 + "/"
	paths := []string{folder + "pointer.json", folder + "manifest.json"}
	for _, digest := range b.published.Blobs {
		paths = append(paths, "/blobs/"+digest.Hex()[:2]+"/"+digest.Hex()+".bin")
	}
	return paths
}

// traffic watches a closed LAN for what must not be there.
type traffic struct {
	*testing.T
	mu     sync.Mutex
	frames int
	strays map[string]int // what leads out of the LAN, or comes from nobody on it
	served map[pair]int   // bytes that an HTTP server sent to a machine
	gets   []get
}

// pair are the cards that a frame comes from and goes to.
type pair struct{ from, to string }

// get is a request for a path.
type get struct {
	pair
	path string
}

func (w *traffic) see(frame []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frames++
	cards := pair{net.HardwareAddr(frame[6:12]).String(), net.HardwareAddr(frame[:6]).String()}
	if !slices.Contains([]string{firstCard.String(), secondCard.String(), thirdCard.String()}, cards.from) {
		w.stray("from " + cards.from)
	}
	packet := frame[14:]
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == 0x0800 && len(packet) >= 20:
		to := netip.AddrFrom4([4]byte(packet[16:20]))
		w.packet(cards, to, packet[9], packet[min(len(packet), 4*int(packet[0]&15)):])
	case kind == 0x86dd && len(packet) >= 40:
		w.packet(cards, netip.AddrFrom16([16]byte(packet[24:40])), packet[6], packet[40:])
	}
}

// packet looks at where a packet goes, and at its ports. Nobody answers DHCP, and
// nobody is asked who is not on the link.
func (w *traffic) packet(cards pair, to netip.Addr, protocol byte, payload []byte) {
	if broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255}); !to.IsLinkLocalUnicast() && !to.IsMulticast() && to != broadcast {
		w.stray("to " + to.String())
	}
	if (protocol != 6 && protocol != 17) || len(payload) < 4 {
		return
	}
	from := binary.BigEndian.Uint16(payload)
	if protocol == 17 && (from == 67 || from == 547) {
		w.stray("from a DHCP server")
	}
	if protocol == 6 && from == 8080 {
		if w.served == nil {
			w.served = map[pair]int{}
		}
		w.served[cards] += len(payload)
	}
	if protocol == 6 && len(payload) >= 20 && binary.BigEndian.Uint16(payload[2:]) == 8080 {
		if path, ok := bytes.CutPrefix(payload[min(len(payload), 4*int(payload[12]>>4)):], []byte("GET ")); ok {
			path, _, _ = bytes.Cut(path, []byte(" "))
			w.gets = append(w.gets, get{cards, string(path)})
		}
	}
}

func (w *traffic) stray(what string) {
	if w.strays == nil {
		w.strays = map[string]int{}
	}
	w.strays[what]++
}

// forget drops what was seen so far, but for what must not be.
func (w *traffic) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frames, w.served, w.gets = 0, nil, nil
}

// gave wants one machine to have asked another for these paths and nobody else for
// anything, and nothing on the LAN that has no business there.
func (w *traffic) gave(from, to net.HardwareAddr, paths []string) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	asking, giving := pair{to.String(), from.String()}, pair{from.String(), to.String()}
	for _, path := range paths {
		if !slices.Contains(w.gets, get{asking, path}) {
			w.Errorf("nobody asked for %s among %q", path, w.gets)
		}
	}
	for _, g := range w.gets {
		if g.pair != asking {
			w.Errorf("%s asked %s for %s", g.from, g.to, g.path)
		}
	}
	w.Logf("%d frames, %.1f MiB served", w.frames, float64(w.served[giving])/(1<<20))
	if w.served[giving] < 10<<20 {
		w.Errorf("it served %d bytes", w.served[giving])
	}
	if len(w.strays) > 0 {
		w.Errorf("on the LAN there were packets %v", w.strays)
	}
}
