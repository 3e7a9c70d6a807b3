package bootcfg

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// A Decision is one key, what is in force, and who decided so. Secrets are
// hidden in its values.
type Decision struct {
	// Key is the key of policy.toml, with dots. A key that begins with "phase."
	// exists on the command line only; "bootstrap" is bootstrap-nodes.toml.
	Key string
	// Value is in force, Default would be if nobody had said anything: bool,
	// int64, string, []string or []Table.
	Value, Default any
	// By says who decided: "default", "policy.toml line 12", "kernel command
	// line: phase.cache", "private mode".
	By string
	// Asked is what was asked for by AskedBy, and overruled by By; nil: nothing.
	Asked   any
	AskedBy string
	// Hidden says that Value does not show all there is.
	Hidden bool
}

// A Table is a value that consists of others.
type Table []Field

// Field is one value in a Table.
type Field struct {
	Key   string
	Value any
}

// Explain is Parse, and tells of each key who decided it. The decisions are in the
// order of policy.toml.
func Explain(cmdline string, policyTOML, bootstrapTOML []byte, arch string) (Config, []Decision, error) {
	s, err := read(cmdline, policyTOML, bootstrapTOML, arch)
	if err != nil {
		return Config{}, nil, err
	}
	wished := s.wishes(arch)
	e := explainer{said: s, lines: tomlLines(policyTOML), defaults: Default(arch), wished: wished, config: s.config(arch)}
	var out []Decision
	for _, k := range explained() {
		out = append(out, e.decide(k))
	}
	return e.config, out, nil
}

// explainer is what is known when the decisions are told.
type explainer struct {
	said                     said
	lines                    map[string]int
	defaults, wished, config Config
}

// explainedKey is one row of the table of decisions.
type explainedKey struct {
	key  string
	line string // key of the command line; "" if there is none
	said func(line) bool
	get  func(Config) any
	// hides reports whether get leaves something out.
	hides func(Config) bool
}

// decide compares what was wished with what is.
func (e explainer) decide(k explainedKey) Decision {
	d := Decision{Key: k.key, Value: k.get(e.config), Default: k.get(e.defaults), By: e.asker(k)}
	d.Hidden = k.hides != nil && k.hides(e.config)
	if wished := k.get(e.wished); !reflect.DeepEqual(wished, d.Value) {
		d.Asked, d.AskedBy, d.By = wished, d.By, e.limit(k)
	}
	return d
}

// asker is who had the last word before the limits.
func (e explainer) asker(k explainedKey) string {
	switch row, inPolicy := e.lines[k.key]; {
	case k.said != nil && k.said(e.said.line):
		return lineSource + ": " + k.line
	case inPolicy:
		return fmt.Sprintf("%s line %d", policySource, row)
	case k.key == "bootstrap" && len(e.config.Bootstrap) > 0:
		return bootstrapSource
	}
	return "default"
}

// limit is whose limit changed a wish: that of Tor if nothing else would have, the
// mode's if it alone would have, else that of a further wish.
func (e explainer) limit(k explainedKey) string {
	is := k.get(e.config)
	if e.config.Tor.Allow {
		c := e.wished
		c.Tor.Allow = false
		if combine(&c); !reflect.DeepEqual(k.get(c), is) {
			return "Tor"
		}
	}
	for _, reason := range []struct {
		name   string
		loosen func(*Config)
	}{
		{e.config.Mode.String() + " mode", func(c *Config) { c.NoWrite, c.Cache = false, true }},
		{"the cache is not used", func(c *Config) { c.NoWrite = false }},
	} {
		c := e.wished
		reason.loosen(&c)
		combine(&c)
		if reflect.DeepEqual(k.get(c), is) {
			return reason.name
		}
	}
	return "phase.nowrite"
}

// explained is the table of all keys.
func explained() []explainedKey {
	return append(explainedStart(), explainedNetwork()...)
}

