package netup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// arpTiming are the constants of RFC 3927, section 9.
type arpTiming struct {
	probeWait          time.Duration // random, up to this
	probes             int
	probeMin, probeMax time.Duration
	announceWait       time.Duration
	announcements      int
	announceInterval   time.Duration
	maxConflicts       int
	rateLimit          time.Duration
	defendInterval     time.Duration
}

func rfc3927() arpTiming {
	return arpTiming{
		probeWait: time.Second, probes: 3, probeMin: time.Second, probeMax: 2 * time.Second,
		announceWait: 2 * time.Second, announcements: 2, announceInterval: 2 * time.Second,
		maxConflicts: 10, rateLimit: time.Minute, defendInterval: 10 * time.Second,
	}
}

// linkLocal holds an IPv4 link-local address until ctx ends (RFC 3927), at first
// the one given, if any. It gives the address back when it returns.
func (i *iface) linkLocal(ctx context.Context, first netip.Addr) {
	c, err := openARP(ctx, i)
	if err != nil {
		i.fail("link-local", &stepError{NoSocket, "opening an ARP socket", err})
		return
	}
	defer c.close()
	i.emit(Claiming, 0, nil)
	candidate := linkLocalCandidates(i.seed())
	for conflicts := 0; ctx.Err() == nil; conflicts++ {
		if conflicts >= c.t.maxConflicts && !pause(ctx, c.t.rateLimit) {
			return
		}
		addr := first
		if first = (netip.Addr{}); !addr.IsValid() {
			addr = candidate()
		}
		if free, err := c.probe(addr); err != nil || !free {
			i.linkLocalFailed(ctx, addr, err)
			continue
		}
		err := i.holdLinkLocal(c, addr)
		i.unbind()
		i.linkLocalFailed(ctx, addr, err)
	}
}

// seed decides on the addresses that are tried. In private mode it is another
// one at every boot, and says nothing of the hardware.
func (i *iface) seed() uint64 {
	if i.m.cfg.Private {
		return i.m.secret ^ macSeed(i.mac)
	}
	return macSeed(i.mac)
}

func (i *iface) linkLocalFailed(ctx context.Context, addr netip.Addr, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		i.fail("link-local", &stepError{NotConfigured, "link-local", err})
		pause(ctx, time.Second)
	default:
		i.emit(Failed, 0, fmt.Errorf("%s is in use by another machine", addr))
	}
}

// holdLinkLocal configures addr and defends it. It returns when another
// machine insists on it (nil) or a step fails.
func (i *iface) holdLinkLocal(c *arpConn, addr netip.Addr) error {
	if err := i.bind(lease{address: netip.PrefixFrom(addr, 16)}, MethodLinkLocal); err != nil {
		return err
	}
	i.emit(Configured, 0, nil)
	return c.defend(addr)
}

// arpConn sends and receives ARP on one interface. Its context closes it.
type arpConn struct {
	f    *os.File
	own  [6]byte
	t    arpTiming
	stop func() bool
}

func openARP(ctx context.Context, i *iface) (*arpConn, error) {
	proto := htons(unix.ETH_P_ARP)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto))
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: i.index}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	c := &arpConn{f: os.NewFile(uintptr(fd), "arp"), own: [6]byte(i.mac), t: rfc3927()}
	c.stop = context.AfterFunc(ctx, func() { c.f.Close() })
	return c, nil
}

func (c *arpConn) close() {
	c.stop()
	c.f.Close()
}

func htons(v uint16) uint16 { return v<<8 | v>>8 } // all our machines are little-endian

// probe asks whether anybody has addr, in three to seven seconds.
func (c *arpConn) probe(addr netip.Addr) (free bool, err error) {
	if conflict, err := c.listen(addr, 1+rand.N(c.t.probeWait), arpPacket.wants); conflict || err != nil {
		return false, err
	}
	for n := 1; n <= c.t.probes; n++ {
		if err := c.send(netip.IPv4Unspecified(), addr); err != nil {
			return false, err
		}
		wait := c.t.probeMin + rand.N(c.t.probeMax-c.t.probeMin)
		if n == c.t.probes {
			wait = c.t.announceWait
		}
		if conflict, err := c.listen(addr, wait, arpPacket.wants); conflict || err != nil {
			return false, err
		}
	}
	return true, nil
}

// defend announces addr and answers the first conflict with another
// announcement. A second one within the interval makes it yield.
func (c *arpConn) defend(addr netip.Addr) error {
	for n := 0; n < c.t.announcements; n++ {
		if err := c.send(addr, addr); err != nil {
			return err
		}
		if conflict, err := c.listen(addr, c.t.announceInterval, arpPacket.uses); conflict || err != nil {
			return err
		}
	}
	var defended time.Time
	for {
		conflict, err := c.listen(addr, 0, arpPacket.uses)
		if err != nil {
			return err
		}
		if conflict && !defended.IsZero() && time.Since(defended) < c.t.defendInterval {
			return nil
		}
		defended = time.Now()
		if err := c.send(addr, addr); err != nil {
			return err
		}
	}
}

func (c *arpConn) send(sender, target netip.Addr) error {
	_, err := c.f.Write(arpPacket{op: 1, senderMAC: c.own, senderIP: sender, targetIP: target}.frame())
	return err
}

// listen reads for d (0: without end) and reports a conflict over addr.
func (c *arpConn) listen(addr netip.Addr, d time.Duration, is func(arpPacket, netip.Addr, [6]byte) bool) (conflict bool, err error) {
	var deadline time.Time
	if d > 0 {
		deadline = time.Now().Add(d)
	}
	if err := c.f.SetReadDeadline(deadline); err != nil {
		return false, err
	}
	buf := make([]byte, 128)
	for {
		n, err := c.f.Read(buf)
		if os.IsTimeout(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if p, err := parseARP(buf[:n]); err == nil && is(p, addr, c.own) {
			return true, nil
		}
	}
}
