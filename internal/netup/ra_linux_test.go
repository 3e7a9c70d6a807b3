package netup

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
	"golang.org/x/sys/unix"
)

// option builds a Neighbour Discovery option, padded to eight bytes.
func option(kind byte, lifetime uint32, body ...byte) []byte {
	b := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, body...)
	binary.BigEndian.PutUint32(b[4:], lifetime)
	b = append(b, make([]byte, (8-len(b)%8)%8)...)
	b[1] = byte(len(b) / 8)
	return b
}

// optionOf builds an option that is a text.
func optionOf(kind byte, text string) []byte {
	b := append([]byte{kind, 0}, text...)
	b = append(b, make([]byte, (8-len(b)%8)%8)...)
	b[1] = byte(len(b) / 8)
	return b
}

func bytes6(addrs ...string) (out []byte) {
	for _, a := range addrs {
		b := ip(a).As16()
		out = append(out, b[:]...)
	}
	return out
}

func TestParseRAOptions(t *testing.T) {
	many := bytes6("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4")
	for name, c := range map[string]struct {
		raw  []byte
		want []raOption
	}{
		"none":    {nil, nil},
		"foreign": {option(3, 7, make([]byte, 24)...), nil},
		"servers": {option(ndRDNSS, 600, bytes6("2001:db8::1", "fe80::1")...),
			[]raOption{{servers: []netip.Addr{ip("2001:db8::1"), ip("fe80::1")}, lifetime: 10 * time.Minute}}},
		"withdrawn":    {option(ndRDNSS, 0, bytes6("2001:db8::1")...), []raOption{{servers: []netip.Addr{ip("2001:db8::1")}}}},
		"for ever":     {option(ndRDNSS, infinite, bytes6("2001:db8::1")...), []raOption{{servers: []netip.Addr{ip("2001:db8::1")}, lifetime: forever}}},
		"useless ones": {option(ndRDNSS, 1, bytes6("::", "::1", "ff02::1", "::ffff:1.2.3.4")...), nil},
		"too many":     {option(ndRDNSS, 1, many...), []raOption{{servers: []netip.Addr{ip("2001:db8::1"), ip("2001:db8::2"), ip("2001:db8::3")}, lifetime: time.Second}}},
		"domains": {option(ndDNSSL, 9, []byte("\x03Lan\x07example\x00\x04home\x00")...),
			[]raOption{{search: []string{"lan.example", "home"}, lifetime: 9 * time.Second}}},
		"domains with tricks": {option(ndDNSSL, 9, []byte("\x05a\nb c\x00\x04good\x00\xc0\x08")...), []raOption{{search: []string{"good"}, lifetime: 9 * time.Second}}},
		"domain without end":  {option(ndDNSSL, 9, []byte("\x3fabc")...), nil},
		"portal":              {optionOf(ndPortal, "https://portal.example/api"), []raOption{{portal: "https://portal.example/api"}}},
		"bad portal":          {optionOf(ndPortal, "https://portal.example/a b"), nil},
		"both": {slices.Concat(option(ndRDNSS, 1, bytes6("2001:db8::1")...), option(ndDNSSL, 2, []byte("\x01a\x00")...)),
			[]raOption{{servers: []netip.Addr{ip("2001:db8::1")}, lifetime: time.Second}, {search: []string{"a"}, lifetime: 2 * time.Second}}},
	} {
		got, err := parseRAOptions(c.raw)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
	for name, raw := range map[string][]byte{
		"short": {25}, "zero length": {25, 0, 0, 0, 0, 0, 0, 0}, "beyond the end": {25, 3, 0, 0, 0, 0, 0, 1},
	} {
		if got, err := parseRAOptions(raw); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func FuzzRAOptions(f *testing.F) {
	f.Add(option(ndRDNSS, 600, bytes6("2001:db8::1")...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		options, err := parseRAOptions(raw)
		if err != nil {
			return
		}
		for _, o := range options {
			if len(o.servers) > maxDNS || len(o.search) > maxSearch || o.lifetime < 0 {
				t.Errorf("out of bounds: %+v", o)
			}
			if parsePortal([]byte(o.portal)) != o.portal {
				t.Errorf("portal %q", o.portal)
			}
			for _, s := range o.search {
				if !isDomain(s) || len(s) > maxDomain {
					t.Errorf("domain %q", s)
				}
			}
			for _, s := range o.servers {
				if !hostAddr6(s).IsValid() {
					t.Errorf("server %s", s)
				}
			}
		}
	})
}

// netlinkAttribute builds one attribute, padded.
func netlinkAttribute(kind uint16, body ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(body)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), body...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func TestParseRAMessage(t *testing.T) {
	index := binary.NativeEndian.AppendUint32(nil, 7)
	rdnss := option(ndRDNSS, 1, bytes6("2001:db8::1")...)
	user := slices.Concat([]byte{unix.AF_INET6, 0}, binary.NativeEndian.AppendUint16(nil, uint16(len(rdnss))), index, []byte{134, 0, 0, 0, 0, 0, 0, 0}, rdnss, netlinkAttribute(1, make([]byte, 16)...))
	flags := netlinkAttribute(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, netlinkAttribute(unix.IFLA_INET6_FLAGS, binary.NativeEndian.AppendUint32(nil, 0x80000080)...)...)
	link := slices.Concat([]byte{unix.AF_INET6, 0, 0, 0}, index, make([]byte, 8), netlinkAttribute(unix.IFLA_IFNAME, 'e', 0), flags)
	route := slices.Concat([]byte{unix.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, netlinkAttribute(unix.RTA_OIF, index...))
	if u, ok := parseRAMessage(unix.RTM_NEWNDUSEROPT, user); !ok || u.index != 7 || len(u.options) != 1 {
		t.Errorf("options: %+v, %v", u, ok)
	}
	if u, ok := parseRAMessage(unix.RTM_NEWLINK, link); !ok || u.index != 7 || u.flags == nil || *u.flags != 0x80000080 {
		t.Errorf("flags: %+v, %v", u, ok)
	}
	for _, kind := range []uint16{unix.RTM_NEWROUTE, unix.RTM_DELROUTE} {
		if u, ok := parseRAMessage(kind, route); !ok || u.index != 7 || !u.route {
			t.Errorf("route: %+v, %v", u, ok)
		}
	}
	narrow := slices.Clone(route)
	narrow[1] = 64
	for name, c := range map[string]struct {
		kind uint16
		data []byte
	}{
		"no default route": {unix.RTM_NEWROUTE, narrow}, "another kind": {unix.RTM_NEWADDR, link}, "a link without flags": {unix.RTM_NEWLINK, link[:24]},
		"options beyond the end": {unix.RTM_NEWNDUSEROPT, user[:20]}, "IPv4 link": {unix.RTM_NEWLINK, slices.Concat([]byte{0}, link[1:])},
	} {
		if u, ok := parseRAMessage(c.kind, c.data); ok {
			t.Errorf("%s: accepted as %+v", name, u)
		}
	}
	for _, whole := range [][]byte{user, link, route} { // no cut makes it panic
		for n := range whole {
			for _, kind := range []uint16{unix.RTM_NEWNDUSEROPT, unix.RTM_NEWLINK, unix.RTM_NEWROUTE} {
				parseRAMessage(kind, whole[:n])
			}
		}
	}
}

func TestTimedLists(t *testing.T) {
	now := time.Now()
	var list []timed[string]
	for n := range 5 {
		list = keepTimed(list, fmt.Sprint(n), now, time.Duration(n+1)*time.Second, 3)
	}
	list = keepTimed(list, "1", now, forever, 3)
	list = keepTimed(list, "9", now, 0, 3) // not there
	if got := current(list, now); !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("kept %q", got)
	}
	if next := nextEnd(list, now); !next.Equal(now.Add(time.Second)) {
		t.Errorf("next end in %s", next.Sub(now))
	}
	if got := current(list, now.Add(time.Second)); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("after a second: %q", got)
	}
	if got := current(keepTimed(list, "2", now, 0, 3), now.Add(time.Hour)); !slices.Equal(got, []string{"1"}) {
		t.Errorf("after an hour: %q", got)
	}
	if next := nextEnd(list, now.Add(time.Hour)); !next.IsZero() {
		t.Errorf("for ever ends at %s", next)
	}
}

var iaid = [4]byte{1, 2, 3, 4}

// answer6 builds a DHCPv6 reply and sends it through the wire format.
func answer6(t testing.TB, options ...dhcpv6.Option) *dhcpv6.Message {
	t.Helper()
	m := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: dhcpv6.TransactionID{1, 2, 3}}
	m.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}))
	for _, o := range options {
		m.UpdateOption(o)
	}
	parsed, err := dhcpv6.MessageFromBytes(m.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func association(t1, t2 time.Duration, addresses ...dhcpv6.Option) *dhcpv6.OptIANA {
	ia := &dhcpv6.OptIANA{IaId: iaid, T1: t1, T2: t2}
	for _, a := range addresses {
		ia.Options.Add(a)
	}
	return ia
}

func address(a string, preferred, valid time.Duration) *dhcpv6.OptIAAddress {
	return &dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(a), PreferredLifetime: preferred, ValidLifetime: valid}
}

