package netup

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"

	"github.com/phasebased/phase/internal/nettest"
)

const (
	mac0 = "02:00:00:00:00:10"
	mac1 = "02:00:00:00:00:11"
)

// prompt is how long a configuration may take with a server that answers
// at once. It is generous for a loaded machine; the aim is 300 ms, and who waits for
// what does not come waits longer.
const prompt = DefaultFallbackAfter - time.Second

func TestDnsmasqGivesLeaseRouteDNS(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	l := plug(t, "eth0", mac0)
	log := l.dnsmasq("--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-option=option:dns-server,10.77.0.1,10.77.0.2",
		"--dhcp-option=option:mtu,1400", "--dhcp-option=42,10.77.0.7,10.77.0.8", "--dhcp-option=option:classless-static-route,192.168.50.0/24,10.77.0.9,0.0.0.0/0,10.77.0.1")
	c := begin(t, Config{Hostname: "phase-seed"})
	n := c.wait()

	e := c.await("eth0", Configured)
	t.Logf("MEASURED: %s from carrier to configured", e.Took)
	if e.Took > prompt {
		t.Errorf("took %s", e.Took)
	}
	if len(n.Interfaces) != 1 {
		t.Fatalf("interfaces: %+v", n.Interfaces)
	}
	got := n.Interfaces[0]
	if got.Name != "eth0" || got.MAC != mac0 || !got.Carrier || got.Method != MethodDHCP || got.MTU != 1400 || got.LeaseSeconds != 3600 ||
		got.Gateway != ip("10.77.0.1") || got.Server != ip("10.77.0.1") || got.Err != "" {
		t.Errorf("link: %+v", got)
	}
	if ntp := []netip.Addr{ip("10.77.0.7"), ip("10.77.0.8")}; !slices.Equal(got.NTP, ntp) || !slices.Equal(n.NTP, ntp) {
		t.Errorf("time servers %v of the link, %v of the network, want %v", got.NTP, n.NTP, ntp)
	}
	want(t, "addresses", addresses(t, "eth0"), got.Addresses[0].String())
	want(t, "routes", routes(t), "0.0.0.0/0 via 10.77.0.1", "192.168.50.0/24 via 10.77.0.9")
	resolv, err := os.ReadFile(c.resolv)
	if err != nil || !strings.HasPrefix(string(resolv), "nameserver 10.77.0.1\nnameserver 10.77.0.2\n") {
		t.Errorf("resolv.conf %q, %v", resolv, err)
	}
	if link, err := netlink.LinkByName("eth0"); err != nil || link.Attrs().MTU != 1400 {
		t.Errorf("MTU of %+v, %v", link, err)
	}
	if !isUp(t, "lo") {
		t.Error("the loopback is down")
	}
	log.Await("client provides name: phase-seed")
	down(t, c)
}

// down checks that Down leaves nothing behind.
func down(t *testing.T, c *client) {
	t.Helper()
	check(t, c.Down())
	if a := addresses(t, "eth0"); len(a) > 0 || isUp(t, "eth0") {
		t.Errorf("after Down: addresses %q, up %v", a, isUp(t, "eth0"))
	}
	check(t, c.Down()) // again is harmless
}

func TestTwoInterfacesOneDead(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	plug(t, "eth0", mac0) // a LAN on which nobody answers
	plug(t, "eth1", mac1).dnsmasq("--dhcp-range=10.77.0.50,10.77.0.60,1h")
	plug(t, "eth2", "02:00:00:00:00:12").unplug()
	began := time.Now()
	c := begin(t, Config{})
	n := c.wait()
	if took := time.Since(began); took > prompt {
		t.Errorf("the dead interfaces cost %s", took)
	}
	if len(n.Interfaces) != 3 || n.Interfaces[0].Configured() || !n.Interfaces[1].Configured() || n.Interfaces[2].Carrier {
		t.Errorf("network: %+v", n)
	}
	if a := addresses(t, "eth0"); len(a) > 0 {
		t.Errorf("eth0 has %q", a)
	}
}

