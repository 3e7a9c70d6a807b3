package portal

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// checkShown fails for a URL that no person should see.
func checkShown(t *testing.T, s string) {
	t.Helper()
	if s == "" {
		return
	}
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		t.Errorf("shown %q, %v", s, err)
	}
	if strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		t.Errorf("not printable: %q", s)
	}
}

func FuzzAPI(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		a := parseAPI(raw)
		if a.err != nil && (a.captive || a.url != "") || !a.captive && a.url != "" {
			t.Errorf("%+v", a)
		}
		checkShown(t, a.url)
	})
}

// FuzzCheck judges whole answers as they come over the wire.
func FuzzCheck(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		asked := &url.URL{Scheme: "http", Host: "check.example", Path: "/nm"}
		a := judge(asked, resp)
		if a.err != nil && (a.captive || a.url != "") || !a.captive && a.url != "" {
			t.Errorf("%+v", a)
		}
		checkShown(t, a.url)
	})
}
