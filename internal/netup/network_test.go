package netup

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// namesLittle reports whether a network may have told this much: what it says is
// bounded, and fit to be written and shown.
func namesLittle(dns, ntp []netip.Addr, search []string, portal string) bool {
	for _, d := range search {
		if len(d) > maxDomain || !isDomain(d) {
			return false
		}
	}
	return len(dns) <= maxDNS && len(ntp) <= maxNTP && len(search) <= maxSearch && parsePortal([]byte(portal)) == portal
}

func TestResolvConf(t *testing.T) {
	links := []Link{
		{DNS: []netip.Addr{ip("10.0.0.9"), ip("10.0.0.1")}},
		{Gateway: ip("10.0.0.1"), DNS: []netip.Addr{ip("10.0.0.1"), ip("fd00::1"), ip("10.0.0.2")}},
	}
	servers := mergeDNS(links)
	if want := []netip.Addr{ip("10.0.0.1"), ip("fd00::1"), ip("10.0.0.2")}; !reflect.DeepEqual(servers, want) {
		t.Errorf("merged to %v, want %v", servers, want)
	}
	links = append(links, Link{Gateway6: ip("fe80::1"), DNS: []netip.Addr{ip("fd00::2"), ip("fd00::3")}})
	if got, want := mergeDNS(links), []netip.Addr{ip("10.0.0.1"), ip("fd00::2"), ip("fd00::1")}; !reflect.DeepEqual(got, want) {
		t.Errorf("merged to %v, want %v", got, want)
	}
	path := filepath.Join(t.TempDir(), "resolv.conf")
	for _, s := range [][]netip.Addr{servers, servers[:1]} {
		if err := writeResolvConf(path, resolver{servers: s}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || strings.Count(string(got), "nameserver ") != len(s) || !strings.HasPrefix(string(got), "nameserver 10.0.0.1\n") {
			t.Errorf("wrote %q, %v", got, err)
		}
	}
	if err := writeResolvConf(filepath.Join(path, "x"), resolver{servers: servers}); err == nil {
		t.Error("writing below a file succeeded")
	}
}

func TestMergeNTP(t *testing.T) {
	links := []Link{
		{NTP: []netip.Addr{ip("10.0.0.9"), ip("10.0.0.1"), ip("10.0.0.8")}},
		{Gateway: ip("10.0.0.1"), NTP: []netip.Addr{ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.1")}},
	}
	if got, want := mergeNTP(links), []netip.Addr{ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.9"), ip("10.0.0.8")}; !reflect.DeepEqual(got, want) {
		t.Errorf("merged to %v, want %v", got, want)
	}
}

func TestMergePortal(t *testing.T) {
	links := []Link{{Portal: "http://a/"}, {Gateway: ip("10.0.0.1")}, {Gateway: ip("10.0.0.1"), Portal: "http://b/"}}
	if got := mergePortal(links); got != "http://b/" {
		t.Errorf("portal %q", got)
	}
	if got := mergePortal(links[:2]); got != "http://a/" {
		t.Errorf("portal %q", got)
	}
	if got := mergePortal(nil); got != "" {
		t.Errorf("portal %q", got)
	}
}

func TestIsWireless(t *testing.T) {
	sys := fstest.MapFS{
		"class/net/wlan0/phy80211/index": {}, "class/net/eth0/device/vendor": {},
	}
	for name, want := range map[string]bool{"wlan0": true, "eth0": false, "../net/wlan0": true, "": false, "/": false} {
		if got := isWireless(sys, name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestExceptionsMatch(t *testing.T) {
	for _, c := range []struct {
		i    Interface
		want bool
	}{
		{Interface{}, false},
		{Interface{Name: "eth0"}, true},
		{Interface{Name: "eth1"}, false},
		{Interface{MAC: "02:00:00:00:00:01"}, true},
		{Interface{MAC: "02:00:00:00:00:02"}, false},
		{Interface{Name: "eth0", MAC: "02:00:00:00:00:02"}, false},
	} {
		if got := c.i.matches("eth0", "02:00:00:00:00:01"); got != c.want {
			t.Errorf("%+v: %v", c.i, got)
		}
	}
}

func TestErrorsSpeak(t *testing.T) {
	cause := errors.New("cause")
	seen := map[string]bool{}
	for _, r := range []Reason{NoInterface, NoCable, NoDHCP, RefusedByDHCP, NotConfigured, NoSocket, SwitchedOff, KeptMAC} {
		e := &Error{Reason: r, Waited: time.Minute, Tried: []Try{{Interface: "eth0", Step: "DHCP", Attempts: 7, Took: time.Minute, Err: cause}}}
		text := e.Error() + e.Hint()
		if seen[text] || e.Hint() == "" || !strings.Contains(e.Error(), "eth0: DHCP, 7 tries in 1m0s: cause") || !errors.Is(e, cause) {
			t.Errorf("reason %d: %q, %q", r, e, e.Hint())
		}
		if want := fmt.Sprintf("NET-%03d", int(r)); e.Code() != want {
			t.Errorf("code %q, want %q", e.Code(), want)
		}
		seen[text] = true
	}
	for want, tried := range map[string][]Try{
		"no Wi-Fi network was joined; ": {{Interface: "wlan0", Wireless: true}},
		"no cable is plugged in":        {{Interface: "wlan0", Wireless: true}, {Interface: "eth0"}},
	} {
		if e := (&Error{Reason: NoCable, Tried: tried}); !strings.HasPrefix(e.Error(), want) || strings.Contains(want, "Wi-Fi") != strings.HasPrefix(e.Hint(), "Join a Wi-Fi") {
			t.Errorf("%q, %q", e, e.Hint())
		}
	}
}

func TestEventsSpeak(t *testing.T) {
	l := Link{Method: MethodStatic, Carrier: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}, Gateway: ip("10.0.0.1"), DNS: []netip.Addr{ip("10.0.0.2")}}
	for _, c := range []struct {
		e    Event
		want string
	}{
		{Event{Interface: "eth0", State: Configured, Link: l, Took: 34 * time.Millisecond}, "eth0: 10.0.0.5/24 (static), gateway 10.0.0.1, DNS 10.0.0.2, 34ms"},
		{Event{Interface: "eth0", State: NoCarrier}, "eth0: no link (is the cable plugged in?)"},
		{Event{Interface: "wlan0", State: NoCarrier, Link: Link{Wireless: true}}, "wlan0: no Wi-Fi network joined"},
		{Event{Interface: "wlan0", State: Waiting, Link: Link{Wireless: true}, Left: 57 * time.Second}, "wlan0: no Wi-Fi network joined; 57s left"},
		{Event{Interface: "eth0", State: Waiting, Err: errKeptMAC, Left: 57 * time.Second}, "eth0: not used: " + errKeptMAC.Error() + "; 57s left"},
		{Event{Interface: "eth0", State: Asking, Attempt: 3}, "eth0: asking for an address (DHCP, try 3)"},
		{Event{Interface: "eth0", State: Failed, Err: errors.New("x")}, "eth0: x"},
		{Event{State: Failed, Err: errors.New("x")}, "network: x"},
		{Event{Interface: "eth0", State: Found, Link: Link{VLAN: 42}}, "eth0: made for VLAN 42"},
		{Event{Interface: "eth0", State: Waiting, Left: 57 * time.Second}, "eth0: no link (is the cable plugged in?); 57s left"},
		{Event{Interface: "eth0", State: Waiting, Link: Link{Carrier: true}, Attempt: 3, Took: 3 * time.Second, Left: 57 * time.Second, Err: errors.New("no answer")},
			"eth0: link for 3s, no address; DHCP asked 3 times, no IPv6 router: no answer; 57s left"},
		{Event{Interface: "eth0", State: Waiting, Link: Link{Carrier: true, Gateway6: ip("fe80::1")}, Attempt: 3, Took: 3 * time.Second, Left: 57 * time.Second},
			"eth0: link for 3s, no address; DHCP asked 3 times, IPv6 router fe80::1; 57s left"},
		{Event{Interface: "eth0", State: Waiting, Link: l, Took: time.Second, Left: time.Second},
			"eth0: 10.0.0.5/24 (static), gateway 10.0.0.1, DNS 10.0.0.2, 1s; waiting for more; 1s left"},
	} {
		if got := c.e.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	seen := map[string]bool{}
	for s := Found; s <= Gone; s++ {
		text := Event{Interface: "e", State: s, Err: errors.New("why"), Attempt: 1}.String()
		if seen[text] && s != Renewed {
			t.Errorf("state %d says the same as another: %q", s, text)
		}
		seen[text] = true
	}
}

func TestBackoff(t *testing.T) {
	for try := 1; try < 100; try++ {
		want := min(firstWait<<min(try-1, 10), longWait)
		for range 20 {
			if d := backoff(try); d < want*7/8 || d > want*9/8 {
				t.Fatalf("try %d waits %s, want about %s", try, d, want)
			}
		}
	}
}

func TestNextRenewal(t *testing.T) {
	now := time.Now()
	for left, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: time.Second, 90 * time.Second: time.Minute, time.Hour: 30 * time.Minute, -time.Second: -time.Second,
	} {
		if got := nextRenewal(now, now.Add(left)).Sub(now); got != want {
			t.Errorf("with %s left: in %s, want %s", left, got, want)
		}
	}
}
