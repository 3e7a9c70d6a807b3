package netup

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
)

const lan6 = "fd00:77::1"

var prefix6 = netip.MustParsePrefix("fd00:77::/64")

func needIPv6(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "needs a kernel with IPv6")
	}
}

// give6 gives the LAN's port an IPv6 address and makes it a router: the client's
// kernel drops routers that say they are none.
func (l *lan) give6() {
	l.t.Helper()
	l.Set("net/ipv6/conf/all/forwarding", "1")
	l.Address("srv0", lan6+"/64")
}

// plug6 is plug for eth0 with a LAN whose port is an IPv6 router.
func plug6(t *testing.T) *lan {
	t.Helper()
	needIPv6(t)
	l := plug(t, "eth0", mac0)
	l.give6()
	return l
}

// linkLocal6 gives the LAN's port its only link-local address to send from. The
// kernel would make another one when the client's end is up.
func (l *lan) linkLocal6() {
	l.t.Helper()
	if !l.local6 {
		l.Set("net/ipv6/conf/srv0/addr_gen_mode", "1")
		l.Address("srv0", "fe80::77/64")
		l.local6 = true
	}
}

// addresses6 lists the global IPv6 addresses the kernel has on an interface.
func addresses6(t *testing.T, name string) (out []netip.Addr) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	check(t, err)
	list, err := listIPv6(link.Attrs().Index)
	check(t, err)
	for _, a := range list {
		out = append(out, a.prefix.Addr())
	}
	return out
}

// TestIPv6Only boots without an IPv4 server and does not wait for one.
func TestIPv6Only(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	needIPv6(t)
	dead, l := plug(t, "eth0", mac0), plug(t, "eth1", mac1)
	_ = dead // nobody answers there
	l.give6()
	l.dnsmasq("--dhcp-range=fd00:77::,ra-only", "--enable-ra", "--ra-param=srv0,4,600",
		"--dhcp-option=option6:dns-server,[fd00:77::1],[fe80::77]", "--dhcp-option=option6:domain-search,lan.example")
	began := time.Now()
	c := begin(t, Config{})
	n := c.wait()
	took := time.Since(began)
	t.Logf("MEASURED: %s to IPv6 only", took)
	if took > prompt {
		t.Errorf("took %s", took)
	}
	got := n.Interfaces[1]
	if got.Method != MethodSLAAC || len(got.Addresses) == 0 || !prefix6.Contains(got.Addresses[0].Addr()) || !got.Gateway6.IsLinkLocalUnicast() || !got.Routed() {
		t.Errorf("link: %+v", got)
	}
	if servers := []netip.Addr{ip(lan6), ip("fe80::77%eth1")}; !slices.Equal(n.DNS, servers) {
		t.Errorf("name servers %v, want %v", n.DNS, servers)
	}
	resolv, err := os.ReadFile(c.resolv)
	if err != nil || !strings.HasPrefix(string(resolv), "nameserver fd00:77::1\nnameserver fe80::77%eth1\nsearch lan.example\n") {
		t.Errorf("resolv.conf %q, %v", resolv, err)
	}
	noEUI64(t, "eth1", mac1)
	check(t, c.Down())
	if a := addresses6(t, "eth1"); len(a) > 0 || isUp(t, "eth1") {
		t.Errorf("after Down: addresses %v", a)
	}
}

// TestStatelessDHCPv6: routers give the address, DHCPv6 the rest. Time servers
// have no other way to become known.
func TestStatelessDHCPv6(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	l := plug6(t)
	log := l.dnsmasq("--dhcp-range=fd00:77::,ra-stateless", "--enable-ra", "--ra-param=srv0,4,600",
		"--dhcp-option=option6:dns-server,[fd00:77::1]", "--dhcp-option=option6:sntp-server,[fd00:77::7]")
	c := begin(t, Config{})
	c.wait()
	log.Await("DHCPINFORMATION-REQUEST")
	select {
	case e := <-c.events:
		for e.State != Configured {
			if e.State == Asking6 {
				t.Error("asked for an address that the routers give")
			}
			e = <-c.events
		}
	case <-time.After(limit):
		t.Fatal("no event")
	}
	c.until6(func(l Link) bool { return slices.Equal(l.NTP, []netip.Addr{ip("fd00:77::7")}) })
}

