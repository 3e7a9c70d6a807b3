package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/wifi"
)

// person is somebody who types all answers at once and then reads the screen.
type person struct {
	forms
	screen *strings.Builder
}

func newPerson(ctx context.Context, mode bootcfg.Mode, typed string) person {
	p := person{screen: &strings.Builder{}}
	console := term.New(term.Config{Out: p.screen, Now: func() time.Duration { return 0 }, ASCII: true})
	keys := make(chan sysinit.Key)
	p.forms = forms{ask: &dialog.Asker{Keys: keys, Console: console}, console: console, mode: mode}
	go func() {
		for i := range len(typed) {
			select {
			case keys <- sysinit.Key{Byte: typed[i]}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return p
}

// seen is the screen, after a look at its form.
func (p person) seen(t *testing.T) string {
	t.Helper()
	for line := range strings.SplitSeq(p.screen.String(), "\n") {
		if width := len(line) - 3*strings.Count(line, "\b \b"); width > term.DefaultWidth {
			t.Errorf("a line of %d columns: %q", width, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r != '\b' && (r < ' ' || r > '~') }) {
			t.Errorf("not plain: %q", line)
		}
	}
	return p.screen.String()
}

func TestProviderForm(t *testing.T) {
	for name, c := range map[string]struct {
		mode  bootcfg.Mode
		typed string
		want  string
		err   error
		says  string
	}{
		"taken":        {bootcfg.Internet, "https://mirror.example/x/\r", "https://mirror.example/x", nil, ""},
		"corrected":    {bootcfg.Internet, "mirror.example\rhttp://mirror.example\r", "http://mirror.example", nil, "Neither http nor https"},
		"local":        {bootcfg.Local, "http://mirror.example\rhttp://10.0.0.5:8080\r", "http://10.0.0.5:8080", nil, "local network"},
		"left":         {bootcfg.Internet, "http://\x1b", "", dialog.ErrLeft, ""},
		"left by idle": {bootcfg.Internet, "http://", "", dialog.ErrLeft, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPerson(t.Context(), c.mode, c.typed)
				got, err := p.provider(t.Context())
				if got != c.want || !errors.Is(err, c.err) || !strings.Contains(p.seen(t), c.says) {
					t.Errorf("%q, %v; want %q, %v and %q in\n%s", got, err, c.want, c.err, c.says, p.screen)
				}
			})
		})
	}
}

func twoCards() []card {
	return []card{
		{Name: "eth0", MAC: "52:54:00:00:00:01", State: "no link"},
		{Name: "eth1", MAC: "52:54:00:00:00:02", State: "10.0.2.15/24 (dhcp)"},
	}
}

