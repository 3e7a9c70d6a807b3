// Package mdns finds and announces Phase providers on the local network, by
// multicast DNS (RFC 6762) and DNS-based service discovery (RFC 6763), in a form
// that Avahi and Apple's tools understand. It is the only importer of zeroconf.
//
// Everybody on the network may announce anything. What is heard is a hint where
// to ask: the records select the channel and architecture and give an address,
// the pointer is then fetched from there, and it is the caller's verifier that
// decides whether it is worth anything. TXT records are never believed beyond
// that, addresses that would lead back into this machine or to many are ignored,
// and the number of announcements and of requests is bounded.
package mdns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/zeroconf/v2"

	"github.com/phasebased/phase/internal/discover"
)

// Service and Domain name what is announced and looked for.
const (
	Service = "_phase-image._tcp"
	Domain  = "local"
)

// Limits of one search.
const (
	maxEntries = 256 // announcements looked at
	maxBases   = 32  // providers asked for their pointer
	maxAsking  = 8   // of them at the same time
)

// ErrFlood ends a search that heard more announcements than any real network
// has. What was found until then stays.
var ErrFlood = errors.New("too many announcements on the local network")

// Source looks for providers on the local network. It implements
// discover.Source under the name "mdns".
type Source struct {
	// Get fetches the pointer from a provider that was heard.
	Get discover.Get
	// Wait bounds the listening. On a local network answers take milliseconds,
	// but nobody says "nothing here", so without it Search lasts as long as its
	// context.
	Wait time.Duration
}

var _ discover.Source = Source{}

// Name is "mdns".
func (Source) Name() string { return "mdns" }

// Search asks the local network for providers of q and yields the pointer of
// each that answers. It lasts until ctx ends or Wait is over, which is no error.
// It fails if multicast is not possible, with ErrFlood, or, having found
// nothing, with the last error of a provider that could not be asked.
func (s Source) Search(ctx context.Context, q discover.Query, found func(discover.Candidate)) error {
	if err := q.Validate(); err != nil {
		return err
	}
	if s.Wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Wait)
		defer cancel()
	}
	h := &hearing{source: s, query: q, found: found, asked: map[string]bool{}, slots: make(chan struct{}, maxAsking)}
	err := browse(ctx, func(e *zeroconf.ServiceEntry) error { return h.hear(ctx, e) })
	h.asking.Wait()
	if err == nil && h.got == 0 {
		err = h.failure
	}
	return err
}

// hearing is the state of one Search.
type hearing struct {
	source Source
	query  discover.Query
	found  func(discover.Candidate)

	// Of the goroutine that hears.
	entries int
	asked   map[string]bool

	asking sync.WaitGroup
	slots  chan struct{}

	mu      sync.Mutex
	got     int
	failure error
}

// hear looks at one announcement and asks its provider, if it is one of ours.
func (h *hearing) hear(ctx context.Context, e *zeroconf.ServiceEntry) error {
	if h.entries++; h.entries > maxEntries {
		return ErrFlood
	}
	if !offers(e.Text, h.query) {
		return nil
	}
	for _, base := range bases(e) {
		if h.asked[base] || len(h.asked) == maxBases {
			continue
		}
		h.asked[base] = true
		h.asking.Go(func() { h.ask(ctx, base, e.Instance) })
	}
	return nil
}

// ask fetches the pointer from one provider.
func (h *hearing) ask(ctx context.Context, base, instance string) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return
	}
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

// browse passes announcements to hear until ctx ends, hear fails, or neither
// IPv4 nor IPv6 works. The two are browsed separately because zeroconf gives up
// both when one is not available.
func browse(ctx context.Context, hear func(*zeroconf.ServiceEntry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	entries := make(chan *zeroconf.ServiceEntry)
	var browsing sync.WaitGroup
	families := []zeroconf.IPType{zeroconf.IPv4, zeroconf.IPv6}
	errs := make([]error, len(families))
	for i, family := range families {
		browsing.Go(func() { errs[i] = browseFamily(ctx, family, entries) })
	}
	go func() {
		browsing.Wait()
		close(entries)
	}()
	var failure error
	for e := range entries {
		if failure == nil {
			if failure = hear(e); failure != nil {
				cancel() // and drain what is on its way
			}
		}
	}
	if failure == nil && errs[0] != nil && errs[1] != nil {
		failure = fmt.Errorf("multicast DNS: %w", errors.Join(errs...))
	}
	return failure
}

// browseFamily passes on what zeroconf hears over one version of IP.
func browseFamily(ctx context.Context, family zeroconf.IPType, out chan<- *zeroconf.ServiceEntry) error {
	heard := make(chan *zeroconf.ServiceEntry)
	ended := make(chan error, 1)
	go func() {
		ended <- zeroconf.Browse(ctx, Service, Domain, heard, zeroconf.SelectIPTraffic(family))
	}()
	for {
		select {
		case e, ok := <-heard:
			if !ok { // Browse is about to return
				heard = nil
				continue
			}
			out <- e // the receiver drains until we are gone
		case err := <-ended:
			return err
		}
	}
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