func TestTakenBackOffer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	var refused atomic.Bool
	s := plug(t, "eth0", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if m.MessageType() == dhcpv4.MessageTypeRequest && !refused.Swap(true) {
			return nak(m)
		}
		return reply(m, 50)
	})
	c := begin(t, Config{})
	n := c.wait()
	c.await("eth0", Refused)
	want(t, "addresses", addresses(t, "eth0"), "10.77.0.50/24")
	if n.Interfaces[0].Err != "" {
		t.Errorf("an error outlived success: %q", n.Interfaces[0].Err)
	}
	m := <-s.seen
	for m.MessageType() != dhcpv4.MessageTypeRequest {
		m = <-s.seen // the first ones may be repeated on a fresh link
	}
	next := <-s.seen
	if next.MessageType() != dhcpv4.MessageTypeDiscover || next.TransactionID == m.TransactionID {
		t.Errorf("after a NAK came %s, with the same transaction: %v", next.MessageType(), next.TransactionID == m.TransactionID)
	}
}

func TestOnlyNAKs(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			return nak(m)
		}
		return reply(m, 50)
	})
	c := begin(t, Config{Timeout: 2 * time.Second})
	c.await("eth0", Refused)
	fails(t, c, RefusedByDHCP, "eth0", "NAK")
}

// TestNonsense sends what a broken or hostile server may send before the
// real answer.
func TestNonsense(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	var s *scripted
	var ready atomic.Pointer[scripted]
	s = l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if s := ready.Load(); s != nil {
			for _, bad := range []*dhcpv4.DHCPv4{
				reply(m, 66, dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4})),
				reply(m, 66, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 99})),
				reply(m, 66, dhcpv4.WithYourIP(net.IPv4zero), dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer)),
				reply(m, 66, dhcpv4.WithYourIP(net.IPv4bcast), dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer)),
				reply(m, 66, dhcpv4.WithoutOption(dhcpv4.OptionServerIdentifier)),
				reply(m, 66, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4zero))),
				reply(m, 66, dhcpv4.WithMessageType(dhcpv4.MessageTypeInform)),
			} {
				s.send(m, bad)
			}
			s.raw.WriteTo(slices.Repeat([]byte{0xff}, 700), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
			s.raw.WriteTo(nil, &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
		}
		return reply(m, 50)
	})
	ready.Store(s)
	c := begin(t, Config{})
	c.wait()
	if got := addresses(t, "eth0"); !slices.Equal(got, []string{"10.77.0.50/24"}) {
		t.Errorf("addresses %q", got)
	}
}

func TestSlowServer(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	var s atomic.Pointer[scripted]
	s.Store(l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		time.AfterFunc(1200*time.Millisecond, func() { s.Load().send(m, reply(m, 50)) })
		return nil
	}))
	c := begin(t, Config{})
	c.wait()
	want(t, "addresses", addresses(t, "eth0"), "10.77.0.50/24")
}

// TestServerOf20Seconds answers everything 20 s late: the offer to the first
// request must still be taken, and the confirmation be waited for.
func TestServerOf20Seconds(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	var s atomic.Pointer[scripted]
	s.Store(l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		time.AfterFunc(20*time.Second, func() { s.Load().send(m, reply(m, 50)) })
		return nil
	}))
	c := begin(t, Config{})
	began := time.Now()
	n := c.wait()
	t.Logf("MEASURED: %s with a server that takes 20 s for each answer", time.Since(began))
	if n.Interfaces[0].Method != MethodDHCP {
		t.Errorf("link: %+v", n.Interfaces[0])
	}
	want(t, "addresses", addresses(t, "eth0"), "10.77.0.50/24")
	reminded := 0
	for len(c.events) > 0 {
		if e := <-c.events; e.State == Waiting {
			reminded++
			if !strings.Contains(e.String(), "no address; DHCP asked") || !strings.Contains(e.String(), "s left") {
				t.Errorf("it said %q", e)
			}
		}
	}
	if reminded < 3 {
		t.Errorf("%d lines in that time", reminded)
	}
}

// spanningTree puts a bridge between the LAN's port and a second one on which the
// server is, as a switch that lets nothing through for twice the delay.
func (l *lan) spanningTree(delay time.Duration) {
	l.t.Helper()
	l.Bridge("sw0", nettest.Switch{SpanningTree: delay}, "srv0")
	l.Address("sw0", "10.77.1.1/24")
}