// TestStatefulDHCPv6: the routers' prefix is not for autoconfiguration.
func TestStatefulDHCPv6(t *testing.T) {
	if !inNamespace(t, "dnsmasq") {
		return
	}
	l := plug6(t)
	l.dnsmasq("--dhcp-range=fd00:77::50,fd00:77::60,64,1h", "--enable-ra", "--ra-param=srv0,4,600",
		"--dhcp-option=option6:dns-server,[fd00:77::1]", "--dhcp-option=option6:domain-search,lan.example")
	began := time.Now()
	c := begin(t, Config{})
	n := c.wait()
	if took := time.Since(began); took > prompt {
		t.Errorf("took %s", took)
	}
	got := n.Interfaces[0]
	first, last := ip("fd00:77::50"), ip("fd00:77::60")
	if got.Method != MethodDHCPv6 || len(got.Addresses) != 1 || got.Addresses[0].Addr().Less(first) || last.Less(got.Addresses[0].Addr()) {
		t.Errorf("link: %+v", got)
	}
	if !got.Gateway6.IsValid() || !slices.Equal(got.DNS, []netip.Addr{ip(lan6)}) || !slices.Equal(n.Search, []string{"lan.example"}) {
		t.Errorf("link: %+v", got)
	}
	down(t, c)
	if a := addresses6(t, "eth0"); len(a) > 0 {
		t.Errorf("after Down: %v", a)
	}
}

// until6 waits until the first interface's state fulfils a condition.
func (c *client) until6(is func(Link) bool) {
	c.t.Helper()
	var last Link
	if !c.Manager.until(c.t.Context(), time.Now().Add(limit), func() bool {
		if n := c.snapshot(); len(n.Interfaces) > 0 {
			last = n.Interfaces[0]
		}
		return is(last)
	}) {
		c.t.Fatalf("it stays at %+v", last)
	}
}

// TestIPv4FollowsIPv6: IPv6 ends the wait, and a slow IPv4 server is used when it
// answers at last.
func TestIPv4FollowsIPv6(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug6(t)
	var on atomic.Bool
	l.serve(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		if !on.Load() {
			return nil
		}
		return reply(m, 50, dhcpv4.WithDNS(net.IPv4(10, 77, 0, 1), net.IPv4(10, 77, 0, 2), net.IPv4(10, 77, 0, 3)))
	})
	r := l.router()
	r.advertise(raMessage{lifetime: 600, prefix: true, dns: lan6, dnsLifetime: 600})
	c := begin(t, Config{})
	if n := c.wait(); n.Interfaces[0].Method != MethodSLAAC {
		t.Errorf("link: %+v", n.Interfaces[0])
	}
	c.await("eth0", Configured)
	on.Store(true)
	c.await("eth0", Configured)
	got := c.Network().Interfaces[0]
	if got.Method != MethodDHCP || len(got.Addresses) != 2 || !got.Addresses[0].Addr().Is4() || got.Gateway != ip("10.77.0.1") || !got.Gateway6.IsValid() {
		t.Errorf("link: %+v", got)
	}
	if servers := []netip.Addr{ip("10.77.0.1"), ip(lan6), ip("10.77.0.2")}; !slices.Equal(got.DNS, servers) {
		t.Errorf("name servers %v, want both families: %v", got.DNS, servers)
	}
}

// TestRouterLeaves: name servers end with their time, and the router when it says
// so; the interface is then of no use alone.
func TestRouterLeaves(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug6(t)
	r := l.router()
	r.advertise(raMessage{lifetime: 600, prefix: true, dns: lan6, dnsLifetime: 3})
	c := begin(t, Config{FallbackAfter: time.Minute})
	c.wait()
	c.await("eth0", Configured)
	r.advertise(raMessage{lifetime: 600, prefix: true}) // no word of name servers
	c.await("eth0", Lost)
	if n := c.Network(); n.Interfaces[0].Configured() || len(n.DNS) > 0 {
		t.Errorf("a name server outlived its time: %+v", n)
	}
	if resolv, err := os.ReadFile(c.resolv); err != nil || strings.Contains(string(resolv), "nameserver") {
		t.Errorf("resolv.conf %q, %v", resolv, err)
	}
	r.advertise(raMessage{lifetime: 600, prefix: true, dns: lan6, dnsLifetime: 600})
	c.await("eth0", Configured)
	r.advertise(raMessage{lifetime: 0, prefix: true, dns: lan6, dnsLifetime: 600})
	c.await("eth0", Lost)
	if got := c.Network().Interfaces[0]; got.Gateway6.IsValid() || got.Configured() {
		t.Errorf("without a router: %+v", got)
	}
}

