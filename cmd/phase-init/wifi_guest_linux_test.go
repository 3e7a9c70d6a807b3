package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/guest"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// What is in the air: the network to join, and one beside it.
const (
	airSSID   = "home sweet home"
	otherSSID = "a stranger's"
	airPass   = `correct "horse' \x00`
	wrongPass = "battery staple"
)

// ownMAC is the card's own address: one that does not come about by chance.
var ownMAC = net.HardwareAddr{0x02, 0xc0, 0xff, 0xee, 0x50, 0x51}

// pointMAC is the access point's address.
var pointMAC = net.HardwareAddr{0x02, 0, 0, 0, 0x11, 0}

// airNet is the network behind the access point.
var airNet = netip.MustParsePrefix("10.9.0.0/24")

// radioWithin bounds what one machine does in this test.
const radioWithin = 2 * time.Minute

// TestWiFiFromKeyToLease lets a person press w, choose a network, mistype its
// passphrase and type it again; the network gives an address; and the next
// system joins it by what the seed hands on. Nothing is played but the radios,
// which the kernel simulates.
func TestWiFiFromKeyToLease(t *testing.T) {
	t.Parallel()
	if !guest.Run(t, guest.Config{
		// mac80211 asks for its ciphers by name, and nobody in a guest listens. The
		// test of rules keeps looks around short: it leaves few of all the channels.
		Modules:  []string{"ctr", "ccm", "cmac", "af_packet", "mac80211_hwsim radios=2 regtest=5"},
		Packages: []string{"wpasupplicant", "hostapd", "wireless-regdb"},
		Programs: []string{"wpa_supplicant", "hostapd", "dnsmasq"},
		Files: []string{
			"/lib/firmware/regulatory.db=/lib/firmware/regulatory.db-debian",
			"/lib/firmware/regulatory.db.p7s=/lib/firmware/regulatory.db.p7s-debian",
		},
		Timeout: 2 * radioWithin,
	}) {
		return
	}
	h := newHotspot(t)
	for _, mode := range []bootcfg.Mode{bootcfg.Internet, bootcfg.Private} {
		t.Run(mode.String(), func(t *testing.T) { h.testMode(t, mode) })
	}
}

// A hotspot is an access point and what is behind it, on a host of its own: what the
// machine under test sends there has gone over the air.
type hotspot struct{ host *nettest.Host }

func newHotspot(t *testing.T) *hotspot {
	t.Helper()
	h := &hotspot{nettest.NewHost(t, "access point")}
	h.take(t, "wlan1")
	conf := filepath.Join(t.TempDir(), "hostapd.conf")
	text := fmt.Sprintf("interface=wlan1\ndriver=nl80211\nhw_mode=g\nchannel=1\nbeacon_int=50\n"+
		"bssid=%s\nssid=%s\nwpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase=%s\n"+
		"bss=wlan1_1\nbssid=02:00:00:00:11:01\nssid=%s\n", pointMAC, airSSID, airPass, otherSSID)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// No supervisor runs yet, and none does when these programs are stopped: it
	// would take their end from them.
	h.host.Start("AP-ENABLED", "hostapd", conf)
	h.host.Address("wlan1", airNet.Addr().Next().String()+"/24")
	h.host.Dnsmasq("wlan1", "--user=root", "--dhcp-range=10.9.0.50,10.9.0.99,1h")
	return h
}

// take moves a radio to the access point, and the device that hears all radios.
func (h *hotspot) take(t *testing.T, device string) {
	t.Helper()
	var ns *os.File
	h.host.Do(func() {
		var err error
		ns, err = os.Open("/proc/thread-self/ns/net")
		nettest.Check(t, err)
	})
	defer ns.Close()
	text, err := os.ReadFile("/sys/class/net/" + device + "/phy80211/index")
	nettest.Check(t, err)
	phy, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	nettest.Check(t, err)
	family, err := netlink.GenlFamilyGet("nl80211")
	nettest.Check(t, err)
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: unix.NL80211_CMD_SET_WIPHY_NETNS})
	req.AddData(nl.NewRtAttr(unix.NL80211_ATTR_WIPHY, nl.Uint32Attr(uint32(phy))))
	req.AddData(nl.NewRtAttr(unix.NL80211_ATTR_NETNS_FD, nl.Uint32Attr(uint32(ns.Fd()))))
	_, err = req.Execute(unix.NETLINK_GENERIC, 0)
	nettest.Check(t, err)
	all, err := netlink.LinkByName("hwsim0")
	nettest.Check(t, err)
	nettest.Check(t, netlink.LinkSetNsFd(all, int(ns.Fd())))
	h.host.Up("hwsim0")
}

