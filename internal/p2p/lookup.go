package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

// The shape of a search, after Kademlia (Maymounkov and Mazières, 2002): it ends
// when the closest peers to the key that can be reached have all been asked. The
// bounds keep a crowd of liars from making it endless.
const (
	closest      = 20   // peers nearest to the key that must answer
	perNetwork   = 3    // of them from one network; more are asked but not counted
	parallel     = 16   // requests at the same time
	atOnce       = 4    // of them younger than soon
	maxAsked     = 128  // requests in one walk
	maxKnown     = 1024 // peers remembered in one walk
	maxPeerAddrs = 16   // addresses remembered of one peer
	maxTries     = 3    // requests to a bootstrap peer that gains addresses
)

// soon is when a request that has no answer waits for the network, or for nobody.
// Before, it is handshakes, which are work: a few at once are answered earlier than
// many.
const soon = 25 * time.Millisecond

// reply is what one peer said.
type reply struct {
	from      peer.ID
	at        netip.Addr // where it is
	name      string     // instead of from: of a lead that came to nothing
	err       error
	providers []*peer.AddrInfo // of the key, as it knows them
	closer    []*peer.AddrInfo // peers it knows to be closer to the key
}

// label is who this is about, for reports.
func (r reply) label() string {
	if r.name != "" {
		return r.name
	}
	return r.from.String()
}

type state uint8

const (
	fresh state = iota
	asked
	answered
	failed
)

// contact is a peer that a search knows of.
type contact struct {
	id       peer.ID
	distance [sha256.Size]byte // XOR of the hashes of key and ID
	must     bool              // ask it whatever its distance
	network  netip.Prefix      // where it is, or is said to be; zero: local or unknown
	addrs    int
	state    state
	tries    int
	more     bool // gained addresses since it was asked
	young    bool // asked less than soon ago, and not heard yet
}

// plan says where a walk goes and what it does there.
type plan struct {
	key   []byte
	leads <-chan hint     // the peers to start from
	after <-chan struct{} // nobody is asked before this is closed; nil: at once
	// ask exchanges one request with a peer. It may be called concurrently.
	ask func(context.Context, peer.ID) reply
	// heard receives each reply, also a failure, one at a time and never after
	// the walk.
	heard func(reply)
	// idle, if not nil, is called when the walk has got somewhere and can but wait
	// for peers that take their time.
	idle func()
}

// lookup is one walk. Only the goroutine in run touches it.
type lookup struct {
	plan
	node     *Node
	place    [sha256.Size]byte
	contacts []*contact // nearest first
	byID     map[peer.ID]*contact
	starters map[peer.ID][]ma.Multiaddr
	asked    int
	answers  int
	running  int // requests under way
	young    int // of them younger than soon
	replies  chan reply
	aged     chan *contact // was asked soon ago
}

// walk asks the peers to start from and, through them, the peers closest to the
// key. It returns those that answered, nearest first.
func (n *Node) walk(ctx context.Context, p plan) []peer.ID {
	l := &lookup{
		plan: p, node: n, place: sha256.Sum256(p.key),
		byID: map[peer.ID]*contact{}, starters: map[peer.ID][]ma.Multiaddr{},
		replies: make(chan reply, parallel), aged: make(chan *contact, maxAsked),
	}
	if n.server != nil {
		for _, p := range n.server.Nearest(l.place[:], closest) {
			l.know(p)
		}
	}
	l.run(ctx)
	var out []peer.ID
	for _, c := range l.contacts {
		if c.state == answered {
			out = append(out, c.id)
		}
	}
	return out
}

func (l *lookup) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait() // runs last: the requests end with ctx
	defer cancel()
	for {
		for l.running < parallel && l.young < atOnce {
			c := l.next()
			if c == nil {
				break
			}
			asking.Go(l.request(ctx, c))
		}
		if l.running == 0 && l.leads == nil && l.after == nil {
			return
		}
		if l.idle != nil && l.answers > 0 && l.young == 0 {
			l.idle()
		}
		select {
		case h, ok := <-l.leads:
			l.follow(h, ok)
		case <-l.after:
			l.after = nil
		case c := <-l.aged:
			l.age(c)
		case r := <-l.replies:
			l.running--
			l.age(l.byID[r.from])
			l.learn(r)
			l.heard(r)
		case <-ctx.Done():
			return
		}
	}
}

