package netup

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/guest"
)

// TestVLAN runs what needs VLANs: here if this kernel has them, otherwise in a
// guest whose kernel does.
func TestVLAN(t *testing.T) {
	t.Parallel()
	if !guest.Run(t, guest.Config{Unless: kernelHasVLANs, Modules: []string{vlanModule, "veth", "af_packet"}, Programs: []string{"dnsmasq", "true"}}) {
		return
	}
	t.Run("named", func(t *testing.T) { testVLAN(t, "eth0") })
	t.Run("any card", func(t *testing.T) { testVLAN(t, "") })
	t.Run("beside untagged", testVLANBesideUntagged)
	t.Run("name taken", testVLANRefused)
}

// kernelHasVLANs tries in a network of its own, which ends with the thread. Where
// that may not be made, nobody knows.
var kernelHasVLANs = sync.OnceValue(func() bool {
	have := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends here
		parent := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "one"}, PeerName: "two"}
		if unix.Unshare(unix.CLONE_NEWNET) != nil || netlink.LinkAdd(parent) != nil {
			have <- false
			return
		}
		have <- netlink.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "three", ParentIndex: parent.Index}, VlanId: 3, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}) == nil
	}()
	return <-have
})

// tagged lets the LAN's port carry a VLAN, with the address 10.77.<id>.1/24 on
// it.
func (l *lan) tagged(id int) string {
	l.t.Helper()
	name := vlanName("srv0", id)
	check(l.t, l.handle.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: l.port().Attrs().Index}, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}))
	l.Address(name, fmt.Sprintf("10.77.%d.1/24", id))
	l.Up(name)
	return name
}

// testVLAN boots on two VLANs of one cable, of which one is static. The network
// without a tag gives addresses too, and is not used.
func testVLAN(t *testing.T, name string) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
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
	if given.Name != "eth0.43" || given.VLAN != 43 || given.MAC != mac0 || given.Method != MethodStatic || !slices.Equal(addresses(t, "eth0.43"), []string{static.String()}) {
		t.Errorf("VLAN 43: %+v", given)
	}
	down(t, c)
	for _, name := range []string{"eth0.42", "eth0.43"} {
		if link, err := netlink.LinkByName(name); err == nil {
			t.Errorf("after Down: %+v", link)
		}
	}
}

// testVLANBesideUntagged: both networks of a cable are wanted, and the cable is
// pulled and put back.
func testVLANBesideUntagged(t *testing.T) {
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
	l.Up(port)
	c.await("eth0.42", Configured)
}

// TestVLANRefused: on a kernel with or without VLANs, a name that is taken is said,
// and nothing else is used.
func TestVLANRefused(t *testing.T) { testVLANRefused(t) }

func testVLANRefused(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	plug(t, "eth0", mac0)
	plug(t, "eth0.42", mac1).unplug()
	loaded := ""
	c := begin(t, Config{Timeout: time.Second, Interfaces: []Interface{{Name: "eth0", VLAN: 42}, {Name: "eth0.42", Off: true}},
		LoadModule: func(name string) error { loaded = name; return errors.New("not here") }})
	c.await("eth0", Failed)
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
