package fetch

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

// A relay is a proxy of the test: it brings every request to one server,
// whatever host was asked for, and every tunnel to another.
type relay struct {
	web, tls string                // host:port
	auth     string                // what Proxy-Authorization has to be; empty: nothing
	refuse   int                   // status instead of a tunnel, or 0
	tamper   func(b []byte) []byte // what becomes of what a server sends; nil: nothing

	mu    sync.Mutex
	asked []string // "GET http://…", "CONNECT host:port"
}

func (p *relay) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func (p *relay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.RequestURI)
	p.mu.Unlock()
	switch {
	case p.auth != "" && r.Header.Get("Proxy-Authorization") != p.auth:
		w.Header().Set("Proxy-Authenticate", `Basic realm="x"`)
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusProxyAuthRequired)
		_, _ = io.WriteString(w, "<html>who are you?")
	case r.Method == http.MethodConnect && p.refuse != 0:
		w.WriteHeader(p.refuse)
	case r.Method == http.MethodConnect:
		p.tunnel(w)
	default:
		p.forward(w, r)
	}
}

func (p *relay) forward(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" || strings.Contains(r.RequestURI, "@") {
		http.Error(w, "who we are to the proxy is no business of the source", http.StatusTeapot)
		return
	}
	resp, err := http.Get("http://" + p.web + r.URL.Path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	if p.tamper != nil {
		data = p.tamper(data)
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(data)
}

func (p *relay) tunnel(w http.ResponseWriter) {
	far, err := net.Dial("tcp", p.tls)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	}()
	buf := make([]byte, 4096)
	for {
		n, err := far.Read(buf)
		data := buf[:n]
		if p.tamper != nil && n > 0 {
			data = p.tamper(data)
		}
		if _, werr := near.Write(data); err != nil || werr != nil {
			return
		}
	}
}

// through is a Fetcher that uses the relay as user with password, and its log.
func through(t *testing.T, p *relay, user string, roots *x509.CertPool) (*Fetcher, *bytes.Buffer) {
	t.Helper()
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return throughAddr(t, "http://"+user+s.Listener.Addr().String(), roots)
}

func throughAddr(t *testing.T, addr string, roots *x509.CertPool) (*Fetcher, *bytes.Buffer) {
	t.Helper()
	proxy, err := Proxy(addr)
	if err != nil {
		t.Fatal(err)
	}
	f := quick(t)
	f.Client = NewClient(roots, proxy)
	t.Cleanup(f.Client.CloseIdleConnections)
	var out bytes.Buffer
	f.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return f, &out
}

// mirrors runs a server with and without TLS, whose certificate is for
// example.com, and returns their addresses and who vouches for it.
func mirrors(t *testing.T, h http.HandlerFunc) (web, tls string, roots *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots = x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return strings.TrimPrefix(serve(t, h), "http://"), s.Listener.Addr().String(), roots
}

const userPass = "somebody:p%40ss@"

var basicAuth = "Basic c29tZWJvZHk6cEBzcw==" // somebody:p@ss

