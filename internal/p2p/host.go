package p2p

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	connmanager "github.com/libp2p/go-libp2p/p2p/net/connmgr"
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

	// A server prunes idle connections down to lowWater when it has highWater.
	lowWater, highWater = 160, 320
)

// newHost assembles a libp2p host by hand. libp2p.New links every transport and
// service there is: 27 MB of binary instead of 17.
func newHost(cfg Config) (_ host.Host, err error) {
	sk, id, err := identity(cfg.Key)
	if err != nil {
		return nil, err
	}
	listen, err := parseAddrs(cfg.Listen)
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
	limits, err := newLimits(cfg.Server)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("p2p: resource limits: %w", err), peers.Close())
	}
	bus := eventbus.NewBus()
	opts := []swarm.Option{
		swarm.WithResourceManager(limits),
		swarm.WithDialTimeout(dialTimeout),
		swarm.WithDialTimeoutLocal(dialTimeout),
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
	h, err := assemble(sw, sk, bus, gater, cfg.Server)
	if err != nil {
		return nil, errors.Join(err, sw.Close(), limits.Close(), peers.Close())
	}
	if len(listen) > 0 {
		if err := sw.Listen(listen...); err != nil {
			return nil, errors.Join(fmt.Errorf("p2p: listen on %v: %w", cfg.Listen, err), h.Close())
		}
	}
	h.Start()
	return h, nil
}

// assemble adds the transport and the host's services to a swarm. gater may be
// nil.
func assemble(sw *swarm.Swarm, sk crypto.PrivKey, bus event.Bus, gater connmgr.ConnectionGater, server bool) (*basichost.BasicHost, error) {
	mux := *yamux.DefaultTransport
	mux.MaxStreamWindowSize = 256 << 10 // messages are small; 16 MiB invites waste
	mux.MaxIncomingStreams = 64
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: &mux}}
	secure, err := noise.New(noise.ID, sk, muxers)
	if err != nil {
		return nil, fmt.Errorf("p2p: noise: %w", err)
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, sw.ResourceManager(), gater)
	if err != nil {
		return nil, fmt.Errorf("p2p: upgrader: %w", err)
	}
	transport, err := tcp.NewTCPTransport(up, sw.ResourceManager(), nil,
		tcp.WithConnectionTimeout(connectTimeout), tcp.DisableReuseport())
	if err != nil {
		return nil, fmt.Errorf("p2p: tcp: %w", err)
	}
	if err := sw.AddTransport(transport); err != nil {
		return nil, fmt.Errorf("p2p: tcp: %w", err)
	}
	opts := &basichost.HostOpts{EventBus: bus, UserAgent: "phase"}
	if server {
		if opts.ConnManager, err = newConnManager(); err != nil {
			return nil, fmt.Errorf("p2p: connection manager: %w", err)
		}
	}
	h, err := basichost.NewHost(sw, opts)
	if err != nil {
		return nil, fmt.Errorf("p2p: host: %w", err)
	}
	return h, nil
}

func newConnManager() (connmgr.ConnManager, error) {
	return connmanager.NewConnManager(lowWater, highWater, connmanager.WithGracePeriod(20*time.Second))
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

// forgetFailures makes the next dial to p a real one. The swarm refuses to dial
// a peer for some seconds after a failure, but a search that the user repeats
// once the cable is in must not fail from memory.
func (n *Node) forgetFailures(p peer.ID) {
	if sw, ok := n.host.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(p)
	}
}
