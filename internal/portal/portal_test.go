package portal

import (
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve runs a server and returns its base URL.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// serveTLS runs an https server and returns its base URL and who vouches for it.
func serveTLS(t *testing.T, h http.HandlerFunc) (string, *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.URL, roots
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func page(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, text)
	}
}

// raw answers with these bytes and closes the connection.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}
}

func gzipped(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, text)
		_ = z.Close()
	}
}

// endless sends text again and again, each time after pause.
func endless(kind, text string, pause time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-time.After(pause):
			case <-r.Context().Done():
			}
		}
	}
}

func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

const online = "NetworkManager is online\n"

func TestCheck(t *testing.T) {
	const sign = "http://login.example/in?token=1"
	loop := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }
	wide := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"x", http.StatusFound) }
	upgrade := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
	}
	const none, self = "", "self" // no portal; a portal that one signs in to at the check's own URL
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		url  string
		err  error // not nil: nothing is known
	}{
		{"generate_204", status(204), none, nil},
		{"Debian's text", page("text/plain", online), none, nil},
		{"Debian's text as a web page", page("text/html", online), none, nil},
		{"Firefox's text", page("text/plain", "success\n"), none, nil},

		{"redirect", status(302, "Location", sign), sign, nil},
		{"permanent redirect", status(308, "Location", sign), sign, nil},
		{"redirect on the same host", status(303, "Location", "/login"), self + "/login", nil},
		{"redirects without end", wide, self + "/nmx", nil},
		{"redirect to nowhere", status(302), self, nil},
		{"redirect to junk", status(302, "Location", "http://[::1"), self, nil},
		{"redirect to a file", status(302, "Location", "file:///etc/shadow"), self, nil},
		{"redirect to a script", status(302, "Location", "javascript:alert(1)"), self, nil},
		{"redirect with a name in front", status(302, "Location", "http://bank.example@evil.example/"), self, nil},
		{"redirect with escapes", raw("HTTP/1.1 302 Found\r\nLocation: http://h/\x1b[2J\r\n\r\n"), none, errAny},
		{"redirect to a bidirectional name", status(302, "Location", "http://\u202egnp.exe/"), self, nil},
		{"redirect to a name with spaces", status(302, "Location", "http://a b/"), self, nil},
		{"redirect to a long URL", status(302, "Location", "http://h/"+strings.Repeat("x", maxURL)), self, nil},
		{"redirect that grows when written out", status(302, "Location", "http://h/"+strings.Repeat("é", maxURL/3)), self, nil},
		{"redirect to an accent", status(302, "Location", "http://h/é"), "http://h/%C3%A9", nil},
		{"511", status(511), self, nil},
		{"511 with a place", status(511, "Location", sign), sign, nil},
		{"web page", page("text/html; charset=utf-8", "<html>accept our terms"), self, nil},
		{"web page that says text", page("text/plain", "<!DOCTYPE html><p>accept our terms"), self, nil},
		{"web page without a type", raw("HTTP/1.1 200 OK\r\n\r\n<html>"), self, nil},
		{"compressed web page", gzipped("text/html", "<html>"), self, nil},
		{"endless web page", endless("text/html", "<html>"+strings.Repeat("x", 4000), 0), self, nil},
		{"web page that ends early", raw("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\n<html>"), self, nil},

		{"redirect loop", loop, none, ErrUnexpected},
		{"redirect to https", upgrade, none, ErrUnexpected},
		{"other text", page("text/plain", "hello"), none, ErrUnexpected},
		{"nothing", page("text/plain", ""), none, ErrUnexpected},
		{"compressed text", gzipped("text/plain", online), none, ErrUnexpected},
		{"endless text", endless("text/plain", strings.Repeat("x", 4000), 0), none, ErrUnexpected},
		{"not found", status(404), none, ErrUnexpected},
		{"broken server", status(503, "Content-Type", "text/html"), none, ErrUnexpected},
		{"half an answer", raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nNetw"), none, io.ErrUnexpectedEOF},
		{"no HTTP", raw("SSH-2.0-x\r\n"), none, errAny},
		{"endless head", raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), none, errAny},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := serve(t, tt.h)
			got, err := Ask(t.Context(), Config{CheckURL: base + "/nm"})
			want := Login{URL: tt.url, From: FromCheck}
			switch rest, ok := strings.CutPrefix(tt.url, self); {
			case tt.url == none:
				want = Login{}
			case ok && rest == "":
				want.URL = base + "/nm"
			case ok:
				want.URL = base + rest
			}
			if got != want || (err == nil) != (tt.err == nil) {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
			var e *Error
			if tt.err != nil && (!errors.As(err, &e) || tt.err != errAny && !errors.Is(err, tt.err)) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
		})
	}
}