func TestParseLease6(t *testing.T) {
	hour := address("2001:db8::5", time.Hour, 2*time.Hour)
	taken := leased6{ip("2001:db8::5"), time.Hour, 2 * time.Hour}
	refused := address("2001:db8::6", time.Hour, time.Hour)
	refused.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNotOnLink})
	foreign := association(0, 0, hour)
	foreign.IaId = [4]byte{9}
	for name, c := range map[string]struct {
		option dhcpv6.Option
		set    func(*lease6)
	}{
		"names only": {dhcpv6.OptDNS(net.ParseIP("2001:db8::1"), net.ParseIP("::"), net.ParseIP("ff02::1"), net.ParseIP("2001:db8::1")), func(l *lease6) { l.dns = []netip.Addr{ip("2001:db8::1")} }},
		"domains":    {dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: []string{"Lan.Example", "bad name", "x"}}), func(l *lease6) { l.search = []string{"lan.example", "x"} }},
		"portal":     {&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionCaptivePortal, OptionData: []byte("http://10.0.0.1/login")}, func(l *lease6) { l.portal = "http://10.0.0.1/login" }},
		"bad portal": {&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionCaptivePortal, OptionData: []byte("file:///etc/passwd")}, func(*lease6) {}},
		"address": {association(0, 0, hour), func(l *lease6) {
			l.addresses, l.length, l.t1, l.t2 = []leased6{taken}, 2*time.Hour, 30*time.Minute, 48*time.Minute
		}},
		"own times": {association(time.Minute, 2*time.Minute, hour), func(l *lease6) {
			l.addresses, l.length, l.t1, l.t2 = []leased6{taken}, 2*time.Hour, time.Minute, 2*time.Minute
		}},
		"times reversed": {association(2*time.Minute, time.Minute, hour), func(l *lease6) {
			l.addresses, l.length, l.t1, l.t2 = []leased6{taken}, 2*time.Hour, 37*time.Second+500*time.Millisecond, time.Minute
		}},
		"for ever": {association(0, 0, address("2001:db8::5", infinite*time.Second, infinite*time.Second)), func(l *lease6) {
			l.addresses = []leased6{{ip("2001:db8::5"), forever, forever}}
		}},
		"another's association": {foreign, func(*lease6) {}},
		"refused address":       {association(0, 0, refused), func(*lease6) {}},
		"useless addresses": {association(0, 0, address("fe80::1", 1e9, 1e9), address("::1", 1e9, 1e9), address("ff02::5", 1e9, 1e9), address("::", 1e9, 1e9),
			address("2001:db8::9", 2*time.Second, time.Second), address("2001:db8::9", 0, 0)), func(*lease6) {}},
		"refresh at once":    {dhcpv6.OptInformationRefreshTime(time.Second), func(l *lease6) { l.refresh = minRefresh }},
		"refresh too seldom": {dhcpv6.OptInformationRefreshTime(100 * 24 * time.Hour), func(l *lease6) { l.refresh = defaultRefresh }},
	} {
		t.Run(name, func(t *testing.T) {
			m := answer6(t, c.option)
			want := lease6{server: m.Options.ServerID().ToBytes(), refresh: defaultRefresh}
			c.set(&want)
			got, err := parseLease6(m, iaid)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

func TestParseLease6Refuses(t *testing.T) {
	long := &dhcpv6.DUIDOpaque{Type: 9, Data: []byte(strings.Repeat("x", 200))}
	for name, o := range map[string]dhcpv6.Option{
		"refused":    &dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail},
		"long names": dhcpv6.OptServerID(long),
	} {
		if l, err := parseLease6(answer6(t, o), iaid); err == nil {
			t.Errorf("%s: accepted as %+v", name, l)
		}
	}
	if l, err := parseLease6(&dhcpv6.Message{}, iaid); err == nil {
		t.Errorf("without a server: accepted as %+v", l)
	}
}

// FuzzLease6 reads whatever a server may send, and checks that what comes out
// can be configured.
func FuzzLease6(f *testing.F) {
	f.Add(answer6(f, association(0, 0, address("2001:db8::5", time.Hour, time.Hour))).ToBytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := dhcpv6.MessageFromBytes(raw)
		if err != nil {
			return
		}
		l, err := parseLease6(m, iaid)
		if err != nil {
			return
		}
		if !namesLittle(l.dns, l.ntp, l.search, l.portal) {
			t.Errorf("out of bounds: %+v", l)
		}
		if len(l.addresses) > maxLeased6 || len(l.dns) > maxDNS || len(l.ntp) > maxNTP || len(l.search) > maxSearch || len(l.server) == 0 {
			t.Errorf("out of bounds: %+v", l)
		}
		if l.t1 != 0 && !(0 < l.t1 && l.t1 < l.t2) || l.length < 0 || l.refresh < minRefresh {
			t.Errorf("times %s, %s, %s, %s", l.t1, l.t2, l.length, l.refresh)
		}
		for _, a := range l.addresses {
			if !hostAddr6(a.address).IsValid() || a.valid <= 0 || a.preferred > a.valid {
				t.Errorf("address %+v", a)
			}
		}
	})
}