func TestProxy(t *testing.T) {
	p := &relay{auth: basicAuth}
	var roots *x509.CertPool
	p.web, p.tls, roots = mirrors(t, honest(body))
	f, _ := through(t, p, userPass, roots)
	mustFile(t, f, jobFor(body, "http://mirror.example/kernel"), body)
	mustFile(t, f, jobFor(body, "https://example.com/kernel"), body)
	if got, err := f.Get(t.Context(), "http://mirror.example:8080/p", int64(len(body))); err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	want := []string{"GET http://mirror.example/kernel", "CONNECT example.com:443", "GET http://mirror.example:8080/p"}
	if got := p.list(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
	mustFile(t, f, jobFor(body, "http://"+p.web+"/near"), body)
	if got := p.list(); len(got) != len(want) {
		t.Errorf("a neighbour was asked through the proxy: %q", got)
	}
}

func TestProxyAddress(t *testing.T) {
	if proxy, err := Proxy(""); proxy != nil || err != nil {
		t.Errorf("no proxy: %v", err)
	}
	for _, raw := range []string{
		"h:1", "http://h", "http://:1", "https://h:1", "socks5://h:1", "http://h:1/x", "http://h:1?x", "http://h:1?", "http://h:1#x",
		"http://u:s3cret@h:1/x", "http://u:s3cret@h", "socks5://u:s3cret@h:1", "http://u:s3cret@h:port", "http://u:s3cret%zz@h:1",
		"http://u:s3cret@h:1\x7f", "http://" + strings.Repeat("s3cret", 500) + "@h:1",
	} {
		proxy, err := Proxy(raw)
		if proxy != nil || !errors.Is(err, ErrURL) || strings.Contains(fmt.Sprintf("%+v", err), "s3cret") {
			t.Errorf("%q: %v", raw, err)
		}
	}
	for _, at := range []string{"http://10.0.0.1:3128", "http://10.0.0.1:3128/", "http://me:pw@[fd00::1]:80"} {
		proxy, err := Proxy(at)
		if err != nil {
			t.Fatal(err)
		}
		for host, want := range map[string]bool{
			"mirror.example": true, "93.184.216.34": true, "[2606:2800:220:1::1]:8443": true, "local.example": true, "mirror.example.": true,
			"10.0.0.7": false, "192.168.1.1:8080": false, "169.254.1.1": false, "127.0.0.1": false, "[::1]": false, "[fe80::1%25eth0]": false,
			"[fd00::2]": false, "nas": false, "localhost": false, "nas.local": false, "NAS.Local.": false, "nas.": false,
		} {
			r, err := http.NewRequest("GET", "http://"+host+"/x", nil)
			if err != nil {
				t.Fatal(err)
			}
			u, err := proxy(r)
			if err != nil || (u != nil) != want || u != nil && u.String() != strings.TrimSuffix(at, "/") {
				t.Errorf("%s: %v, %v", host, u, err)
			}
		}
	}
}

// Each way in which a proxy can fail has its words, and none shows the password.
func TestBadProxy(t *testing.T) {
	t.Parallel()
	web, far, roots := mirrors(t, honest(body))
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>not today")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	const insecure, secure = "http://mirror.example/x", "https://example.com/x"
	for _, tt := range []struct {
		name  string
		proxy http.Handler // nil: nobody there
		url   string
		want  error
		words string
	}{
		{"nobody there, http", nil, insecure, ErrProxy, "through the proxy: the proxy does not answer: dial tcp " + closed},
		{"nobody there, https", nil, secure, ErrProxy, "through the proxy: the proxy does not answer: dial tcp " + closed},
		{"refused, http", &relay{auth: "x"}, insecure, ErrProxyAuth, "user name and password"},
		{"refused, https", &relay{auth: "x"}, secure, ErrProxyAuth, "user name and password"},
		{"refused as tinyproxy does, http", status(401), insecure, ErrProxyAuth, "user name and password, or others (HTTP status 401)"},
		{"refused as tinyproxy does, https", status(401), secure, ErrProxyAuth, "user name and password, or others (HTTP status 401)"},
		{"no tunnel", &relay{refuse: 403}, secure, ErrProxyRefused, "refused to connect to the source (HTTP status 403)"},
		{"no way on, http", &relay{web: closed}, insecure, new(StatusError), "through the proxy: HTTP status 502"},
		{"no way on, https", &relay{tls: closed}, secure, ErrProxyRefused, "HTTP status 502"},
		{"web page, http", page, insecure, ErrWebPage, "through the proxy: answered with a web page"},
		{"web page, https", page, secure, ErrNoTLS, "through the proxy: answered without TLS (does a sign-in page"},
		{"mute", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), secure, ErrStalled, "through the proxy: no data"},
		{"no proxy at all", raw("SSH-2.0-OpenSSH_9.2\r\n", nil), secure, errAny, "through the proxy: "},
		{"endless head", raw("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20), nil), secure, errAny, "through the proxy: "},
		{"other server", &relay{tls: far}, "https://other.example/x", ErrOtherHost, "certificate is for another host (does a sign-in page"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := closed
			if tt.proxy != nil {
				s := httptest.NewServer(tt.proxy)
				t.Cleanup(s.Close)
				at = s.Listener.Addr().String()
			}
			f, logged := throughAddr(t, "http://"+userPass+at, roots)
			if tt.want == ErrStalled {
				f.Stall = impatient(t).Stall
			}
			_, err := f.file(t.Context(), jobFor(body, tt.url))
			checkHostile(t, err, tt.want, false)
			_, getErr := f.Get(t.Context(), tt.url, 1000)
			if tt.want != errAny && tt.name != "no way on, http" && !errors.Is(getErr, tt.want) {
				t.Errorf("Get: %v", getErr)
			}
			for _, said := range []string{attempts(err), fmt.Sprint(getErr)} {
				if !strings.Contains(said, tt.words) {
					t.Errorf("%q is not in %s", tt.words, said)
				}
			}
			all := fmt.Sprintf("%v %+v %v %s %s", err, err, getErr, attempts(err), logged)
			if strings.Contains(all, "p@ss") || strings.Contains(all, "p%40ss") || strings.Contains(all, "somebody") {
				t.Errorf("says who we are to the proxy: %s", all)
			}
			// A neighbour is not asked through it.
			f.Stall = quick(t).Stall
			mustFile(t, f, jobFor(body, "http://"+web), body)
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// A proxy that changes what it passes on can deny, and nothing else.
func TestTamperingProxy(t *testing.T) {
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
		return b
	}
	p := &relay{tamper: flip}
	var roots *x509.CertPool
	p.web, p.tls, roots = mirrors(t, honest(body))
	f, _ := through(t, p, "", roots)
	_, err := f.file(t.Context(), jobFor(body, "http://mirror.example/kernel"))
	var e *Error
	var mismatch *blob.MismatchError
	if !errors.As(err, &e) || !e.Mismatch || !errors.As(err, &mismatch) {
		t.Errorf("http: %v%s", err, attempts(err))
	}
	_, err = f.file(t.Context(), jobFor(body, "https://example.com/kernel"))
	if !errors.As(err, &e) || e.Mismatch {
		t.Errorf("https: %v%s", err, attempts(err)) // TLS finds it first
	}
	mustFile(t, f, jobFor(body, "http://mirror.example/kernel", "https://example.com/kernel", "http://"+p.web), body)
}

// Redirects through a proxy keep to the rules, and those to a neighbour leave it.
func TestProxyAndRedirects(t *testing.T) {
	for target, want := range map[string]error{"http://169.254.169.254/": ErrRedirect, "http://[fe80::1%25eth0]/": ErrRedirect, "file:///x": ErrRedirect} {
		p := &relay{}
		f, _ := through(t, p, "", nil)
		f.Client.Transport.(*http.Transport).Proxy = noted(func(r *http.Request) (*url.URL, error) {
			return url.Parse(serve(t, redirect(target)))
		})
		_, err := f.Get(t.Context(), "http://mirror.example/x", 100)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", target, err)
		}
	}
	near := serve(t, honest(body))
	f, _ := throughAddr(t, serve(t, redirect(near)), nil)
	mustFile(t, f, jobFor(body, "http://mirror.example/x"), body)
}

// What a sign-in page does to https mirrors is told in words.
func TestCertificatesInWords(t *testing.T) {
	_, far, roots := mirrors(t, honest(body))
	for _, tt := range []struct {
		url   string
		roots *x509.CertPool
		want  error
	}{
		{"https://localhost" + far[strings.LastIndex(far, ":"):], roots, ErrOtherHost},
		{"https://" + far, x509.NewCertPool(), ErrUntrusted},
		{strings.Replace(serve(t, honest(body)), "http:", "https:", 1), roots, ErrNoTLS},
	} {
		f := quick(t)
		f.Client = NewClient(tt.roots, nil)
		t.Cleanup(f.Client.CloseIdleConnections)
		_, err := f.file(t.Context(), jobFor(body, tt.url))
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, tt.want) || !strings.Contains(e.Hint(), "Sign in to this network") || !strings.Contains(attempts(err), "sign-in page") {
			t.Errorf("%s: %v%s", tt.url, err, attempts(err))
		}
	}
}

// Names that cannot be looked up, and time that ran out, are told in words.
func TestNamesAndTimeInWords(t *testing.T) {
	t.Parallel()
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, tt := range []struct {
		name, url string
		lookup    error // of the name server; nil: it does not answer
		want      error
		words     string
	}{
		{"unknown name", "http://mirror.example/x", &net.DNSError{Err: "no such host", Name: "mirror.example", IsNotFound: true}, ErrNoName, "the DNS knows no such name"},
		{"no name server", "http://mirror.example/x", &net.DNSError{Err: "i/o timeout", Name: "mirror.example", IsTimeout: true}, ErrNoDNS, "no name server answers: "},
		{"silent name server", "http://mirror.example/x", nil, ErrStalled, "while looking up its name"},
		{"silent server", "http://" + l.Addr().String(), nil, ErrStalled, "while waiting for its answer"},
		{"silent server, https", "https://" + l.Addr().String(), nil, ErrStalled, "while agreeing on encryption with it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := quick(t)
			f.Stall = time.Second // for all that comes before what it waits for
			f.Client = NewClient(nil, nil)
			dialer := newDialer()
			dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "udp", mute.LocalAddr().String())
			}}
			f.Client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if tt.lookup != nil {
					return nil, tt.lookup
				}
				return dialer.DialContext(ctx, network, addr)
			}
			_, err := f.file(t.Context(), jobFor(body, tt.url))
			if !errors.Is(err, tt.want) || !strings.Contains(attempts(err), tt.words) {
				t.Errorf("%v%s", err, attempts(err))
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = quick(t).Get(ctx, "http://"+l.Addr().String(), 10)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in the time that there was") {
		t.Errorf("%v", err)
	}
}