// raMessage is a router advertisement for fd00:77::/64 (RFC 4861, section 4.2).
type raMessage struct {
	flags       byte // 0x80 managed, 0x40 other
	lifetime    uint16
	prefix      bool
	dns         string
	dnsLifetime uint32
	more        []byte // options
}

func (m raMessage) bytes() []byte {
	b := []byte{134, 0, 0, 0, 64, m.flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[6:], m.lifetime)
	if m.prefix {
		p := make([]byte, 32)
		copy(p, []byte{3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10})
		addr := prefix6.Addr().As16()
		copy(p[16:], addr[:])
		b = append(b, p...)
	}
	if m.dns != "" {
		d := []byte{25, 3, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(d[4:], m.dnsLifetime)
		addr := ip(m.dns).As16()
		b = append(append(b, d...), addr[:]...)
	}
	return append(b, m.more...)
}

// scriptedRouter answers router solicitations with what was last advertised.
type scriptedRouter struct {
	t    *testing.T
	conn net.PacketConn
	mu   sync.Mutex
	says []byte
	all  *net.IPAddr
}

func (l *lan) router() *scriptedRouter {
	l.t.Helper()
	l.linkLocal6()
	r := &scriptedRouter{t: l.t, all: &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: "srv0"}}
	l.Do(func() {
		conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
		check(l.t, err)
		raw, err := conn.(*net.IPConn).SyscallConn()
		check(l.t, err)
		check(l.t, raw.Control(func(fd uintptr) {
			check(l.t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255))
			index := l.port().Attrs().Index
			check(l.t, unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
				&unix.IPv6Mreq{Multiaddr: [16]byte(net.ParseIP("ff02::2")), Interface: uint32(index)}))
		}))
		r.conn = conn
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, _, err := r.conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if n > 0 && buf[0] == 133 {
				r.send()
			}
		}
	})
	l.t.Cleanup(func() { r.conn.Close(); wg.Wait() })
	return r
}

// advertise says something now, and to whoever asks from now on.
func (r *scriptedRouter) advertise(m raMessage) {
	r.mu.Lock()
	r.says = m.bytes()
	r.mu.Unlock()
	r.send()
}

func (r *scriptedRouter) send() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.conn.WriteTo(r.says, r.all); err != nil {
		r.t.Logf("router: %v", err)
	}
}

// serve6 answers each DHCPv6 message with what answer returns; nil stays silent.
func (l *lan) serve6(answer func(*dhcpv6.Message) *dhcpv6.Message) {
	l.t.Helper()
	l.linkLocal6()
	var conn *net.UDPConn
	l.Do(func() {
		port, err := net.InterfaceByName("srv0")
		check(l.t, err)
		conn, err = net.ListenMulticastUDP("udp6", port, &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: 547, Zone: "srv0"})
		check(l.t, err)
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			m, err := dhcpv6.MessageFromBytes(buf[:n])
			if err != nil {
				l.t.Errorf("the client sent nonsense: %v", err)
				continue
			}
			if r := answer(m); r != nil {
				conn.WriteTo(r.ToBytes(), from)
			}
		}
	})
	l.t.Cleanup(func() { conn.Close(); wg.Wait() })
}

// reply6 builds the usual answer with the address fd00:77::<host>.
func reply6(m *dhcpv6.Message, host byte, t1, t2, valid time.Duration) *dhcpv6.Message {
	r := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: m.TransactionID}
	if m.MessageType == dhcpv6.MessageTypeSolicit {
		r.MessageType = dhcpv6.MessageTypeAdvertise
	}
	r.AddOption(dhcpv6.OptClientID(m.Options.ClientID()))
	r.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}))
	r.AddOption(dhcpv6.OptDNS(net.ParseIP(lan6)))
	if ia := m.Options.OneIANA(); ia != nil && host > 0 {
		address := prefix6.Addr().As16()
		address[15] = host
		given := &dhcpv6.OptIANA{IaId: ia.IaId, T1: t1, T2: t2}
		given.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: address[:], PreferredLifetime: valid, ValidLifetime: valid})
		r.AddOption(given)
	}
	return r
}

