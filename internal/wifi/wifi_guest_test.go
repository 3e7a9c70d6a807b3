//go:build linux

package wifi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/guest"
)

const (
	station = "wlan0" // the card under test; other radios are access points

	homeSSID  = "home sweet home"
	saeSSID   = "three"
	mixedSSID = "caf\u00e9 \"1\" \\n"
	rawSSID   = "\x01\xff\x00x" // not a text at all
	openSSID  = "Free WiFi"
	eapSSID   = "office"
	darkSSID  = "cellar"
	comesSSID = "phoenix"
	rightPass = `correct "horse' \x00`
)

// TestWithHostapd joins real access points with the real wpa_supplicant, over
// radios that the kernel simulates.
func TestWithHostapd(t *testing.T) {
	t.Parallel()
	if !guest.Run(t, guest.Config{
		// mac80211 asks for its ciphers by name, and nobody in a guest listens.
		Modules:  []string{"ctr", "ccm", "cmac", "mac80211_hwsim radios=3"},
		Packages: []string{"wpasupplicant", "hostapd", "wireless-regdb"},
		Programs: []string{"wpa_supplicant", "hostapd", "ip"},
		Files: []string{
			"/lib/firmware/regulatory.db=/lib/firmware/regulatory.db-debian",
			"/lib/firmware/regulatory.db.p7s=/lib/firmware/regulatory.db.p7s-debian",
		},
	}) {
		return
	}
	names, err := Interfaces(os.DirFS("/sys"))
	if err != nil || !slices.Equal(names, []string{"wlan0", "wlan1", "wlan2"}) {
		t.Fatalf("interfaces %v, %v", names, err)
	}
	hostapd(t, house()...)
	g := &guestTest{}
	s, events := g.supplicant(t, Config{Country: "DE"})
	g.s, g.events = s, events
	t.Run("scan", g.testScan)
	t.Run("join", g.testJoin)
	t.Run("refusals", g.testRefusals)
	t.Run("dies and is started again", g.testDeath)
	g.stop()
	t.Run("goes and returns, random address", g.testReturn)
}

// guestTest is one supplicant and what the tests of it share.
type guestTest struct {
	s      *Supplicant
	events chan Event
	stop   func() error

	mu  sync.Mutex
	cmd *exec.Cmd // the running wpa_supplicant
}

// supplicant runs the real program, started as process 1 would.
func (g *guestTest) supplicant(t *testing.T, cfg Config) (*Supplicant, chan Event) {
	events := make(chan Event, 1000)
	out := &lockedBuffer{}
	cfg.Interface, cfg.RunDir = station, filepath.Join(t.TempDir(), "run")
	cfg.Report = func(e Event) { events <- e }
	cfg.Start = func(path string, args []string) (func() error, func(), error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if err := fewChannels(args); err != nil {
			return nil, nil, err
		}
		g.cmd = exec.Command("wpa_supplicant", args...)
		g.cmd.Stdout, g.cmd.Stderr = out, out
		if err := g.cmd.Start(); err != nil {
			return nil, nil, err
		}
		child := g.cmd.Process
		return g.cmd.Wait, func() { _ = child.Kill() }, nil
	}
	s := New(cfg)
	g.stop = run(t, s)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("wpa_supplicant:\n%s", out)
		}
		if strings.Contains(out.String(), "horse") {
			t.Error("wpa_supplicant printed the passphrase")
		}
	})
	await(t, events, Started)
	return s, events
}

