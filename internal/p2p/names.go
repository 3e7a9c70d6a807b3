package p2p

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	madns "github.com/multiformats/go-multiaddr-dns"
)

// How far a name of Config.Bootstrap is followed. DNS answers are unsigned and
// anybody's: the peers they name are asked like others, and prove their IDs.
const (
	// maxNested is how many further names a name may lead to, one after the
	// other (/dnsaddr records may name a /dnsaddr).
	maxNested = 2
	// maxRecordsTXT bounds the TXT records considered for one entry, those of all
	// names on the way together.
	maxRecordsTXT = 32
	// maxTXT bounds one of them, in bytes. A multiaddr needs about a hundred.
	maxTXT = 512
	// resolveTimeout bounds the resolution of one entry.
	resolveTimeout = 5 * time.Second
)

// A Resolver looks up names. *net.Resolver is one.
type Resolver interface {
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

var (
	errNoPeers = errors.New("no peer with an IP address and a TCP port is behind the name")
	errNested  = errors.New("name leads to too many other names")
)

// naming resolves one entry, according to the specification of /dnsaddr
// (multiformats, protocols/DNSADDR.md): the TXT records of _dnsaddr.<name> that
// begin with "dnsaddr=" hold one multiaddr each, and if the entry has something
// behind the name, only those count that end in it. What this node could not
// dial anyway is passed over. All names on the way are looked up in parallel.
type naming struct {
	found func(peer.AddrInfo) // one address at a time, one call at a time
	step  *madns.Resolver

	following sync.WaitGroup

	mu      sync.Mutex
	records int // how many more are considered
	addrs   map[peer.ID]int
	err     error // the first
}

// resolve follows addr to peers with their addresses, passed to found as they
// become known and never after it has returned. It fails if there are none.
func resolve(ctx context.Context, dns Resolver, addr ma.Multiaddr, found func(peer.AddrInfo)) error {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	n := &naming{found: found, records: maxRecordsTXT, addrs: map[peer.ID]int{}}
	var err error
	if n.step, err = madns.NewResolver(madns.WithDefaultResolver(&boundedResolver{dns, n})); err != nil {
		return fmt.Errorf("resolver: %w", err)
	}
	n.following.Go(func() { n.follow(ctx, addr, maxNested) })
	n.following.Wait()
	switch {
	case len(n.addrs) > 0:
		return nil
	case n.err != nil:
		return n.err
	}
	return errNoPeers
}

func (n *naming) follow(ctx context.Context, addr ma.Multiaddr, nested int) {
	if !hasName(addr) {
		n.take(addr)
		return
	}
	next, err := n.step.Resolve(ctx, addr)
	if err != nil {
		n.fail(err)
	}
	for _, a := range next {
		left := nested
		if a[0].Code() == ma.P_DNSADDR {
			if left--; left < 0 {
				n.fail(errNested)
				continue
			}
		}
		n.following.Go(func() { n.follow(ctx, a, left) })
	}
}

// take passes on a resolved address, if it is of a kind that this node dials.
func (n *naming) take(addr ma.Multiaddr) {
	info, err := peer.AddrInfoFromP2pAddr(addr)
	if err != nil || len(info.Addrs) != 1 || !dialable(info.Addrs[0]) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.addrs[info.ID] == maxPeerAddrs {
		return
	}
	n.addrs[info.ID]++
	n.found(*info)
}

func (n *naming) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.err = err
	}
}

// hasName reports whether addr begins with a name to be looked up.
func hasName(addr ma.Multiaddr) bool {
	if len(addr) == 0 {
		return false
	}
	switch addr[0].Code() {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR:
		return true
	}
	return false
}

// boundedResolver hands out no more records than its naming may consider.
type boundedResolver struct {
	Resolver
	n *naming
}

// LookupTXT drops records that are no dnsaddr, too long, or too many.
func (b *boundedResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	records, err := b.Resolver.LookupTXT(ctx, name)
	if err != nil {
		return nil, err
	}
	b.n.mu.Lock()
	defer b.n.mu.Unlock()
	var out []string
	for _, r := range records[:min(len(records), b.n.records)] {
		b.n.records--
		if len(r) <= maxTXT {
			out = append(out, r)
		}
	}
	return out, nil
}

// LookupIPAddr drops addresses beyond those that a peer may have.
func (b *boundedResolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	addrs, err := b.Resolver.LookupIPAddr(ctx, host)
	return addrs[:min(len(addrs), 2*maxPeerAddrs)], err
}
