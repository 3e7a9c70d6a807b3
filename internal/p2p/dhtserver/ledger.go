package dhtserver

import (
	"context"
	"net/netip"
	"sync"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/phasebased/phase/internal/p2p"
)

// How many providers of one key a node keeps: kad-dht has no limit, and would
// answer with all of them. IDs are free, networks are not; on a local network,
// where all are in one, the machine counts instead.
const (
	maxKeyProviders     = 64
	maxNetworkProviders = 8
	maxProviderAddrs    = 8
	// Of all keys together one network has an eighth: eight nodes with all that
	// each may announce. Keys are free as well.
	maxNetworkEntries = maxProviders / 8
	// forgetEvery is how often a full ledger looks for what has expired: strangers
	// decide how often it is asked for room.
	forgetEvery = 10 * time.Second
)

// ledger counts announcements before kad-dht notes them, and takes out of them
// those that are too many, and addresses that nobody should believe: of an
// announcement, unlike of what is passed on later, it is known where it comes from.
type ledger struct {
	half p2p.Half
	life time.Duration
	now  func() time.Time

	mu       sync.Mutex
	keys     map[string]map[peer.ID]entry
	networks map[netip.Prefix]int // entries of all keys
	size     int                  // of all keys
	looked   time.Time            // for what has expired
}

type entry struct {
	network netip.Prefix
	until   time.Time
}

func newLedger(half p2p.Half, life time.Duration) *ledger {
	return &ledger{half: half, life: life, now: time.Now, keys: map[string]map[peer.ID]entry{}, networks: map[netip.Prefix]int{}}
}

// look is called by kad-dht with each request before it is handled. A request
// without providers is refused there, and who sent it learns that.
func (l *ledger) look(_ context.Context, s network.Stream, req *pb.Message) {
	if req.GetType() != pb.Message_ADD_PROVIDER {
		return
	}
	from, at := s.Conn().RemotePeer(), addressOf(s.Conn())
	var kept []*pb.Message_Peer
	for _, p := range req.ProviderPeers {
		if peer.ID(p.GetId()) != from || len(kept) > 0 {
			continue // nobody announces others
		}
		if p.Addrs = l.believable(p.Addrs, at); len(p.Addrs) > 0 {
			kept = append(kept, p)
		}
	}
	if len(kept) > 0 && !l.admit(string(req.GetKey()), from, l.network(at)) {
		kept = nil
	}
	req.ProviderPeers = kept
}

// believable are those of a provider's addresses that it may name, being at an
// address itself.
func (l *ledger) believable(raw [][]byte, at netip.Addr) [][]byte {
	var out [][]byte
	for _, b := range raw {
		a, err := ma.NewMultiaddrBytes(b)
		if err == nil && len(out) < maxProviderAddrs && len(l.half.Believe([]ma.Multiaddr{a}, at)) == 1 {
			out = append(out, b)
		}
	}
	return out
}

func (l *ledger) network(at netip.Addr) netip.Prefix {
	if p := l.half.Network(at); p.IsValid() {
		return p
	}
	p, _ := at.WithZone("").Prefix(at.BitLen())
	return p
}

// admit reports whether there is room for the announcement, and notes it. Renewals
// are always admitted.
func (l *ledger) admit(key string, from peer.ID, network netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	before, renewal := l.keys[key][from]
	if renewal {
		l.count(before.network, -1)
	} else if !l.room(key, network, now) {
		return false
	}
	if l.keys[key] == nil {
		l.keys[key] = map[peer.ID]entry{}
	}
	l.count(network, 1)
	l.keys[key][from] = entry{network: network, until: now.Add(l.life)}
	return true
}

// room reports whether there is any for a newcomer.
func (l *ledger) room(key string, network netip.Prefix, now time.Time) bool {
	if l.size >= maxProviders || l.networks[network] >= maxNetworkEntries {
		l.forget(now)
	}
	return !l.full(l.keys[key], network, now) && l.size < maxProviders && l.networks[network] < maxNetworkEntries
}

// count notes that a network has n entries more.
func (l *ledger) count(network netip.Prefix, n int) {
	l.size += n
	if l.networks[network] += n; l.networks[network] == 0 {
		delete(l.networks, network)
	}
}

// full drops what has expired of a key and reports whether its providers, or those
// from one network, are as many as they may be.
func (l *ledger) full(entries map[peer.ID]entry, network netip.Prefix, now time.Time) bool {
	same := 0
	for id, e := range entries {
		switch {
		case now.After(e.until):
			delete(entries, id)
			l.count(e.network, -1)
		case e.network == network:
			same++
		}
	}
	return len(entries) >= maxKeyProviders || same >= maxNetworkProviders
}

// forget drops what has expired of all keys, unless it did so just now.
func (l *ledger) forget(now time.Time) {
	if now.Sub(l.looked) < forgetEvery {
		return
	}
	l.looked = now
	for key, entries := range l.keys {
		l.full(entries, netip.Prefix{}, now)
		if len(entries) == 0 {
			delete(l.keys, key)
		}
	}
}
