// Package mdns finds and announces Phase providers on the local network, by
// multicast DNS (RFC 6762) and DNS-based service discovery (RFC 6763), in a form
// that Avahi and Apple's tools understand.
//
// Everybody on the network may announce anything. What is heard is a hint where
// to ask: the records select the channel and architecture and give an address,
// the pointer is then fetched from there, and it is the caller's verifier that
// decides whether it is worth anything. TXT records are never believed beyond
// that. Addresses are used only if they are on the link on which they were heard,
// so that nobody can make this machine ask the world, itself or a crowd; and the
// number of announcements, in all and of each sender, and of requests is bounded.
//
// It speaks the protocol itself, over package net and the kernel: see
// RATIONALE.md for what was wrong with the libraries. It runs on Linux only.
package mdns

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/discover"
)

// Service and Domain name what is announced and looked for.
const (
	Service = "_phase-image._tcp"
	Domain  = "local"
)

var serviceLabels = []string{"_phase-image", "_tcp", Domain}

// Limits of one search.
const (
	maxBases       = 32              // providers asked for their pointer
	maxSenderBases = 2 * maxAddrs    // of them told by one address
	maxAsking      = 8               // of them at the same time
	askTimeout     = 3 * time.Second // for one of them
)

// Source looks for providers on the local network. It implements
// discover.Source under the name "mdns".
type Source struct {
	// Get fetches the pointer from a provider that was heard.
	Get discover.Get
	// Wait bounds the listening. On a local network answers take milliseconds,
	// but nobody says "nothing here", so without it Search lasts as long as its
	// context. Who was heard in time is still asked, for at most three seconds.
	Wait time.Duration
	// Peers, if set, receives the DHT nodes that providers name, whatever they
	// provide, and is told when the search is over, or could not be made.
	Peers *discover.Peers
}

var _ discover.Source = Source{}

// Name is "mdns".
func (Source) Name() string { return "mdns" }

// Search asks the local network for providers of q and yields the pointer of
// each that answers. It lasts until ctx ends or Wait is over, which is no error.
// Having found nothing it fails with ErrNoLink or what else kept it from
// listening, the last error of a provider that could not be asked, or ErrFlood.
func (s Source) Search(ctx context.Context, q discover.Query, found func(discover.Candidate)) error {
	defer s.Peers.Done(nil)
	if err := q.Validate(); err != nil {
		return err
	}
	listening := ctx
	if s.Wait > 0 {
		var cancel context.CancelFunc
		listening, cancel = context.WithTimeout(ctx, s.Wait)
		defer cancel()
	}
	h := &hearing{
		source: s, query: q, found: found,
		census: newCensus(q), peers: map[netip.Addr]int{}, slots: make(chan struct{}, maxAsking),
	}
	err := browse(listening, func(a announced) { h.hear(ctx, a) })
	s.Peers.Done(err)
	h.asking.Wait()
	switch {
	case h.got > 0:
		return nil
	case h.failure != nil:
		return h.failure
	}
	return err
}

// hearing is the state of one Search.
type hearing struct {
	source Source
	query  discover.Query
	found  func(discover.Candidate)

	// Of the goroutine that hears.
	census *census
	peers  map[netip.Addr]int // DHT nodes, by sender

	asking sync.WaitGroup
	slots  chan struct{}

	mu      sync.Mutex
	got     int
	failure error
}

// hear looks at one announcement and asks its provider, if it is one of ours.
func (h *hearing) hear(ctx context.Context, a announced) {
	for _, peer := range a.peers() {
		if h.peers[a.from] < maxPeers {
			h.peers[a.from]++
			h.source.Peers.Add(peer)
		}
	}
	for _, base := range h.census.add(a) {
		h.asking.Go(func() { h.ask(ctx, base, a.instance) })
	}
}

// census picks what is worth asking out of what is heard.
type census struct {
	query     discover.Query
	known     map[string]bool
	perSender map[netip.Addr]int // bases
}

func newCensus(q discover.Query) *census {
	return &census{query: q, known: map[string]bool{}, perSender: map[netip.Addr]int{}}
}

// add returns the base URLs of an announcement that are new, if it is about the
// query and as far as there is room for more.
func (c *census) add(a announced) (fresh []string) {
	if !offers(a.text, c.query) {
		return nil
	}
	for _, base := range a.bases() {
		if c.known[base] || len(c.known) == maxBases || c.perSender[a.from] == maxSenderBases {
			continue
		}
		c.known[base] = true
		c.perSender[a.from]++
		fresh = append(fresh, base)
	}
	return fresh
}

// ask fetches the pointer from one provider.
func (h *hearing) ask(ctx context.Context, base, instance string) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	pointer, err := h.source.Get(ctx, discover.PointerURL(base, h.query), discover.MaxPointer)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.failure = fmt.Errorf("%s: %w", base, err)
		return
	}
	h.got++
	h.found(discover.Candidate{Pointer: pointer, Bases: []string{base}, Origin: "mdns " + printable(instance)})
}

// printable makes a stranger's name fit for a log or a screen.
func printable(name string) string {
	if len(name) > 63 {
		name = name[:63]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
}
