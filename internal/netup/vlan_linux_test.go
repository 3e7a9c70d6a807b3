package netup

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tagged lets the LAN's port carry a VLAN, with the address 10.77.<id>.1/24 on
// it. The test is skipped where the kernel has none.
func (l *lan) tagged(id int) string {
	l.t.Helper()
	name := vlanName("srv0", id)
	err := l.handle.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: l.port().Attrs().Index}, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q})
	if errors.Is(err, unix.EOPNOTSUPP) {
		l.t.Skip("needs a kernel with VLANs (8021q)")
	}
	check(l.t, err)
	link, err := l.handle.LinkByName(name)
	check(l.t, err)
	address := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(id), 1}), 24)
	check(l.t, l.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(address)}))
	check(l.t, l.handle.LinkSetUp(link))
	return name
}

// testVLAN boots on two VLANs of one cable, of which one is static. The network
// without a tag gives addresses too, and is not used.
func testVLAN(t *testing.T, name string) {
	l := plug(t, "eth0", mac0)
	static := netip.MustParsePrefix("10.77.43.7/24")
	port := l.tagged(42)
	l.tagged(43)
	l.dnsmasq("--interface="+port, "--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-range=10.77.42.50,10.77.42.60,1h")
	c := begin(t, Config{Interfaces: []Interface{{Name: name, VLAN: 42}, {Name: name, VLAN: 43, Address: static}}})
	n := c.wait()
	c.until6(func(Link) bool { n = c.snapshot(); return len(n.Interfaces) == 3 && n.Interfaces[2].Configured() })
	parent, leased, given := n.Interfaces[0], n.Interfaces[1], n.Interfaces[2]
	if parent.Name != "eth0" || parent.Configured() || len(addresses(t, "eth0")) > 0 || len(addresses6(t, "eth0")) > 0 {
		t.Errorf("the network without a tag is used: %+v", parent)
	}
	if leased.Name != "eth0.42" || leased.VLAN != 42 || leased.Method != MethodDHCP || !netip.MustParsePrefix("10.77.42.0/24").Contains(leased.Addresses[0].Addr()) {
		t.Errorf("VLAN 42: %+v", leased)
	}
	if given.Name != "eth0.43" || given.Method != MethodStatic || !slices.Equal(addresses(t, "eth0.43"), []string{static.String()}) {
		t.Errorf("VLAN 43: %+v", given)
	}
	if s := n.Static(); len(s) != 1 || s[0].VLAN != 43 || s[0].MAC != mac0 {
		t.Errorf("handed over: %+v", s)
	}
	down(t, c)
	for _, name := range []string{"eth0.42", "eth0.43"} {
		if link, err := netlink.LinkByName(name); err == nil {
			t.Errorf("after Down: %+v", link)
		}
	}
}

func TestVLAN(t *testing.T) {
	if inNamespace(t, "dnsmasq") {
		testVLAN(t, "eth0")
	}
}

func TestVLANWithoutName(t *testing.T) {
	if inNamespace(t, "dnsmasq") {
		testVLAN(t, "")
	}
}

// TestVLANBesideUntagged: both networks of a cable are wanted, and the cable is
// pulled and put back.
func TestVLANBesideUntagged(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	l := plug(t, "eth0", mac0)
	port := l.tagged(42)
	l.dnsmasq("--interface="+port, "--dhcp-range=10.77.0.50,10.77.0.60,1h", "--dhcp-range=10.77.42.50,10.77.42.60,1h")
	c := begin(t, Config{Interfaces: []Interface{{Name: "eth0"}, {MAC: mac0, VLAN: 42}}})
	c.await("eth0.42", Configured)
	c.until6(func(l Link) bool { return l.Method == MethodDHCP })
	l.unplug()
	c.await("eth0.42", NoCarrier)
	l.up()
	link, err := l.handle.LinkByName(port)
	check(t, err)
	check(t, l.handle.LinkSetUp(link))
	c.await("eth0.42", Configured)
}

// TestVLANRefused: a name that is taken is said, and nothing else is used.
func TestVLANRefused(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0)
	plug(t, "eth0.42", mac1).unplug()
	loaded := ""
	c := begin(t, Config{Timeout: time.Second, Interfaces: []Interface{{Name: "eth0", VLAN: 42}, {Name: "eth0.42", Off: true}},
		LoadModule: func(name string) error { loaded = name; return errors.New("not here") }})
	fails(t, c, NotConfigured, "eth0: VLAN 42")
	if err := c.Network().Interfaces[0].Err; err == "" || len(addresses(t, "eth0")) > 0 {
		t.Errorf("error %q, addresses %q", err, addresses(t, "eth0"))
	}
	if loaded != "" && loaded != "8021q" {
		t.Errorf("asked for the module %q", loaded)
	}
}

func TestVLANName(t *testing.T) {
	for parent, want := range map[string]string{"eth0": "eth0.4094", "enp0s20f0u": "enp0s20f0u.4094", "enx0123456789ab": "vlan4094"} {
		if got := vlanName(parent, 4094); got != want || len(got) > 15 {
			t.Errorf("%s: %q, want %q", parent, got, want)
		}
	}
}
