package fetch

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// ErrNotLocal: the address is beyond the local network, and this client does
// not leave it.
var ErrNotLocal = errors.New("beyond the local network, which is not left in this mode")

// NewLocalClient is NewClient for a machine that must not leave its local
// network, whoever names the URLs: a signed document, a redirect, a name
// server. There are three walls, each with ErrNotLocal: a request for a URL
// that CheckLocal refuses ends before a name is looked up, names are asked of
// local name servers only, and no connection is made to an address that is not
// LocalAddr, whatever name it has. A proxy must be local too.
func NewLocalClient(rootCAs *x509.CertPool, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	c := NewClient(rootCAs, proxy)
	t := c.Transport.(*http.Transport)
	choose := t.Proxy
	t.Proxy = func(r *http.Request) (*url.URL, error) { // asked before each request, redirected ones too
		if err := checkLocalHost(r.URL); err != nil || choose == nil {
			return nil, err
		}
		return choose(r)
	}
	t.DialContext = localDialer().DialContext
	c.CheckRedirect = checkLocalRedirect
	return c
}

// localDialer connects to local addresses only, after asking local name
// servers only.
func localDialer() *net.Dialer {
	names := newDialer()
	names.ControlContext = refuseRemote
	d := newDialer()
	d.Resolver = &net.Resolver{PreferGo: true, Dial: names.DialContext} // the system's resolver asks whom it likes
	d.ControlContext = func(ctx context.Context, network, address string, conn syscall.RawConn) error {
		if err := refuseRemote(ctx, network, address, conn); err != nil {
			return err
		}
		return refuseRedirectedLinkLocal(ctx, network, address, conn)
	}
	return d
}

// refuseRemote is asked by the dialer with the address that it is about to
// connect to, when every name has been resolved.
func refuseRemote(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !LocalAddr(to.Addr()) {
		return fmt.Errorf("%w (%.100s)", ErrNotLocal, address)
	}
	return nil
}

// LocalAddr reports whether a belongs to the local network: private (RFC 1918,
// RFC 4193), link-local or loopback.
func LocalAddr(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback()
}

// CheckLocal refuses a URL whose host need not even be asked for: an address
// that is not LocalAddr, or a name outside .local, which belongs to the local
// network (RFC 6762). It fails with ErrNotLocal, or ErrURL for what is no URL.
func CheckLocal(s string) error {
	if err := checkURL(s); err != nil {
		return err
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("%w: not parsable", ErrURL)
	}
	return checkLocalHost(u)
}

func checkLocalHost(u *url.URL) error {
	host := u.Hostname()
	if a, err := netip.ParseAddr(host); err == nil {
		if LocalAddr(a) {
			return nil
		}
	} else if strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), ".local") {
		return nil
	}
	return fmt.Errorf("%w (%.100s)", ErrNotLocal, host)
}

// checkLocalRedirect is checkRedirect within the local network.
func checkLocalRedirect(req *http.Request, via []*http.Request) error {
	if err := checkLocalHost(req.URL); err != nil {
		return fmt.Errorf("%w: %w", ErrRedirect, err)
	}
	return checkRedirect(req, via)
}

// permitted says whether f may ask u at all.
func (f *Fetcher) permitted(u string) error {
	if !f.LocalOnly {
		return nil
	}
	return CheckLocal(u)
}
