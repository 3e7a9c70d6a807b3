package vm

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// station is a machine on a LAN, as QEMU is connected to it.
type station struct {
	*testing.T
	net.Conn
	ended chan error
}

// plug connects a new station and waits until the LAN has it.
func plug(t *testing.T, l *LAN) *station {
	t.Helper()
	ours, theirs := net.Pipe()
	s := &station{t, ours, make(chan error, 1)}
	before := portsOf(l)
	go func() { s.ended <- l.attachQEMU(theirs) }()
	t.Cleanup(func() { ours.Close() })
	for portsOf(l) == before {
		time.Sleep(time.Millisecond)
	}
	return s
}

func portsOf(l *LAN) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ports)
}

func (s *station) send(frame []byte) {
	s.Helper()
	n := len(frame)
	s.SetDeadline(time.Now().Add(time.Minute))
	if _, err := s.Write(append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, frame...)); err != nil {
		s.Fatal(err)
	}
}

func (s *station) receive() []byte {
	s.Helper()
	s.SetDeadline(time.Now().Add(time.Minute))
	frame, err := readFrame(s, make([]byte, maxFrame))
	if err != nil {
		s.Fatal(err)
	}
	return frame
}

func frame(text string) []byte { return []byte(strings.Repeat("-", minFrame) + text) }

func TestLAN(t *testing.T) {
	var seen []string
	l := &LAN{Watch: func(f []byte) { seen = append(seen, string(f[minFrame:])) }}
	a, b, c := plug(t, l), plug(t, l), plug(t, l)
	a.send(frame("from a"))
	a.send([]byte("too short"))
	for _, s := range []*station{b, c} {
		if got := s.receive(); !bytes.Equal(got, frame("from a")) {
			t.Errorf("received %q", got)
		}
	}
	large := bytes.Repeat([]byte("x"), maxFrame)
	b.send(large)
	for _, s := range []*station{a, c} { // a did not get its own
		if got := s.receive(); !bytes.Equal(got, large) {
			t.Errorf("received %d bytes: %.40q", len(got), got)
		}
	}
	a.Close()
	if err := <-a.ended; !errors.Is(err, io.EOF) {
		t.Errorf("the port ended with %v", err)
	}
	c.send(frame("from c"))
	if got := b.receive(); !bytes.Equal(got, frame("from c")) {
		t.Errorf("received %q", got)
	}
	if len(seen) != 3 || seen[0] != "from a" || seen[2] != "from c" {
		t.Errorf("the watcher saw %d frames: %.60q", len(seen), seen)
	}
}

// TestLANBounds: what is no frame ends a port, and one that takes nothing loses
// frames and holds up nobody.
func TestLANBounds(t *testing.T) {
	l := &LAN{}
	a, b := plug(t, l), plug(t, l)
	plug(t, l) // takes nothing
	for range 2 * framesWaiting {
		a.send(frame("f"))
		b.receive()
	}
	if _, err := a.Write([]byte{0, 1, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if err := <-a.ended; err == nil || !strings.Contains(err.Error(), "65537 bytes") {
		t.Errorf("the port ended with %v", err)
	}
}

// TestLANOfMachines lets the card of a machine announce itself to a device of
// this one. The card's address is ours to choose, the frame is QEMU's.
func TestLANOfMachines(t *testing.T) {
	ctx := testContext(t)
	cfg := idleGuest(t)
	mac := net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	device := &wire{frames: make(chan []byte, 64), closed: make(chan struct{})}
	l := &LAN{}
	ended := make(chan error, 1)
	go func() { ended <- l.Attach(device) }()
	cfg.Nets = []Net{{}, {Kind: NetLAN, LAN: l, MAC: mac.String(), Model: "e1000"}}
	m, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	announce := map[string]int{"initial": 10, "max": 10, "rounds": 1, "step": 10}
	if err := m.monitor.do(ctx, "announce-self", announce); err != nil {
		t.Fatal(err)
	}
	select {
	case f := <-device.frames:
		if len(f) < minFrame || !bytes.Equal(f[6:12], mac) {
			t.Errorf("received % x", f)
		}
	case <-ctx.Done():
		t.Error("nothing was received")
	}
	m.Quit(ctx)
	close(device.closed)
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("the device ended with %v", err)
	}
	if n := portsOf(l); n != 0 {
		t.Errorf("%d ports are left", n)
	}
}

// wire is a network device that only receives.
type wire struct {
	frames chan []byte
	closed chan struct{}
}

func (w *wire) Read([]byte) (int, error) {
	<-w.closed
	return 0, os.ErrClosed
}

func (w *wire) Write(f []byte) (int, error) {
	w.frames <- slices.Clone(f)
	return len(f), nil
}