func explainedStart() []explainedKey {
	return []explainedKey{
		{"mode", "phase.mode", func(l line) bool { return l.mode != nil }, func(c Config) any { return c.Mode.String() }, nil},
		{"channel", "phase.channel", func(l line) bool { return l.channel != nil }, func(c Config) any { return c.Channel }, nil},
		{"cache_enabled", "phase.cache", func(l line) bool { return l.cache != nil }, func(c Config) any { return c.Cache }, nil},
		{"phase.nowrite", "phase.nowrite", func(l line) bool { return l.noWrite != nil }, func(c Config) any { return c.NoWrite }, nil},
		{"phase.menu", "phase.menu", func(l line) bool { return l.menu != nil }, func(c Config) any { return int64(c.Menu / time.Second) }, nil},
		{"min_version", "", nil, func(c Config) any { return c.MinVersion }, nil},
		{"providers", "phase.provider", func(l line) bool { return len(l.providers) > 0 }, func(c Config) any { return list(c.Providers) }, nil},
		{"handover", "phase.handover", func(l line) bool { return l.handover != nil }, func(c Config) any { return c.Handover }, nil},
		{"overlay", "phase.overlay", func(l line) bool { return l.overlay != nil }, func(c Config) any { return c.Overlay }, nil},
		{"transfer.gateways", "phase.gateway", func(l line) bool { return len(l.gateways) > 0 }, func(c Config) any { return list(c.Gateways) }, nil},
		{"time.nts", "phase.time", func(l line) bool { return l.time != nil && l.time.off }, func(c Config) any { return list(c.Time.NTS) }, nil},
		{"time.servers", "phase.time", func(l line) bool { return l.time != nil }, func(c Config) any { return list(c.Time.Servers) }, nil},
		{"time.dhcp", "phase.time", func(l line) bool { return l.time != nil && l.time.off }, func(c Config) any { return c.Time.DHCP }, nil},
		{"tor.allow", "phase.tor", func(l line) bool { return l.tor != nil }, func(c Config) any { return c.Tor.Allow }, nil},
		{"tor.bridges", "", nil, func(c Config) any { return optionNames(c.Tor.Bridges) }, func(c Config) bool { return len(c.Tor.Bridges) > 0 }},
		{"tor.extra", "", nil, func(c Config) any { return optionNames(c.Tor.Extra) }, func(c Config) bool { return len(c.Tor.Extra) > 0 }},
		{"phase.medium", "phase.medium", func(l line) bool { return l.medium != nil }, func(c Config) any { return c.Medium }, nil},
		{"phase.policy", "phase.policy", func(l line) bool { return l.policy != nil }, func(c Config) any { return c.PolicyDigest }, nil},
		{"bootstrap", "", nil, func(c Config) any { return list(c.Bootstrap) }, nil},
	}
}

func explainedNetwork() []explainedKey {
	static := func(l line) bool { return l.network != nil }
	return []explainedKey{
		{"phase.ip=off", "phase.ip", static, func(c Config) any { return c.Network.Off }, nil},
		{"network.timeout_seconds", "", nil, func(c Config) any { return int64(c.Network.Timeout.Seconds()) }, nil},
		{"network.link_local", "", nil, func(c Config) any { return c.Network.LinkLocal }, nil},
		{"network.proxy", "phase.proxy", func(l line) bool { return l.proxy != nil }, func(c Config) any { return c.Network.Proxy.String() },
			func(c Config) bool { return c.Network.Proxy.String() != string(c.Network.Proxy) }},
		{"network.portal_check", "", nil, func(c Config) any { return c.Network.PortalCheck }, nil},
		{"network.keep_mac", "", nil, func(c Config) any { return c.Network.KeepMAC }, nil},
		{"network.interfaces", "phase.ip, phase.vlan", static, func(c Config) any { return interfaceTables(c.Network.Interfaces) }, nil},
		{"network.wifi.country", "", nil, func(c Config) any { return c.Network.WiFi.Country }, nil},
		{"network.wifi.networks", "", nil, func(c Config) any { return wifiTables(c.Network.WiFi.Networks) }, hasPassphrase},
	}
}

// list is never nil, so that no list and an empty one look the same.
func list(s []string) []string { return append([]string{}, s...) }

// optionNames shows of lines for Tor what they set, and not to what.
func optionNames(lines []string) []string {
	out := []string{}
	for _, l := range lines {
		name := hidden
		if first, rest, _ := strings.Cut(l, " "); rest != "" && isAlnum(first, "_") {
			name = first + " " + hidden
		}
		out = append(out, name)
	}
	return out
}

func interfaceTables(interfaces []Interface) []Table {
	out := []Table{}
	for _, i := range interfaces {
		var t Table
		t.add("name", i.Name, i.Name != "")
		t.add("mac", i.MAC, i.MAC != "")
		t.add("vlan", int64(i.VLAN), i.VLAN != 0)
		t.add("method", "off", i.Off)
		t.add("address", i.Address.String(), i.Address.IsValid())
		t.add("gateway", i.Gateway.String(), i.Gateway.IsValid())
		var dns []string
		for _, a := range i.DNS {
			dns = append(dns, a.String())
		}
		t.add("dns", dns, len(dns) > 0)
		out = append(out, t)
	}
	return out
}

func wifiTables(networks []WiFiNetwork) []Table {
	out := []Table{}
	for _, n := range networks {
		var t Table
		t.add("ssid", n.SSID, true)
		t.add("passphrase", n.Passphrase.String(), n.Passphrase != "")
		t.add("hidden", true, n.Hidden)
		out = append(out, t)
	}
	return out
}

func hasPassphrase(c Config) bool {
	for _, n := range c.Network.WiFi.Networks {
		if n.Passphrase != "" {
			return true
		}
	}
	return false
}

// add appends what is not left out.
func (t *Table) add(key string, value any, present bool) {
	if present {
		*t = append(*t, Field{key, value})
	}
}
