package wifi

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// encode is printf_encode of wpa_supplicant 2.10, as its source has it.
func encode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			b.WriteString(`\"`)
		case c == '\\':
			b.WriteString(`\\`)
		case c == 0x1b:
			b.WriteString(`\e`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case c >= 32 && c <= 126:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

func TestDecodeEveryByte(t *testing.T) {
	for c := range 256 {
		s := string([]byte{byte(c), 'x'})
		if got, err := decode(encode(s)); err != nil || got != s {
			t.Errorf("byte %#x: %q, %v", c, got, err)
		}
	}
}

func TestDecodeRefusals(t *testing.T) {
	for _, s := range []string{
		`\`, `\x`, `\x1`, `\xg0`, `\X00`, `\xFF`, `\x+1`, `\q`, `"`, "\x00", "\xff", "a\nb", "\x7f", `\x41`, `\x0a`, strings.Repeat("a", maxLine+1),
	} {
		if got, err := decode(s); err == nil {
			t.Errorf("%q became %q", s, got)
		}
	}
	if _, err := decodeSSID(strings.Repeat("a", 33)); err == nil {
		t.Error("a name of 33 bytes")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`Ph\xc3\xb6ne \"x\"`)
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := decode(s); err == nil && encode(got) != s {
			t.Errorf("%q became %q, which is written %q", s, got, encode(got))
		}
	})
}

