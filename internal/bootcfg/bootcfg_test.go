package bootcfg

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/tor"
)

const arch = "x86_64"

func parse(t *testing.T, line, policy string) Config {
	t.Helper()
	c, err := Parse(line, []byte(policy), nil, arch)
	if err != nil {
		t.Fatalf("Parse(%q, %q): %v", line, policy, err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	if got, want := parse(t, "", ""), Default(arch); !reflect.DeepEqual(got, want) {
		t.Errorf("nothing given: %+v, want %+v", got, want)
	}
	got := parse(t, "BOOT_IMAGE=/vmlinuz quiet console=ttyS0,115200 phased=1 phase_time=off aphase.mode=x", "")
	if !reflect.DeepEqual(got, Default(arch)) {
		t.Errorf("foreign parameters changed the configuration: %+v", got)
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct {
		line string
		set  func(*Config)
	}{
		{"phase.mode=local", func(c *Config) { c.Mode = Local }},
		{"phase.proxy=http://proxy.example:3128/", func(c *Config) { c.Network.Proxy = "http://proxy.example:3128" }},
		{"phase.proxy=http://me:p%40ss@[fd00::1]:80", func(c *Config) { c.Network.Proxy = "http://me:p%40ss@[fd00::1]:80" }},
		{"phase.proxy=http://a:1 phase.proxy=off", func(c *Config) {}},
		{"phase.ip=dhcp phase.proxy=http://a:1", func(c *Config) { c.Network.Proxy = "http://a:1" }},
		{"phase.mode=internet", func(c *Config) {}},
		{"phase.mode=private", func(c *Config) { c.Mode, c.Cache, c.NoWrite = Private, false, true }},
		{"phase.mode=private phase.mode=local", func(c *Config) { c.Mode = Local }},
		{"phase.channel=nightly", func(c *Config) { c.Channel = "nightly" }},
		{"phase.cache=disabled", func(c *Config) { c.Cache = false }},
		{"phase.cache=false phase.cache=true", func(c *Config) {}},
		{"phase.cache=enabled", func(c *Config) {}},
		{"phase.nowrite=true", func(c *Config) { c.NoWrite, c.Cache = true, false }},
		{"phase.nowrite=disabled", func(c *Config) {}},
		{"phase.handover=kexec_load", func(c *Config) { c.Handover = HandoverLoad }},
		{"phase.handover=restart", func(c *Config) { c.Handover = HandoverRestart }},
		{"phase.handover=restart phase.handover=kexec_file_load", func(c *Config) { c.Handover = HandoverFile }},
		{"phase.overlay=cache", func(c *Config) { c.Overlay = OverlayCache }},
		{"phase.overlay=cache phase.overlay=memory", func(c *Config) {}},
		{"phase.tor=on phase.mode=private", func(c *Config) { c.Mode, c.Cache, c.NoWrite, c.Tor.Allow, c.Time = Private, false, true, true, Time{} }},
		{"phase.tor=true phase.tor=off", func(c *Config) {}},
		{"phase.menu=10", func(c *Config) { c.Menu = 10 * time.Second }},
		{"phase.menu=10 phase.menu=0", func(c *Config) {}},
		{"phase.menu=3600", func(c *Config) { c.Menu = time.Hour }},
		{"phase.provider=http://10.0.2.2:8080/ phase.provider=https://a.example/x", func(c *Config) {
			c.Providers = []string{"http://10.0.2.2:8080", "https://a.example/x"}
		}},
		{"phase.gateway=https://ipfs.example/ phase.gateway=http://10.0.0.9:8080", func(c *Config) {
			c.Gateways = []string{"https://ipfs.example", "http://10.0.0.9:8080"}
		}},
		{`phase.channel="testing" "phase.cache=false" x="phase.mode=private"`, func(c *Config) { c.Channel, c.Cache = "testing", false }},
		{`a="b c phase.mode=private" phase.mode=local`, func(c *Config) { c.Mode = Local }},
		{"quiet -- phase.mode=local", func(c *Config) { c.Mode = Local }},
		{"phase.time=10.0.2.2:12300 phase.time=time.example phase.time=fd00::1 phase.time=[fd00::1]:123", func(c *Config) {
			c.Time.Servers = []string{"10.0.2.2:12300", "time.example", "fd00::1", "[fd00::1]:123"}
		}},
		{"phase.time=off", func(c *Config) { c.Time = Time{} }},
		{"phase.time=a phase.time=off", func(c *Config) { c.Time = Time{} }},
		{"phase.time=a phase.time=off phase.time=b", func(c *Config) { c.Time = Time{Servers: []string{"b"}} }},
		{"phase.ip=off", func(c *Config) { c.Network.Off = true }},
		{"phase.ip=off phase.ip=dhcp", func(c *Config) {}},
		{"phase.ip=192.168.1.5/24,192.168.1.1,192.168.1.2", func(c *Config) {
			c.Network.Interfaces = []Interface{{Address: netip.MustParsePrefix("192.168.1.5/24"), Gateway: netip.MustParseAddr("192.168.1.1"), DNS: []netip.Addr{netip.MustParseAddr("192.168.1.2")}}}
		}},
		{"phase.ip=10.0.0.5/8,,,eth0", func(c *Config) {
			c.Network.Interfaces = []Interface{{Name: "eth0", Address: netip.MustParsePrefix("10.0.0.5/8")}}
		}},
		{"phase.vlan=42", func(c *Config) { c.Network.Interfaces = []Interface{{VLAN: 42}} }},
		{"phase.vlan=7 phase.vlan=4094,52:54:00:12:34:5A", func(c *Config) {
			c.Network.Interfaces = []Interface{{VLAN: 4094, MAC: "52:54:00:12:34:5a"}}
		}},
		{"phase.vlan=42,eth1 phase.ip=dhcp", func(c *Config) { c.Network.Interfaces = []Interface{{VLAN: 42, Name: "eth1"}} }},
		{"phase.vlan=42,eth1 phase.ip=10.0.0.5/8,,", func(c *Config) {
			c.Network.Interfaces = []Interface{{VLAN: 42, Name: "eth1", Address: netip.MustParsePrefix("10.0.0.5/8")}}
		}},
		{"phase.ip=10.0.0.5/8,,,eth1 phase.vlan=42", func(c *Config) {
			c.Network.Interfaces = []Interface{{VLAN: 42, Name: "eth1", Address: netip.MustParsePrefix("10.0.0.5/8")}}
		}},
		{"phase.ip=fd00::5/64,fe80::1,,52:54:00:12:34:5A", func(c *Config) {
			c.Network.Interfaces = []Interface{{MAC: "52:54:00:12:34:5a", Address: netip.MustParsePrefix("fd00::5/64"), Gateway: netip.MustParseAddr("fe80::1")}}
		}},
	} {
		want := Default(arch)
		c.set(&want)
		if want.Mode == Local {
			want.Time.NTS = nil // all of them are far away
		}
		if want.Mode != Internet {
			want.Network.PortalCheck = ""
		}
		if got := parse(t, c.line, ""); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.line, got, want)
		}
	}
}

func TestLineRefuses(t *testing.T) {
	for _, c := range []struct {
		line string
		kind Kind
		says string
	}{
		{"phase.mod=private", UnknownKey, "phase.mod"},
		{"Phase.mode=private", UnknownKey, "Phase.mode"},
		{"phase.=x", UnknownKey, "phase."},
		{"phase.channel=beta", BadValue, "stable, testing, nightly"},
		{"phase.channel=", BadValue, "phase.channel"},
		{"phase.channel", BadValue, "phase.channel"},
		{"phase.cache=yes", BadValue, "enabled, disabled, true, false"},
		{"phase.cache=True", BadValue, `"True"`},
		{"phase.nowrite", BadValue, "phase.nowrite"},
		{"phase.nowrite=1", BadValue, `"1"`},
		{"phase.handover=kexec", BadValue, "auto, kexec_file_load, kexec_load, restart"},
		{"phase.handover", BadValue, "auto"},
		{"phase.overlay=disk", BadValue, "memory, cache"},
		{"phase.overlay=Cache", BadValue, "memory, cache"},
		{"phase.tor=yes", BadValue, "on, off"},
		{"phase.tor", BadValue, "on, off"},
		{"phase.medium=", BadValue, "not a GUID"},
		{"phase.medium=/dev/sda2", BadValue, "not a GUID"},
		{"phase.medium=01234567-89AB-cdef-0123-456789abcdef", BadValue, "lower case"},
		{"phase.medium=01234567-89ab-cdef-0123-456789abcde", BadValue, "not a GUID"},
		{"phase.policy=", BadValue, "not a SHA-256 digest"},
		{"phase.policy=off", BadValue, "64 hexadecimal digits"},
		{"phase.policy=sha256:" + strings.Repeat("A", 64), BadValue, "not a SHA-256 digest"},
		{"phase.policy=" + strings.Repeat("a", 64), BadValue, "not a SHA-256 digest"},
		{"phase.menu=3601", BadValue, "0 to 3600"},
		{"phase.menu=-1", BadValue, "0 to 3600"},
		{"phase.menu", BadValue, "0 to 3600"},
		{"phase.allow_tor=true", UnknownKey, "phase.tor"},
		{"phase.provider=ftp://host/", BadValue, "neither http nor https"},
		{"phase.provider=http:///x", BadValue, "no host"},
		{"phase.provider=http://u:p@host", BadValue, "user names"},
		{"phase.provider=http://host/?q", BadValue, "query"},
		{"phase.provider=http://host/#", BadValue, "fragment"},
		{"phase.provider=http://[::1", BadValue, "not a URL"},
		{"phase.provider=http://h/" + strings.Repeat("a", maxURL), BadValue, "2048"},
		{strings.Repeat("phase.provider=http://h ", MaxProviders+1), BadValue, "too many"},
		{"phase.gateway=", BadValue, "neither http nor https"},
		{"phase.gateway=ipfs://bafy", BadValue, "neither http nor https"},
		{"phase.gateway=https://u:p@gateway.example", BadValue, "user names"},
		{"phase.gateway=https://gateway.example/?format=raw", BadValue, "query"},
		{strings.Repeat("phase.gateway=http://h ", MaxGateways+1), BadValue, "too many"},
		{"phase.time", BadValue, "<host>"},
		{"phase.time=", BadValue, "<host> or <host>:<port>"},
		{"phase.time=OFF:", BadValue, "host:port"},
		{"phase.time=http://time.example", BadValue, "host:port"},
		{"phase.time=time.example:ntp", BadValue, "host:port"},
		{"phase.time=time.example:0", BadValue, "host:port"},
		{"phase.time=time.example:0123", BadValue, "host:port"},
		{"phase.time=time.example:65536", BadValue, "host:port"},
		{"phase.time=time..example", BadValue, "host:port"},
		{"phase.time=[fd00::1]", BadValue, "host:port"},
		{"phase.time=[fd00::1", BadValue, "host:port"},
		{"phase.time=fe80::1%eth0", BadValue, "one machine"},
		{"phase.time=[fe80::1%eth0]:123", BadValue, "one machine"},
		{"phase.time=0.0.0.0", BadValue, "one machine"},
		{"phase.time=224.0.1.1", BadValue, "one machine"},
		{"phase.time=" + strings.Repeat("a.", 200), BadValue, "host:port"},
		{strings.Repeat("phase.time=h ", MaxTimeServers+1), BadValue, "too many"},
		{"phase.ip=on", BadValue, "three or four"},
		{"phase.ip=10.0.0.1/8,,,eth0,x", BadValue, "three or four"},
		{"phase.ip=10.0.0.1,,", BadValue, "prefix length"},
		{"phase.ip=10.0.0.1/0,,", BadValue, "prefix length"},
		{"phase.ip=0.0.0.0/8,,", BadValue, "prefix length"},
		{"phase.ip=224.0.0.1/8,,", BadValue, "prefix length"},
		{"phase.ip=127.0.0.1/8,,", BadValue, "prefix length"},
		{"phase.ip=::ffff:10.0.0.1/120,,", BadValue, "prefix length"},
		{"phase.ip=,,", BadValue, "address"},
		{"phase.ip=10.0.0.1/8,fe80::1,", BadValue, "gateway"},
		{"phase.ip=10.0.0.1/8,x,", BadValue, "gateway"},
		{"phase.ip=10.0.0.1/8,,0.0.0.0", BadValue, "name server"},
		{"phase.ip=10.0.0.1/8,,,a/b", BadValue, "name of an interface"},
		{"phase.ip=10.0.0.1/8,,,1:2:3", BadValue, "MAC"},
		{"phase.vlan", BadValue, "1 to 4094"},
		{"phase.vlan=0", BadValue, "not a VLAN"},
		{"phase.vlan=4095", BadValue, "not a VLAN"},
		{"phase.vlan=-1", BadValue, "not a VLAN"},
		{"phase.vlan=042", BadValue, "number"},
		{"phase.vlan=42,", BadValue, "number"},
		{"phase.vlan=9223372036854775808", BadValue, "number"},
		{"phase.vlan=42,a/b", BadValue, "name of an interface"},
		{"phase.vlan=42,eth0 phase.ip=10.0.0.1/8,,,eth1", BadValue, "another interface"},
		{"phase.ip=off phase.vlan=42", BadValue, "switched off"},
		{"phase.proxy", BadValue, "off, or http://"},
		{"phase.proxy=", BadValue, "http://"},
		{"phase.proxy=none", BadValue, "http://"},
		{"phase.proxy=proxy.example:3128", BadValue, "http://"},
		{"phase.proxy=https://h:1", BadValue, "begins with http://"},
		{"phase.proxy=socks5://h:1", BadValue, "begins with http://"},
		{"phase.proxy=http://h", BadValue, "port"},
		{"phase.proxy=http://h:0", BadValue, "port"},
		{"phase.proxy=http://:80", BadValue, "host"},
		{"phase.proxy=http:h:80", BadValue, "host"},
		{"phase.proxy=http://0.0.0.0:80", BadValue, "host"},
		{"phase.proxy=http://a..b:80", BadValue, "host"},
		{"phase.proxy=http://h:1/x", BadValue, "path"},
		{"phase.proxy=http://h:1?x", BadValue, "query"},
		{"phase.proxy=http://h:1#", BadValue, "fragment"},
		{"phase.proxy=http://@h:1", BadValue, "user name"},
		{"phase.proxy=http://:p@h:1", BadValue, "user name"},
		{"phase.proxy=http://a%3Ab:p@h:1", BadValue, "colon"},
		{"phase.proxy=http://a:%zz@h:1", BadValue, "%40"},
		{"\"phase.proxy=http://a b:1\"", BadValue, "blanks"},
		{"phase.proxy=http://h" + strings.Repeat("a", maxURL) + ":1", BadValue, "2048"},
		{strings.Repeat("a", MaxCommandLine+1), BadLine, "8 KiB"},
		{"phase.mode=\xff", BadLine, "plain text"},
		{"phase.mode=a\x00", BadLine, "plain text"},
	} {
		_, err := Parse(c.line, nil, nil, arch)
		checkError(t, c.line[:min(len(c.line), 60)], err, c.kind, c.says)
	}
}

func checkError(t *testing.T, name string, err error, kind Kind, says string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%s: error %v, want kind %d", name, err, kind)
		return
	}
	if e.Kind != kind || !strings.Contains(e.Error(), says) {
		t.Errorf("%s: kind %d, %q; want kind %d and %q", name, e.Kind, e, kind, says)
	}
	if !regexp.MustCompile(`^BOOT-00[1-8]$`).MatchString(e.Code()) || e.Hint() == "" {
		t.Errorf("%s: code %q, hint %q", name, e.Code(), e.Hint())
	}
}

