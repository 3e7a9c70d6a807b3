package p2p

import (
	"context"
	"log/slog"
	"net/netip"

	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"
)

// A Server is the half of a node that answers others and stores what they
// publish. Package dhtserver has it, in a package of its own because what it
// needs is half of a node's size.
type Server interface {
	// Addrs are where the node can be dialled.
	Addrs() []ma.Multiaddr
	// Nearest are up to count of the peers it knows, nearest to a place, which is
	// the hash of a key.
	Nearest(place []byte, count int) []peer.ID
	// Records are the keys it stores records under.
	Records() []string
	// Record is what it stores under key, nil if nothing.
	Record(ctx context.Context, key string) ([]byte, error)
	// Store checks a record, as any that a stranger offers, and keeps it.
	Store(ctx context.Context, key string, value []byte) error
	// Provides notes that this node has what hash names.
	Provides(ctx context.Context, hash multihash.Multihash) error
	// Providers are the nodes that have announced it.
	Providers(ctx context.Context, hash multihash.Multihash) ([]peer.AddrInfo, error)
	// Handle answers streams of one more protocol.
	Handle(id protocol.ID, answer func(network.Stream))
	// Close ends serving, and all use of the swarm.
	Close() error
}

// Half is the half of a node that a server is added to.
type Half struct {
	Swarm     *swarm.Swarm
	Bus       event.Bus
	Prefix    protocol.ID      // of the protocols to speak
	Namespace string           // of all keys
	Validator record.Validator // of all values
	Offer     func() Offer     // what is lent at the moment
	// Believe are the addresses among some that are worth a try, having been named
	// by a peer at an address.
	Believe func(addrs []ma.Multiaddr, by netip.Addr) []ma.Multiaddr
	// Network is the network that one operator is likely to hold whole; the zero
	// Prefix for local addresses.
	Network func(netip.Addr) netip.Prefix
	Log     *slog.Logger
}
