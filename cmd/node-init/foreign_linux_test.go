package main

import (
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/phasebased/phase/internal/bootcfg"
)

// TestOwnInit: which root file systems get an init of their own, by what is in
// them and nothing else.
func TestOwnInit(t *testing.T) {
	for name, c := range map[string]struct {
		root fstest.MapFS
		want string
		err  bool
	}{
		"the node system":      {fstest.MapFS{"usr/bin/plasmd": {Mode: 0o755}}, "", false},
		"systemd and plasmd":   {fstest.MapFS{"usr/bin/plasmd": {Mode: 0o755}, "sbin/init": {Mode: 0o755}}, "/sbin/init", false},
		"an init alone":        {fstest.MapFS{"bin/init": {Mode: 0o755}}, "/bin/init", false},
		"several":              {fstest.MapFS{"bin/init": {Mode: 0o755}, "etc/init": {Mode: 0o755}}, "/etc/init", false},
		"a shell is no init":   {fstest.MapFS{"bin/sh": {Mode: 0o755}}, "", true},
		"an init that is text": {fstest.MapFS{"sbin/init": {Mode: 0o644}, "usr/bin/plasmd": {Mode: 0o755}}, "", false},
		"a folder":             {fstest.MapFS{"sbin/init": {Mode: fs.ModeDir | 0o755}}, "", true},
		"nothing":              {fstest.MapFS{}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ownInit(func(path string) (fs.FileInfo, error) { return c.root.Stat(strings.TrimPrefix(path, "/")) })
			var none *NoInitError
			if got != c.want || errors.As(err, &none) != c.err {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestNetworkd: what a medium's owner says about the network reaches a system that
// brings systemd-networkd.
func TestNetworkd(t *testing.T) {
	static := bootcfg.Interface{
		MAC: "52:54:00:00:00:01", Address: netip.MustParsePrefix("192.0.2.7/24"), Gateway: netip.MustParseAddr("192.0.2.1"),
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")},
	}
	const lease = "\n[Network]\nDHCP=yes\n\n[DHCPv4]\nClientIdentifier=mac\nSendHostname=no\n"
	for name, c := range map[string]struct {
		network bootcfg.Network
		mode    bootcfg.Mode
		want    map[string]string
	}{
		"nothing was said": {bootcfg.Network{LinkLocal: true}, bootcfg.Internet, map[string]string{"89-phase.network": anyCard + lease}},
		"a LAN without DHCP": {bootcfg.Network{LinkLocal: true}, bootcfg.Local, map[string]string{
			"89-phase.network": anyCard + strings.Replace(lease, "DHCP=yes\n", "DHCP=yes\nLinkLocalAddressing=yes\n", 1)}},
		"all off": {bootcfg.Network{Off: true}, bootcfg.Internet, map[string]string{"10-phase.network": "[Match]\nName=*\n\n[Link]\nUnmanaged=yes\n"}},
		"private": {bootcfg.Network{}, bootcfg.Private, map[string]string{
			"10-phase.link":    "[Match]\nType=ether\n\n[Link]\nMACAddressPolicy=random\nNamePolicy=keep kernel database onboard slot path\n",
			"89-phase.network": anyCard + "\n[Network]\nDHCP=yes\n\n[DHCPv4]\nAnonymize=yes\n"}},
		"private, with the card's own address": {bootcfg.Network{KeepMAC: true}, bootcfg.Private, map[string]string{
			"89-phase.network": anyCard + "\n[Network]\nDHCP=yes\n\n[DHCPv4]\nAnonymize=yes\n"}},
		"a static address": {bootcfg.Network{Interfaces: []bootcfg.Interface{static, {Name: "eth1", Off: true}}}, bootcfg.Internet, map[string]string{
			"10-phase-00.network": "[Match]\nPermanentMACAddress=52:54:00:00:00:01\n\n[Network]\nAddress=192.0.2.7/24\nGateway=192.0.2.1\nDNS=192.0.2.53\nDNS=2001:db8::53\n",
			"10-phase-01.network": "[Match]\nName=eth1\n\n[Link]\nUnmanaged=yes\n",
			"89-phase.network":    anyCard + lease}},
		"a trunk": {bootcfg.Network{Interfaces: []bootcfg.Interface{{Name: "eth0", VLAN: 42}, {MAC: static.MAC, VLAN: 42}}}, bootcfg.Internet, map[string]string{
			"10-phase-00-vlan42.netdev":  "[NetDev]\nName=eth0.42\nKind=vlan\n\n[VLAN]\nId=42\n",
			"10-phase-00-vlan42.network": "[Match]\nName=eth0.42\n" + lease,
			"10-phase-00.network":        "[Match]\nName=eth0\n\n[Network]\nVLAN=eth0.42\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
			"10-phase-01-vlan42.netdev":  "[NetDev]\nName=vlan42\nKind=vlan\n\n[VLAN]\nId=42\n",
			"10-phase-01-vlan42.network": "[Match]\nName=vlan42\n" + lease,
			"10-phase-01.network":        "[Match]\nPermanentMACAddress=52:54:00:00:00:01\n\n[Network]\nVLAN=vlan42\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
			"89-phase.network":           anyCard + lease}},
		"with a tag and without": {bootcfg.Network{Interfaces: []bootcfg.Interface{{Name: "eth0", VLAN: 42}, {Name: "eth0"}}}, bootcfg.Internet, map[string]string{
			"10-phase-00-vlan42.netdev":  "[NetDev]\nName=eth0.42\nKind=vlan\n\n[VLAN]\nId=42\n",
			"10-phase-00-vlan42.network": "[Match]\nName=eth0.42\n" + lease,
			"10-phase-00.network":        "[Match]\nName=eth0\n" + strings.Replace(lease, "[Network]\n", "[Network]\nVLAN=eth0.42\n", 1),
			"89-phase.network":           anyCard + lease}},
	} {
		t.Run(name, func(t *testing.T) {
			got := networkd(c.network, c.mode)
			if names, want := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(c.want)); !slices.Equal(names, want) {
				t.Errorf("files %q, want %q", names, want)
			}
			for file, want := range c.want {
				if got[file] != want {
					t.Errorf("%s:\n%s\nwant:\n%s", file, got[file], want)
				}
			}
		})
	}
}

// TestNetworkdKeepsSecrets: a foreign system gets no passwords.
func TestNetworkdKeepsSecrets(t *testing.T) {
	n := bootcfg.Network{Proxy: "http://user:hunter2@192.0.2.1:3128", WiFi: bootcfg.WiFi{
		Country: "DE", Networks: []bootcfg.WiFiNetwork{{SSID: "home", Passphrase: "correct horse"}}}}
	for name, text := range networkd(n, bootcfg.Internet) {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "horse") {
			t.Errorf("%s has a secret:\n%s", name, text)
		}
	}
}
