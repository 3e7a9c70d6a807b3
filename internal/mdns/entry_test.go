package mdns

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/zeroconf/v2"

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

func TestBases(t *testing.T) {
	for name, tt := range map[string]struct {
		addrs []string
		port  int
		want  []string
	}{
		"both":         {[]string{"192.168.1.5", "fd00::5"}, 8080, []string{"http://192.168.1.5:8080", "http://[fd00::5]:8080"}},
		"link-local 4": {[]string{"169.254.7.8"}, 80, []string{"http://169.254.7.8:80"}},
		"mapped":       {[]string{"::ffff:10.0.0.1"}, 80, []string{"http://10.0.0.1:80"}},
		"loopback":     {[]string{"127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"}, 80, nil},
		"unspecified":  {[]string{"0.0.0.0", "::", "0.1.2.3"}, 80, nil},
		"multicast":    {[]string{"224.0.0.251", "239.1.1.1", "ff02::fb"}, 80, nil},
		"broadcast":    {[]string{"255.255.255.255", "240.0.0.1"}, 80, nil},
		"link-local 6": {[]string{"fe80::1"}, 80, nil},
		"port 0":       {[]string{"192.168.1.5"}, 0, nil},
		"port beyond":  {[]string{"192.168.1.5"}, 65536, nil},
		"many": {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"}, 1,
			[]string{"http://10.0.0.1:1", "http://10.0.0.2:1", "http://10.0.0.3:1", "http://10.0.0.4:1"}},
		"none": {nil, 80, nil},
	} {
		e := &zeroconf.ServiceEntry{Port: tt.port}
		for _, a := range tt.addrs {
			e.AddrIPv6 = append(e.AddrIPv6, net.ParseIP(a)) // the family is the announcer's claim
		}
		got := bases(e)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
		for _, b := range got {
			if err := discover.CheckBase(b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got := bases(&zeroconf.ServiceEntry{Port: 80, AddrIPv4: []net.IP{nil, {1, 2}, {}}}); got != nil {
		t.Errorf("malformed addresses: %v", got)
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
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2J\n\u202e"); got != "a?[2J??" {
		t.Errorf("%q", got)
	}
	if got := printable(strings.Repeat("é", 100)); len(got) > 63 {
		t.Errorf("%d bytes", len(got))
	}
}
