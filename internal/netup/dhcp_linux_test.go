package netup

import (
	"bytes"
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// ack builds an acknowledgement and sends it through the wire format.
func ack(t testing.TB, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	base := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck),
		dhcpv4.WithYourIP(net.IPv4(10, 0, 2, 15)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 2))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithLeaseTime(3600),
	}
	m, err := dhcpv4.New(append(base, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	m.OpCode = dhcpv4.OpcodeBootReply
	parsed, err := dhcpv4.FromBytes(m.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func generic(code dhcpv4.OptionCode, value ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(code, value)
}

func plain() lease {
	return lease{
		address: netip.MustParsePrefix("10.0.2.15/24"), server: ip("10.0.2.2"),
		length: time.Hour, t1: 30 * time.Minute, t2: 52*time.Minute + 30*time.Second,
	}
}

func TestParseLease(t *testing.T) {
	router := dhcpv4.WithOption(dhcpv4.OptRouter(net.IPv4(10, 0, 2, 2), net.IPv4(10, 0, 2, 3)))
	for name, c := range map[string]struct {
		mods []dhcpv4.Modifier
		set  func(*lease)
	}{
		"plain":          {nil, func(l *lease) {}},
		"router":         {[]dhcpv4.Modifier{router}, func(l *lease) { l.gateway = ip("10.0.2.2") }},
		"useless router": {[]dhcpv4.Modifier{generic(dhcpv4.OptionRouter, 127, 0, 0, 1)}, func(l *lease) {}},
		"short router":   {[]dhcpv4.Modifier{generic(dhcpv4.OptionRouter, 10, 0, 2)}, func(l *lease) {}},
		"dns, the useless ones dropped": {[]dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptDNS(net.IPv4zero, net.IPv4(127, 0, 0, 53), net.IPv4(1, 1, 1, 1), net.IPv4bcast, net.IPv4(10, 0, 2, 3), net.IPv4(9, 9, 9, 9), net.IPv4(8, 8, 8, 8)))},
			func(l *lease) { l.dns = []netip.Addr{ip("1.1.1.1"), ip("10.0.2.3"), ip("9.9.9.9")} }},
		"time servers, the useless ones dropped": {[]dhcpv4.Modifier{generic(dhcpv4.OptionNTPServers, 0, 0, 0, 0, 127, 0, 0, 1, 10, 0, 2, 4, 224, 0, 1, 1, 10, 0, 2, 5, 10, 0, 2, 6, 9, 9, 9, 9, 8, 8, 8, 8)},
			func(l *lease) { l.ntp = []netip.Addr{ip("10.0.2.4"), ip("10.0.2.5"), ip("10.0.2.6"), ip("9.9.9.9")} }},
		"time servers of five bytes": {[]dhcpv4.Modifier{generic(dhcpv4.OptionNTPServers, 10, 0, 2, 4, 10)}, func(l *lease) {}},
		"mtu":                        {[]dhcpv4.Modifier{generic(dhcpv4.OptionInterfaceMTU, 0x05, 0x78)}, func(l *lease) { l.mtu = 1400 }},
		"mtu too small for IPv6":     {[]dhcpv4.Modifier{generic(dhcpv4.OptionInterfaceMTU, 0x04, 0xff)}, func(l *lease) {}},
		"smallest mtu":               {[]dhcpv4.Modifier{generic(dhcpv4.OptionInterfaceMTU, 0x05, 0x00)}, func(l *lease) { l.mtu = 1280 }},
		"tiny mtu":                   {[]dhcpv4.Modifier{generic(dhcpv4.OptionInterfaceMTU, 0, 68)}, func(l *lease) {}},
		"huge mtu":                   {[]dhcpv4.Modifier{generic(dhcpv4.OptionInterfaceMTU, 0xff, 0xff)}, func(l *lease) {}},
		"mtu of a byte":              {[]dhcpv4.Modifier{generic(dhcpv4.OptionInterfaceMTU, 5)}, func(l *lease) {}},
		"host address":               {[]dhcpv4.Modifier{dhcpv4.WithNetmask(net.CIDRMask(32, 32)), router}, func(l *lease) { l.address = netip.MustParsePrefix("10.0.2.15/32"); l.gateway = ip("10.0.2.2") }},
		"no mask":                    {[]dhcpv4.Modifier{dhcpv4.WithoutOption(dhcpv4.OptionSubnetMask)}, func(l *lease) { l.address = netip.MustParsePrefix("10.0.2.15/8") }},
		"for ever":                   {[]dhcpv4.Modifier{dhcpv4.WithLeaseTime(infinite)}, func(l *lease) { l.length, l.t1, l.t2 = 0, 0, 0 }},
		"zero lease":                 {[]dhcpv4.Modifier{dhcpv4.WithLeaseTime(0)}, func(l *lease) { l.length, l.t1, l.t2 = 2*time.Second, time.Second, 1750*time.Millisecond }},
		"no lease time":              {[]dhcpv4.Modifier{dhcpv4.WithoutOption(dhcpv4.OptionIPAddressLeaseTime)}, func(l *lease) {}},
		"own times":                  {[]dhcpv4.Modifier{generic(dhcpv4.OptionRenewTimeValue, 0, 0, 0, 10), generic(dhcpv4.OptionRebindingTimeValue, 0, 0, 0, 20)}, func(l *lease) { l.t1, l.t2 = 10*time.Second, 20*time.Second }},
		"times reversed":             {[]dhcpv4.Modifier{generic(dhcpv4.OptionRenewTimeValue, 0, 0, 255, 10), generic(dhcpv4.OptionRebindingTimeValue, 0, 0, 255, 0)}, func(l *lease) {}},
		"classless routes hide the router": {[]dhcpv4.Modifier{router, generic(dhcpv4.OptionClasslessStaticRoute,
			16, 172, 16, 10, 0, 2, 9, // 172.16/16 via 10.0.2.9
			24, 192, 168, 7, 0, 0, 0, 0, // 192.168.7/24 on the link
			8, 127, 10, 0, 2, 9, // loopback: dropped
			4, 224, 10, 0, 2, 9, // multicast: dropped
			24, 10, 9, 9, 255, 255, 255, 255, // via nobody: dropped
			0, 10, 0, 2, 8)}, // default
			func(l *lease) {
				l.gateway = ip("10.0.2.8")
				l.routes = []route{{netip.MustParsePrefix("172.16.0.0/16"), ip("10.0.2.9")}, {dst: netip.MustParsePrefix("192.168.7.0/24")}}
			}},
		"domain, and domains to search": {[]dhcpv4.Modifier{generic(dhcpv4.OptionDomainName, []byte("Own.Example\x00")...), generic(dhcpv4.OptionDNSDomainSearchList, []byte("\x03lan\x07example\x00\x03lab\xc0\x04")...)},
			func(l *lease) { l.search = []string{"lan.example", "lab.example", "own.example"} }},
		"domains with tricks":        {[]dhcpv4.Modifier{generic(dhcpv4.OptionDomainName, []byte("own.example evil\nnameserver 10.0.0.66")...), generic(dhcpv4.OptionDNSDomainSearchList, []byte("\xc0\x00")...)}, func(l *lease) {}},
		"portal":                     {[]dhcpv4.Modifier{generic(dhcpv4.OptionURL, []byte("https://portal.example/api")...)}, func(l *lease) { l.portal = "https://portal.example/api" }},
		"no portal":                  {[]dhcpv4.Modifier{generic(dhcpv4.OptionURL, []byte("urn:ietf:params:capport:unrestricted")...)}, func(l *lease) {}},
		"malformed classless routes": {[]dhcpv4.Modifier{router, generic(dhcpv4.OptionClasslessStaticRoute, 33, 1, 2, 3, 4)}, func(l *lease) {}},
	} {
		t.Run(name, func(t *testing.T) {
			want := plain()
			c.set(&want)
			got, err := parseLease(ack(t, c.mods...))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

func TestParseLeaseBoundsRoutes(t *testing.T) {
	var raw []byte
	for n := range 60 {
		raw = append(raw, 24, 192, 168, byte(n), 10, 0, 2, 9)
	}
	got, err := parseLease(ack(t, generic(dhcpv4.OptionClasslessStaticRoute, raw...)))
	if err != nil || len(got.routes) != maxRoutes {
		t.Errorf("%d routes, %v; want %d", len(got.routes), err, maxRoutes)
	}
}

func TestParseLeaseRefuses(t *testing.T) {
	for name, mod := range map[string]dhcpv4.Modifier{
		"no address":        dhcpv4.WithYourIP(net.IPv4zero),
		"loopback":          dhcpv4.WithYourIP(net.IPv4(127, 0, 0, 1)),
		"multicast":         dhcpv4.WithYourIP(net.IPv4(224, 0, 0, 1)),
		"broadcast":         dhcpv4.WithYourIP(net.IPv4bcast),
		"0.x":               dhcpv4.WithYourIP(net.IPv4(0, 1, 2, 3)),
		"empty mask":        dhcpv4.WithNetmask(net.IPMask{0, 0, 0, 0}),
		"mask with holes":   dhcpv4.WithNetmask(net.IPMask{255, 0, 255, 0}),
		"mask of two bytes": generic(dhcpv4.OptionSubnetMask, 255, 255),
		"no server":         dhcpv4.WithoutOption(dhcpv4.OptionServerIdentifier),
		"server 0":          dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4zero)),
	} {
		if l, err := parseLease(ack(t, mod)); err == nil {
			t.Errorf("%s: accepted as %+v", name, l)
		}
	}
}

func TestNAKIsRefused(t *testing.T) {
	for name, m := range map[string]*dhcpv4.DHCPv4{
		"NAK":       ack(t, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak)),
		"senseless": ack(t, dhcpv4.WithYourIP(net.IPv4zero)),
	} {
		if l, err := accept(m, nil); reasonOf(err) != RefusedByDHCP {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

// FuzzLease reads whatever a server may send, and checks that what comes
// out can be configured.
func FuzzLease(f *testing.F) {
	f.Add(ack(f).ToBytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := dhcpv4.FromBytes(raw)
		if err != nil {
			return
		}
		_, _ = isOffer(m), isAnswer(m)
		l, err := parseLease(m)
		if err != nil {
			return
		}
		if !l.address.IsValid() || l.address.Bits() == 0 || !l.address.Addr().Is4() || !l.server.Is4() {
			t.Errorf("address %s from server %s", l.address, l.server)
		}
		if l.length != 0 && !(0 < l.t1 && l.t1 < l.t2 && l.t2 < l.length) {
			t.Errorf("times %s, %s, %s", l.t1, l.t2, l.length)
		}
		if !namesLittle(l.dns, l.ntp, l.search, l.portal) {
			t.Errorf("out of bounds: %+v", l)
		}
		if len(l.routes) > maxRoutes || len(l.dns) > maxDNS || len(l.ntp) > maxNTP || l.mtu != 0 && (l.mtu < minMTU || l.mtu > maxMTU) {
			t.Errorf("out of bounds: %+v", l)
		}
	})
}

func TestARP(t *testing.T) {
	own, other := [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}
	a, b, zero := ip("169.254.1.1"), ip("169.254.1.2"), ip("0.0.0.0")
	for name, c := range map[string]struct {
		p           arpPacket
		uses, wants bool
	}{
		"our probe":         {arpPacket{1, own, zero, a}, false, false},
		"our announcement":  {arpPacket{1, own, a, a}, false, false},
		"another's probe":   {arpPacket{1, other, zero, a}, false, true},
		"another's reply":   {arpPacket{2, other, a, b}, true, true},
		"another's claim":   {arpPacket{1, other, a, a}, true, true},
		"asking for a":      {arpPacket{1, other, b, a}, false, false},
		"a probe of b":      {arpPacket{1, other, zero, b}, false, false},
		"announcement of b": {arpPacket{1, other, b, b}, false, false},
	} {
		frame := c.p.frame()
		got, err := parseARP(append(frame, make([]byte, 18)...)) // padded to 60 bytes
		if err != nil || got != c.p {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if got.uses(a, own) != c.uses || got.wants(a, own) != c.wants {
			t.Errorf("%s: uses %v, wants %v", name, got.uses(a, own), got.wants(a, own))
		}
	}
	good := arpPacket{1, own, zero, a}.frame()
	for name, bad := range map[string][]byte{
		"short": good[:41], "empty": nil, "type": bytes.Replace(good, []byte{8, 6}, []byte{8, 0}, 1),
		"IPv6 in ARP": bytes.Replace(good, []byte{8, 0, 6, 4}, []byte{0x86, 0xdd, 6, 16}, 1),
	} {
		if p, err := parseARP(bad); err == nil {
			t.Errorf("%s: accepted as %+v", name, p)
		}
	}
}

func FuzzARP(f *testing.F) {
	f.Add(arpPacket{1, [6]byte{2}, ip("0.0.0.0"), ip("169.254.1.1")}.frame())
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parseARP(raw)
		if err != nil {
			return
		}
		if again, err := parseARP(p.frame()); err != nil || again != p {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}

func TestLinkLocalCandidates(t *testing.T) {
	first := linkLocalCandidates(macSeed(net.HardwareAddr{2, 0, 0, 0, 0, 1}))
	again := linkLocalCandidates(macSeed(net.HardwareAddr{2, 0, 0, 0, 0, 1}))
	other := linkLocalCandidates(macSeed(net.HardwareAddr{2, 0, 0, 0, 0, 2}))
	same := 0
	for range 1000 {
		a := first()
		if a != again() {
			t.Fatal("one machine, two sequences")
		}
		if a == other() {
			same++
		}
		if a.Compare(ip("169.254.1.0")) < 0 || a.Compare(ip("169.254.254.255")) > 0 {
			t.Fatalf("candidate %s out of range", a)
		}
	}
	if same > 10 {
		t.Errorf("two machines agreed %d times of 1000", same)
	}
}

func TestPrivateSeedIsOfTheBoot(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	seed := func(private bool) uint64 {
		i := &iface{m: New(Config{Private: private}), mac: mac}
		first := i.seed()
		if i.seed() != first {
			t.Error("one boot, two seeds")
		}
		return first
	}
	if again := seed(false); again != macSeed(mac) || again != seed(false) {
		t.Error("the same machine must get the same addresses")
	}
	a, b := seed(true), seed(true)
	if a == b || a == macSeed(mac) {
		t.Errorf("private boots have the seeds %x and %x", a, b)
	}
}