// TestSpanningTree: the links are up at once, and the switches let nothing
// through for 30 s. Servers and routers are asked often enough to be heard soon
// after that; the first one ends the wait.
func TestSpanningTree(t *testing.T) {
	if !inNamespace(t, "dnsmasq", "ip") {
		return
	}
	needIPv6(t)
	l := plug(t, "eth0", mac0)
	l.spanningTree(15 * time.Second)
	l.dnsmasq("--interface=sw0", "--dhcp-range=10.77.1.50,10.77.1.60,1h")
	l = plug(t, "eth1", mac1)
	l.spanningTree(15 * time.Second)
	l.give6()
	l.Address("sw0", "fd00:77:1::1/64")
	l.dnsmasq("--interface=sw0", "--dhcp-range=fd00:77:1::,ra-only", "--enable-ra", "--ra-param=sw0,600,3600", "--dhcp-option=option6:dns-server,[fd00:77:1::1]")
	began := time.Now()
	c := begin(t, Config{})
	c.wait()
	if took := time.Since(began); took < 20*time.Second || took > 45*time.Second {
		t.Errorf("took %s", took)
	}
	for name, method := range map[string]Method{"eth0": MethodDHCP, "eth1": MethodSLAAC} {
		e := c.configured(name)
		t.Logf("MEASURED: %s: %s behind a switch with 30 s of spanning tree", name, e.Took)
		if e.Link.Method != method || e.Took > 45*time.Second {
			t.Errorf("%s: %s, %+v", name, e.Took, e.Link)
		}
	}
}

// configured waits for the interface, whatever is said of others meanwhile.
func (c *client) configured(name string) Event {
	c.t.Helper()
	var others []Event
	defer func() {
		for _, e := range others {
			c.events <- e
		}
	}()
	for deadline := time.After(limit); ; {
		select {
		case e := <-c.events:
			if e.Interface == name && e.State == Configured {
				return e
			}
			others = append(others, e)
		case <-deadline:
			c.t.Fatalf("%s was never configured", name)
		}
	}
}

// TestWrongBroadcast: what a server says of the broadcast address is not needed.
func TestWrongBroadcast(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		return reply(m, 50, dhcpv4.WithOption(dhcpv4.OptBroadcastAddress(net.IPv4(10, 99, 0, 1))))
	})
	begin(t, Config{}).wait()
	link, err := netlink.LinkByName("eth0")
	check(t, err)
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	check(t, err)
	if len(list) != 1 || !list[0].Broadcast.Equal(net.IPv4(10, 77, 0, 255)) {
		t.Errorf("addresses %+v", list)
	}
}

// TestOfferWithoutRouterAlone: nothing better is in sight, so that it is used at
// once.
func TestOfferWithoutRouterAlone(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		return reply(m, 50, dhcpv4.WithoutOption(dhcpv4.OptionRouter))
	})
	began := time.Now()
	n := begin(t, Config{}).wait()
	if took := time.Since(began); took >= weakGrace || n.Interfaces[0].Routed() {
		t.Errorf("took %s: %+v", took, n)
	}
}

func fails(t *testing.T, c *client, reason Reason, says ...string) {
	t.Helper()
	n, err := c.Wait(context.Background())
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("Wait: %+v, %v", n, err)
	}
	t.Logf("%s %s (%s)", e.Code(), e, e.Hint())
	if e.Reason != reason {
		t.Errorf("reason %d, want %d", e.Reason, reason)
	}
	for _, s := range says {
		if !strings.Contains(e.Error(), s) {
			t.Errorf("%q does not say %q", e, s)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0)
	c := begin(t, Config{Timeout: 2 * time.Second, FallbackAfter: time.Second})
	fails(t, c, NoDHCP, "no DHCP server answered within 2s", "eth0: DHCP, ", " tries in ")
	c.await("eth0", NoAnswer)
	if a := addresses(t, "eth0"); len(a) > 0 {
		t.Errorf("without leave for a link-local address there is %q", a)
	}
}

func TestNoInterface(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := begin(t, Config{Appear: 300 * time.Millisecond, RemindAfter: 100 * time.Millisecond})
	fails(t, c, NoInterface, "no network interface was found")
	if e := c.await("", Waiting); !strings.Contains(e.String(), "no interface yet; 60s left") && !strings.Contains(e.String(), "1m0s left") {
		t.Errorf("it said %q", e)
	}
}