var errAny = errors.New("any") // an error that has no type of its own

// asked runs one API behind a check that says nothing.
func asked(t *testing.T, h http.HandlerFunc) (Login, error) {
	t.Helper()
	api, roots := serveTLS(t, h)
	return Ask(t.Context(), Config{API: api + "/api", Roots: roots})
}

func TestAPI(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		url  string
	}{
		{"captive", page(apiType, `{"captive":true,"user-portal-url":"https://example.org/portal.html"}`), "https://example.org/portal.html"},
		{"captive with more", page(apiType+"; charset=utf-8", `{"captive":true,"user-portal-url":"https://h/","venue-info-url":"https://v/","seconds-remaining":326,"can-extend-session":true,"x":{"y":[1]}}`), "https://h/"},
		{"captive somewhere", page(apiType, `{"captive":true}`), ""},
		{"captive at a script", page(apiType, `{"captive":true,"user-portal-url":"javascript:0"}`), ""},
		{"captive at an escape", page(apiType, `{"captive":true,"user-portal-url":"http://h/\u001b[2J"}`), ""},
		{"captive at a relative place", page(apiType, `{"captive":true,"user-portal-url":"/x"}`), ""},
	} {
		got, err := asked(t, tt.h)
		if want := (Login{URL: tt.url, From: FromAPI}); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, want)
		}
	}
	for _, free := range []string{`{"captive":false}`, `{"captive":false,"user-portal-url":"https://h/","seconds-remaining":3}`} {
		if got, err := asked(t, page(apiType, free)); err != nil || got.Found() {
			t.Errorf("%s: %+v, %v", free, got, err)
		}
	}
	if got, err := Ask(t.Context(), Config{API: unrestricted}); err != nil || got.Found() {
		t.Errorf("unrestricted: %+v, %v", got, err)
	}
}

// A broken API says nothing, and takes nothing from what the check says.
func TestBrokenAPI(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"other type":   page("application/json", `{"captive":true}`),
		"web page":     page("text/html", "<html>"),
		"no state":     page(apiType, `{}`),
		"null":         page(apiType, `{"captive":null}`),
		"text":         page(apiType, `{"captive":"true"}`),
		"number":       page(apiType, `{"captive":1}`),
		"twice":        page(apiType, `{"captive":true,"captive":false}`),
		"other case":   page(apiType, `{"Captive":true}`),
		"trailing":     page(apiType, `{"captive":true}{}`),
		"deep":         page(apiType, `{"captive":true,"x":`+strings.Repeat("[", 9)+strings.Repeat("]", 9)+`}`),
		"large":        page(apiType, `{"captive":true}`+strings.Repeat(" ", maxAnswer)),
		"endless":      endless(apiType, strings.Repeat(" ", 4000), 0),
		"compressed":   gzipped(apiType, `{"captive":true}`),
		"half":         raw("HTTP/1.1 200 OK\r\nContent-Type: " + apiType + "\r\nContent-Length: 16\r\n\r\n{\"captive\":true"),
		"redirect":     status(302, "Location", "https://h/"),
		"not found":    status(404),
		"endless head": raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			var e *Error
			if got, err := asked(t, h); got.Found() || !errors.As(err, &e) || e.API == nil || e.Check != ErrNotAsked || e.Code() == "" || e.Hint() == "" {
				t.Errorf("%+v, %v", got, err)
			}
			api, roots := serveTLS(t, h)
			portal := serve(t, page("text/html", "<html>"))
			if got, err := Ask(t.Context(), Config{API: api, Roots: roots, CheckURL: portal}); err != nil || got != (Login{portal, FromCheck}) {
				t.Errorf("beside a check: %+v, %v", got, err)
			}
		})
	}
}

func TestBadAddresses(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{API: "http://127.0.0.1/"}, {API: "https://"}, {API: "https://u:p@h/"}, {API: "://"}, {API: "file:///x"}, {API: "urn:x"},
		{API: "https://h/" + strings.Repeat("x", maxAPI)},
		{CheckURL: "https://127.0.0.1/"}, {CheckURL: "http://"}, {CheckURL: "http://u:p@h/"}, {CheckURL: "x"}, {CheckURL: "http://[::1"},
	} {
		got, err := Ask(t.Context(), cfg)
		if want := map[bool]error{true: ErrNotAsked, false: ErrURL}[cfg == Config{}]; got.Found() || !errors.Is(err, want) || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%+v: %+v, %v", cfg, got, err)
		}
	}
}

