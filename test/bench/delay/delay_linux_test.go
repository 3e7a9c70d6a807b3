package delay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
)

// packets is a device: each Read and Write is a packet.
type packets chan []byte

func (p packets) Read(b []byte) (int, error) {
	data, ok := <-p
	if !ok {
		return 0, io.EOF
	}
	return copy(b, data), nil
}

func (p packets) Write(b []byte) (int, error) {
	p <- b
	return len(b), nil
}

// Packets arrive in order, none before its time, and each waits for itself
// alone: a thousand of them do not take a thousand times as long.
func TestCarry(t *testing.T) {
	const count, oneWay = 1000, 50 * time.Millisecond
	from, to := make(packets), make(packets, count)
	begin := time.Now()
	go func() {
		for i := range count {
			from <- []byte{byte(i >> 8), byte(i)}
		}
		close(from)
	}()
	carry(from, to, oneWay, count)
	if took := time.Since(begin); took < oneWay || took > count*oneWay/2 {
		t.Errorf("took %v", took)
	}
	if len(to) != count {
		t.Fatalf("%d of %d arrived", len(to), count)
	}
	for i := range count {
		if got := <-to; !bytes.Equal(got, []byte{byte(i >> 8), byte(i)}) {
			t.Fatalf("packet %d is %v", i, got)
		}
	}
}

func TestPacketsBeyondTheBoundAreLost(t *testing.T) {
	const count, bound = 1000, 8
	from, to := make(packets), make(packets, count)
	go func() {
		for range count {
			from <- []byte{1}
		}
		close(from)
	}()
	carry(from, to, time.Second, bound)
	if got := len(to); got < bound || got > count/2 {
		t.Errorf("%d of %d arrived, bound %d", got, count, bound)
	}
}

// TCP over the wire takes the kernel's handshake and one exchange: two round trips.
func TestWire(t *testing.T) {
	const oneWay = 20 * time.Millisecond
	w, err := New(oneWay, 2)
	if errors.Is(err, unix.EPERM) || errors.Is(err, fs.ErrNotExist) {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("needs root and /dev/net/tun: %v", err))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	var l net.Listener
	if err := w.Far.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(w.Far.Addr.Next(), 0).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}
	}()
	begin := time.Now()
	var c net.Conn
	if err := w.Near.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent, got := bytes.Repeat([]byte("ping"), 64<<10), make([]byte, 256<<10)
	go func() { _, _ = c.Write(sent) }()
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("echo differs, error %v", err)
	}
	if took := time.Since(begin); took < 4*oneWay {
		t.Errorf("two round trips took %v", took)
	}
}