func TestSwitchedOff(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0)
	plug(t, "eth1", mac1)
	fails(t, begin(t, Config{Off: true}), SwitchedOff)
	fails(t, begin(t, Config{Timeout: time.Second, Appear: 300 * time.Millisecond, Interfaces: []Interface{{Name: "eth0", Off: true}, {MAC: mac1, Off: true}}}), NoInterface)
	if isUp(t, "eth0") || isUp(t, "eth1") {
		t.Error("an interface that is switched off was set up")
	}
}

func TestCableComesLate(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	l.unplug()
	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return reply(m, 50) })
	c := begin(t, Config{Timeout: time.Second})
	c.await("eth0", NoCarrier)
	fails(t, c, NoCable, "no cable is plugged in", "eth0")
	l.up()
	c.await("eth0", Carrier)
	t.Logf("MEASURED: %s from carrier to configured", c.await("eth0", Configured).Took)
	c.wait()
	l.unplug()
	c.await("eth0", NoCarrier)
	want(t, "addresses after unplugging", addresses(t, "eth0"), "10.77.0.50/24")
	l.up()
	c.await("eth0", Configured)
}

func TestInterfaceComesAndGoes(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	c := begin(t, Config{})
	plug(t, "eth5", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return reply(m, 50) })
	c.wait()
	link, err := netlink.LinkByName("eth5")
	check(t, err)
	check(t, netlink.LinkDel(link))
	c.await("eth5", Gone)
	if n := c.Network(); len(n.Interfaces) > 0 || len(n.DNS) > 0 {
		t.Errorf("network: %+v", n)
	}
}

// TestLinkLocalThenLease: nobody answers; the first candidate is taken by
// another machine; then a DHCP server appears.
func TestLinkLocalThenLease(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	hw, _ := net.ParseMAC(mac0)
	candidate := linkLocalCandidates(macSeed(hw))
	taken, free := candidate(), candidate()
	l.Address("srv0", taken.String()+"/16")

	c := begin(t, Config{LinkLocal: true, FallbackAfter: 200 * time.Millisecond})
	c.await("eth0", Claiming)
	n := c.wait()
	if got := n.Interfaces[0]; got.Method != MethodLinkLocal || got.Addresses[0] != netip.PrefixFrom(free, 16) {
		t.Errorf("link %+v, want address %s", got, free)
	}
	want(t, "addresses", addresses(t, "eth0"), free.String()+"/16")
	c.await("eth0", Configured)

	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return reply(m, 50) })
	c.await("eth0", Configured)
	if got := addresses(t, "eth0"); !slices.Equal(got, []string{"10.77.0.50/24"}) {
		t.Errorf("addresses %q, want the lease only", got)
	}
}

// TestClaimedAgain: what was held under an earlier kernel need not be waited for,
// but is probed all the same.
func TestClaimedAgain(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	plug(t, "eth1", mac1)
	held, taken := ip("169.254.9.9"), ip("169.254.8.8")
	l.Address("srv0", taken.String()+"/16")
	claims := []Claim{{MAC: mac0, Address: taken}, {MAC: mac1, Address: held}, {MAC: mac0, VLAN: 7, Address: held}}
	c := begin(t, Config{LinkLocal: true, FallbackAfter: time.Hour, Claims: claims})
	var n Network
	c.expect("an address on both cards", func() bool {
		n = *c.snapshot()
		return len(n.Interfaces) == 2 && n.Interfaces[0].Configured() && n.Interfaces[1].Configured()
	})
	want(t, "addresses", addresses(t, "eth1"), held.String()+"/16")
	if got := n.Interfaces[0]; got.Method != MethodLinkLocal || got.Addresses[0].Addr() == taken {
		t.Errorf("link %+v with the address of another machine", got)
	}
	again := n.Claims()
	if len(again) != 2 || again[1] != claims[1] || again[0].MAC != mac0 || again[0].Address != n.Interfaces[0].Addresses[0].Addr() {
		t.Errorf("to be claimed again: %+v", again)
	}
}

