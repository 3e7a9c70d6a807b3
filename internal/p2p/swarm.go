package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// connectTimeout bounds the TCP connection alone, so that black-holed peers
	// are given up quickly: with half the nodes gone a search then takes 3.4 s
	// instead of 10.
	connectTimeout = 2 * time.Second
	// dialTimeout bounds connection and handshake, which is real work on a slow
	// or emulated processor.
	dialTimeout = 5 * time.Second
	// requestTimeout bounds one request to one peer, dialling included.
	requestTimeout = 6 * time.Second
)

// newSwarm assembles by hand what connects a node to others. libp2p.New links
// every transport and service there is, and its hosts identify every peer, which
// takes time and memory and is of use to servers only. What others open is reset,
// until a server takes the swarm over.
func newSwarm(cfg Config, bus event.Bus) (*swarm.Swarm, error) {
	sk, id, err := identity(cfg.Key)
	if err != nil {
		return nil, err
	}
	peers, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, fmt.Errorf("p2p: address book: %w", err)
	}
	if err := errors.Join(peers.AddPrivKey(id, sk), peers.AddPubKey(id, sk.GetPublic())); err != nil {
		return nil, errors.Join(fmt.Errorf("p2p: address book: %w", err), peers.Close())
	}
	limits, err := newLimits(cfg.Server != nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("p2p: resource limits: %w", err), peers.Close())
	}
	opts := []swarm.Option{
		swarm.WithResourceManager(limits),
		swarm.WithDialTimeout(cfg.limit(dialTimeout)),
		swarm.WithDialTimeoutLocal(cfg.limit(dialTimeout)),
		// All addresses of a peer at once; a peer has few.
		swarm.WithDialRanker(swarm.NoDelayDialRanker),
		swarm.WithMultiaddrResolver(noNames{}),
	}
	var gater connmgr.ConnectionGater
	if cfg.LocalOnly {
		gater = localGater{}
		opts = append(opts, swarm.WithConnectionGater(gater))
	}
	sw, err := swarm.NewSwarm(id, peers, bus, opts...)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("p2p: swarm: %w", err), limits.Close(), peers.Close())
	}
	if err := addTransport(cfg, sw, sk, gater); err != nil {
		return nil, errors.Join(err, closeSwarm(sw))
	}
	sw.SetStreamHandler(func(s network.Stream) { _ = s.Reset() })
	return sw, nil
}

// closeSwarm closes all that newSwarm made.
func closeSwarm(sw *swarm.Swarm) error {
	return errors.Join(sw.Close(), sw.Peerstore().Close(), sw.ResourceManager().Close())
}

// addTransport makes a swarm speak Noise over TCP with yamux. gater may be nil.
func addTransport(cfg Config, sw *swarm.Swarm, sk crypto.PrivKey, gater connmgr.ConnectionGater) error {
	mux := *yamux.DefaultTransport
	mux.MaxStreamWindowSize = 256 << 10 // messages are small; 16 MiB invites waste
	mux.MaxIncomingStreams = 64
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: &mux}}
	secure, err := noise.New(noise.ID, sk, muxers)
	if err != nil {
		return fmt.Errorf("p2p: noise: %w", err)
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, sw.ResourceManager(), gater)
	if err != nil {
		return fmt.Errorf("p2p: upgrader: %w", err)
	}
	if cfg.Dial != nil {
		if err := sw.AddTransport(&through{cfg.Dial, eagerUpgrader{up}, sw.ResourceManager()}); err != nil {
			return fmt.Errorf("p2p: %w", err)
		}
		return nil
	}
	transport, err := tcp.NewTCPTransport(eagerUpgrader{up}, sw.ResourceManager(), nil,
		tcp.WithConnectionTimeout(connectTimeout), tcp.DisableReuseport())
	if err != nil {
		return fmt.Errorf("p2p: tcp: %w", err)
	}
	if err := sw.AddTransport(transport); err != nil {
		return fmt.Errorf("p2p: tcp: %w", err)
	}
	return nil
}

func parseAddrs(addrs []string) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, s := range addrs {
		m, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, fmt.Errorf("p2p: listen address %.100q: %w", s, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// dial connects to a peer.
func (n *Node) dial(ctx context.Context, p peer.AddrInfo) error {
	n.forgetFailures(p.ID)
	n.swarm.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.TempAddrTTL)
	_, err := n.swarm.DialPeer(ctx, p.ID)
	return err
}

// forgetFailures makes the next dial to p a real one. The swarm refuses to dial
// a peer for some seconds after a failure, but a search that the user repeats
// once the cable is in must not fail from memory.
func (n *Node) forgetFailures(p peer.ID) { n.swarm.Backoff().Clear(p) }
