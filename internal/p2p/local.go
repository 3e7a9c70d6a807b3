package p2p

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// errNotLocal is why a node of the local network does not use an address.
var errNotLocal = errors.New("not on the local network, which is not left in this mode")

// localGater lets only connections within the local network come about,
// whoever named the address: other nodes name many.
type localGater struct{}

var _ connmgr.ConnectionGater = localGater{}

// InterceptPeerDial says nothing yet: the addresses decide.
func (localGater) InterceptPeerDial(peer.ID) bool { return true }

// InterceptAddrDial is asked before each dial.
func (localGater) InterceptAddrDial(_ peer.ID, to ma.Multiaddr) bool { return isLocal(to) }

// InterceptAccept is asked when a connection came in, before the handshake.
func (localGater) InterceptAccept(c network.ConnMultiaddrs) bool { return isLocal(c.RemoteMultiaddr()) }

// InterceptSecured checks again, for both directions.
func (localGater) InterceptSecured(_ network.Direction, _ peer.ID, c network.ConnMultiaddrs) bool {
	return isLocal(c.RemoteMultiaddr())
}

// InterceptUpgraded has nothing to add.
func (localGater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// isLocal reports whether the address is private (RFC 1918, RFC 4193),
// link-local or loopback. One without an IP address, such as a name, is not.
func isLocal(m ma.Multiaddr) bool {
	ip := ipOf(m)
	return ip.IsValid() && reachOf(ip) != anywhere
}

// errNames is why the swarm looks up no name.
var errNames = errors.New("names that peers give for their addresses are not looked up")

// noNames keeps the swarm from looking up names: anybody can put one into an
// address, and the name server may be anywhere. The names of Config.Bootstrap
// are looked up elsewhere.
type noNames struct{}

var _ network.MultiaddrDNSResolver = noNames{}

// ResolveDNSAddr refuses.
func (noNames) ResolveDNSAddr(context.Context, peer.ID, ma.Multiaddr, int, int) ([]ma.Multiaddr, error) {
	return nil, errNames
}

// ResolveDNSComponent refuses.
func (noNames) ResolveDNSComponent(context.Context, ma.Multiaddr, int) ([]ma.Multiaddr, error) {
	return nil, errNames
}
