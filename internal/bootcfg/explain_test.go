package bootcfg

import (
	"reflect"
	"strings"
	"testing"
)

func explain(t *testing.T, line, policy, bootstrap string) (Config, map[string]Decision) {
	t.Helper()
	c, list, err := Explain(line, []byte(policy), []byte(bootstrap), arch)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Decision{}
	for _, d := range list {
		if _, twice := out[d.Key]; twice {
			t.Errorf("%s is told twice", d.Key)
		}
		out[d.Key] = d
	}
	return c, out
}

// TestExplainIsParse: what is told is what a machine does.
func TestExplainIsParse(t *testing.T) {
	for _, line := range []string{"", "phase.mode=local", "phase.mode=private phase.cache=true", "phase.mode=nonsense"} {
		got, _ := explain(t, line, fullPolicy, "")
		if want := parse(t, line, fullPolicy); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", line, got, want)
		}
	}
	if _, list, err := Explain("phase.nobody=knows", nil, nil, arch); err == nil || list != nil {
		t.Error("a refused line is explained")
	}
}

// TestExplainTellsAllKeys: each key of policy.toml and of the command line.
func TestExplainTellsAllKeys(t *testing.T) {
	_, told := explain(t, "", "", "")
	want := map[string]bool{}
	tomlKeys(reflect.TypeFor[policy](), "", want)
	for key := range want {
		inTable := key == "name" || key == "mac" || key == "vlan" || key == "method" || key == "address" || key == "gateway" || key == "dns" ||
			key == "ssid" || key == "passphrase" || key == "hidden"
		if _, ok := told[key]; !ok && !inTable {
			t.Errorf("nothing is told of %s", key)
		}
	}
	var lines string
	for _, k := range explained() {
		lines += k.line + ", "
	}
	for key := range lineKeys() {
		if !strings.Contains(lines, key+", ") {
			t.Errorf("nothing is told of %s", key)
		}
	}
	for key, d := range told {
		if d.By != "default" || !reflect.DeepEqual(d.Value, d.Default) || d.Asked != nil || d.Hidden {
			t.Errorf("nobody said anything, and of %s is told %+v", key, d)
		}
	}
}