// testMode is two boots of one machine: the seed and the next system.
func (h *hotspot) testMode(t *testing.T, mode bootcfg.Mode) {
	begun := time.Now()
	since := func() time.Duration { return time.Since(begun).Round(100 * time.Millisecond) }
	ctx, cancel := context.WithTimeout(t.Context(), radioWithin)
	defer cancel()
	card, err := netlink.LinkByName("wlan0")
	nettest.Check(t, err)
	nettest.Check(t, netlink.LinkSetDown(card))
	nettest.Check(t, netlink.LinkSetHardwareAddr(card, ownMAC))
	radio, wire := h.host.Capture("hwsim0"), h.host.Capture("wlan1")

	m := newWiFiMachine(ctx, t, mode)
	m.person(ctx)
	t.Logf("joined after %v", since())
	network, err := m.bringUp(ctx)
	m.leased(network, err)
	t.Logf("configured after %v", since())
	document := pid1.WriteNetwork(m.config.Network)
	m.restartNetwork()
	m.nextSystem(ctx, document)
	t.Logf("the next system is configured after %v", since())
	m.secrecy()

	sent, told := count(radio.Frames(), sentByCard), count(wire.Frames(), tellsCard)
	if private := mode == bootcfg.Private; private && sent+told > 0 || !private && (sent == 0 || told == 0) {
		t.Errorf("%d frames were sent from the card's own address, and %d told it to the network", sent, told)
	}
}

func count(frames [][]byte, is func([]byte) bool) (n int) {
	for _, f := range frames {
		if is(f) {
			n++
		}
	}
	return n
}

// sentByCard reads the sender of a frame in the air: the second address, after
// what the listening device adds before (radiotap.org), at 10 (IEEE 802.11-2020,
// 9.2.3). The other is the one that the simulated card is made with.
func sentByCard(frame []byte) bool {
	if len(frame) < 4 {
		return false
	}
	from := int(binary.LittleEndian.Uint16(frame[2:])) + 10
	if len(frame) < from+6 {
		return false
	}
	sender := net.HardwareAddr(frame[from : from+6])
	return slices.Equal(sender, ownMAC) || sender.String() == "02:00:00:00:00:00"
}

// tellsCard looks for the address anywhere in what the access point has heard and
// decrypted, also as IPv6 writes it (RFC 4291, appendix A). What the access point
// sends may be for an earlier boot.
func tellsCard(frame []byte) bool {
	if len(frame) < 12 || slices.Equal(frame[6:12], pointMAC) {
		return false
	}
	ipv6 := slices.Concat([]byte{ownMAC[0] ^ 2}, ownMAC[1:3], []byte{0xff, 0xfe}, ownMAC[3:])
	return bytes.Contains(frame, ownMAC) || bytes.Contains(frame, ipv6)
}

// wifiMachine is a seed with one console, whose configuration names no network.
type wifiMachine struct {
	*testing.T
	*seed
	tty *terminal
	log string // the file that it logs to
}

func newWiFiMachine(ctx context.Context, t *testing.T, mode bootcfg.Mode) *wifiMachine {
	t.Helper()
	m := &wifiMachine{T: t, tty: newTerminal(t), log: filepath.Join(t.TempDir(), "log")}
	if err := m.tty.hand.SetDeadline(time.Now().Add(radioWithin)); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(m.log)
	nettest.Check(t, err)
	t.Cleanup(func() { log.Close() })
	m.seed, _ = newSeed(bootcfg.Config{Mode: mode})
	m.system.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	m.system.Console = term.New(term.Config{Out: sysinit.NewFanOut(m.tty.console.File), Now: func() time.Duration { return 0 }, ASCII: true})
	m.system.Supervisor = sysinit.NewSupervisor(m.system.Log)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() { _ = m.system.Supervisor.Run(ctx); close(ended) }() // ends with ctx
	t.Cleanup(func() {
		m.restartNetwork()
		cancel()
		<-ended
		if text, err := os.ReadFile(m.log); t.Failed() && err == nil {
			t.Logf("the screen:\n%s\nthe log:\n%s", m.tty.all.String(), text)
		}
	})
	return m
}