func TestNetworkForm(t *testing.T) {
	static := bootcfg.Interface{
		MAC: "52:54:00:00:00:01", Address: netip.MustParsePrefix("192.168.1.10/24"), Gateway: netip.MustParseAddr("192.168.1.1"),
		DNS: []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("192.168.1.2")},
	}
	other := bootcfg.Interface{MAC: "52:54:00:00:00:02", VLAN: 7}
	inVLAN, byName := static, static
	inVLAN.VLAN, inVLAN.DNS = 42, nil
	byName.Name, byName.MAC = "eth0", ""
	for name, c := range map[string]struct {
		now    bootcfg.Network
		random bool
		typed  string
		want   bootcfg.Network
		err    error
		says   string
	}{
		"all by default": {bootcfg.Network{Off: true}, false, "\r\r\r\r", bootcfg.Network{}, nil, "eth1  52:54:00:00:00:02 10.0.2.15/24"},
		"static": {bootcfg.Network{Interfaces: []bootcfg.Interface{other}}, false,
			"1\rs\r192.168.1.10/24\r192.168.1.1\r192.168.1.1, 192.168.1.2\r\r\r",
			bootcfg.Network{Interfaces: []bootcfg.Interface{static, other}}, nil, ""},
		"by name": {bootcfg.Network{}, true, "1\rs\r192.168.1.10/24\r192.168.1.1\r192.168.1.1 192.168.1.2\r\r\r",
			bootcfg.Network{Interfaces: []bootcfg.Interface{byName}}, nil, ""},
		"as it was": {bootcfg.Network{Interfaces: []bootcfg.Interface{static}, Proxy: "http://me:secret@p.example:1"}, false, "1\r\r\r\r\r\r\r",
			bootcfg.Network{Interfaces: []bootcfg.Interface{static}, Proxy: "http://me:secret@p.example:1"}, nil, "[http://***@p.example:1]"},
		"another VLAN, no DNS": {bootcfg.Network{Interfaces: []bootcfg.Interface{static}}, false, "\rs\r\r\r-\r42\r\r",
			bootcfg.Network{Interfaces: []bootcfg.Interface{inVLAN}}, nil, ""},
		"back to DHCP": {bootcfg.Network{Interfaces: []bootcfg.Interface{{Address: static.Address}, other}, Proxy: "http://p.example:1"}, false, "1\rd\r\r-\r",
			bootcfg.Network{Interfaces: []bootcfg.Interface{other}}, nil, ""},
		"left alone": {bootcfg.Network{}, false, "2\ro\r\r",
			bootcfg.Network{Interfaces: []bootcfg.Interface{{MAC: "52:54:00:00:00:02", Off: true}}}, nil, ""},
		"proxy with a password": {bootcfg.Network{}, false, "\r\r\rhttp://p.example:3128/\rmy name\rp@ss:w/rd\r",
			bootcfg.Network{Proxy: "http://my%20name:p%40ss%3Aw%2Frd@p.example:3128"}, nil, "Its password: *********"},
		"proxy without": {bootcfg.Network{}, false, "\r\r\rhttp://p.example:3128\r\r",
			bootcfg.Network{Proxy: "http://p.example:3128"}, nil, ""},
		"everything wrong first": {bootcfg.Network{}, false,
			"3\r0\rx\r1\ry\rs\r\r10.0.0.1\r192.168.1.10/24\rfe80::1\r192.168.1.1\r1 2\r192.168.1.1 192.168.1.2\r4095\rx\r-\rproxy\r-\r",
			bootcfg.Network{Interfaces: []bootcfg.Interface{static}}, nil, "is not a gateway for that address"},
		"left": {bootcfg.Network{Off: true, Interfaces: []bootcfg.Interface{static}}, false, "1\rs\r\x1b",
			bootcfg.Network{Off: true, Interfaces: []bootcfg.Interface{static}}, dialog.ErrLeft, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPerson(t.Context(), bootcfg.Internet, c.typed)
				before := slices.Clone(c.now.Interfaces)
				got, err := p.network(t.Context(), c.now, twoCards(), c.random)
				if !reflect.DeepEqual(got, c.want) || !errors.Is(err, c.err) || !strings.Contains(p.seen(t), c.says) {
					t.Errorf("got  %+v, %v\nwant %+v, %v and %q in\n%s", got, err, c.want, c.err, c.says, p.screen)
				}
				if !reflect.DeepEqual(c.now.Interfaces, before) {
					t.Error("the settings in use were changed")
				}
				if strings.Contains(p.screen.String(), "secret") || strings.Contains(p.screen.String(), "p@ss") {
					t.Error("a password is shown")
				}
			})
		})
	}
}

func TestNetworkFormAsksForNoProxyInLocalMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson(t.Context(), bootcfg.Local, "\r\r\r")
		if _, err := p.network(t.Context(), bootcfg.Network{}, twoCards(), false); err != nil || strings.Contains(p.seen(t), "roxy") {
			t.Errorf("%v\n%s", err, p.screen)
		}
	})
}

func TestNetworkFormWithoutCards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson(t.Context(), bootcfg.Internet, "")
		if _, err := p.network(t.Context(), bootcfg.Network{}, nil, false); !errors.Is(err, dialog.ErrLeft) {
			t.Error(err)
		}
	})
}