func TestExplainWhoDecided(t *testing.T) {
	const policy = "mode = \"local\" # line 1\n\nnetwork = {timeout_seconds = 90}\ncache_enabled = false\noverlay = \"cache\"\ntransfer.gateways = [\"https://g.example\"]\n[time]\nservers = [\n  \"192.0.2.1\"]\n"
	const nodes = "[[bootstrap]]\ndnsaddr = \"boot.example.org\"\n"
	for _, c := range []struct {
		line, key string
		value     any
		by        string
		asked     any
		askedBy   string
	}{
		{"", "mode", "local", "policy.toml line 1", nil, ""},
		{"phase.mode=private", "mode", "private", "kernel command line: phase.mode", nil, ""},
		{"", "network.timeout_seconds", int64(90), "policy.toml line 3", nil, ""},
		{"", "cache_enabled", false, "policy.toml line 4", nil, ""},
		{"phase.cache=true", "cache_enabled", true, "kernel command line: phase.cache", nil, ""},
		{"phase.cache=true phase.nowrite=true", "cache_enabled", false, "phase.nowrite", true, "kernel command line: phase.cache"},
		{"phase.cache=true phase.mode=private", "cache_enabled", false, "private mode", true, "kernel command line: phase.cache"},
		{"", "overlay", "memory", "the cache is not used", "cache", "policy.toml line 5"},
		{"phase.mode=private", "overlay", "memory", "private mode", "cache", "policy.toml line 5"},
		{"phase.handover=restart phase.nowrite=true", "handover", "auto", "phase.nowrite", "restart", "kernel command line: phase.handover"},
		{"phase.mode=private", "phase.nowrite", true, "private mode", false, "default"},
		{"phase.mode=private phase.nowrite=false", "phase.nowrite", true, "private mode", false, "kernel command line: phase.nowrite"},
		{"", "transfer.gateways", []string{}, "local mode", []string{"https://g.example"}, "policy.toml line 6"},
		{"", "time.servers", []string{}, "local mode", []string{"192.0.2.1"}, "policy.toml line 8"},
		{"", "time.nts", []string{}, "local mode", Default(arch).Time.NTS, "default"},
		{"phase.time=off", "time.dhcp", false, "kernel command line: phase.time", nil, ""},
		{"phase.ip=off", "phase.ip=off", true, "kernel command line: phase.ip", nil, ""},
		{"phase.tor=on", "tor.allow", false, "local mode", true, "kernel command line: phase.tor"},
		{"phase.tor=on phase.mode=private", "time.dhcp", false, "Tor", true, "default"},
		{"phase.tor=on phase.mode=private", "time.nts", []string{}, "Tor", Default(arch).Time.NTS, "default"},
		{"phase.tor=on phase.mode=private", "time.servers", []string{}, "Tor", []string{"192.0.2.1"}, "policy.toml line 8"},
		{"phase.tor=on phase.mode=private phase.proxy=http://h:1", "network.proxy", "", "Tor", "http://h:1", "kernel command line: phase.proxy"},
		{"phase.tor=on phase.mode=private", "overlay", "memory", "private mode", "cache", "policy.toml line 5"},
		{"", "bootstrap", []string{"/dnsaddr/boot.example.org"}, "bootstrap-nodes.toml", nil, ""},
	} {
		_, told := explain(t, c.line, policy, nodes)
		want := Decision{Key: c.key, Value: c.value, Default: told[c.key].Default, By: c.by, Asked: c.asked, AskedBy: c.askedBy}
		if !reflect.DeepEqual(told[c.key], want) {
			t.Errorf("%s, %s:\n got %+v\nwant %+v", c.line, c.key, told[c.key], want)
		}
	}
}

func TestExplainHides(t *testing.T) {
	const policy = "[tor]\nbridges = [\"192.0.2.7:443 0123456789ABCDEF0123456789ABCDEF01234567\", \"192.0.2.8:443\"]\nextra = [\"Socks5ProxyPassword x4711\"]\n" +
		"[network]\nproxy = \"http://me:pass4711@h:1\"\n[[network.wifi.networks]]\nssid = \"a\"\npassphrase = \"horse4711\"\n"
	_, told := explain(t, "phase.mode=private", policy, "")
	for key, want := range map[string]any{
		"tor.bridges":           []string{"***", "***"},
		"tor.extra":             []string{"Socks5ProxyPassword ***"},
		"network.proxy":         "http://***@h:1",
		"network.wifi.networks": []Table{{{"ssid", "a"}, {"passphrase", "***"}}},
	} {
		if d := told[key]; !reflect.DeepEqual(d.Value, want) || !d.Hidden {
			t.Errorf("%s: %+v, want %+v", key, d, want)
		}
	}
	const open = "[network]\nproxy = \"http://h:1\"\n[[network.wifi.networks]]\nssid = \"a\"\n"
	_, told = explain(t, "", open, "")
	for _, key := range []string{"network.proxy", "network.wifi.networks"} {
		if told[key].Hidden {
			t.Errorf("%s hides nothing", key)
		}
	}
}

// FuzzExplain: what Parse takes, Explain explains, whatever way it is written.
func FuzzExplain(f *testing.F) {
	f.Add("", []byte(nil))
	f.Fuzz(func(t *testing.T, line string, policy []byte) {
		want, refused := Parse(line, policy, nil, arch)
		got, told, err := Explain(line, policy, nil, arch)
		if (err == nil) != (refused == nil) || !reflect.DeepEqual(got, want) {
			t.Fatalf("explained as %+v, %v; parsed as %+v, %v", got, err, want, refused)
		}
		for _, d := range told {
			if strings.HasSuffix(d.By, "line 0") {
				t.Errorf("%s is nowhere: %+v", d.Key, d)
			}
		}
	})
}
