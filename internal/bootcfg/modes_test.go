package bootcfg

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// everything asks for all that can be asked for, and nothing for as little as can
// be: neither moves a mode's promise.
const everything = "phase.cache=true phase.nowrite=false phase.provider=https://wide.example phase.provider=http://10.0.0.1 " +
	"phase.gateway=https://gateway.example phase.proxy=http://proxy.example:3128 phase.handover=restart phase.overlay=cache " +
	"phase.tor=on phase.time=time.example phase.time=10.0.0.1"

// promise is one row of the table of modes: what of a Config it is about, and what
// it is in each mode, whoever asks for everything, or for nothing at all.
type promise struct {
	name string
	of   func(Config) any
	// asked is in Internet, Local and Private mode with everything asked for;
	// silent is with nothing said.
	asked, silent [3]any
}

func promises() []promise {
	always := func(name string, of func(Config) any, row ...any) promise {
		return promise{name, of, [3]any(row), [3]any(row)}
	}
	return []promise{
		always("network required", func(c Config) any { return c.Mode.NetworkRequired() }, true, false, true),
		always("WAN", func(c Config) any { return c.Mode.MayUseWAN() }, true, false, true),
		always("LAN discovery", func(c Config) any { return c.Mode.MayUseLAN() }, true, true, false),
		always("DHT", func(c Config) any { return c.Mode.MayUseDHT() }, true, false, true),
		always("cache", func(c Config) any { return c.Cache }, true, true, false),
		always("writes", func(c Config) any { return c.MayWrite() }, true, true, false),
		always("identity", func(c Config) any { return c.Mode.PersistentIdentity() }, true, true, false),
		{"overlay", func(c Config) any { return c.Overlay }, [3]any{"cache", "cache", "memory"}, [3]any{"memory", "memory", "memory"}},
		{"handover", func(c Config) any { return c.Handover }, [3]any{"restart", "restart", "auto"}, [3]any{"auto", "auto", "auto"}},
		{"Tor", func(c Config) any { return c.Tor.Allow }, [3]any{false, false, true}, [3]any{false, false, false}},
		{"providers", func(c Config) any { return len(c.Providers) }, [3]any{2, 1, 2}, [3]any{0, 0, 0}},
		{"gateways", func(c Config) any { return len(c.Gateways) }, [3]any{1, 0, 0}, [3]any{0, 0, 0}},
		{"proxy", func(c Config) any { return c.Network.Proxy != "" }, [3]any{true, false, false}, [3]any{false, false, false}},
		{"time servers", func(c Config) any { return len(c.Time.Servers) }, [3]any{2, 1, 0}, [3]any{0, 0, 0}},
		always("portal", func(c Config) any { return c.Network.PortalCheck != "" }, true, false, false),
		{"NTS servers", func(c Config) any { return len(c.Time.NTS) }, [3]any{3, 0, 0}, [3]any{3, 0, 3}},
		{"time servers of DHCP", func(c Config) any { return c.Time.DHCP }, [3]any{true, true, false}, [3]any{true, true, true}},
	}
}

// TestPromises: three modes, each promise, whatever is asked for.
func TestPromises(t *testing.T) {
	for n, mode := range []string{"internet", "local", "private"} {
		for _, p := range promises() {
			t.Run(mode+"/"+p.name, func(t *testing.T) {
				for line, want := range map[string]any{everything: p.asked[n], "": p.silent[n]} {
					if got := p.of(parse(t, "phase.mode="+mode+" "+line, "")); got != want {
						t.Errorf("%q: %v, want %v", line, got, want)
					}
				}
			})
		}
	}
}

// TestPrivateWithoutTor: what Tor cannot carry is dropped for Tor alone.
func TestPrivateWithoutTor(t *testing.T) {
	c := parse(t, "phase.mode=private "+everything+" phase.tor=off", "")
	if c.Network.Proxy == "" || len(c.Time.Servers) != 2 || len(c.Time.NTS) != 3 || !c.Time.DHCP {
		t.Errorf("%+v", c)
	}
	if c = parse(t, "phase.mode=private phase.tor=on", ""); len(c.Warnings) > 0 {
		t.Errorf("nobody asked for time servers, and is told that they are not used: %q", c.Warnings)
	}
}