// TestDHCPv6Renewal walks a short lease through T1 and T2 and to its end. A
// renewal names the server, a rebinding does not.
func TestDHCPv6Renewal(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug6(t)
	seen := make(chan *dhcpv6.Message, 100)
	var renewed, silent atomic.Bool
	l.serve6(func(m *dhcpv6.Message) *dhcpv6.Message {
		seen <- m
		switch m.MessageType {
		case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest:
			if silent.Load() {
				return nil
			}
			return reply6(m, 0x50, time.Second, 20*time.Second, 30*time.Second)
		case dhcpv6.MessageTypeRenew:
			if renewed.Swap(true) {
				return nil
			}
			silent.Store(true)
			return reply6(m, 0x50, time.Second, 2*time.Second, 4*time.Second)
		}
		return nil
	})
	l.router().advertise(raMessage{flags: 0x80, lifetime: 600})
	c := begin(t, Config{FallbackAfter: time.Minute})
	if n := c.wait(); n.Interfaces[0].Method != MethodDHCPv6 {
		t.Errorf("link: %+v", n.Interfaces[0])
	}
	c.await("eth0", Renewed)
	c.await("eth0", Failed)
	if a := addresses6(t, "eth0"); len(a) > 0 {
		t.Errorf("addresses %v outlived their lease", a)
	}
	if n := c.Network(); n.Interfaces[0].Configured() || len(n.DNS) > 0 {
		t.Errorf("network: %+v", n)
	}
	kinds := map[dhcpv6.MessageType]bool{}
	for len(seen) > 0 {
		m := <-seen
		kinds[m.MessageType] = true
		if server := m.Options.ServerID(); m.MessageType == dhcpv6.MessageTypeRenew && server == nil || m.MessageType == dhcpv6.MessageTypeRebind && server != nil {
			t.Errorf("%s with server %v", m.MessageType, server)
		}
	}
	if !kinds[dhcpv6.MessageTypeRebind] || !kinds[dhcpv6.MessageTypeRenew] {
		t.Errorf("the server saw %v", kinds)
	}
	silent.Store(false)
	c.await("eth0", Configured)
}

// TestDHCPv6Refuses: no address for us, but name servers; the routers give an
// address as well, which is enough.
func TestDHCPv6Refuses(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug6(t)
	l.serve6(func(m *dhcpv6.Message) *dhcpv6.Message {
		r := reply6(m, 0, 0, 0, 0)
		if ia := m.Options.OneIANA(); ia != nil {
			none := &dhcpv6.OptIANA{IaId: ia.IaId}
			none.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
			r.AddOption(none)
		}
		return r
	})
	l.router().advertise(raMessage{flags: 0xc0, lifetime: 600, prefix: true})
	c := begin(t, Config{FallbackAfter: time.Minute})
	n := c.wait()
	if got := n.Interfaces[0]; got.Method != MethodSLAAC || !slices.Equal(got.DNS, []netip.Addr{ip(lan6)}) {
		t.Errorf("link: %+v", got)
	}
	if e := c.await("eth0", Failed); !strings.Contains(e.String(), "no IPv6 address for us") {
		t.Errorf("it said %q", e)
	}
}

// TestDHCPv6Duplicate: another machine has the address that the server gives;
// the server is told, and gives another one.
func TestDHCPv6Duplicate(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	l := plug6(t) // fd00:77::1 is the server's own
	var declined atomic.Bool
	l.serve6(func(m *dhcpv6.Message) *dhcpv6.Message {
		if m.MessageType == dhcpv6.MessageTypeDecline {
			declined.Store(true)
		}
		host := byte(1)
		if declined.Load() {
			host = 0x50
		}
		return reply6(m, host, 0, 0, time.Hour)
	})
	l.router().advertise(raMessage{flags: 0x80, lifetime: 600})
	c := begin(t, Config{FallbackAfter: time.Minute})
	if e := c.await("eth0", Failed); !strings.Contains(e.String(), "another machine") {
		t.Errorf("it said %q", e)
	}
	c.until6(func(l Link) bool {
		return l.Method == MethodDHCPv6 && l.Addresses[0].Addr() == ip("fd00:77::50")
	})
	if !declined.Load() {
		t.Error("the server was not told")
	}
}

func TestPrivateDUID(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	name := func(private bool) string {
		i := &iface{m: New(Config{Private: private}), mac: mac, index: 2}
		x := newExchange6(i)
		if !x.duid.Equal(newExchange6(i).duid) {
			t.Error("one boot, two names")
		}
		return string(x.duid.ToBytes()) + string(x.iaid[:])
	}
	if again := name(false); again != name(false) || !strings.Contains(again, string(mac)) {
		t.Error("the same machine must have the same name")
	}
	if a, b := name(true), name(true); a == b || strings.Contains(a, string(mac[2:])) {
		t.Errorf("private boots have the names %x and %x", a, b)
	}
}