// TestClaimsOfOthers: an address is claimed at once on the interface that had it,
// soon after, and if a machine may draw it.
func TestClaimsOfOthers(t *testing.T) {
	good := Claim{MAC: mac0, Address: ip("169.254.9.9")}
	for name, c := range map[string]struct {
		claim Claim
		begun time.Time
		want  bool
	}{
		"good":          {good, time.Now(), true},
		"long ago":      {good, time.Now().Add(-2 * claimLife), false},
		"other card":    {Claim{MAC: mac1, Address: good.Address}, time.Now(), false},
		"other VLAN":    {Claim{MAC: mac0, VLAN: 2, Address: good.Address}, time.Now(), false},
		"no link-local": {Claim{MAC: mac0, Address: ip("192.0.2.1")}, time.Now(), false},
		"reserved":      {Claim{MAC: mac0, Address: ip("169.254.255.9")}, time.Now(), false},
		"IPv6":          {Claim{MAC: mac0, Address: ip("fe80::1")}, time.Now(), false},
		"none":          {Claim{MAC: mac0}, time.Now(), false},
	} {
		m := New(Config{Claims: []Claim{c.claim}})
		m.begun = c.begun
		i := &iface{m: m, link: Link{MAC: mac0}}
		if got := i.claimed(); got.IsValid() != c.want {
			t.Errorf("%s: claimed %v", name, got)
		}
	}
}

func TestStatic(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0)
	c := begin(t, Config{Interfaces: []Interface{{MAC: mac0, Address: netip.MustParsePrefix("10.77.0.7/24"), Gateway: ip("10.77.0.1"), DNS: []netip.Addr{ip("10.77.0.3")}}}})
	n := c.wait()
	if got := n.Interfaces[0]; got.Method != MethodStatic || got.LeaseSeconds != 0 || !got.Routed() {
		t.Errorf("link: %+v", got)
	}
	want(t, "addresses", addresses(t, "eth0"), "10.77.0.7/24")
	want(t, "routes", routes(t), "0.0.0.0/0 via 10.77.0.1")
	resolv, err := os.ReadFile(c.resolv)
	if err != nil || !strings.HasPrefix(string(resolv), "nameserver 10.77.0.3\n") {
		t.Errorf("resolv.conf %q, %v", resolv, err)
	}
	down(t, c)
}

// TestStaticWithoutName gives the address to the interface with a cable in,
// without a gateway and with one outside its network.
func TestStaticWithoutName(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0).unplug()
	plug(t, "eth1", mac1)
	c := begin(t, Config{Interfaces: []Interface{{Address: netip.MustParsePrefix("10.77.0.7/32"), Gateway: ip("10.99.0.1")}}})
	c.wait()
	want(t, "addresses", addresses(t, "eth1"), "10.77.0.7/32")
	want(t, "routes", routes(t), "0.0.0.0/0 via 10.99.0.1")
}

func TestLeaseWithoutRouter(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	lonely := plug(t, "eth0", mac0)
	lonely.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		return reply(m, 50, dhcpv4.WithoutOption(dhcpv4.OptionRouter))
	})
	better := plug(t, "eth1", mac1)
	var s atomic.Pointer[scripted]
	s.Store(better.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		time.AfterFunc(300*time.Millisecond, func() { s.Load().send(m, reply(m, 60)) })
		return nil
	}))
	n := begin(t, Config{}).wait()
	if !n.Interfaces[1].Routed() {
		t.Errorf("the interface with a router was not waited for: %+v", n)
	}
}

// TestRenewal walks a short lease through T1 (renewed by unicast), and then
// a refusal, after which another address is taken.
func TestRenewal(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	var renewals atomic.Int32
	times := []dhcpv4.Modifier{dhcpv4.WithLeaseTime(60), generic(dhcpv4.OptionRenewTimeValue, 0, 0, 0, 1), generic(dhcpv4.OptionRebindingTimeValue, 0, 0, 0, 40)}
	s := l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if m.ClientIPAddr.IsUnspecified() {
			return reply(m, 50+byte(renewals.Load()), times...)
		}
		if renewals.Add(1) == 1 {
			return reply(m, 50, times...)
		}
		return nak(m)
	})
	c := begin(t, Config{})
	c.wait()
	want(t, "addresses", addresses(t, "eth0"), "10.77.0.50/24")
	c.await("eth0", Configured)
	c.await("eth0", Renewed)
	c.await("eth0", Lost)
	c.await("eth0", Configured)
	if got := addresses(t, "eth0"); !slices.Equal(got, []string{"10.77.0.52/24"}) {
		t.Errorf("addresses %q", got)
	}
	for m := range s.seen {
		if !m.ClientIPAddr.IsUnspecified() {
			if m.Options.Has(dhcpv4.OptionServerIdentifier) || m.Options.Has(dhcpv4.OptionRequestedIPAddress) || !m.ClientIPAddr.Equal(net.IPv4(10, 77, 0, 50)) {
				t.Errorf("a renewal must name its address in ciaddr only (RFC 2131, 4.3.2): %s", m.Summary())
			}
			break
		}
	}
}

