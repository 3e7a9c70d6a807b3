package bootcfg

import (
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/tor"
)

// FuzzParse: whatever the medium says, Parse neither panics nor lets a mode
// exceed its limits.
func FuzzParse(f *testing.F) {
	f.Add("", []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, line string, policy, bootstrap []byte) {
		c, err := Parse(line, policy, bootstrap, arch)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		if c.Cache && (!c.Mode.MayUseCache() || c.NoWrite) || c.MayWrite() && !c.Mode.MayWrite() {
			t.Errorf("beyond the limits of %s: %+v", c.Mode, c)
		}
		for _, p := range c.Providers {
			if !c.Mode.MayUseWAN() && !isLocalURL(p) {
				t.Errorf("%s mode would ask %s", c.Mode, p)
			}
		}
		for _, s := range slices.Concat(c.Time.Servers, c.Time.NTS) {
			if checkTimeServer(s) != nil || !c.Mode.MayUseWAN() && !isLocalHost(timeHost(s)) {
				t.Errorf("%s mode would ask %q for the time", c.Mode, s)
			}
		}
		if len(c.Time.Servers) > MaxTimeServers || len(c.Time.NTS) > MaxTimeServers {
			t.Errorf("too many time servers: %+v", c.Time)
		}
		checkNetwork(t, c)
		if c.Handover == HandoverRestart && !c.MayWrite() || c.Overlay == OverlayCache && !c.Cache || c.Tor.Allow && (c.Mode != Private || c.Time.DHCP || c.Network.Proxy != "") ||
			len(c.Tor.Bridges) > tor.MaxBridges || len(c.Tor.Extra) > tor.MaxExtra {
			t.Errorf("beyond the limits of %s: %+v", c.Mode, c)
		}
		for _, l := range slices.Concat(c.Tor.Bridges, c.Tor.Extra) {
			if strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r > '~' }) || strings.ContainsAny(l, `"#\`) {
				t.Errorf("not one line for Tor: %q", l)
			}
		}
		if len(c.Gateways) > 0 && c.Mode != Internet {
			t.Errorf("%s mode would ask %q", c.Mode, c.Gateways)
		}
		if len(c.Providers) > MaxProviders || len(c.Gateways) > MaxGateways || len(c.Bootstrap) > MaxBootstrap || len(c.Network.Interfaces) > MaxInterfaces ||
			c.Network.Timeout < MinTimeout || c.Network.Timeout > MaxTimeout {
			t.Errorf("out of bounds: %+v", c)
		}
	})
}

// checkNetwork: what is asked over the network by its own rules.
func checkNetwork(t *testing.T, c Config) {
	n := c.Network
	if n.Proxy != "" {
		if again, err := ParseProxy(string(n.Proxy)); err != nil || again != n.Proxy || !c.Mode.MayUseWAN() {
			t.Errorf("%s mode with the proxy %s: %v", c.Mode, n.Proxy, err)
		}
	}
	if n.PortalCheck != "" && (c.Mode != Internet || checkPortal(n.PortalCheck) != nil) {
		t.Errorf("%s mode would ask %q for a portal", c.Mode, n.PortalCheck)
	}
	if len(n.WiFi.Networks) > MaxWiFiNetworks || !isCountry(n.WiFi.Country) {
		t.Errorf("out of bounds: %+v", n.WiFi)
	}
	for _, w := range n.WiFi.Networks {
		if err := w.Check(); err != nil {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

// FuzzSplitLine: a word never holds an unquoted blank, and plain words come
// through unchanged.
func FuzzSplitLine(f *testing.F) {
	f.Add(`a=b "c=d e" f="g h" i`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitLine(line)
		if err != nil {
			return
		}
		if len(words) > len(line)/2+1 {
			t.Errorf("%d words from %d bytes", len(words), len(line))
		}
	})
}
