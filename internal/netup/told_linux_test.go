package netup

import (
	"bytes"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
)

const portalURL = "https://portal.example/api"

// TestPortalAndDomains: what real servers say of portals and domains, in every way
// there is.
func TestPortalAndDomains(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	l := plug(t, "eth0", mac0)
	l.dnsmasq("--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-option=114,"+portalURL,
		"--domain=own.example", "--dhcp-option=option:domain-search,lan.example,lab.lan.example", "--dhcp-option=option:dns-server,10.77.0.1")
	c := begin(t, Config{})
	n := c.wait()
	domains := []string{"lan.example", "lab.lan.example", "own.example"}
	if got := n.Interfaces[0]; got.Portal != portalURL || n.Portal != portalURL || !slices.Equal(got.Search, domains) || !slices.Equal(n.Search, domains) {
		t.Errorf("network: %+v", n)
	}
	if resolv, err := os.ReadFile(c.resolv); err != nil || !strings.HasPrefix(string(resolv), "nameserver 10.77.0.1\nsearch lan.example lab.lan.example own.example\n") {
		t.Errorf("resolv.conf %q, %v", resolv, err)
	}
}

// TestPortalDHCPv6 is told by DHCPv6.
func TestPortalDHCPv6(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	l := plug6(t)
	l.dnsmasq("--dhcp-range=fd00:77::50,fd00:77::60,64,1h", "--enable-ra", "--ra-param=srv0,4,600",
		"--dhcp-option=option6:dns-server,[fd00:77::1]", "--dhcp-option=option6:103,"+portalURL)
	c := begin(t, Config{})
	c.until6(func(l Link) bool { return l.Portal == portalURL })
}

// TestPortalRouter is told by a router, as long as that is there.
func TestPortalRouter(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug6(t)
	r := l.router()
	r.advertise(raMessage{lifetime: 600, prefix: true, dns: lan6, dnsLifetime: 600, more: optionOf(ndPortal, portalURL)})
	c := begin(t, Config{})
	c.wait()
	c.until6(func(l Link) bool { return l.Portal == portalURL })
	r.advertise(raMessage{lifetime: 0, more: optionOf(ndPortal, portalURL)})
	c.until6(func(l Link) bool { return l.Portal == "" && !l.Gateway6.IsValid() })
}

// TestMostlyIPv6: a network with IPv4 for those who need it (RFC 8925) gives it to
// us: peers and providers may be named by IPv4 addresses.
func TestMostlyIPv6(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	l := plug6(t)
	l.dnsmasq("--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-option=108,0:0:7:8",
		"--dhcp-range=fd00:77::,ra-only", "--enable-ra", "--ra-param=srv0,4,600", "--dhcp-option=option6:dns-server,[fd00:77::1]")
	c := begin(t, Config{LinkLocal: true, FallbackAfter: limit})
	c.wait()
	c.until6(func(l Link) bool { return l.Method == MethodDHCP && l.Gateway6.IsValid() })
}

// quiet waits and sees to it that nothing of IPv4 is reported or set meanwhile.
func quiet(t *testing.T, c *client, d time.Duration) {
	t.Helper()
	for end := time.After(d); ; {
		select {
		case e := <-c.events:
			if e.State == NoAnswer || e.State == Claiming || e.State == Configured && e.Link.Method != MethodSLAAC {
				t.Errorf("it said %q", e)
			}
		case <-end:
			return
		}
	}
}

// TestIPv6Enough: nobody answers DHCP where IPv6 has all that is needed. That is no
// trouble; it is when IPv6 goes.
func TestIPv6Enough(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug6(t)
	r := l.router()
	r.advertise(raMessage{lifetime: 600, prefix: true, dns: lan6, dnsLifetime: 600})
	const patience = 8 * time.Second // IPv6 is there after two
	began := time.Now()
	c := begin(t, Config{LinkLocal: true, FallbackAfter: patience})
	c.wait()
	quiet(t, c, time.Until(began.Add(patience+time.Second)))
	r.advertise(raMessage{lifetime: 0, prefix: true, dns: lan6})
	c.await("eth0", Claiming)
}