// What was seen counts more than what was told.
func TestBothWays(t *testing.T) {
	const told = "https://told.example/"
	captive := page(apiType, `{"captive":true,"user-portal-url":"`+told+`"}`)
	free := page(apiType, `{"captive":false}`)
	dead := "http://" + closedPort(t) + "/"
	for _, tt := range []struct {
		name  string
		check string
		api   http.HandlerFunc
		want  Login
	}{
		{"seen free, told captive", serve(t, status(204)), captive, Login{}},
		{"seen captive, told free", serve(t, status(302, "Location", "http://seen/")), free, Login{"http://seen/", FromCheck}},
		{"both, both say where", serve(t, status(302, "Location", "http://seen/")), captive, Login{"http://seen/", FromCheck}},
		{"both, only the API says where", serve(t, status(511)), captive, Login{told, FromCheck}},
		{"nothing seen, told captive", dead, captive, Login{told, FromAPI}},
		{"nothing seen, told captive somewhere", dead, page(apiType, `{"captive":true}`), Login{dead, FromAPI}},
		{"nothing seen, told free", dead, free, Login{}},
	} {
		api, roots := serveTLS(t, tt.api)
		got, err := Ask(t.Context(), Config{CheckURL: tt.check, API: api, Roots: roots})
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
}

// A certificate that nobody vouches for, as behind a portal, is no answer.
func TestBadCertificate(t *testing.T) {
	api, _ := serveTLS(t, page(apiType, `{"captive":false}`))
	got, err := Ask(t.Context(), Config{API: api, Roots: x509.NewCertPool()})
	var e *Error
	if got.Found() || !errors.As(err, &e) || e.API == nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// No answer is no statement: nobody there, and a name that nobody knows.
func TestNobodyThere(t *testing.T) {
	for _, check := range []string{"http://" + closedPort(t) + "/nm", "http://check.invalid/nm"} {
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasPrefix(addr, "check.invalid") {
				return nil, &net.DNSError{Err: "no such host", Name: "check.invalid", IsNotFound: true}
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}}
		got, err := Ask(t.Context(), Config{CheckURL: check, Client: client})
		var e *Error
		if got.Found() || !errors.As(err, &e) || e.Check == nil {
			t.Errorf("%s: %+v, %v", check, got, err)
		}
	}
}

// The time is bounded whatever a server does, and a portal that was seen does not
// wait long for an API that hangs.
func TestBoundedTime(t *testing.T) {
	const limit, slack = 8 * time.Second, 5 * time.Second // who waits for nothing ends late
	api, roots := serveTLS(t, silent)
	for _, tt := range []struct {
		name  string
		check http.HandlerFunc
		api   bool
		most  time.Duration
		found bool
	}{
		{"silent", silent, true, limit, false},
		{"drip", endless("text/plain", "N", 50*time.Millisecond), false, limit, false},
		{"dripping web page", endless("text/html", "<", 50*time.Millisecond), false, limit, true},
		{"web page beside a silent API", page("text/html", "<html>"), true, limit / grace, true},
		{"redirect beside a silent API", status(302, "Location", "http://h/"), true, 0, true},
		{"free beside a silent API", status(204), true, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{CheckURL: serve(t, tt.check), Roots: roots, Timeout: limit}
			if tt.api {
				cfg.API = api
			}
			start := time.Now()
			got, err := Ask(t.Context(), cfg)
			if got.Found() != tt.found {
				t.Errorf("%+v, %v", got, err)
			}
			if took := time.Since(start); took > tt.most+slack {
				t.Errorf("took %v", took)
			}
		})
	}
}

// Whoever gives up is not kept waiting.
func TestCancel(t *testing.T) {
	reached := make(chan struct{}, 1)
	check := serve(t, func(w http.ResponseWriter, r *http.Request) { reached <- struct{}{}; silent(w, r) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if got, err := Ask(ctx, Config{CheckURL: check, Timeout: time.Hour}); err == nil {
		t.Errorf("%+v", got)
	}
}

// The caller's client is used without its habits.
func TestClientWithoutHabits(t *testing.T) {
	reached := 0
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		reached++
		if r.Header.Get("Cookie") != "" || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("sent %v", r.Header)
		}
		http.SetCookie(w, &http.Cookie{Name: "id", Value: "1"})
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 2 {
		if got, err := Ask(t.Context(), Config{CheckURL: server + "/nm", Client: client}); err != nil || got.URL != server+"/elsewhere" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if reached != 2 {
		t.Errorf("%d requests", reached)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestErrorText(t *testing.T) {
	err := fmt.Sprint(&Error{Check: errors.New("a"), API: ErrNotAsked})
	if want := "cannot tell whether this network has a sign-in page: the check: a"; err != want {
		t.Errorf("%q", err)
	}
}