func TestReplaceEntryIsBounded(t *testing.T) {
	many := make([]bootcfg.Interface, bootcfg.MaxInterfaces)
	for i := range many {
		many[i] = bootcfg.Interface{Name: "x" + string(rune('a'+i)), VLAN: 3}
	}
	got := replaceEntry(many, twoCards()[0], bootcfg.Interface{Name: "eth0", VLAN: 4})
	if len(got) != bootcfg.MaxInterfaces || got[0].Name != "eth0" || got[1].Name != "xa" {
		t.Errorf("%+v", got)
	}
}

// air is what a radio finds.
type air struct {
	seen    []wifi.AccessPoint
	scans   int
	secrets map[string]string // by name
	joined  []wifi.Network
}

func (a *air) Scan(context.Context) ([]wifi.AccessPoint, error) {
	if a.scans++; a.scans == 1 && len(a.seen) == 0 {
		return nil, &wifi.Error{Reason: wifi.ScanFailed}
	}
	return a.seen, nil
}

func (a *air) Join(_ context.Context, n wifi.Network) error {
	a.joined = append(a.joined, n)
	secret, known := a.secrets[n.SSID]
	switch {
	case !known:
		return &wifi.Error{Reason: wifi.NotFound, SSID: n.SSID}
	case secret != n.Passphrase:
		return &wifi.Error{Reason: wifi.WrongPassphrase, SSID: n.SSID}
	}
	return nil
}

func TestWiFiForm(t *testing.T) {
	around := []wifi.AccessPoint{
		{SSID: "Wald und Wiese", Signal: -48, Security: "WPA2/WPA3"},
		{SSID: "Hotel", Signal: -60, Security: "open"},
		{SSID: "Office", Signal: -70, Security: "unsupported: WPA2 enterprise"},
		{SSID: "caf\xc3\xa9\x1b[2J", Signal: -80, Security: "open"},
		{SSID: strings.Repeat("w", 32), Signal: -90, Security: "unsupported: WEP"},
	}
	secrets := map[string]string{"Wald und Wiese": "correct horse", "Hotel": "", "hidden": "battery staple", "hidden and open": ""}
	for name, c := range map[string]struct {
		seen  []wifi.AccessPoint
		typed string
		want  bootcfg.WiFiNetwork
		err   error
		says  string
	}{
		"by number":    {around, "1\rcorrect horse\r", bootcfg.WiFiNetwork{SSID: "Wald und Wiese", Passphrase: "correct horse"}, nil, "Joined Wald und Wiese."},
		"by name":      {around, "Wald und Wiese\rcorrect horse\r", bootcfg.WiFiNetwork{SSID: "Wald und Wiese", Passphrase: "correct horse"}, nil, ""},
		"open":         {around, "2\r", bootcfg.WiFiNetwork{SSID: "Hotel"}, nil, ""},
		"hidden":       {around, "hidden\rbattery staple\r", bootcfg.WiFiNetwork{SSID: "hidden", Passphrase: "battery staple", Hidden: true}, nil, ""},
		"hidden, open": {around, "hidden and open\r\r", bootcfg.WiFiNetwork{SSID: "hidden and open", Hidden: true}, nil, ""},
		"looked again": {around, "\r\r2\r", bootcfg.WiFiNetwork{SSID: "Hotel"}, nil, ""},
		"nothing seen": {nil, "hidden\rbattery staple\r", bootcfg.WiFiNetwork{SSID: "hidden", Passphrase: "battery staple", Hidden: true}, nil, "No network is in sight"},
		"mistyped":     {around, "1\rcorrect cow\rcorrect horse\r", bootcfg.WiFiNetwork{SSID: "Wald und Wiese", Passphrase: "correct horse"}, nil, "passphrase of \"Wald und Wiese\" is wrong"},
		"too short":    {around, "1\r\rshort\rcorrect horse\r", bootcfg.WiFiNetwork{SSID: "Wald und Wiese", Passphrase: "correct horse"}, nil, "8 to 63"},
		"unsupported":  {around, "3\r2\r", bootcfg.WiFiNetwork{SSID: "Hotel"}, nil, "This image cannot join it"},
		"odd name":     {around, "4\r2\r", bootcfg.WiFiNetwork{SSID: "Hotel"}, nil, "not plain text"},
		"not there":    {around, "nowhere\rsome passphrase\r2\r", bootcfg.WiFiNetwork{SSID: "Hotel"}, nil, "was not found"},
		"left":         {around, "1\rcorr\x1b", bootcfg.WiFiNetwork{SSID: "Wald und Wiese"}, dialog.ErrLeft, ""},
		"left at once": {around, "\x1b", bootcfg.WiFiNetwork{}, dialog.ErrLeft, "-48 dBm WPA2/WPA3"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPerson(t.Context(), bootcfg.Internet, c.typed)
				got, err := p.wifi(t.Context(), "wlan0", &air{seen: c.seen, secrets: secrets})
				if err != nil {
					got = bootcfg.WiFiNetwork{SSID: got.SSID}
				}
				if got != c.want || !errors.Is(err, c.err) || !strings.Contains(p.seen(t), c.says) {
					t.Errorf("%+v, %v; want %+v, %v and %q in\n%s", got, err, c.want, c.err, c.says, p.screen)
				}
				if strings.Contains(p.screen.String(), "horse") || strings.Contains(p.screen.String(), "staple") || strings.Contains(p.screen.String(), "\x1b") {
					t.Errorf("what must not be shown is:\n%s", p.screen)
				}
			})
		})
	}
}

