package netup

import (
	"fmt"
	"net"
	"net/netip"
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

// These tests change the network while it is in use.

// TestCablePulledOtherTakesOver: of two good interfaces the preferred one loses its
// cable. Packets and questions of names go to the other one, until it is back.
func TestCablePulledOtherTakesOver(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	needIPv6(t)
	first, second := plug(t, "eth0", mac0), plug(t, "eth1", mac1)
	second.Address("srv0", "10.78.0.1/24")
	first.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		return reply(m, 50, dhcpv4.WithDNS(net.IPv4(10, 77, 0, 1)))
	})
	second.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		return reply(m, 0, dhcpv4.WithYourIP(net.IPv4(10, 78, 0, 50)), dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 78, 0, 1))),
			dhcpv4.WithDNS(net.IPv4(10, 78, 0, 1)))
	})
	for _, l := range []*lan{first, second} {
		l.give6()
		l.router().advertise(raMessage{lifetime: 600, prefix: true})
	}
	c := begin(t, Config{})
	both := func() bool {
		n := c.snapshot()
		return len(n.Interfaces) == 2 && n.Interfaces[0].Gateway.IsValid() && n.Interfaces[1].Gateway.IsValid() &&
			n.Interfaces[0].Gateway6.IsValid() && n.Interfaces[1].Gateway6.IsValid() && len(n.DNS) == 2
	}
	c.expect("both interfaces", both)
	leaves(t, "198.51.100.1", "eth0")
	first.unplug()
	c.expect("the other one's name server alone", func() bool { return slices.Equal(c.snapshot().DNS, []netip.Addr{ip("10.78.0.1")}) })
	leaves(t, "198.51.100.1", "eth1")
	leaves(t, "2001:db8::1", "eth1")
	if resolv, err := os.ReadFile(c.resolv); err != nil || !strings.HasPrefix(string(resolv), "nameserver 10.78.0.1\noptions") {
		t.Errorf("resolv.conf %q, %v", resolv, err)
	}
	first.up()
	c.expect("both interfaces again", both)
	leaves(t, "198.51.100.1", "eth0")
}

// expect waits for a condition on the manager's state.
func (c *client) expect(what string, is func() bool) {
	c.t.Helper()
	if !c.until(c.t.Context(), time.Now().Add(limit), is) {
		c.t.Fatalf("it never had %s: %+v", what, c.Network())
	}
}

// leaves checks by which interface the kernel sends packets somewhere.
func leaves(t *testing.T, to, device string) {
	t.Helper()
	link, err := netlink.LinkByName(device)
	check(t, err)
	routes, err := netlink.RouteGet(net.ParseIP(to))
	if err != nil || len(routes) != 1 || routes[0].LinkIndex != link.Attrs().Index {
		t.Errorf("to %s: %v, %v; want %s (%d)", to, routes, err, device, link.Attrs().Index)
	}
}

// TestLeaseEndsAfterUnplugging: the cable comes back where nobody answers. What was
// leased goes when its time is over.
func TestLeaseEndsAfterUnplugging(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	var silent atomic.Bool
	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if silent.Load() {
			return nil
		}
		return reply(m, 50, dhcpv4.WithLeaseTime(6), dhcpv4.WithDNS(net.IPv4(10, 77, 0, 1)))
	})
	c := begin(t, Config{})
	c.wait()
	silent.Store(true)
	l.unplug()
	c.await("eth0", NoCarrier)
	l.up()
	c.await("eth0", Carrier)
	c.await("eth0", Lost)
	if n := c.Network(); n.Interfaces[0].Configured() || len(n.DNS) > 0 {
		t.Errorf("network: %+v", n)
	}
	silent.Store(false)
	c.await("eth0", Configured)
}

// TestRebinding: the server that gave the lease is gone; another one that knows of
// it renews it, and is asked from then on.
func TestRebinding(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	l.Address("srv0", "10.77.0.2/24")
	times := []dhcpv4.Modifier{dhcpv4.WithLeaseTime(60), generic(dhcpv4.OptionRenewTimeValue, 0, 0, 0, 1), generic(dhcpv4.OptionRebindingTimeValue, 0, 0, 0, 2)}
	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if m.ClientIPAddr.IsUnspecified() {
			return reply(m, 50, append(times, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, 99))))...)
		}
		return reply(m, 50, append(times[:1:1], dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 77, 0, 2))))...)
	})
	c := begin(t, Config{})
	if n := c.wait(); n.Interfaces[0].Server != ip("10.77.0.99") {
		t.Errorf("link: %+v", n.Interfaces[0])
	}
	c.await("eth0", Renewed)
	if got := c.Network().Interfaces[0]; got.Server != ip("10.77.0.2") {
		t.Errorf("link: %+v", got)
	}
}

