package netup

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

	"github.com/phasebased/phase/internal/nettest"
)

// These tests play a client and its LAN on one machine: each in a network of its
// own, the client's; every cable ends at a host of its own, the LAN's.

// limit is how long any single event may take to come.
const limit = nettest.Limit

var check = nettest.Check

// inNamespace reports true in the process that shall run the test.
func inNamespace(t *testing.T, programs ...string) bool {
	t.Helper()
	return nettest.Isolated(t, nettest.Config{Programs: programs})
}

// lan is the far end of one cable: a host with the interface srv0, which has the
// address 10.77.0.1/24.
type lan struct {
	*nettest.Host
	t      *testing.T
	handle *netlink.Handle
	local6 bool // linkLocal6 was called
}

// plug makes a LAN and a cable to it; the client's end has the given name.
func plug(t *testing.T, cable, mac string) *lan {
	t.Helper()
	host := nettest.NewHost(t, "behind "+cable)
	nettest.Cable(nettest.End{Host: nettest.Here(t), Device: cable, MAC: mac}, nettest.End{Host: host, Device: "srv0"})
	host.Address("srv0", "10.77.0.1/24")
	host.Up("srv0")
	return &lan{Host: host, t: t, handle: host.Handle}
}

func (l *lan) port() netlink.Link { l.t.Helper(); return l.Link("srv0") }
func (l *lan) up()                { l.t.Helper(); l.Up("srv0") }
func (l *lan) unplug()            { l.t.Helper(); l.Down("srv0") }

// dnsmasq serves DHCP on the LAN.
func (l *lan) dnsmasq(args ...string) *nettest.Program {
	l.t.Helper()
	return l.Dnsmasq("srv0", args...)
}

// scripted is a DHCP server whose answers are a test's own function. It
// reads raw frames; answers to requests with an address go out by unicast.
type scripted struct {
	raw     net.PacketConn
	unicast net.PacketConn
	seen    chan *dhcpv4.DHCPv4 // every request
}

// serve answers each request with what answer returns; nil stays silent.
func (l *lan) serve(answer func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4) *scripted {
	l.t.Helper()
	s := &scripted{seen: make(chan *dhcpv4.DHCPv4, 1000)}
	l.Do(func() {
		var err error
		s.raw, err = nclient4.NewRawUDPConn("srv0", 67)
		check(l.t, err)
		s.unicast, err = net.ListenPacket("udp4", "10.77.0.1:67")
		check(l.t, err)
	})
	var wg sync.WaitGroup
	wg.Go(func() { s.loop(answer) })
	l.t.Cleanup(func() { s.raw.Close(); s.unicast.Close(); wg.Wait() })
	return s
}

func (s *scripted) loop(answer func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4) {
	buf := make([]byte, 1500)
	for {
		n, _, err := s.raw.ReadFrom(buf)
		if errors.Is(err, syscall.ENETDOWN) {
			continue // the port was down for a while; said once
		}
		if err != nil {
			return
		}
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest {
			continue
		}
		s.seen <- m
		if r := answer(m); r != nil {
			s.send(m, r)
		}
	}
}

func (s *scripted) send(m, r *dhcpv4.DHCPv4) {
	if m.ClientIPAddr.IsUnspecified() {
		s.raw.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		return
	}
	s.unicast.WriteTo(r.ToBytes(), &net.UDPAddr{IP: m.ClientIPAddr, Port: 68})
}

// reply builds the usual answer: an offer to a DISCOVER, an ACK to a
// REQUEST, with address 10.77.0.<host>.
func reply(m *dhcpv4.DHCPv4, host byte, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	kind := dhcpv4.MessageTypeAck
	if m.MessageType() == dhcpv4.MessageTypeDiscover {
		kind = dhcpv4.MessageTypeOffer
	}
	r, err := dhcpv4.NewReplyFromRequest(m, append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(10, 77, 0, host)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, 1))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(600),
		dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 77, 0, 1))),
	}, mods...)...)
	if err != nil {
		panic(err) // a test's own mistake
	}
	return r
}

func nak(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	return reply(m, 0, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak), dhcpv4.WithYourIP(net.IPv4zero))
}

// client is the manager under test and what it reported.
type client struct {
	*Manager
	t      *testing.T
	resolv string
	events chan Event
	cancel context.CancelFunc
}

// begin runs a manager in the background, after it was prepared.
func begin(t *testing.T, cfg Config, prepare ...func(*Manager)) *client {
	t.Helper()
	c := &client{t: t, resolv: filepath.Join(t.TempDir(), "resolv.conf"), events: make(chan Event, 1000)}
	cfg.ResolvConf = c.resolv
	cfg.Report = func(e Event) {
		t.Log(e)
		c.events <- e
	}
	c.Manager = New(cfg)
	for _, f := range prepare {
		f(c.Manager)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return c
}

// wait returns the network, or fails the test.
func (c *client) wait() *Network {
	c.t.Helper()
	n, err := c.Wait(context.Background())
	if err != nil {
		c.t.Fatalf("Wait: %v", err)
	}
	return n
}

// await returns the first event of the kind on the interface.
func (c *client) await(name string, s State) Event {
	c.t.Helper()
	deadline := time.After(limit)
	for {
		select {
		case e := <-c.events:
			if e.Interface == name && e.State == s {
				return e
			}
		case <-deadline:
			c.t.Fatalf("%s never reported state %d", name, s)
		}
	}
}

// addresses lists the IPv4 addresses the kernel has on an interface.
func addresses(t *testing.T, name string) []string {
	t.Helper()
	link, err := netlink.LinkByName(name)
	check(t, err)
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	check(t, err)
	var out []string
	for _, a := range list {
		out = append(out, a.IPNet.String())
	}
	return out
}

// routes lists the IPv4 routes the kernel has, as "destination via gateway".
func routes(t *testing.T) []string {
	t.Helper()
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	check(t, err)
	var out []string
	for _, r := range list {
		out = append(out, r.Dst.String()+" via "+r.Gw.String())
	}
	return out
}

func isUp(t *testing.T, name string) bool {
	t.Helper()
	link, err := netlink.LinkByName(name)
	check(t, err)
	return link.Attrs().Flags&net.FlagUp != 0
}

func want(t *testing.T, what string, got []string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !slices.Contains(got, w) {
			t.Errorf("%s %q lack %q", what, got, w)
		}
	}
}
