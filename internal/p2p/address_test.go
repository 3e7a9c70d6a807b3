package p2p

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Addresses that peers name: none is nearer than who named it, and each is of a
// machine's TCP port.
func TestCredible(t *testing.T) {
	here, neighbour, stranger := "127.0.0.1", "192.168.1.2", "198.51.100.1"
	for addr, by := range map[string][]string{ // whom it is believed from
		"/ip4/127.0.0.1/tcp/4001":                   {here},
		"/ip4/127.9.9.9/tcp/4001":                   {here},
		"/ip6/::1/tcp/4001":                         {here},
		"/ip6/::ffff:127.0.0.1/tcp/4001":            {here},
		"/ip4/10.0.0.1/tcp/4001":                    {here, neighbour},
		"/ip4/172.16.0.1/tcp/4001":                  {here, neighbour},
		"/ip4/169.254.1.1/tcp/4001":                 {here, neighbour},
		"/ip6/fd00::1/tcp/4001":                     {here, neighbour},
		"/ip6zone/eth0/ip6/fe80::1/tcp/4001":        {here, neighbour},
		"/ip4/198.51.100.7/tcp/4001":                {here, neighbour, stranger},
		"/ip6/2001:db8::1/tcp/4001":                 {here, neighbour, stranger},
		"/ip4/0.0.0.0/tcp/4001":                     {},
		"/ip6/::/tcp/4001":                          {},
		"/ip4/224.0.0.251/tcp/4001":                 {},
		"/ip6/ff02::1/tcp/4001":                     {},
		"/ip4/255.255.255.255/tcp/4001":             {},
		"/ip4/198.51.100.7/tcp/0":                   {},
		"/ip4/198.51.100.7":                         {},
		"/ip4/198.51.100.7/udp/4001/quic-v1":        {},
		"/ip4/198.51.100.7/tcp/4001/ws":             {},
		"/dns4/example.org/tcp/4001":                {},
		"/dnsaddr/example.org":                      {},
		"/ip4/198.51.100.7/tcp/1/p2p/" + idOf(t, 1): {},
		"/p2p-circuit":                              {},
	} {
		for _, who := range []string{here, neighbour, stranger} {
			want := false
			for _, b := range by {
				want = want || b == who
			}
			if got := credible(ma.StringCast(addr), netip.MustParseAddr(who)); got != want {
				t.Errorf("%s from %s: %t", addr, who, got)
			}
		}
		if credible(ma.StringCast(addr), netip.Addr{}) {
			t.Errorf("%s from nowhere is believed", addr)
		}
	}
}

func TestSharedNetwork(t *testing.T) {
	for name, c := range map[string]struct {
		peers []string
		want  string
	}{
		"nobody":                       {nil, ""},
		"one":                          {[]string{"/ip4/198.51.100.1/tcp/1"}, ""},
		"one operator":                 {[]string{"/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.200/tcp/1", "/ip4/198.51.100.3/tcp/1"}, "198.51.100.0/24"},
		"one IPv6 operator":            {[]string{"/ip6/2001:db8:1::1/tcp/1", "/ip6/2001:db8:1:2::1/tcp/1"}, "2001:db8:1::/48"},
		"two operators":                {[]string{"/ip4/198.51.100.1/tcp/1", "/ip4/198.51.101.1/tcp/1", "/ip4/198.51.100.3/tcp/1"}, ""},
		"a local network is just that": {[]string{"/ip4/192.168.1.1/tcp/1", "/ip4/192.168.1.2/tcp/1"}, ""},
		"one is a neighbour":           {[]string{"/ip4/192.168.1.1/tcp/1", "/ip4/198.51.100.2/tcp/1"}, ""},
	} {
		peers := map[peer.ID][]ma.Multiaddr{}
		for i, a := range c.peers {
			peers[mustID(t, byte(i+1))] = []ma.Multiaddr{ma.StringCast(a)}
		}
		got, shared := sharedNetwork(peers)
		if shared != (c.want != "") || shared && got.String() != c.want {
			t.Errorf("%s: %v, %t", name, got, shared)
		}
	}
}

// The operator is told, once, that all peers depend on one network.
func TestJudge(t *testing.T) {
	var out bytes.Buffer
	n := start(t, Config{Log: slog.New(slog.NewTextHandler(&out, nil))})
	peers := map[peer.ID][]ma.Multiaddr{
		mustID(t, 1): {ma.StringCast("/ip4/198.51.100.1/tcp/1")}, mustID(t, 2): {ma.StringCast("/ip4/198.51.100.2/tcp/1")},
	}
	n.judge(nil)
	if out.Len() != 0 {
		t.Errorf("without peers: %s", &out)
	}
	for range 2 {
		n.judge(peers)
	}
	if text := out.String(); strings.Count(text, "198.51.100.0/24") != 1 || strings.Count(text, "few bootstrap peers") != 1 {
		t.Errorf("log says %s", text)
	}
}

// A crowd in one network counts little: behind it, peers elsewhere are asked.
func TestCrowdInOneNetwork(t *testing.T) {
	l := &lookup{}
	for i := range 60 { // nearest first
		c := &contact{network: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i), 0}), 24)}
		if i < 30 {
			c.network = netip.MustParsePrefix("203.0.113.0/24")
		}
		l.contacts = append(l.contacts, c)
	}
	asked := 0
	for c := l.next(); c != nil; c = l.next() {
		c.state = answered
		asked++
	}
	if want := 30 + closest - perNetwork; asked != want {
		t.Errorf("asked %d, want %d", asked, want)
	}
	for _, c := range l.contacts { // neighbours count all
		c.network, c.state = netip.Prefix{}, fresh
	}
	asked = 0
	for c := l.next(); c != nil; c = l.next() {
		c.state = answered
		asked++
	}
	if asked != closest {
		t.Errorf("asked %d neighbours", asked)
	}
}
