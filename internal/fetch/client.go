package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxURL       = 2048 // bytes
	maxRedirects = 5
)

// NewClient returns a client for Fetcher: TLS 1.2 or newer against rootCAs
// (nil: the system's), dial time-outs of 10 s, HTTP/1.1 without transparent
// decompression, 64 KiB of headers. proxy chooses the proxy of a request, see
// Proxy (nil: none); the environment is not read.
func NewClient(rootCAs *x509.CertPool, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	dialer := newDialer()
	dialer.ControlContext = refuseRedirectedLinkLocal
	return &http.Client{
		CheckRedirect: checkRedirect,
		Transport: &http.Transport{
			Proxy:                  noted(proxy),
			OnProxyConnectResponse: checkConnect,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: rootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  15 * time.Second,
			ExpectContinueTimeout:  time.Second,
			IdleConnTimeout:        30 * time.Second,
			MaxIdleConns:           16,
			MaxIdleConnsPerHost:    2,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
			// Large reads go around this buffer straight to the caller's.
			ReadBufferSize: 16 << 10,
		},
	}
}

// A DialFunc connects to host:port over TCP.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// NewClientThrough is NewClient for a machine that reaches others in one way only:
// every connection is made by dial, which is given names as they are in URLs. None
// is looked up here, no proxy is used, and there is no other way to fall back on.
// That way may be long: whoever is asked has twice the time. dial must not be nil.
func NewClientThrough(rootCAs *x509.CertPool, dial DialFunc) *http.Client {
	c := NewClient(rootCAs, nil)
	t := c.Transport.(*http.Transport)
	t.DialContext = dial
	t.TLSHandshakeTimeout *= 2
	t.ResponseHeaderTimeout *= 2
	return c
}

func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
}

// checkURL accepts absolute http and https URLs without user information.
func checkURL(s string) error {
	if len(s) > maxURL {
		return fmt.Errorf("%w: longer than %d bytes", ErrURL, maxURL)
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%w: not parsable", ErrURL)
	}
	return checkParsed(u)
}

func checkParsed(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: scheme %q", ErrURL, u.Scheme)
	case u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("%w: no host", ErrURL)
	case u.User != nil:
		return fmt.Errorf("%w: contains a user name", ErrURL)
	}
	return nil
}

// A route is how a request travels, so that the dialer knows whose idea an
// address is, and a person what stood in between.
type route struct {
	redirected atomic.Bool  // to another host
	proxied    atomic.Bool  // the last hop: through the proxy, which was chosen by hand
	stage      atomic.Value // string: what the request waits for
}

// trace notes what the request waits for.
func (r *route) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { r.stage.Store("looking up its name") },
		ConnectStart:      func(string, string) { r.stage.Store("connecting to it") },
		TLSHandshakeStart: func() { r.stage.Store("agreeing on encryption with it") },
		WroteRequest:      func(httptrace.WroteRequestInfo) { r.stage.Store("waiting for its answer") },
	}
}

// routeKey finds the route in a request's context.
type routeKey struct{}

func withRoute(ctx context.Context) (context.Context, *route) {
	r := new(route)
	return context.WithValue(ctx, routeKey{}, r), r
}

// routeOf returns nil if nobody noted a route.
func routeOf(ctx context.Context) *route {
	r, _ := ctx.Value(routeKey{}).(*route)
	return r
}

// checkRedirect is the redirect policy: at most five, never from https to
// http, no other schemes, and never to a link-local address of another host:
// a stranger's server must not aim this machine at its neighbours, nor at a
// cloud's metadata service.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: more than %d", ErrRedirect, maxRedirects)
	}
	if err := checkParsed(req.URL); err != nil {
		return fmt.Errorf("%w: %w", ErrRedirect, err)
	}
	last := via[len(via)-1].URL
	if last.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: from https to %s", ErrRedirect, req.URL.Scheme)
	}
	if req.URL.Hostname() != last.Hostname() {
		if linkLocal(req.URL.Hostname()) {
			return fmt.Errorf("%w: to the link-local address %s", ErrRedirect, req.URL.Hostname())
		}
		if way := routeOf(req.Context()); way != nil {
			way.redirected.Store(true)
		}
	}
	return nil
}

// refuseRedirectedLinkLocal closes the gap that checkRedirect leaves: a host
// name that resolves to a link-local address.
func refuseRedirectedLinkLocal(ctx context.Context, _, address string, _ syscall.RawConn) error {
	if way := routeOf(ctx); way == nil || !way.redirected.Load() || way.proxied.Load() {
		return nil
	}
	if host, _, err := net.SplitHostPort(address); err == nil && linkLocal(host) {
		return fmt.Errorf("%w: to the link-local address %s", ErrRedirect, host)
	}
	return nil
}

func linkLocal(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	return addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast() || addr.IsMulticast() || addr.IsUnspecified()
}

// client is f.Client with this package's redirect policy.
func (f *Fetcher) client() *http.Client {
	if f.Client != nil {
		return f.policed(f.Client)
	}
	create := NewClient
	if f.LocalOnly {
		create = NewLocalClient
	}
	c := create(nil, nil)
	c.Transport.(*http.Transport).DisableKeepAlives = true // nobody could close them
	return c
}

// policed is client with this package's redirect policy.
func (f *Fetcher) policed(client *http.Client) *http.Client {
	c := *client
	c.CheckRedirect, c.Jar = checkRedirect, nil
	if f.LocalOnly {
		c.CheckRedirect = checkLocalRedirect
	}
	return &c
}

// shorten takes the URL out of the errors of net/http, since whoever prints
// one names the source beside it.
func shorten(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
