package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// longWay is how much more time a node with Config.Dial gives others: a way through
// Tor has six hops, and may have to be made first.
const longWay = 6

// limit is how long something may take, d where it goes the usual way.
func (c *Config) limit(d time.Duration) time.Duration {
	if c.Dial != nil {
		return longWay * d
	}
	return d
}

// through is the transport of a node with Config.Dial. Libp2p's own for TCP takes
// a dialer as well, but keeps ways to listen and to dial beside it, and complains of
// each connection that is no TCP socket of this machine.
type through struct {
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	upgrader transport.Upgrader
	limits   network.ResourceManager
}

var errNoListening = errors.New("a node that dials in a way of its own does not listen")

// CanDial wants the address and port of one machine.
func (t *through) CanDial(addr ma.Multiaddr) bool { return dialable(addr) }

// Dial connects and makes the connection one of libp2p's.
func (t *through) Dial(ctx context.Context, addr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	scope, err := t.limits.OpenConnection(network.DirOutbound, true, addr)
	if err != nil {
		return nil, err
	}
	c, err := t.dialWith(ctx, addr, p, scope)
	if err != nil {
		scope.Done()
		return nil, err
	}
	return c, nil
}

func (t *through) dialWith(ctx context.Context, addr ma.Multiaddr, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	protocol, address, err := manet.DialArgs(addr)
	if err != nil {
		return nil, err
	}
	c, err := t.dial(ctx, protocol, address)
	if err != nil {
		return nil, err
	}
	return t.upgrader.Upgrade(ctx, t, &farConn{c, addr}, network.DirOutbound, p, scope)
}

// Listen always fails.
func (t *through) Listen(ma.Multiaddr) (transport.Listener, error) { return nil, errNoListening }

// Protocols are those of the addresses that this transport dials.
func (t *through) Protocols() []int { return []int{ma.P_TCP} }

// Proxy is false: what is dialled are addresses of peers, not of relays.
func (t *through) Proxy() bool { return false }

// farConn is a connection to where it leads, whatever is in between.
type farConn struct {
	net.Conn
	remote ma.Multiaddr
}

// nowhere is this end's address, which nobody else is to know.
var nowhere = ma.StringCast("/ip4/0.0.0.0/tcp/0")

// LocalMultiaddr says nothing.
func (c *farConn) LocalMultiaddr() ma.Multiaddr { return nowhere }

// RemoteMultiaddr is what was dialled.
func (c *farConn) RemoteMultiaddr() ma.Multiaddr { return c.remote }

// noResolver looks up no names.
type noResolver struct{}

var errNoNames = errors.New("names are not looked up where everything goes through a way that takes addresses only: name peers as /ip4/… or /ip6/…")

func (noResolver) LookupIPAddr(_ context.Context, host string) ([]net.IPAddr, error) {
	return nil, fmt.Errorf("%.100s: %w", host, errNoNames)
}

func (noResolver) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, fmt.Errorf("%.100s: %w", name, errNoNames)
}