// TestRandomMAC: nothing that leaves the machine has the card's own address in it.
func TestRandomMAC(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	const own = "02:a7:5c:3e:91:d4"
	l := plug(t, "eth0", own)
	real, err := net.ParseMAC(own)
	check(t, err)
	eui64 := []byte{real[0] ^ 2, real[1], real[2], 0xff, 0xfe, real[3], real[4], real[5]} // RFC 4291, appendix A
	capture := l.Capture("srv0")
	l.give6()
	l.dnsmasq("--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-range=fd00:77::50,fd00:77::60,64,1h", "--enable-ra", "--ra-param=srv0,4,600")
	c := begin(t, Config{RandomMAC: true, Interfaces: []Interface{{MAC: own}}})
	c.wait()
	c.until6(func(l Link) bool { return l.Method == MethodDHCP && len(l.Addresses) == 2 })
	link, err := netlink.LinkByName("eth0")
	check(t, err)
	mac := link.Attrs().HardwareAddr
	if bytes.Equal(mac, real) || mac[0]&3 != 2 {
		t.Errorf("the card has %s", mac)
	}
	if got := c.Network().Interfaces[0].MAC; got != mac.String() {
		t.Errorf("it says %s, the card %s", got, mac)
	}
	ours := 0
	for _, f := range capture.Frames() {
		if bytes.Contains(f, real) || bytes.Contains(f, eui64) {
			t.Errorf("the card's own address in % x", f)
		}
		if bytes.Equal(f[6:12], mac) {
			ours++
		}
	}
	if ours < 4 {
		t.Errorf("%d frames of ours", ours)
	}
	// An interface that comes later.
	other := plug(t, "eth1", mac1)
	other.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if m.ClientHWAddr.String() == mac1 {
			t.Error("the other card's own address in a request")
		}
		return reply(m, 50)
	})
	c.await("eth1", Configured)
}

// TestRandomMACOfLinkInUse: somebody has set the link up already, and changes its
// address later.
func TestRandomMACOfLinkInUse(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	var last atomic.Pointer[string]
	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		mac := m.ClientHWAddr.String()
		last.Store(&mac)
		return reply(m, 50)
	})
	nettest.Here(t).Up("eth0")
	c := begin(t, Config{RandomMAC: true})
	c.wait()
	c.await("eth0", Configured)
	if mac := *last.Load(); mac == mac0 || mac != c.Network().Interfaces[0].MAC {
		t.Errorf("it asked as %s", mac)
	}
	link, err := netlink.LinkByName("eth0")
	check(t, err)
	hw, err := net.ParseMAC(mac1)
	check(t, err)
	check(t, netlink.LinkSetDown(link))
	check(t, netlink.LinkSetHardwareAddr(link, hw))
	check(t, netlink.LinkSetUp(link))
	// What the kernel told of the first time may still come, and be acted on.
	c.expect("a lease for the other address", func() bool {
		l := c.snapshot().Interfaces[0]
		return l.Configured() && l.MAC == mac1 && *last.Load() == mac1
	})
}

// TestCardShowsItself: a card whose own address comes back is not used any more.
func TestCardShowsItself(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if m.ClientHWAddr.String() == mac0 {
			t.Error("the card's own address in a request")
		}
		return reply(m, 50)
	})
	c := begin(t, Config{RandomMAC: true})
	c.wait()
	c.await("eth0", Configured)
	link, err := netlink.LinkByName("eth0")
	check(t, err)
	hw, err := net.ParseMAC(mac0)
	check(t, err)
	check(t, netlink.LinkSetHardwareAddr(link, hw)) // a veth does it while it is up
	c.await("eth0", Failed)
	c.expect("the card to be set down, and why", func() bool {
		l := c.snapshot().Interfaces[0]
		return !isUp(t, "eth0") && !l.Carrier && strings.Contains(l.Err, errKeptMAC.Error())
	})
	check(t, netlink.LinkSetUp(link)) // by somebody else
	c.await("eth0", Failed)
	c.expect("the card to be set down again", func() bool { return !isUp(t, "eth0") && !c.snapshot().Interfaces[0].Carrier })
	quiet(t, c, time.Second)
}

// TestKeptMAC: a card that keeps its address is not used, and it is said why; so
// with one whose driver only says that it has changed it.
func TestKeptMAC(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	plug(t, "eth1", mac1)
	s := l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return reply(m, 50) })
	c := begin(t, Config{RandomMAC: true, Timeout: time.Second}, func(m *Manager) {
		m.setMAC = func(link netlink.Link, _ net.HardwareAddr) error {
			if link.Attrs().Name == "eth0" {
				return unix.EOPNOTSUPP
			}
			return nil
		}
	})
	fails(t, c, KeptMAC, "eth0: hardware address: not used: "+errKeptMAC.Error()+": operation not supported", "eth1: hardware address: not used: "+errKeptMAC.Error())
	if isUp(t, "eth0") || isUp(t, "eth1") {
		t.Error("a card is up")
	}
	nettest.Here(t).Up("eth0") // somebody else
	c.until6(func(l Link) bool { return l.Carrier })
	if _, err := c.Wait(t.Context()); err == nil {
		t.Error("it is used")
	}
	if a := addresses(t, "eth0"); len(a) > 0 || len(s.seen) > 0 {
		t.Errorf("addresses %q, %d requests", a, len(s.seen))
	}
}
