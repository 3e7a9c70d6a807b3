package netup

import (
	"net/url"
	"strings"
	"testing"
)

func TestParsePortal(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                             "",
		"https://portal.example/api":                   "https://portal.example/api",
		"http://10.0.0.1:8080/?a=%20":                  "http://10.0.0.1:8080/?a=%20",
		"http://[fe80::1]/\x00\x00\x00":                "http://[fe80::1]/",
		"HTTPS://portal.example/":                      "HTTPS://portal.example/",
		"urn:ietf:params:capport:unrestricted":         "",
		"ftp://portal.example/":                        "",
		"file:///etc/passwd":                           "",
		"javascript:alert(1)":                          "",
		"//portal.example/":                            "",
		"/login":                                       "",
		"http:///login":                                "",
		"http://:80/":                                  "",
		"http://user:password@portal.example/":         "",
		"http://portal.example/a b":                    "",
		"http://portal.example/\n":                     "",
		"http://portal.example/\x1b[2J":                "",
		"http://portal.example/é":                      "",
		"http://portal\x00.example/":                   "",
		"http://portal.example/%zz":                    "",
		"http://p/" + strings.Repeat("x", maxPortal-9): "http://p/" + strings.Repeat("x", maxPortal-9),
		"http://p/" + strings.Repeat("x", maxPortal-8): "",
	} {
		if got := parsePortal([]byte(raw)); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

// FuzzPortal: what is taken can be shown on a console and asked for by HTTP.
func FuzzPortal(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := parsePortal(raw)
		if got == "" {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Host == "" || u.User != nil || len(got) > maxPortal || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q: %v", got, err)
		}
		if again := parsePortal([]byte(got)); again != got {
			t.Errorf("%q became %q", got, again)
		}
	})
}