func TestErrorIsSafeToShow(t *testing.T) {
	_, err := Parse("phase.channel=\x1b[2J"+strings.Repeat("x", 1000), nil, nil, arch)
	if err == nil || strings.ContainsRune(err.Error(), 0x1b) || len(err.Error()) > 400 {
		t.Errorf("error %q", err)
	}
}

func TestUnknownModeIsPrivateAndLoud(t *testing.T) {
	for _, c := range []struct{ line, policy string }{
		{"phase.mode=privat", ""},
		{"phase.mode=INTERNET", ""},
		{"phase.mode=", ""},
		{"phase.mode", ""},
		{"", `mode = "lokal"`},
		{"phase.mode=internet phase.mode=nonsense", `mode = "internet"`},
	} {
		got := parse(t, c.line, c.policy)
		if got.Mode != Private || got.Cache || !got.NoWrite || got.MayWrite() || len(got.Warnings) == 0 {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

func TestPrivateForbidsWhateverIsSaid(t *testing.T) {
	got := parse(t, "phase.mode=private phase.cache=enabled phase.nowrite=false", "cache_enabled = true")
	if got.Cache || !got.NoWrite || got.MayWrite() {
		t.Errorf("private mode with cache %v, nowrite %v", got.Cache, got.NoWrite)
	}
	if len(got.Warnings) != 2 {
		t.Errorf("warnings %q, want one for each overruled wish", got.Warnings)
	}
}

func TestLocalKeepsLocalProvidersOnly(t *testing.T) {
	local := []string{"http://10.0.2.2:8080", "http://192.168.0.1", "http://[fe80::1]:80", "http://[fd00::1]", "http://169.254.3.4", "http://nas.local:80", "http://127.0.0.1"}
	wide := []string{"http://8.8.8.8", "https://mirror.example", "http://nas", "http://[2001:db8::1]", "http://nas.local.example", "http://172.32.0.1"}
	line := "phase.mode=local"
	for _, u := range append(local, wide...) {
		line += " phase.provider=" + u
	}
	got := parse(t, line, "")
	if !reflect.DeepEqual(got.Providers, local) {
		t.Errorf("providers %q, want %q", got.Providers, local)
	}
	if len(got.Warnings) != len(wide) {
		t.Errorf("warnings %q", got.Warnings)
	}
}

// TestGatewaysAreForTheInternet: whoever runs one would hear of this boot.
func TestGatewaysAreForTheInternet(t *testing.T) {
	const line, policy = "phase.gateway=http://10.0.0.9", "[transfer]\ngateways = [\"https://ipfs.example/\"]"
	if got := parse(t, "", policy).Gateways; !reflect.DeepEqual(got, []string{"https://ipfs.example"}) {
		t.Errorf("policy: %q", got)
	}
	if got := parse(t, line, policy).Gateways; !reflect.DeepEqual(got, []string{"http://10.0.0.9"}) {
		t.Errorf("the line does not win: %q", got)
	}
	for _, mode := range []string{"local", "private"} {
		if got := parse(t, line+" phase.mode="+mode, policy); len(got.Gateways) > 0 || len(got.Warnings) != 1 {
			t.Errorf("%s: %q, warnings %q", mode, got.Gateways, got.Warnings)
		}
	}
}

func TestLocalKeepsLocalTimeServersOnly(t *testing.T) {
	local := []string{"192.168.0.1", "[fd00::1]:123", "clock.local:1123"}
	const policy = "[time]\nservers = [\"192.168.0.1\", \"192.0.2.1\", \"[fd00::1]:123\", \"clock.local:1123\"]\nnts = [\"time.example\", \"nts.local\"]"
	got := parse(t, "phase.mode=local", policy).Time
	if want := (Time{DHCP: true, Servers: local, NTS: []string{"nts.local"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if w := parse(t, "phase.mode=local", policy).Warnings; len(w) != 2 || !strings.Contains(w[0], "192.0.2.1") || !strings.Contains(w[1], "time.example") {
		t.Errorf("warnings %q", w)
	}
	if c := parse(t, "phase.mode=local", ""); len(c.Warnings) > 0 || len(c.Time.NTS) > 0 {
		t.Errorf("the list that nobody asked for: %+v", c)
	}
	if got := parse(t, "phase.mode=private", policy).Time; len(got.Servers) != 4 || len(got.NTS) != 2 {
		t.Errorf("private: %+v", got)
	}
}

func TestModeTable(t *testing.T) {
	type row struct{ required, wan, lan, dht, cache, write, keep bool }
	for m, want := range map[Mode]row{
		Internet: {true, true, true, true, true, true, true},
		Local:    {false, false, true, false, true, true, true},
		Private:  {true, true, false, true, false, false, false},
		Mode(99): {true, true, false, true, false, false, false},
	} {
		got := row{m.NetworkRequired(), m.MayUseWAN(), m.MayUseLAN(), m.MayUseDHT(), m.MayUseCache(), m.MayWrite(), m.PersistentIdentity()}
		if got != want {
			t.Errorf("%s: %+v, want %+v", m, got, want)
		}
	}
	if Local.Title() != "Local Mode" {
		t.Errorf("title %q", Local.Title())
	}
}

const fullPolicy = `
mode = "local"
channel = "testing"
cache_enabled = false
min_version = 42
handover = "kexec_load"
overlay = "cache"
providers = ["http://10.0.0.1/"]
[time]
dhcp = false
servers = ["10.0.0.9", "clock.local:1123"]
nts = []
[network]
timeout_seconds = 90
link_local = false
proxy = "http://10.0.0.8:3128"
portal_check = "http://portal.example/check?x"
keep_mac = true
[network.wifi]
country = "DE"
[[network.wifi.networks]]
ssid = "Wald und Wiese"
passphrase = "correct horse"
[[network.wifi.networks]]
ssid = "caf\u00e9"
hidden = true
[[network.interfaces]]
name = "eth1"
method = "off"
[[network.interfaces]]
mac = "52:54:00:12:34:56"
method = "static"
address = "192.168.1.10/24"
gateway = "192.168.1.1"
dns = ["192.168.1.1", "192.168.1.2"]
[[network.interfaces]]
name = "eth0"
vlan = 42
`

func fullWiFi() WiFi {
	return WiFi{Country: "DE", Networks: []WiFiNetwork{
		{SSID: "Wald und Wiese", Passphrase: "correct horse"}, {SSID: "caf\u00e9", Hidden: true},
	}}
}

func TestPolicy(t *testing.T) {
	want := Config{
		Mode: Local, Channel: "testing", Arch: arch, MinVersion: 42, Providers: []string{"http://10.0.0.1"},
		Time:     Time{Servers: []string{"10.0.0.9", "clock.local:1123"}},
		Handover: HandoverLoad, Overlay: OverlayMemory,
		Warnings: []string{"the proxy is not used: local mode stays on the local network", "the overlay is kept in memory: the cache is not used"},
		Network: Network{Timeout: 90 * time.Second, KeepMAC: true, WiFi: fullWiFi(), Interfaces: []Interface{
			{Name: "eth1", Off: true},
			{MAC: "52:54:00:12:34:56", Address: netip.MustParsePrefix("192.168.1.10/24"), Gateway: netip.MustParseAddr("192.168.1.1"),
				DNS: []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("192.168.1.2")}},
			{Name: "eth0", VLAN: 42},
		}},
	}
	if got := parse(t, "", fullPolicy); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLineWinsOverPolicy(t *testing.T) {
	got := parse(t, "phase.mode=internet phase.channel=nightly phase.cache=true phase.provider=https://b.example phase.ip=dhcp", fullPolicy)
	want := Config{
		Mode: Internet, Channel: "nightly", Arch: arch, Cache: true, MinVersion: 42,
		Handover: HandoverLoad, Overlay: OverlayCache,
		Providers: []string{"https://b.example"},
		Network: Network{Timeout: 90 * time.Second, KeepMAC: true, WiFi: fullWiFi(),
			Proxy: "http://10.0.0.8:3128", PortalCheck: "http://portal.example/check?x"},
		Time: Time{Servers: []string{"10.0.0.9", "clock.local:1123"}, NTS: []string{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPolicyRefuses(t *testing.T) {
	for _, c := range []struct {
		policy string
		kind   Kind
		says   string
	}{
		{"mode = ", PolicySyntax, "line 1"},
		{"\n\nmode = 3", PolicySyntax, "line 3"},
		{"mode = \"local\"\nmode = \"local\"", PolicySyntax, "mode"},
		{"#" + strings.Repeat("x", MaxFile), PolicySyntax, "64 KiB"},
		{"cache_enabled = \"true\"", PolicySyntax, "line 1"},
		{"min_version = 9223372036854775808", PolicySyntax, "line 1"},
		{"min_version = 1.5", PolicySyntax, "line 1"},
		{"allow_tor = true", PolicyKey, "allow_tor"},
		{"Mode = \"local\"", PolicyKey, "Mode"},
		{"[network]\nvlan = 3", PolicyKey, "network.vlan"},
		{"[[network.interfaces]]\nip = \"x\"", PolicyKey, "ip"},
		{"channel = \"beta\"", PolicyValue, "stable, testing, nightly"},
		{"handover = \"kexec\"", PolicyValue, "auto, kexec_file_load, kexec_load, restart"},
		{"handover = true", PolicySyntax, "line 1"},
		{"overlay = \"\"", PolicyValue, "memory, cache"},
		{"tor = true", PolicySyntax, "line 1"},
		{"[tor]\nallowed = true", PolicyKey, "tor.allowed"},
		{"[tor]\nallow = \"on\"", PolicySyntax, "line 2"},
		{"[tor]\nbridges = [" + strings.Repeat("\"obfs4 x\",", tor.MaxBridges+1) + "]", PolicyValue, "at most 16"},
		{"[tor]\nextra = [" + strings.Repeat("\"X 1\",", tor.MaxExtra+1) + "]", PolicyValue, "at most 32"},
		{"[tor]\nbridges = [\"\"]", PolicyValue, "tor.bridges[0]"},
		{"[tor]\nextra = [\"StrictNodes 1\", \" \"]", PolicyValue, "tor.extra[1]"},
		{"[tor]\nbridges = [\"192.0.2.1:1\\nSocksPort 1\"]", PolicyValue, "plain ASCII"},
		{"[tor]\nbridges = [\"obfs4 192.0.2.1:1\"]", PolicyValue, "pluggable transports"},
		{"[tor]\nextra = ['StrictNodes 1\\']", PolicyValue, "plain ASCII"},
		{"[tor]\nextra = [\"ControlPort 9051\"]", PolicyValue, "ControlPort is not among"},
		{"mode = \"local\"\n[tor]\nextra = [\"ExitNodes {de}\"]", PolicyValue, "names a country"},
		{"min_version = -1", PolicyValue, "-1"},
		{"providers = [\"ftp://x\"]", PolicyValue, "ftp://x"},
		{"transfer.gateways = [\"ipfs://x\"]", PolicyValue, "ipfs://x"},
		{"[transfer]\ngateway = []", PolicyKey, "transfer.gateway"},
		{"[transfer]\ngateways = [" + strings.Repeat("\"http://x\",", MaxGateways+1) + "]", PolicyValue, "at most 8"},
		{"providers = [" + strings.Repeat("\"http://x\",", MaxProviders+1) + "]", PolicyValue, "at most 16"},
		{"[time]\nntp = []", PolicyKey, "time.ntp"},
		{"[time]\nNTS = []", PolicyKey, "NTS"},
		{"[time]\ndhcp = 1", PolicySyntax, "line 2"},
		{"[time]\nservers = \"a\"", PolicySyntax, "line 2"},
		{"time = \"a\"", PolicySyntax, "line 1"},
		{"[time]\nservers = [\"http://a\"]", PolicyValue, "time.servers"},
		{"[time]\nservers = [\"\"]", PolicyValue, "time.servers"},
		{"[time]\nnts = [\"a b\"]", PolicyValue, "time.nts"},
		{"[time]\nnts = [\"a:0\"]", PolicyValue, "<host>:<port>"},
		{"[time]\nnts = [\"::\"]", PolicyValue, "one machine"},
		{"[time]\nservers = [" + strings.Repeat("\"a\",", MaxTimeServers+1) + "]", PolicyValue, "at most 4"},
		{"[time]\nnts = [" + strings.Repeat("\"a\",", MaxTimeServers+1) + "]", PolicyValue, "at most 4"},
		{"[network]\ntimeout_seconds = 4", PolicyValue, "5 to 600"},
		{"[network]\ntimeout_seconds = 601", PolicyValue, "5 to 600"},
		{"[[network.interfaces]]\nmethod = \"auto\"", PolicyValue, "unknown method"},
		{"[[network.interfaces]]\nmethod = \"off\"", PolicyValue, "needs a name"},
		{"[[network.interfaces]]\nvlan = 0", PolicyValue, "1 to 4094"},
		{"[[network.interfaces]]\nvlan = 4095", PolicyValue, "1 to 4094"},
		{"[[network.interfaces]]\nvlan = \"42\"", PolicySyntax, "line 2"},
		{"[[network.interfaces]]\nname = \"e\"\nmethod = \"off\"\nvlan = 3", PolicyValue, "VLAN"},
		{"[[network.interfaces]]\nmethod = \"static\"", PolicyValue, "needs an address"},
		{"[[network.interfaces]]\nmethod = \"dhcp\"\naddress = \"10.0.0.1/8\"", PolicyValue, "does not go with"},
		{"[[network.interfaces]]\nname = \"e\"\ngateway = \"10.0.0.1\"", PolicyValue, "need an address"},
		{"[[network.interfaces]]\naddress = \"10.0.0.1/8\"\ndns = [\"10.0.0.1\",\"10.0.0.1\",\"10.0.0.1\",\"10.0.0.1\"]", PolicyValue, "three name servers"},
		{strings.Repeat("[[network.interfaces]]\n", MaxInterfaces+1), PolicyValue, "at most 16"},
		{"[network]\nproxy = \"off\"", PolicyValue, "network.proxy"},
		{"[network]\nproxy = 3", PolicySyntax, "line 2"},
		{"[network]\nportal_check = \"https://h/\"", PolicyValue, "only http"},
		{"[network]\nportal_check = \"h\"", PolicyValue, "only http"},
		{"[network]\nportal_check = \"http:///x\"", PolicyValue, "no host"},
		{"[network]\nportal_check = \"http://a b/\"", PolicyValue, "not a URL"},
		{"[network]\nportal_check = \"http://u@h/\"", PolicyValue, "user name"},
		{"[network]\nportal_check = \"http://h/#x\"", PolicyValue, "fragment"},
		{"[network]\nportal_check = \"http://h/" + strings.Repeat("a", maxURL) + "\"", PolicyValue, "2048"},
		{"[network]\nkeep_mac = \"yes\"", PolicySyntax, "line 2"},
		{"[network.wifi]\nssid = \"x\"", PolicyKey, "network.wifi.ssid"},
		{"[network.wifi]\ncountry = \"de\"", PolicyValue, "capital"},
		{"[network.wifi]\ncountry = \"DEU\"", PolicyValue, "capital"},
		{"[[network.wifi.networks]]\nhidden = true", PolicyValue, "1 to 32"},
		{wifiPolicyOf(strings.Repeat("a", 33), ""), PolicyValue, "1 to 32"},
		{wifiPolicyOf(strings.Repeat("\u00e9", 17), ""), PolicyValue, "1 to 32"},
		{wifiPolicyOf("a\\u001bb", ""), PolicyValue, "plain text"},
		{wifiPolicyOf("a", "seven77"), PolicyValue, "8 to 63"},
		{wifiPolicyOf("a", strings.Repeat("x", 64)), PolicyValue, "8 to 63"},
		{wifiPolicyOf("a", strings.Repeat("0", 65)), PolicyValue, "8 to 63"},
		{wifiPolicyOf("a", "passphras\u00e9"), PolicyValue, "printable ASCII"},
		{wifiPolicyOf("a", "pass\\tphrase"), PolicyValue, "printable ASCII"},
		{strings.Repeat(wifiPolicyOf("a", ""), MaxWiFiNetworks+1), PolicyValue, "at most 8"},
	} {
		_, err := Parse("", []byte(c.policy), nil, arch)
		checkError(t, c.policy[:min(len(c.policy), 60)], err, c.kind, c.says)
	}
}

func wifiPolicyOf(ssid, passphrase string) string {
	return "[[network.wifi.networks]]\nssid = \"" + ssid + "\"\npassphrase = \"" + passphrase + "\"\n"
}

const peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"

func node(id, addr string) string {
	return "[[bootstrap]]\npeer_id = \"" + id + "\"\naddress = \"" + addr + "\"\n"
}

func TestBootstrap(t *testing.T) {
	var file string
	var want []string
	for _, a := range []string{"/ip4/10.0.2.2/tcp/4001", "/ip6/fd00::1/udp/4001/quic-v1", "/dns4/a-b.example/tcp/1", "/dnsaddr/boot.example"} {
		file += node(peer, a)
		want = append(want, a+"/p2p/"+peer)
	}
	file += node(peer, "/dns/x.example/tcp/65535/p2p/"+peer)
	want = append(want, "/dns/x.example/tcp/65535/p2p/"+peer)
	file += "[[bootstrap]]\ndnsaddr = \"bootstrap.example.org\"\n"
	want = append(want, "/dnsaddr/bootstrap.example.org")
	c, err := Parse("", nil, []byte(file), arch)
	if err != nil || !reflect.DeepEqual(c.Bootstrap, want) {
		t.Errorf("bootstrap %q, %v; want %q", c.Bootstrap, err, want)
	}
}

func TestBootstrapRefuses(t *testing.T) {
	for name, file := range map[string]string{
		"no peer":          node("", "/ip4/10.0.2.2/tcp/1"),
		"odd peer":         node(peer+"/x", "/ip4/10.0.2.2/tcp/1"),
		"other peer":       node(peer, "/ip4/10.0.2.2/tcp/1/p2p/"+strings.Replace(peer, "W", "X", 1)),
		"no address":       node(peer, ""),
		"no slash":         node(peer, "ip4/10.0.2.2/tcp/1"),
		"host:port":        node(peer, "10.0.2.2:1"),
		"v6 as ip4":        node(peer, "/ip4/::1/tcp/1"),
		"zone":             node(peer, "/ip6/fe80::1%eth0/tcp/1"),
		"port 0":           node(peer, "/ip4/10.0.2.2/tcp/0"),
		"port 65536":       node(peer, "/ip4/10.0.2.2/tcp/65536"),
		"port 01":          node(peer, "/ip4/10.0.2.2/tcp/01"),
		"no transport":     node(peer, "/ip4/10.0.2.2"),
		"udp without quic": node(peer, "/ip4/10.0.2.2/udp/1"),
		"relay":            node(peer, "/ip4/10.0.2.2/tcp/1/p2p-circuit"),
		"empty label":      node(peer, "/dns4/a..b/tcp/1"),
		"long":             node(peer, "/dns4/"+strings.Repeat("a.", 300)+"b/tcp/1"),
		"too many":         strings.Repeat(node(peer, "/ip4/10.0.2.2/tcp/1"), MaxBootstrap+1),
		"unknown key":      "[[bootstrap]]\nid = \"x\"",
		"dnsaddr and peer": "[[bootstrap]]\ndnsaddr = \"a.example\"\npeer_id = \"" + peer + "\"",
		"dnsaddr and more": "[[bootstrap]]\ndnsaddr = \"a.example\"\naddress = \"/ip4/10.0.2.2/tcp/1\"",
		"dnsaddr path":     "[[bootstrap]]\ndnsaddr = \"/dnsaddr/a.example\"",
		"dnsaddr label":    "[[bootstrap]]\ndnsaddr = \"localhost\"",
		"dnsaddr address":  "[[bootstrap]]\ndnsaddr = \"10.0.0.1\"",
		"dnsaddr long":     "[[bootstrap]]\ndnsaddr = \"" + strings.Repeat("a.", 130) + "b\"",
		"nothing":          "[[bootstrap]]",
		"not TOML":         "[[bootstrap",
		"not a table":      "bootstrap = 3",
	} {
		_, err := Parse("", nil, []byte(file), arch)
		checkError(t, name, err, BadBootstrapSet, "bootstrap-nodes.toml")
	}
}

func TestArchIsCanonical(t *testing.T) {
	for _, a := range []string{"", "amd64", "aarch64", "riscv64"} {
		_, err := Parse("", nil, nil, a)
		checkError(t, a, err, BadArch, "x86_64, arm64")
	}
}

// TestShippedFiles ties media/ to this code: as shipped the files change
// nothing, and the values they show behind comment signs are the defaults.
func TestShippedFiles(t *testing.T) {
	policy, err := os.ReadFile("../../media/policy.toml")
	if err != nil {
		t.Fatal(err)
	}
	bootstrap, err := os.ReadFile("../../media/bootstrap-nodes.toml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("", policy, bootstrap, arch)
	if err != nil || !reflect.DeepEqual(c, Default(arch)) {
		t.Errorf("as shipped: %+v, %v", c, err)
	}
	uncommented := regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAll(policy, []byte("$1"))
	c, err = Parse("", uncommented, nil, arch)
	if err != nil {
		t.Fatalf("the examples of policy.toml: %v", err)
	}
	if len(c.Network.Interfaces) != 2 || !c.Network.Interfaces[0].Address.IsValid() || c.Network.Interfaces[1].VLAN != 42 {
		t.Errorf("example interface: %+v", c.Network.Interfaces)
	}
	if w := c.Network.WiFi; len(w.Networks) != 1 || w.Networks[0].Passphrase == "" {
		t.Errorf("example of a wireless network: %+v", w)
	}
	c.Network.Interfaces, c.Network.WiFi, c.Providers, c.Gateways, c.Time.Servers, c.Tor = nil, WiFi{}, nil, nil, nil, Tor{}
	if !reflect.DeepEqual(c, Default(arch)) {
		t.Errorf("uncommented: %+v, want the defaults %+v", c, Default(arch))
	}
	for _, key := range []string{"mode", "channel", "cache_enabled", "min_version", "providers", "timeout_seconds", "link_local", "dhcp", "servers", "nts",
		"gateways", "handover", "overlay", "allow", "bridges", "extra", "proxy", "portal_check", "keep_mac", "country", "ssid", "passphrase", "hidden"} {
		if !strings.Contains(string(uncommented), "\n"+key+" = ") {
			t.Errorf("policy.toml does not show the key %s", key)
		}
	}
}
