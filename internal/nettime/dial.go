package nettime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// newDialer resolves names as the system does. A local one asks local name
// servers only and connects to local addresses only, whatever name they have.
func newDialer(localOnly bool) *net.Dialer {
	if !localOnly {
		return &net.Dialer{}
	}
	names := &net.Dialer{ControlContext: refuseRemote}
	return &net.Dialer{
		Resolver:       &net.Resolver{PreferGo: true, Dial: names.DialContext}, // the system's asks whom it likes
		ControlContext: refuseRemote,
	}
}

// refuseRemote is asked by the dialer with the address that it is about to
// connect to, when every name has been resolved.
func refuseRemote(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !localAddr(to.Addr()) {
		return ErrNotLocal
	}
	return nil
}

func localAddr(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback()
}

// localHost reports whether a host is certainly on the local network: such an
// address, or a name below .local, which belongs to it (RFC 6762).
func localHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return localAddr(a)
	}
	return strings.HasSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), ".local")
}

// dial connects within ctx; the connection breaks when ctx ends.
func (a *asking) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := a.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	return &bound{Conn: c, release: context.AfterFunc(ctx, func() { c.Close() })}, nil
}

// unreachable puts a failed dial into our words.
func unreachable(ctx context.Context, err error) error {
	var name *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, ErrNotLocal):
		return ErrNotLocal
	case ctx.Err() != nil:
		return ErrNoAnswer
	case errors.As(err, &name):
		return fmt.Errorf("%w: its name cannot be resolved: %s", ErrUnreachable, name.Err)
	case errors.As(err, &op):
		return fmt.Errorf("%w: %w", ErrUnreachable, op.Err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// bound is a connection that ends with its context.
type bound struct {
	net.Conn
	release func() bool
}

func (b *bound) Close() error {
	b.release()
	return b.Conn.Close()
}