// person joins the network from the failure screen.
func (m *wifiMachine) person(ctx context.Context) {
	m.Helper()
	if line := m.keyLine(); !strings.Contains(line, "w choose a Wi-Fi network") {
		m.Errorf("nobody is told of w: %s", line)
	}
	h := &hand{read: func() (<-chan sysinit.Key, func()) {
		return dialog.Read(ctx, []sysinit.Console{m.tty.console}, m.system.Go)
	}}
	h.take()
	defer h.letGo()
	m.tty.waitRaw(ctx)
	chosen := make(chan struct{})
	go func() { m.wait(ctx, h); close(chosen) }()
	m.tty.types("w")
	m.tty.waits("Number or name")
	line := regexp.MustCompile(` (\d+)  ` + airSSID + ` +-\d+ dBm +WPA2`).FindStringSubmatch(m.tty.all.String())
	if line == nil || !strings.Contains(m.tty.all.String(), otherSSID) {
		m.Fatalf("the list is\n%s", m.tty.all.String())
	}
	m.tty.types(line[1] + "\r")
	m.tty.waits("Passphrase:")
	m.tty.types(wrongPass + "\r")
	m.tty.waits("upper and lower case count.\r\n  Passphrase:")
	if !strings.Contains(m.tty.all.String(), `the passphrase of "`+airSSID+`" is wrong`) {
		m.Errorf("not told what was wrong:\n%s", m.tty.all.String())
	}
	m.tty.types(airPass + "\r")
	m.tty.waits("Joined " + airSSID)
	select {
	case <-chosen:
	case <-ctx.Done():
		m.Fatal("the boot does not go on")
	}
	for _, typed := range []string{wrongPass, airPass} {
		if !strings.Contains(m.tty.all.String(), strings.Repeat("*", len(typed))) {
			m.Errorf("no stars for what was typed:\n%s", m.tty.all.String())
		}
	}
}

// leased checks what the network gave.
func (m *wifiMachine) leased(network *netup.Network, err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
	i := slices.IndexFunc(network.Interfaces, func(l netup.Link) bool { return l.Name == "wlan0" })
	if i < 0 {
		m.Fatalf("%+v", network)
	}
	link := network.Interfaces[i]
	if link.Method != netup.MethodDHCP || !airNet.Contains(link.Addresses[0].Addr()) || link.Gateway != airNet.Addr().Next() || !link.Wireless {
		m.Errorf("%+v", link)
	}
	if hidden := link.MAC != ownMAC.String(); hidden != m.randomMAC() {
		m.Errorf("the network knows %s", link.MAC)
	}
}

// nextSystem begins as node-init does: with the document and its mode, and nothing else.
func (m *wifiMachine) nextSystem(ctx context.Context, document []byte) {
	m.Helper()
	network, err := pid1.ReadNetwork(document)
	if err != nil || len(network.WiFi.Networks) != 1 {
		m.Fatalf("%+v, %v", network, err)
	}
	cfg := pid1.NetworkConfig(network, m.config.Mode)
	radios := m.system.NewRadios(network.WiFi, cfg.RandomMAC)
	cfg.Report = func(e netup.Event) {
		if e.State == netup.Found {
			radios.Found(ctx, e.Interface)
		}
	}
	manager, up, err := netup.Up(ctx, cfg)
	m.leased(up, err)
	radios.Stop()
	nettest.Check(m.T, manager.Down())
}

// secrecy looks for the passphrases where others could see them.
func (m *wifiMachine) secrecy() {
	m.Helper()
	log, err := os.ReadFile(m.log)
	nettest.Check(m.T, err)
	for _, secret := range []string{"horse", "battery", "staple"} {
		if strings.Contains(m.tty.all.String(), secret) || bytes.Contains(log, []byte(secret)) {
			m.Errorf("a passphrase can be read:\n%s\n%s", m.tty.all.String(), log)
		}
	}
}
