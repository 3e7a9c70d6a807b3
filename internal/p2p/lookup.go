package p2p

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

// The shape of a search, after Kademlia (Maymounkov and Mazières, 2002): it ends
// when the closest peers to the key that can be reached have all been asked. The
// bounds keep a crowd of liars from making it endless.
const (
	closest      = 20   // peers nearest to the key that must answer
	parallel     = 16   // requests at the same time
	maxAsked     = 256  // requests in one search
	maxKnown     = 1024 // peers remembered in one search
	maxPeerAddrs = 16   // addresses remembered of one peer
)

// reply is what one peer said.
type reply struct {
	from      peer.ID
	err       error
	value     []byte           // of the record it holds; nil: none
	providers []*peer.AddrInfo // of the key, as it knows them
	closer    []*peer.AddrInfo // peers it knows to be closer to the key
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
	addrs    int
	state    state
}

// lookup is one search. Only the goroutine in run touches it.
type lookup struct {
	node     *Node
	key      [sha256.Size]byte
	contacts []*contact // nearest first
	byID     map[peer.ID]*contact
	asked    int
}

// walk asks the bootstrap peers and, through them, the peers closest to key. Each
// reply, also a failure, is passed to heard, one at a time and never after walk
// has returned. It returns the peers that answered, nearest first.
func (n *Node) walk(ctx context.Context, key []byte, ask func(context.Context, peer.ID) reply, heard func(reply)) []peer.ID {
	l := &lookup{node: n, key: sha256.Sum256(key), byID: map[peer.ID]*contact{}}
	for _, b := range n.bootstrap {
		n.forgetFailures(b.ID)
		l.add(b, true)
	}
	if n.dht != nil {
		for _, p := range n.dht.RoutingTable().NearestPeers(l.key[:], closest) {
			l.add(peer.AddrInfo{ID: p}, false)
		}
	}
	l.run(ctx, ask, heard)
	var out []peer.ID
	for _, c := range l.contacts {
		if c.state == answered {
			out = append(out, c.id)
		}
	}
	return out
}

func (l *lookup) run(ctx context.Context, ask func(context.Context, peer.ID) reply, heard func(reply)) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait() // runs last: the requests end with ctx
	defer cancel()
	replies := make(chan reply, parallel)
	for running := 0; ; {
		for c := l.next(); c != nil && running < parallel; c = l.next() {
			c.state = asked
			l.asked++
			running++
			asking.Go(func() {
				r := ask(ctx, c.id)
				r.from = c.id
				replies <- r
			})
		}
		if running == 0 {
			return
		}
		select {
		case r := <-replies:
			running--
			l.learn(r)
			heard(r)
		case <-ctx.Done():
			return
		}
	}
}

// next is the peer to ask next, nil if there is none for now.
func (l *lookup) next() *contact {
	if l.asked >= maxAsked {
		return nil
	}
	near := 0
	var candidate *contact
	for _, c := range l.contacts {
		if c.state == fresh && c.must {
			return c
		}
		if c.state != failed && near < closest {
			near++
			if c.state == fresh && candidate == nil {
				candidate = c
			}
		}
	}
	return candidate
}

func (l *lookup) learn(r reply) {
	c := l.byID[r.from]
	if r.err != nil {
		c.state = failed
		return
	}
	c.state = answered
	for i, info := range r.closer {
		if i == 2*closest {
			return
		}
		l.add(*info, false)
	}
}

// add makes a peer known. A peer that waits to be asked may gain addresses: the
// first who mentioned it may have lied about where it is.
func (l *lookup) add(info peer.AddrInfo, must bool) {
	if info.ID == l.node.host.ID() || info.ID.Validate() != nil || len(info.ID) > 64 {
		return
	}
	c := l.byID[info.ID]
	if c == nil {
		if len(l.contacts) >= maxKnown {
			return
		}
		c = &contact{id: info.ID, distance: l.distance(info.ID), must: must}
		l.byID[info.ID] = c
		at, _ := slices.BinarySearchFunc(l.contacts, c, func(a, b *contact) int {
			return bytes.Compare(a.distance[:], b.distance[:])
		})
		l.contacts = slices.Insert(l.contacts, at, c)
	}
	if c.state == fresh {
		l.remember(c, info.Addrs)
	}
}

func (l *lookup) remember(c *contact, addrs []ma.Multiaddr) {
	addrs = addrs[:min(len(addrs), maxPeerAddrs-c.addrs)]
	c.addrs += len(addrs)
	l.node.host.Peerstore().AddAddrs(c.id, addrs, peerstore.TempAddrTTL)
}

func (l *lookup) distance(p peer.ID) (d [sha256.Size]byte) {
	id := sha256.Sum256([]byte(p))
	for i := range d {
		d[i] = id[i] ^ l.key[i]
	}
	return d
}