// TestStrictestForUnknownModes: a name that nobody knows has each of Private's
// limits, by the line and by the policy, and says so.
func TestStrictestForUnknownModes(t *testing.T) {
	for _, name := range []string{"privat", "INTERNET", "", "internet ", "auto", "0"} {
		private := parse(t, `phase.mode=private `+everything, "")
		for where, got := range map[string]Config{
			"line":   parse(t, fmt.Sprintf("%q %s", "phase.mode="+name, everything), ""),
			"policy": parse(t, everything, fmt.Sprintf("mode = %q", name)),
		} {
			for _, p := range promises() {
				if is, want := p.of(got), p.of(private); is != want {
					t.Errorf("mode %q in the %s: %s is %v, in private mode %v", name, where, p.name, is, want)
				}
			}
			if len(got.Warnings) != len(private.Warnings)+1 || !strings.Contains(got.Warnings[0], "is not a mode") {
				t.Errorf("mode %q in the %s: warnings %q", name, where, got.Warnings)
			}
		}
	}
}

// TestNoWriteForbidsAsPrivateDoes: the person's wish, in a mode that may write.
func TestNoWriteForbidsAsPrivateDoes(t *testing.T) {
	for _, mode := range []string{"internet", "local"} {
		c := parse(t, "phase.mode="+mode+" phase.nowrite=true phase.cache=true phase.handover=restart phase.overlay=cache", "")
		if c.MayWrite() || c.Cache || c.Handover != HandoverAuto || c.Overlay != OverlayMemory {
			t.Errorf("%s: %+v", mode, c)
		}
		if len(c.Warnings) != 3 {
			t.Errorf("%s: warnings %q, want one for each overruled wish", mode, c.Warnings)
		}
	}
}

// TestOverruledWishesAreSaid: each wish that a mode overrules has one warning.
func TestOverruledWishesAreSaid(t *testing.T) {
	for mode, want := range map[string][]string{
		"internet": {"Tor"},
		"local":    {"provider", "time server", "proxy", "gateways", "Tor"},
		"private":  {"gateways", "handover by restart", "overlay", "time servers", "proxy", "phase.cache", "phase.nowrite=false"},
	} {
		got := parse(t, "phase.mode="+mode+" "+everything, "").Warnings
		if len(got) != len(want) {
			t.Errorf("%s: %d warnings, want %d: %q", mode, len(got), len(want), got)
		}
		for _, w := range want {
			if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, w) }) {
				t.Errorf("%s: no warning of %s: %q", mode, w, got)
			}
		}
	}
}

// TestPageOfModes: the tables of docs/modes.md are the limits of this package.
func TestPageOfModes(t *testing.T) {
	raw, err := os.ReadFile("../../docs/modes.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	rows := map[string][3]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(page, -1) {
		rows[m[1]] = [3]string{m[2], m[3], m[4]}
	}
	yes := map[any]string{true: "yes", false: "no"}
	for _, r := range []struct {
		row  string
		of   string
		text func(any) string
	}{
		{"a network is required", "network required", func(v any) string { return yes[v] }},
		{"hosts beyond the local network are asked", "WAN", func(v any) string { return yes[v] }},
		{"the local network is asked (mDNS)", "LAN discovery", func(v any) string { return yes[v] }},
		{"the DHT is asked", "DHT", func(v any) string { return yes[v] }},
		{"the cache is used", "cache", func(v any) string { return yes[v] }},
		{"anything is written to a disk or to the firmware", "writes", func(v any) string { return yes[v] }},
		{"the identity is kept", "identity", func(v any) string { return yes[v] }},
		{"`overlay = \"cache\"`", "overlay", func(v any) string { return map[any]string{"cache": "as asked", "memory": "memory"}[v] }},
		{"`handover = \"restart\"`", "handover", func(v any) string { return map[any]string{"restart": "as asked", "auto": "never"}[v] }},
		{"`phase.tor=on`", "Tor", func(v any) string { return map[any]string{true: "as asked", false: "not used"}[v] }},
		{"gateways", "gateways", func(v any) string { return map[any]string{1: "as asked", 0: "none"}[v] }},
		{"a proxy", "proxy", func(v any) string { return map[any]string{true: "as asked", false: "not used"}[v] }},
		{"time servers", "time servers", func(v any) string { return map[any]string{2: "as asked", 1: "local ones", 0: "not used"}[v] }},
		{"the page that tells captive portals", "portal", func(v any) string { return map[any]string{true: "asked", false: "not asked"}[v] }},
	} {
		var want [3]string
		for _, p := range promises() {
			for n := range want {
				if p.name == r.of {
					want[n] = r.text(p.asked[n])
				}
			}
		}
		if rows[r.row] != want || want[0] == "" {
			t.Errorf("docs/modes.md: row %q is %q, want %q", r.row, rows[r.row], want)
		}
	}
}