// TestLeaseRunsOut: the server falls silent; the address goes with the
// lease, and the search begins again.
func TestLeaseRunsOut(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	var silent atomic.Bool
	s := l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if silent.Load() {
			return nil
		}
		return reply(m, 50, dhcpv4.WithLeaseTime(4), generic(dhcpv4.OptionNTPServers, 10, 77, 0, 7))
	})
	c := begin(t, Config{})
	if n := c.wait(); len(n.NTP) != 1 {
		t.Errorf("time servers %v", n.NTP)
	}
	silent.Store(true)
	c.await("eth0", Lost)
	if n := c.Network(); len(n.NTP) > 0 {
		t.Errorf("time servers %v outlived their lease", n.NTP)
	}
	if got := addresses(t, "eth0"); len(got) > 0 {
		t.Errorf("addresses %q outlived their lease", got)
	}
	broadcast := false
	for len(s.seen) > 0 {
		m := <-s.seen
		broadcast = broadcast || !m.ClientIPAddr.IsUnspecified()
	}
	if !broadcast {
		t.Error("no attempt to renew was seen")
	}
	silent.Store(false)
	c.await("eth0", Configured)
}

func TestIPv6Alone(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	needIPv6(t)
	l := plug(t, "eth0", mac0)
	l.Address("srv0", "fd00:77::1/64")
	l.dnsmasq("--dhcp-range=fd00:77::,ra-only", "--enable-ra", "--ra-param=srv0,4,600")
	c := begin(t, Config{FallbackAfter: 500 * time.Millisecond})
	n := c.wait()
	got := n.Interfaces[0]
	if got.Method != MethodSLAAC || len(got.Addresses) == 0 || !netip.MustParsePrefix("fd00:77::/64").Contains(got.Addresses[0].Addr()) {
		t.Errorf("link: %+v", got)
	}
	noEUI64(t, "eth0", mac0)
}

// noEUI64 checks that no IPv6 address of the interface tells its MAC (RFC
// 4291, appendix A).
func noEUI64(t *testing.T, name, mac string) {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	check(t, err)
	link, err := netlink.LinkByName(name)
	check(t, err)
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	check(t, err)
	if len(addrs) == 0 {
		t.Error("no IPv6 address to look at")
	}
	for _, a := range addrs {
		if host := a.IP.To16()[8:]; [3]byte(host[5:]) == [3]byte(hw[3:]) || host[3] == 0xff && host[4] == 0xfe {
			t.Errorf("%s is made of %s", a.IP, mac)
		}
	}
}

// TestResync: the root file system changed, and the file went with it.
func TestResync(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		return reply(m, 50, dhcpv4.WithDNS(net.IPv4(10, 77, 0, 1)))
	})
	c := begin(t, Config{})
	c.wait()
	const want = "nameserver 10.77.0.1\n"
	check(t, os.Remove(c.resolv))
	check(t, c.Resync())
	if resolv, err := os.ReadFile(c.resolv); err != nil || !strings.HasPrefix(string(resolv), want) {
		t.Errorf("resolv.conf %q, %v", resolv, err)
	}
	select {
	case <-c.Done():
		t.Error("done while it runs")
	default:
	}
	c.cancel()
	<-c.Done()
	check(t, c.Resync()) // of what it last knew
	if err := New(Config{}).Resync(); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := New(Config{ResolvConf: filepath.Join(c.resolv, "x")}).Resync(); err == nil {
		t.Error("a file that cannot be written is no error")
	}
}

func TestWaitObeysItsContext(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0)
	c := begin(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if n, err := c.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %+v, %v", n, err)
	}
	c.await("eth0", Asking)
	began := time.Now()
	c.cancel()
	if n, err := c.Wait(context.Background()); err == nil || time.Since(began) > prompt {
		t.Errorf("after Run ended: %+v, %v, %s", n, err, time.Since(began))
	}
	if err := c.Run(context.Background()); err == nil {
		t.Error("Run ran twice")
	}
}
