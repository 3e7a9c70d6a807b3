// Package p2p finds and publishes boot pointers on Phase's own Kademlia DHT, and who
// has the blobs that they lead to. It and dhtserver, which answers others, are the only importers of libp2p.
//
// The DHT is a hint that needs nobody's permission, not an authority: whoever
// runs a node can answer anything. What comes out of Search is therefore
// unverified bytes for the caller's verifier, and the only things promised here
// are bounded effort and honest reports (Publish names the nodes that really
// hold the record). A record lives under /phase/<channel>/<arch>/manifest, at
// three places of the network (places.go); its value is the signed pointer, at
// most MaxRecord bytes. Nodes drop values that do not parse strictly, name another
// channel or architecture than their key, or expired longer ago than they ever
// were valid. A node that is given a root also checks the signature, which keeps
// strangers' records from displacing real ones; nodes that serve a network should
// be given one. For those that were not, a pointer lies at the same places under a second
// key, /phase/<channel>/<arch>/manifest/<signer>, with the public key that has signed
// it: that anybody can check.
//
// The protocol prefix is /phase, so this network and the public IPFS network
// never mix. Nodes with Config.Server answer others, by kad-dht (dhtserver);
// all look-ups are made by the short iterative search in lookup.go, which, unlike
// kad-dht's, tells who answered what, asks every bootstrap peer whatever its
// distance, and writes nothing to anybody. Peers are believed in nothing that
// could be turned against others: names in their addresses are not looked up, and
// no address is dialled that is nearer than who named it.
//
// Where a node starts from is configured: peers by ID and address, or DNS names
// behind which there are peers. DNS is unsigned as well; it can hide peers and
// name wrong ones, which then count as bootstrap peers, so a name is no substitute
// for peers named by ID, but leads to their successors.
//
// Nodes also announce in the DHT which blobs they hold, and those with
// Config.Server lend them (Hold, Lend). Such announcements are unsigned; Finder
// takes them for hints where to ask, prefers HTTP from there, and otherwise reads
// over a stream (blobs.go), whose bytes package fetch verifies like any others.
//
// Nodes speak Noise over TCP with yamux; who dials does not wait for the other
// end's consent to that (eager.go). There is no QUIC: it adds 2.8 MB to every seed,
// and its TLS certificates cannot be checked by a host whose clock is wrong.
package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/phasebased/phase/manifest"
)

const (
	prefix   protocol.ID = "/phase"
	protoKad protocol.ID = prefix + "/kad/1.0.0"

	// republishEvery renews records well before servers forget them, after two
	// days. What others published is renewed up to renewSpread later, not by all of
	// its holders at once.
	republishEvery = 6 * time.Hour
	renewSpread    = 2 * time.Hour
)

// Config says who a node is and whom it talks to.
type Config struct {
	// Key is the node's identity. Nil makes a fresh one that is never stored,
	// which is what a seed wants.
	Key ed25519.PrivateKey
	// Listen are the multiaddrs to listen on, such as /ip4/0.0.0.0/tcp/4001.
	// Empty: the node dials but cannot be dialled. Who listens must serve.
	Listen []string
	// Bootstrap are peers to start from: multiaddrs that end in /p2p/<id>, or
	// /dnsaddr/<name> for all that DNS names there. Each is asked in every search.
	// Three or more, run by different people in different networks, keep a crowd
	// of hostile nodes from hiding a record. At most 32, those that DNS names
	// included. Names are looked up whenever the node needs them, and never with
	// LocalOnly.
	Bootstrap []string
	// Resolver looks up the names in Bootstrap, net.DefaultResolver if nil.
	Resolver Resolver
	// Server makes the node answer others and store their records; it is
	// dhtserver.New, or nil for a node that only asks. It needs Listen.
	Server func(Half) (Server, error)
	// LocalOnly keeps the node within the local network: it neither dials nor
	// accepts an address that is not private, link-local or loopback, whoever
	// named it, and looks up no names.
	LocalOnly bool
	// Dial, if set, makes every connection, such as one through Tor: the node
	// has no socket of its own then and looks up no names, so that entries of
	// Bootstrap that are names come to nothing, and say so. It is given IP
	// addresses and ports. Who is asked has more time. It goes with neither
	// Server, LocalOnly nor Resolver.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Root, if set, makes the node drop pointers whose signature, product,
	// channel, architecture or dates are wrong under this root. Leave it nil
	// where the caller verifies anyway and wants to explain what was wrong. See
	// SetRoot.
	Root *manifest.Root
	// Signers, if set, are the keys of the moment by one of which the publisher signs
	// the pointers that are searched; the first four count. Nobody can hide those by
	// forgeries, also not at nodes without a root.
	Signers func() []ed25519.PublicKey
	// Now is the clock for expiry, time.Now if nil.
	Now func() time.Time
	// Log receives what a debugging operator wants to know; nil discards it.
	Log *slog.Logger
}