func TestShow(t *testing.T) {
	for in, want := range map[string]string{
		"home": "home", "caf\u00e9 \"x\"": "caf\u00e9 \"x\"", "a\\b": `a\\b`, "a\nb": `a\nb`, "\x00": `\x00`, "\xff": `\xff`,
		"\u202egnp": `\u202egnp`, "\u00a0": `\u00a0`, "\x1b[2J": `\x1b[2J`, "": "",
	} {
		if got := Show(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestParseEvent(t *testing.T) {
	for line, want := range map[string]string{
		"<3>CTRL-EVENT-CONNECTED - Connection to 02:00 completed [id=7 id_str=]":                                              "CTRL-EVENT-CONNECTED id=7 id_str=",
		`<3>CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="a\" reason=NO id=5" auth_failures=1 duration=10 reason=WRONG_KEY` + "\n": `CTRL-EVENT-SSID-TEMP-DISABLED auth_failures=1 duration=10 id=0 reason=WRONG_KEY ssid="a\" reason=NO id=5"`,
		"<3>CTRL-EVENT-SCAN-RESULTS ":                  "CTRL-EVENT-SCAN-RESULTS",
		"<3>CTRL-EVENT-X id=1 id=2":                    "CTRL-EVENT-X id=1",
		`<3>CTRL-EVENT-X a="b c`:                       `CTRL-EVENT-X a="b c`,
		"<3>Associated with CTRL-EVENT-CONNECTED id=1": "", "CTRL-EVENT-CONNECTED id=1": "", "": "", "<3>": "", "<30>CTRL-EVENT-X": "",
		"<3>CTRL-EVENT-X " + strings.Repeat("a", maxLine): "",
	} {
		e, ok := parseEvent(line)
		got := e.name
		var keys []string
		for k, v := range e.fields {
			keys = append(keys, k+"="+v)
		}
		slices.Sort(keys)
		got = strings.TrimSpace(got + " " + strings.Join(keys, " "))
		if got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", line, got, ok)
		}
	}
	for text, want := range map[string]int{"7": 7, "-1": -1, "": -1, "x": -1, "99999999999": -1} {
		if got := (event{fields: map[string]string{"id": text}}).number("id"); got != want {
			t.Errorf("%q: got %d", text, got)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add(`<3>CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="a\" b" reason=WRONG_KEY`)
	f.Add("<3>CTRL-EVENT-CONNECTED - Connection to 02:00 completed [id=7 id_str=]")
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := parseEvent(line)
		if !ok {
			return
		}
		if n := e.number("id"); n < -1 {
			t.Errorf("id %d", n)
		}
		a := &attempt{id: 0, ssid: "x"}
		if _, err := a.see(e); err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("control characters in %q", err)
		}
	})
}

func TestSecurity(t *testing.T) {
	const eap = "unsupported: 802.1X (user name and password)"
	for flags, want := range map[string]string{
		"[ESS]": "open", "": "open", "[WPS][ESS]": "open",
		"[WPA2-PSK-CCMP][ESS]": "WPA2", "[WPA2-PSK-CCMP][WPS][ESS]": "WPA2", "[WPA2-PSK-CCMP+TKIP][ESS]": "WPA2",
		"[WPA-PSK-TKIP][WPA2-PSK-CCMP][ESS]": "WPA2", "[WPA2-PSK-SHA256-CCMP][ESS]": "WPA2", "[WPA2-FT/PSK-CCMP][ESS]": "WPA2",
		"[WPA2-PSK+PSK-SHA256-CCMP][ESS]": "WPA2", "[WPA2-PSK+SAE-CCMP][ESS]": "WPA2/WPA3", "[WPA2-PSK-SHA256+SAE-CCMP-preauth][ESS]": "WPA2/WPA3",
		"[WPA2-SAE-CCMP][SAE-H2E][ESS]": "WPA3", "[WPA2-SAE+FT/SAE-GCMP-256][SAE-PK][ESS]": "WPA3",
		"[WPA2-EAP-CCMP][ESS]": eap, "[WPA2-EAP+EAP-SHA256-CCMP][ESS]": eap, "[WPA2-EAP-SUITE-B-192-GCMP-256][ESS]": eap, "[WPA2-EAP+PSK-CCMP][ESS]": "WPA2",
		"[WEP][ESS]": "unsupported: WEP", "[WPA-PSK-TKIP][ESS]": "unsupported: WPA",
		"[WPA2-OWE-CCMP][ESS]": "unsupported: OWE (enhanced open)", "[WPA2-DPP-CCMP][ESS]": "unsupported: unknown",
		"[WPA2--CCMP][ESS]": "unsupported: unknown", "[WPA2-?][ESS]": "unsupported: unknown", "[OWE-TRANS-OPEN][ESS]": "open",
		"[WPA2": "unsupported: unknown", "[IBSS]": "unsupported: no access point", "[MESH]": "unsupported: no access point",
	} {
		if got := security(flags); got != want {
			t.Errorf("%s: got %q, want %q", flags, got, want)
		}
	}
}

func TestParseBSS(t *testing.T) {
	text := "id=0\nlevel=-30\nflags=[ESS]\nssid=a\n====\n" +
		"id=1\nlevel=no\nflags=[ESS]\nssid=b\n====\n" + // no level
		"level=-30\nflags=[ESS]\nssid=b\n====\n" + // no id
		"id=3\nlevel=-30\nflags=[ESS]\nssid=\xff\n====\n" + // not escaped
		"id=4\nlevel=-30\nflags=[ESS]\nssid=" + strings.Repeat("x", 33) + "\n====\n" +
		"id=5\nlevel=-999\nflags=[ESS]\nssid=b\n====\n" +
		"id=6\nlevel=-60\nflags=[WEP]\nssid=\\x00\\x00\nssid=c\n====\n####\n"
	list, last := parseBSS(text)
	if len(list) != 2 || list[0].ssid != "a" || list[1].id != 6 || list[1].ssid != "\x00\x00" || !last {
		t.Errorf("%+v, %v", list, last)
	}
	if names := sum(list); len(names) != 1 || names[0].SSID != "a" {
		t.Errorf("%v", names)
	}
	if list, last := parseBSS(strings.Repeat("id=0\nlevel=-30\nflags=\nssid=a\n====\n", maxAir+10)); len(list) != maxAir || last {
		t.Errorf("%d access points", len(list))
	}
}

func FuzzParseBSS(f *testing.F) {
	f.Add("id=0\nlevel=-30\nflags=[WPA2-PSK+SAE-CCMP][ESS]\nssid=Ph\\xc3\\xb6ne\n====\n####\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, _ := parseBSS(text)
		for _, a := range sum(list) {
			if len(a.SSID) == 0 || len(a.SSID) > MaxSSID || strings.ContainsFunc(Show(a.SSID)+a.Security, unicode.IsControl) {
				t.Errorf("%+v", a)
			}
			if s := settings(Network{SSID: a.SSID}, false, 0); s[0].value != hex.EncodeToString([]byte(a.SSID)) {
				t.Errorf("%+v", s)
			}
		}
	})
}

func TestInterfaces(t *testing.T) {
	sys := fstest.MapFS{
		"class/net/wlan1/phy80211/name": {}, "class/net/wlan0/phy80211/name": {}, "class/net/eth0/address": {}, "class/net/lo/mtu": {},
	}
	if got, err := Interfaces(sys); err != nil || !slices.Equal(got, []string{"wlan0", "wlan1"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Interfaces(fstest.MapFS{}); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}
