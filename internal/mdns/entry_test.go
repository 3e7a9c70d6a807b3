package mdns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/discover"
)

var stable = discover.Query{Channel: "stable", Arch: "x86_64"}

func TestOffers(t *testing.T) {
	for _, tt := range []struct {
		text []string
		want bool
	}{
		{[]string{"channel=stable", "arch=x86_64", "version=3"}, true},
		{[]string{"version=3", "ARCH=x86_64", "Channel=stable"}, true},
		{[]string{"channel=stable", "arch=x86_64", "channel=testing"}, true},
		{[]string{"channel=testing", "arch=x86_64", "channel=stable"}, false},
		{[]string{"channel=stable", "arch=arm64"}, false},
		{[]string{"channel=stable", "arch=amd64"}, false},
		{[]string{"channel=Stable", "arch=x86_64"}, false},
		{[]string{"channel=stable"}, false},
		{[]string{"channel", "arch"}, false},
		{[]string{"=", "", "\xff=\x00"}, false},
		{nil, false},
	} {
		if got := offers(tt.text, stable); got != tt.want {
			t.Errorf("%q: %v", tt.text, got)
		}
	}
}

var eth0 = link{index: 2, device: "eth0", addrs: []netip.Prefix{
	netip.MustParsePrefix("192.168.1.9/24"), netip.MustParsePrefix("fd00::9/64"),
	netip.MustParsePrefix("2001:db8:7::9/128"), netip.MustParsePrefix("fe80::9/64"),
}}