// request notes that a peer is asked, and returns what does it.
func (l *lookup) request(ctx context.Context, c *contact) func() {
	c.state, c.young = asked, true
	c.tries++
	l.asked++
	l.running++
	l.young++
	return func() {
		defer time.AfterFunc(soon, func() { l.aged <- c }).Stop()
		r := l.ask(ctx, c.id)
		r.from = c.id
		l.replies <- r
	}
}

// age notes that a request is no longer young.
func (l *lookup) age(c *contact) {
	if c.young {
		c.young = false
		l.young--
	}
}

// follow takes a hint, or that there are no more.
func (l *lookup) follow(h hint, ok bool) {
	switch {
	case !ok:
		l.leads = nil
		l.node.judge(l.starters)
	case h.err != nil:
		l.heard(reply{name: h.label, err: h.err})
	default:
		l.start(h.peer)
	}
}

// next is the peer to ask next, nil if there is none for now.
func (l *lookup) next() *contact {
	if l.asked >= maxAsked || l.after != nil {
		return nil
	}
	near := 0
	crowd := map[netip.Prefix]int{}
	var candidate *contact
	for _, c := range l.contacts {
		if c.state == fresh && c.must {
			return c
		}
		if c.state == failed || near == closest {
			continue
		}
		if c.state == fresh && candidate == nil {
			candidate = c
		}
		// IDs near the key are cheap to make, networks are not.
		if crowd[c.network]++; !c.network.IsValid() || crowd[c.network] <= perNetwork {
			near++
		}
	}
	return candidate
}

func (l *lookup) learn(r reply) {
	c := l.byID[r.from]
	if r.err != nil {
		c.state = failed
		if c.more && c.tries < maxTries {
			c.state, c.more = fresh, false
		}
		return
	}
	c.state, c.network = answered, networkOf(r.at)
	l.answers++
	for i, info := range r.closer {
		if i == 2*closest {
			return
		}
		if addrs := credibles(info.Addrs, r.at); len(addrs) > 0 {
			l.refer(info.ID, addrs)
		}
	}
}

// start makes a bootstrap peer known, or another address of one.
func (l *lookup) start(info peer.AddrInfo) {
	c := l.know(info.ID)
	if c == nil {
		return
	}
	c.must = true
	l.node.forgetFailures(c.id)
	l.node.swarm.Peerstore().AddAddrs(c.id, info.Addrs, peerstore.TempAddrTTL)
	l.starters[c.id] = append(l.starters[c.id], info.Addrs...)
	switch c.state {
	case asked:
		c.more = true
	case failed:
		if c.tries < maxTries {
			c.state = fresh
		}
	}
}

// refer makes a peer known that another one named. One that waits to be asked may
// gain addresses: the first who mentioned it may have lied about where it is.
func (l *lookup) refer(p peer.ID, addrs []ma.Multiaddr) {
	c := l.know(p)
	if c == nil || c.must || c.state != fresh {
		return
	}
	if c.addrs == 0 {
		c.network = networkOf(ipOf(addrs[0]))
	}
	addrs = addrs[:min(len(addrs), maxPeerAddrs-c.addrs)]
	c.addrs += len(addrs)
	l.node.swarm.Peerstore().AddAddrs(c.id, addrs, peerstore.TempAddrTTL)
}

// know returns the contact of a peer, a new one if need be; nil for what is no
// other peer and when too many are known.
func (l *lookup) know(p peer.ID) *contact {
	if p == l.node.swarm.LocalPeer() || p.Validate() != nil || len(p) > 64 {
		return nil
	}
	c := l.byID[p]
	if c == nil && len(l.contacts) < maxKnown {
		c = &contact{id: p, distance: l.distance(p)}
		l.byID[p] = c
		at, _ := slices.BinarySearchFunc(l.contacts, c, func(a, b *contact) int {
			return bytes.Compare(a.distance[:], b.distance[:])
		})
		l.contacts = slices.Insert(l.contacts, at, c)
	}
	return c
}

func (l *lookup) distance(p peer.ID) (d [sha256.Size]byte) {
	id := sha256.Sum256([]byte(p))
	for i := range d {
		d[i] = id[i] ^ l.place[i]
	}
	return d
}
