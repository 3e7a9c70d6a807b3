package bootcfg

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const (
	pass1 = "secret-of-the-air"
	pass2 = "secret-of-the-proxy"
)

// TestSecretsAreNeverShown writes a configuration in every way that somebody who
// only wants to see what is going on may think of.
func TestSecretsAreNeverShown(t *testing.T) {
	c := parse(t, "phase.proxy=http://me:"+pass2+"@proxy.example:3128", wifiPolicyOf("home", pass1))
	if string(c.Network.WiFi.Networks[0].Passphrase) != pass1 || !strings.Contains(string(c.Network.Proxy), pass2) {
		t.Fatalf("the secrets were lost: %+v", c.Network)
	}
	var shown bytes.Buffer
	for _, v := range []any{c, &c, c.Network, c.Network.WiFi, c.Network.WiFi.Networks, c.Network.WiFi.Networks[0],
		&c.Network.WiFi.Networks[0], c.Network.WiFi.Networks[0].Passphrase, c.Network.Proxy} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&shown, verb+"\n", v)
		}
		fmt.Fprintln(&shown, v)
		for _, h := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
			slog.New(h).Info("x", "v", v)
		}
		if err := json.NewEncoder(&shown).Encode(v); err != nil {
			t.Error(err)
		}
	}
	for _, secret := range []string{pass1, pass2, fmt.Sprintf("%x", pass1), fmt.Sprintf("%X", pass2), "//me"} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	if !strings.Contains(shown.String(), "http://***@proxy.example:3128") || !strings.Contains(shown.String(), "home") {
		t.Error("what is no secret is not shown either")
	}
}

func TestErrorsShowNoSecret(t *testing.T) {
	for name, c := range map[string]struct{ line, policy string }{
		"proxy on the line":       {"phase.proxy=https://me:" + pass2 + "@h:1", ""},
		"proxy without scheme":    {"phase.proxy=me:" + pass2 + "@h:1", ""},
		"proxy with a bad escape": {"phase.proxy=http://me:" + pass2 + "%zz@h:1", ""},
		"proxy with an at sign":   {"phase.proxy=http://me:" + pass2 + "@x/y@h:1", ""},
		"proxy without a host":    {"phase.proxy=http://me:" + pass2, ""},
		"proxy with a slash":      {"phase.proxy=http://me:" + pass2 + "/h:1", ""},
		"proxy with a blank":      {"phase.proxy=http://me:" + pass2 + " more@h:1", ""},
		"host forgotten":          {"", "[network]\nproxy = \"http://me:" + pass2 + "\""},
		"misspelt key":            {"phase.prox=http://me:" + pass2 + "@h:1", ""},
		"provider with user":      {"phase.provider=http://me:" + pass2 + "@h", ""},
		"proxy in the policy":     {"", "[network]\nproxy = \"http://me:" + pass2 + "@h\""},
		"portal with user":        {"", "[network]\nportal_check = \"http://me:" + pass2 + "@h\""},
		"passphrase and bad name": {"", wifiPolicyOf("", pass1)},
		"passphrase too long":     {"", wifiPolicyOf("a", pass1+strings.Repeat("x", 60))},
		"passphrase not ASCII":    {"", wifiPolicyOf("a", pass1+"\u00e9")},
		"passphrase unterminated": {"", "[[network.wifi.networks]]\nssid = \"a\"\npassphrase = \"" + pass1},
		"passphrase twice":        {"", wifiPolicyOf("a", pass1) + "passphrase = \"" + pass1 + "\""},
		"passphrase bare":         {"", "[[network.wifi.networks]]\nssid = \"a\"\npassphrase = " + pass1},
		"ssid a number":           {"", "[[network.wifi.networks]]\nssid = 3\npassphrase = \"" + pass1 + "\""},
	} {
		_, err := Parse(c.line, []byte(c.policy), nil, arch)
		var refused *Error
		if !errors.As(err, &refused) {
			t.Errorf("%s: accepted", name)
			continue
		}
		if text := fmt.Sprintf("%v %+v %#v %+v", err, err, err, *refused); strings.Contains(text, pass1) || strings.Contains(text, pass2) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestParseProvider(t *testing.T) {
	for _, c := range []struct {
		url  string
		mode Mode
		want string
	}{
		{"http://mirror.example/a/", Internet, "http://mirror.example/a"},
		{"https://mirror.example", Private, "https://mirror.example"},
		{"http://10.0.0.1:8080", Local, "http://10.0.0.1:8080"},
		{"http://nas.local", Local, "http://nas.local"},
		{"http://mirror.example", Local, ""},
		{"ftp://mirror.example", Internet, ""},
		{"", Internet, ""},
	} {
		got, err := ParseProvider(c.url, c.mode)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q in %s mode: %q, %v", c.url, c.mode, got, err)
		}
	}
}

func TestProxyInTheModes(t *testing.T) {
	const line = " phase.proxy=http://10.0.0.1:3128"
	if n := parse(t, "phase.mode=private"+line, "").Network; n.Proxy == "" || n.PortalCheck != "" {
		t.Errorf("private: %+v", n)
	}
	if c := parse(t, "phase.mode=local"+line, ""); c.Network.Proxy != "" || c.Network.PortalCheck != "" || len(c.Warnings) != 1 {
		t.Errorf("local: %+v", c)
	}
	if n := parse(t, "", "[network]\nportal_check = \"\"").Network; n.PortalCheck != "" {
		t.Errorf("switched off: %+v", n)
	}
	if n := parse(t, "phase.proxy=off", "[network]\nproxy = \"http://a:1\"").Network; n.Proxy != "" {
		t.Errorf("off on the line: %+v", n)
	}
}