// A Node is a member of the network. Its methods may be called concurrently.
// It implements discover.Source under the name "dht".
type Node struct {
	cfg       Config
	gather    time.Duration
	log       *slog.Logger
	now       func() time.Time
	resolver  Resolver
	bootstrap []lead
	swarm     *swarm.Swarm
	bus       event.Bus
	server    Server // nil if the node only asks
	validator validator
	root      atomic.Pointer[manifest.Root]
	lent      atomic.Pointer[Offer]
	held      announcing
	talks     talks

	closing, judging sync.Once

	mu        sync.Mutex
	published map[string]*Publication     // by key; what Run keeps alive
	named     map[string]map[peer.ID]bool // bootstrap peers, by the name that led to them
}

// New makes a node and opens its listening sockets, so that Addrs is true from
// the start. It contacts nobody: that begins with Run, Search or Publish. The
// caller must Close it.
func New(cfg Config) (*Node, error) {
	if (cfg.Server != nil) != (len(cfg.Listen) > 0) {
		return nil, errors.New("p2p: a server needs an address to listen on, and only a server does")
	}
	if cfg.Dial != nil && (cfg.Server != nil || cfg.LocalOnly || cfg.Resolver != nil) {
		return nil, errors.New("p2p: who dials in a way of their own neither serves, nor stays local, nor looks up names")
	}
	n := &Node{cfg: cfg, gather: gather, log: cfg.Log, now: cfg.Now, resolver: cfg.Resolver,
		published: map[string]*Publication{}, named: map[string]map[peer.ID]bool{}}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.now == nil {
		n.now = time.Now
	}
	switch {
	case cfg.Dial != nil:
		n.resolver = noResolver{}
	case n.resolver == nil:
		n.resolver = net.DefaultResolver
	}
	n.root.Store(cfg.Root)
	n.lent.Store(&Offer{})
	n.held.changed = make(chan struct{}, 1)
	n.talks.open()
	n.validator = validator{root: n.root.Load, now: n.now}
	var err error
	if n.bootstrap, err = parseLeads(cfg.Bootstrap); err != nil {
		return nil, err
	}
	n.bus = eventbus.NewBus()
	if n.swarm, err = newSwarm(cfg, n.bus); err != nil {
		return nil, err
	}
	if err := n.serve(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// serve listens and adds the other half of the node, if it has one.
func (n *Node) serve() (err error) {
	if n.cfg.Server == nil {
		return nil
	}
	listen, err := parseAddrs(n.cfg.Listen)
	if err != nil {
		return err
	}
	// First, for only then a server knows its addresses from the start.
	if err := n.swarm.Listen(listen...); err != nil {
		return fmt.Errorf("p2p: listen on %v: %w", n.cfg.Listen, err)
	}
	half := Half{
		Swarm: n.swarm, Bus: n.bus, Prefix: prefix, Namespace: "phase", Validator: n.validator,
		Offer: func() Offer { return *n.lent.Load() }, Believe: credibles, Network: networkOf, Log: n.log,
	}
	n.server, err = n.cfg.Server(half)
	return err
}

// Close leaves the network and frees the sockets. The node is of no use
// afterwards. Closing again, or closing the nil that came with an error of New,
// does nothing.
func (n *Node) Close() error {
	if n == nil {
		return nil
	}
	var err error
	n.closing.Do(func() {
		n.talks.close()
		defer n.talks.wait()
		if n.server != nil {
			err = n.server.Close()
		} else {
			err = closeSwarm(n.swarm)
		}
	})
	return err
}

// SetRoot replaces Config.Root from now on, for publishers rotate keys while
// nodes run. A stored record that the new root refuses is still handed out, but
// any that it accepts takes its place.
func (n *Node) SetRoot(root *manifest.Root) { n.root.Store(root) }

// Name is "dht".
func (n *Node) Name() string { return "dht" }

// ID is the node's peer ID, "12D3Koo…".
func (n *Node) ID() string { return n.swarm.LocalPeer().String() }

// Addrs are the multiaddrs under which the node can be dialled, each with
// /p2p/<id>, ready to be another node's Config.Bootstrap. Empty if the node does
// not listen.
func (n *Node) Addrs() []string {
	if n.server == nil {
		return nil
	}
	var out []string
	for _, a := range n.server.Addrs() {
		out = append(out, a.String()+"/p2p/"+n.ID())
	}
	return out
}

// Peers is the number of nodes this one is connected to.
func (n *Node) Peers() int { return len(n.swarm.Peers()) }