// fewChannels keeps looks around short: all the channels of this kernel's radios
// take five seconds.
func fewChannels(args []string) error {
	f, err := os.OpenFile(args[len(args)-1], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("freq_list=2412 2437 5180\n")
	return errors.Join(err, f.Close())
}

// house is one access point with many networks.
func house() [][]string {
	psk := []string{"wpa=2", "wpa_key_mgmt=WPA-PSK", "rsn_pairwise=CCMP", "wpa_passphrase=" + rightPass}
	sae := []string{"wpa=2", "wpa_key_mgmt=SAE", "rsn_pairwise=CCMP", "ieee80211w=2", "sae_pwe=2", "sae_password=" + rightPass}
	mixed := []string{"wpa=2", "wpa_key_mgmt=WPA-PSK SAE", "rsn_pairwise=CCMP", "ieee80211w=1", "sae_require_mfp=1", "wpa_passphrase=" + rightPass}
	eap := []string{"wpa=2", "wpa_key_mgmt=WPA-EAP", "rsn_pairwise=CCMP", "ieee8021x=1", "auth_server_addr=127.0.0.1", "auth_server_shared_secret=x"}
	named := func(ssid string, lines ...string) []string {
		return append([]string{"ssid2=" + hex.EncodeToString([]byte(ssid))}, lines...)
	}
	return [][]string{
		named(homeSSID, psk...), named(saeSSID, sae...), named(mixedSSID, mixed...), named(rawSSID, psk...), named(openSSID),
		named(eapSSID, eap...), named(darkSSID, append(psk, "ignore_broadcast_ssid=1")...),
	}
}

// hostapd runs access points until the test ends, on the radio wlan1.
func hostapd(t *testing.T, networks ...[]string) { accessPoint(t, "wlan1", 1, networks...) }

func accessPoint(t *testing.T, iface string, channel int, networks ...[]string) (stop func()) {
	t.Helper()
	text := fmt.Sprintf("interface=%s\ndriver=nl80211\nhw_mode=g\nchannel=%d\nbeacon_int=50\n", iface, channel)
	for i, lines := range networks {
		if i > 0 {
			text += fmt.Sprintf("bss=%s_%d\n", iface, i)
		}
		text += fmt.Sprintf("bssid=02:00:00:00:%02x:%02x\n", 0x10+channel, i) + strings.Join(lines, "\n") + "\n"
	}
	conf := filepath.Join(t.TempDir(), iface+".conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("hostapd", conf)
	out := &lockedBuffer{}
	ready := out.until("AP-ENABLED")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // without a farewell, as when the power fails
		<-ended
		if err := exec.Command("ip", "link", "set", iface, "down").Run(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("hostapd: %v\n%s", err, out)
	case <-time.After(patience):
		t.Fatalf("hostapd is not ready\n%s", out)
	}
	return stop
}

// lockedBuffer keeps what programs print and waits for a word.
type lockedBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	word  string
	found chan struct{}
}

func (b *lockedBuffer) until(word string) <-chan struct{} {
	b.word, b.found = word, make(chan struct{})
	return b.found
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Write(p)
	if b.word != "" && bytes.Contains(b.b.Bytes(), []byte(b.word)) {
		b.word = ""
		close(b.found)
	}
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (g *guestTest) testScan(t *testing.T) {
	start := time.Now()
	list, err := g.s.Scan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d networks in %v", len(list), time.Since(start).Round(time.Millisecond))
	got := map[string]string{}
	for _, a := range list {
		got[a.SSID] = a.Security
		if a.Signal > -20 || a.Signal < -95 {
			t.Errorf("%s has a signal of %d dBm", Show(a.SSID), a.Signal)
		}
	}
	want := map[string]string{
		homeSSID: "WPA2", saeSSID: "WPA3", mixedSSID: "WPA2/WPA3", rawSSID: "WPA2", openSSID: "open",
		eapSSID: "unsupported: 802.1X (user name and password)",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func (g *guestTest) testJoin(t *testing.T) {
	for _, c := range []struct {
		network Network
		key     string // how it was joined
	}{
		{Network{SSID: homeSSID, Passphrase: rightPass}, "WPA2-PSK"},
		{Network{SSID: saeSSID, Passphrase: rightPass}, "SAE"},
		{Network{SSID: mixedSSID, Passphrase: rightPass}, "SAE"},
		{Network{SSID: openSSID}, "NONE"},
		{Network{SSID: rawSSID, Passphrase: rightPass}, "WPA2-PSK"},
		{Network{SSID: darkSSID, Passphrase: rightPass, Hidden: true}, "WPA2-PSK"},
	} {
		start := time.Now()
		if err := g.s.Join(t.Context(), c.network); err != nil {
			t.Errorf("%s: %v", c.network, err)
			continue
		}
		t.Logf("%s joined in %v", c.network, time.Since(start).Round(time.Millisecond))
		st, err := g.s.Status(t.Context())
		if err != nil || !st.Connected || st.SSID != c.network.SSID || st.KeyMgmt != c.key || st.MHz != 2412 {
			t.Errorf("%s: %+v, %v", c.network, st, err)
		}
		for e := await(t, g.events, Connected); e.SSID != c.network.SSID; e = await(t, g.events, Connected) {
		}
		if state, err := os.ReadFile("/sys/class/net/" + station + "/operstate"); err != nil || string(state) != "up\n" {
			t.Errorf("%s: the link is %q, %v", c.network, state, err)
		}
	}
}

func (g *guestTest) testRefusals(t *testing.T) {
	for _, c := range []struct {
		network Network
		reason  Reason
	}{
		{Network{SSID: homeSSID, Passphrase: "wrong horse"}, WrongPassphrase},
		{Network{SSID: saeSSID, Passphrase: "wrong horse"}, WrongPassphrase},
		{Network{SSID: mixedSSID, Passphrase: "wrong horse"}, WrongPassphrase},
		{Network{SSID: eapSSID, Passphrase: rightPass}, Unsupported},
		{Network{SSID: openSSID, Passphrase: rightPass}, BadNetwork},
		{Network{SSID: homeSSID}, BadNetwork},
		{Network{SSID: "nowhere", Passphrase: rightPass}, NotFound},
	} {
		start := time.Now()
		err := g.s.Join(t.Context(), c.network)
		if !is(err, c.reason) || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: got %v, want reason %d", c.network, err, c.reason)
		}
		t.Logf("%v, after %v", err, time.Since(start).Round(time.Millisecond))
	}
	// What was joined before is joined again.
	for e := await(t, g.events, Connected); e.SSID == ""; e = await(t, g.events, Connected) {
	}
}

func (g *guestTest) testDeath(t *testing.T) {
	g.mu.Lock()
	err := g.cmd.Process.Kill()
	g.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if e := await(t, g.events, Ended); !is(e.Err, NoAnswer) {
		t.Error(e.Err)
	}
	await(t, g.events, Started)
	if e := await(t, g.events, Connected); e.SSID == "" {
		t.Errorf("%+v", e)
	}
}

// testReturn knows one network, whose access point loses its power for a while.
func (g *guestTest) testReturn(t *testing.T) {
	permanent, err := os.ReadFile("/sys/class/net/" + station + "/address")
	if err != nil {
		t.Fatal(err)
	}
	lines := house()[0]
	lines[0] = "ssid2=" + hex.EncodeToString([]byte(comesSSID))
	vanish := accessPoint(t, "wlan2", 6, lines)
	s, events := g.supplicant(t, Config{RandomMAC: true, Networks: []Network{{SSID: comesSSID, Passphrase: rightPass}}})
	for _, what := range []What{Connected, Lost, Connected} {
		if e := await(t, events, what); e.SSID != comesSSID {
			t.Errorf("%+v", e)
		}
		if what == Lost {
			accessPoint(t, "wlan2", 6, lines)
		} else {
			checkRandom(t, s, strings.TrimSpace(string(permanent)))
			vanish()
		}
	}
}

// checkRandom wants an address that somebody made up (its second digit is one of
// 2, 6, a and e: locally administered, of one card).
func checkRandom(t *testing.T, s *Supplicant, permanent string) {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil || len(st.Address) != len(permanent) || st.Address == permanent || !strings.Contains("26ae", st.Address[1:2]) {
		t.Errorf("%+v, %v; the card's own address is %s", st, err, permanent)
	}
}