// Where nobody said in which country the machine is, it may be that which hides a
// network.
func TestWiFiFormNamesTheCountry(t *testing.T) {
	for country, said := range map[string]bool{"": true, "DE": false} {
		for _, seen := range [][]wifi.AccessPoint{nil, {{SSID: "Hotel", Security: "open"}}} {
			synctest.Test(t, func(t *testing.T) {
				p := newPerson(t.Context(), bootcfg.Internet, "\x1b")
				p.country = country
				_, err := p.wifi(t.Context(), "wlan0", &air{seen: seen})
				if got := strings.Contains(strings.Join(strings.Fields(p.seen(t)), " "), "set country in policy.toml"); !errors.Is(err, dialog.ErrLeft) || got != (said && len(seen) == 0) {
					t.Errorf("country %q, %d networks: %v\n%s", country, len(seen), err, p.screen)
				}
			})
		}
	}
}

// A neighbour with many names cannot push a network out of reach: it is known by
// its name, and not asked for as if it were hidden.
func TestWiFiFormKnowsWhatItDoesNotList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := append(slices.Repeat([]wifi.AccessPoint{{SSID: "loud", Security: "open"}}, maxSeen), wifi.AccessPoint{SSID: "home", Security: "WPA2"})
		p := newPerson(t.Context(), bootcfg.Internet, fmt.Sprintf("%d\r\rhome\rcorrect horse\r", maxSeen+1))
		radio := &air{seen: seen, secrets: map[string]string{"home": "correct horse"}}
		got, err := p.wifi(t.Context(), "wlan0", radio)
		if want := (bootcfg.WiFiNetwork{SSID: "home", Passphrase: "correct horse"}); got != want || err != nil {
			t.Errorf("%+v, %v\n%s", got, err, p.seen(t))
		}
	})
}

func TestWiFiFormListsWhatHasRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson(t.Context(), bootcfg.Internet, "\x1b")
		_, err := p.wifi(t.Context(), "wlan0", &air{seen: slices.Repeat([]wifi.AccessPoint{{SSID: "many", Security: "open"}}, 300)})
		if lines := strings.Count(p.seen(t), "\n"); !errors.Is(err, dialog.ErrLeft) || lines > 24 {
			t.Errorf("%v, %d lines", err, lines)
		}
	})
}