func TestNear(t *testing.T) {
	for addr, want := range map[string]bool{
		"192.168.1.5": true, "fd00::5": true, "fe80::1": true, "fe80::1%eth0": true, "2001:db8:7::5": true, "192.168.1.9": true,
		"192.168.2.5": false, "8.8.8.8": false, "169.254.7.8": false, "fd00:1::5": false, "2001:db8:8::5": false,
		"127.0.0.1": false, "127.8.8.8": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:192.168.1.5": false,
		"0.0.0.0": false, "::": false, "0.1.2.3": false, "224.0.0.251": false, "ff02::fb": false, "255.255.255.255": false, "240.0.0.1": false,
	} {
		if got := eth0.near(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if eth0.near(netip.Addr{}) {
		t.Error("no address is near")
	}
}

func TestBases(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, a := range list {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for name, tt := range map[string]struct {
		addrs []netip.Addr
		port  uint16
		want  []string
	}{
		"both":         {addrs("192.168.1.5", "fd00::5"), 8080, []string{"http://192.168.1.5:8080", "http://[fd00::5]:8080"}},
		"link-local 6": {addrs("fe80::1%eth0"), 80, []string{"http://[fe80::1%25eth0]:80"}},
		"port 0":       {addrs("192.168.1.5"), 0, nil},
		"many": {addrs("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"), 1,
			[]string{"http://10.0.0.1:1", "http://10.0.0.2:1", "http://10.0.0.3:1", "http://10.0.0.4:1"}},
		"none": {nil, 80, nil},
	} {
		got := announced{addrs: tt.addrs, port: tt.port}.bases()
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
		for _, b := range got {
			if err := discover.CheckBase(b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

const peerID = "12D3KooWQf5CEkyKBeJzT9gJtbkRCqhWVjLuPPVWEWUkLvXTMqEn"

func TestPeers(t *testing.T) {
	for in, want := range map[string]string{
		"/ip4/192.168.1.5/tcp/4001/p2p/" + peerID:                  "/ip4/192.168.1.5/tcp/4001/p2p/" + peerID,
		"/ip6/fd00::5/tcp/1/p2p/" + peerID:                         "/ip6/fd00::5/tcp/1/p2p/" + peerID,
		"/ip6/fe80::5/tcp/4001/p2p/" + peerID:                      "/ip6zone/eth0/ip6/fe80::5/tcp/4001/p2p/" + peerID,
		"/ip6zone/wlp3s0/ip6/fe80::5/tcp/4001/p2p/" + peerID:       "/ip6zone/eth0/ip6/fe80::5/tcp/4001/p2p/" + peerID,
		"/ip4/8.8.8.8/tcp/4001/p2p/" + peerID:                      "", // the world
		"/ip4/192.168.2.5/tcp/4001/p2p/" + peerID:                  "", // not our link
		"/ip4/127.0.0.1/tcp/4001/p2p/" + peerID:                    "",
		"/ip4/0.0.0.0/tcp/4001/p2p/" + peerID:                      "",
		"/ip4/192.168.1.5/tcp/0/p2p/" + peerID:                     "",
		"/ip4/192.168.1.5/tcp/65536/p2p/" + peerID:                 "",
		"/ip4/192.168.1.5/tcp/04001/p2p/" + peerID:                 "",
		"/ip4/192.168.1.5/tcp/+1/p2p/" + peerID:                    "",
		"/ip4/192.168.1.5/udp/4001/p2p/" + peerID:                  "",
		"/ip4/192.168.1.5/udp/4001/quic-v1/p2p/" + peerID:          "",
		"/ip4/192.168.1.5/tcp/4001/p2p/Qm":                         "",
		"/ip4/192.168.1.5/tcp/4001/p2p/" + peerID[1:] + "\x1b":     "",
		"/ip4/192.168.1.5/tcp/4001/p2p/" + peerID + "/p2p-circuit": "",
		"/dns4/evil.example/tcp/4001/p2p/" + peerID:                "",
		"/ip4/fd00::5/tcp/4001/p2p/" + peerID:                      "",
		"/ip6/192.168.1.5/tcp/4001/p2p/" + peerID:                  "",
		"/ip6/fe80::5%eth1/tcp/4001/p2p/" + peerID:                 "",
		"/ip6/::ffff:192.168.1.5/tcp/4001/p2p/" + peerID:           "",
		"/ip4/192.168.1.5/tcp/4001":                                "",
		"x/ip4/192.168.1.5/tcp/4001/p2p/" + peerID:                 "",
		"/ip6zone": "", "/": "", "": "",
		"/ip4/192.168.1.5/tcp/4001/p2p/" + strings.Repeat("1", 300): "",
	} {
		got := strings.Join(announced{link: eth0, text: []string{"p2p=" + in}}.peers(), " ")
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	var text []string
	for _, key := range []string{"P2P", "p2p2", "p2p3", "p2p4", "p2p5", "p2p"} {
		text = append(text, key+"=/ip4/192.168.1.5/tcp/"+strconv.Itoa(1+len(text))+"/p2p/"+peerID)
	}
	if got := (announced{link: eth0, text: text}).peers(); len(got) != maxPeers || !strings.Contains(got[0], "/tcp/1/") {
		t.Errorf("of six: %q", got)
	}
}

// What a link is told about the DHT node is what can be reached on that link.
func TestAnnouncedPeers(t *testing.T) {
	a := Announcement{Host: "box", Query: stable, Port: 1, P2P: []string{
		"/ip4/127.0.0.1/tcp/4001/p2p/" + peerID, "/ip4/192.168.1.9/tcp/4001/p2p/" + peerID, "/ip4/10.1.1.1/tcp/4001/p2p/" + peerID,
		"/ip4/192.168.1.9/udp/4001/quic-v1/p2p/" + peerID, "/ip6zone/eth0/ip6/fe80::9/tcp/4001/p2p/" + peerID, "junk",
	}}
	got := a.text(eth0)[4:]
	want := []string{"p2p=/ip4/192.168.1.9/tcp/4001/p2p/" + peerID, "p2p2=/ip6/fe80::9/tcp/4001/p2p/" + peerID}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	for range 20 {
		a.P2P = append(a.P2P, a.P2P[1])
	}
	if got := a.text(eth0); len(got) != 4+maxPeers || checkText(got) != nil {
		t.Errorf("%q", got)
	}
}

func TestAnnounceRefuses(t *testing.T) {
	good := Announcement{Host: "box", Query: stable, Port: 8080, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.9")}}
	for name, spoil := range map[string]func(*Announcement){
		"channel":       func(a *Announcement) { a.Query.Channel = "a b" },
		"port":          func(a *Announcement) { a.Port = 0 },
		"port beyond":   func(a *Announcement) { a.Port = 1 << 16 },
		"no host":       func(a *Announcement) { a.Host = "…" },
		"long manifest": func(a *Announcement) { a.Manifest = "/" + strings.Repeat("x", 255) },
		"loopback":      func(a *Announcement) { a.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")} },
		"wildcard":      func(a *Announcement) { a.Addrs = []netip.Addr{netip.IPv4Unspecified()} },
		"multicast":     func(a *Announcement) { a.Addrs = []netip.Addr{netip.MustParseAddr("224.0.0.251")} },
	} {
		a := good
		spoil(&a)
		if announcer, err := Announce(a); err == nil {
			announcer.Close()
			t.Errorf("%s: announced", name)
		}
	}
}

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{
		"box": "box", "Box.example.org": "box", "a_b c": "abc", "-x-": "x", "": "", "ü": "",
		strings.Repeat("a", 70): strings.Repeat("a", 63),
	} {
		if got := label(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for n, want := range map[int]string{1: strings.Repeat("a", 63), 2: strings.Repeat("a", 61) + "-2", 100: strings.Repeat("a", 59) + "-100"} {
		if got := numbered(strings.Repeat("a", 63), n); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2J\n\u202e"); got != "a?[2J??" {
		t.Errorf("%q", got)
	}
	if got := printable(strings.Repeat("é", 100)); len(got) > 63 {
		t.Errorf("%d bytes", len(got))
	}
}
