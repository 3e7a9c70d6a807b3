package fetch

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Proxy reads the address of a proxy, http://[user:password@]host:port, and
// returns what NewClient and NewLocalClient want: http is asked of the proxy, and
// for https it connects (CONNECT), so that it sees no content and can change
// none. Hosts of the local network are asked directly: addresses that are
// LocalAddr, names under .local and names without a dot. The empty string is no
// proxy. A proxy is trusted with nothing but to be there.
//
// The error is an ErrURL without any part of raw, which may hold a password.
func Proxy(raw string) (func(*http.Request) (*url.URL, error), error) {
	if raw == "" {
		return nil, nil
	}
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxURL || u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("%w: a proxy is http://host:port or http://user:password@host:port", ErrURL)
	}
	u.Path = ""
	return func(r *http.Request) (*url.URL, error) {
		if nearby(r.URL.Hostname()) {
			return nil, nil
		}
		return u, nil
	}, nil
}

// nearby says that a host belongs to the local network, judged by its name.
func nearby(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return LocalAddr(a)
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".local")
}

// noted is proxy that notes in the request's route whether it was used.
func noted(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	if proxy == nil {
		return nil
	}
	return func(r *http.Request) (*url.URL, error) {
		u, err := proxy(r)
		if way := routeOf(r.Context()); way != nil {
			way.proxied.Store(u != nil)
		}
		return u, err
	}
}

// proxyAuth is ErrProxyAuth with the status that said it. It should be 407;
// tinyproxy says 401 to a wrong password.
func proxyAuth(status int) error { return fmt.Errorf("%w (HTTP status %d)", ErrProxyAuth, status) }

// checkConnect puts words to a proxy's refusal to connect to a source.
func checkConnect(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusProxyAuthRequired, http.StatusUnauthorized:
		return proxyAuth(resp.StatusCode)
	}
	return fmt.Errorf("%w (HTTP status %d)", ErrProxyRefused, resp.StatusCode)
}