// TestRenamed: somebody renames an interface while it asks for an address.
func TestRenamed(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	var on atomic.Bool
	plug(t, "eth0", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if !on.Load() {
			return nil
		}
		return reply(m, 50)
	})
	c := begin(t, Config{})
	c.await("eth0", Asking)
	link, err := netlink.LinkByName("eth0")
	check(t, err)
	check(t, netlink.LinkSetDown(link))
	check(t, netlink.LinkSetName(link, "lan0"))
	check(t, netlink.LinkSetUp(link))
	on.Store(true)
	c.await("lan0", Configured)
	if n := c.Network(); len(n.Interfaces) != 1 || n.Interfaces[0].Name != "lan0" {
		t.Errorf("network: %+v", n)
	}
	want(t, "addresses", addresses(t, "lan0"), "10.77.0.50/24")
}

// TestRemovedWhileAsking: an interface goes in the middle of an exchange, and
// another one of its name comes.
func TestRemovedWhileAsking(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	asked := make(chan struct{}, 1000)
	plug(t, "eth0", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		asked <- struct{}{}
		if m.MessageType() == dhcpv4.MessageTypeDiscover {
			return reply(m, 50)
		}
		return nil
	})
	c := begin(t, Config{})
	<-asked
	link, err := netlink.LinkByName("eth0")
	check(t, err)
	check(t, netlink.LinkDel(link))
	c.await("eth0", Gone)
	plug(t, "eth0", mac1).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return reply(m, 60) })
	n := c.wait()
	if len(n.Interfaces) != 1 || n.Interfaces[0].MAC != mac1 {
		t.Errorf("network: %+v", n)
	}
}

// TestFlapping: a link that comes and goes all the time is used when it stays.
func TestFlapping(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return reply(m, 50) })
	c := begin(t, Config{})
	for range 30 {
		l.unplug()
		l.up()
	}
	c.wait()
	c.expect("the lease", func() bool { return c.snapshot().Interfaces[0].Method == MethodDHCP })
	if got := addresses(t, "eth0"); !slices.Equal(got, []string{"10.77.0.50/24"}) {
		t.Errorf("addresses %q", got)
	}
	leaves(t, "198.51.100.1", "eth0")
}

// TestFirstNameServerDead resolves a name with what the network told, as the rest
// of the seed does.
func TestFirstNameServerDead(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	l := plug(t, "eth0", mac0)
	l.dnsmasq("--port=53", "--dhcp-range=10.77.0.50,10.77.0.60,1h", "--address=/name.lan.example/192.0.2.9",
		"--dhcp-option=option:dns-server,10.77.0.66,10.77.0.1", "--dhcp-option=option:domain-search,lan.example")
	c := begin(t, Config{})
	c.wait()
	check(t, unix.Mount(c.resolv, "/etc/resolv.conf", "", unix.MS_BIND, "")) // our own mounts
	began := time.Now()
	resolver := net.Resolver{PreferGo: true}
	for _, name := range []string{"name.lan.example", "name"} {
		got, err := resolver.LookupNetIP(t.Context(), "ip4", name)
		if err != nil || len(got) != 1 || got[0].Unmap() != ip("192.0.2.9") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	t.Logf("MEASURED: %s for two names with a dead first server", time.Since(began))
}

// TestMoreCardsThanWeCareFor: the rest is not silently ignored.
func TestMoreCardsThanWeCareFor(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug(t, "eth0", mac0)
	for n := 1; n <= maxLinks+1; n++ {
		nettest.Cable(nettest.End{Host: nettest.Here(t), Device: fmt.Sprintf("z%d", n)}, nettest.End{Host: l.Host, Device: fmt.Sprintf("z%d", n)})
	}
	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return reply(m, 50) })
	c := begin(t, Config{})
	if e := c.await("", Failed); !strings.Contains(e.String(), fmt.Sprintf("z%d and what comes after it is not used", maxLinks)) {
		t.Errorf("it said %q", e)
	}
	if n := c.wait(); len(n.Interfaces) != maxLinks {
		t.Errorf("%d interfaces", len(n.Interfaces))
	}
}

// TestGoneUnheard: an interface went while the kernel's news were lost.
func TestGoneUnheard(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0).serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return reply(m, 50) })
	c := begin(t, Config{}, func(m *Manager) {
		gone := &iface{m: m, index: 9999}
		gone.link = Link{Name: "eth9", Method: MethodDHCP, Carrier: true, DNS: []netip.Addr{ip("10.9.9.9")}}
		m.links[gone.index] = gone
	})
	c.await("eth9", Gone)
	c.expect("one interface", func() bool { n := c.snapshot(); return len(n.Interfaces) == 1 && len(n.DNS) == 0 })
}
