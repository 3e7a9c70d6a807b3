package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/manifest"
)

const (
	// parallel is how many places are asked for one manifest at a time, and
	// headStart how long each waits for the one before it, as in RFC 8305.
	parallel  = 4
	headStart = 250 * time.Millisecond
	// placeLimit bounds the attempt to get a manifest, of at most 64 KiB, from
	// one place.
	placeLimit = 5 * time.Second
)

// identity is what makes two verified pointers name the same release.
type identity struct {
	version int64
	hash    blob.Digest // of the manifest file
	size    int64
}

func identify(p manifest.Pointer) identity {
	return identity{p.ManifestVersion, p.ManifestHash, p.ManifestSize}
}

// group is one release: a verified pointer, every place that may have what it
// names, whoever told of them, and in the end the verified manifest.
type group struct {
	identity
	pointer *manifest.VerifiedPointer
	origin  string // who told first
	ctx     context.Context
	cancel  context.CancelFunc // ends the search for its manifest

	// Guarded by the hunt's mutex until the hunt has ended.
	places   []*place
	turns    map[string]int // how many places of each origin were asked
	attempts []fetch.Attempt
	verified *manifest.Verified // nil until the manifest is here
	refused  bool               // the manifest is here and does not verify
}

// place is where the release's files may be had.
type place struct {
	base   string   // provider base URL; empty for a manifest somewhere else
	urls   []string // of the manifest
	origin string   // who named it; empty for the publisher, in the pointer

	asked  time.Time // when its turn for the manifest came, or zero
	served bool      // it gave the manifest
	failed bool      // it did not, or not an artifact, or was overtaken
	spent  bool      // the artifacts were looked for here
}

func newGroup(ctx context.Context, p *manifest.VerifiedPointer, origin string) *group {
	g := &group{identity: identify(p.Pointer()), pointer: p, origin: origin, turns: map[string]int{}}
	g.ctx, g.cancel = context.WithCancel(ctx)
	g.places = []*place{{}} // the cache, which is asked with every place
	return g
}

// learn adds the places that a candidate names: first the source's own, which
// are near or were typed by hand, then those in the signed pointer.
func (g *group) learn(p manifest.Pointer, found discover.Candidate) {
	path := fmt.Sprintf("/%s/%s/manifest.json", p.Channel, p.Arch)
	for _, base := range found.Bases {
		base = strings.TrimRight(base, "/")
		g.add(&place{base: base, urls: []string{base + path}, origin: found.Origin})
	}
	for _, url := range p.URLs {
		base, ok := strings.CutSuffix(url, path)
		if !ok {
			base = ""
		}
		g.add(&place{base: base, urls: []string{url}})
	}
}

func (g *group) add(p *place) {
	if p.base != "" {
		if discover.CheckBase(p.base) != nil {
			return
		}
		p.urls = append(p.urls, fetch.BlobURLs(g.hash, []string{p.base})...)
	}
	for _, known := range g.places {
		if slices.Equal(known.urls, p.urls) {
			known.origin = cmp.Or(known.origin, p.origin)
			return
		}
	}
	g.places = append(g.places, p)
}

// pick is the next place to ask for the manifest, or nil. The origin with the
// fewest turns is next, so that one who names hundreds of places holds up only
// himself.
func (g *group) pick() *place {
	var next *place
	for _, p := range g.places {
		if p.asked.IsZero() && (next == nil || g.turns[p.origin] < g.turns[next.origin]) {
			next = p
		}
	}
	if next != nil {
		next.asked = time.Now()
		g.turns[next.origin]++
	}
	return next
}

// deliver notes that a place gave the manifest. Those that had their head start
// and did not are slow.
func (g *group) deliver(p *place, verified *manifest.Verified) {
	g.verified, p.served = verified, true
	for _, other := range g.places {
		if !other.served && !other.asked.IsZero() && time.Since(other.asked) >= headStart {
			other.failed = true
		}
	}
}

// fail notes that a place did not give the manifest, unless it was given up.
func (g *group) fail(p *place, err error) {
	if errors.Is(g.ctx.Err(), context.Canceled) {
		return
	}
	p.failed = true
	var failure *fetch.Error
	if errors.As(err, &failure) {
		g.attempts = append(g.attempts, failure.Attempts...)
	}
}

// maxPerRank bounds how many bases of each rank are used at once: a flood of
// hints must not hide the publisher's own.
const maxPerRank = 8

// bases are the provider base URLs to get artifacts from, best first: those of
// sources before those of the pointer, and last those that failed already.
func (g *group) bases() []string {
	places := slices.Clone(g.places)
	slices.SortStableFunc(places, func(a, b *place) int { return a.rank() - b.rank() })
	var used [4]int
	var bases []string
	for _, p := range places {
		if rank := p.rank(); p.base != "" && used[rank] < maxPerRank {
			used[rank]++
			bases = append(bases, p.base)
		}
	}
	return bases
}

func (p *place) rank() int {
	switch {
	case p.failed:
		return 3
	case p.origin == "":
		return 2
	case p.served:
		return 0
	}
	return 1
}

// spend marks bases as tried for the artifacts without success.
func (g *group) spend(bases []string) {
	for _, p := range g.places {
		if slices.Contains(bases, p.base) {
			p.failed, p.spent = true, true
		}
	}
}

// unspent reports whether there is a base that was not tried for the artifacts.
func (g *group) unspent() bool {
	return slices.ContainsFunc(g.places, func(p *place) bool { return p.base != "" && !p.spent })
}

// failure is why no place gave the manifest.
func (g *group) failure() error {
	e := &fetch.Error{Artifact: "manifest", Want: g.hash, Rounds: min(1, len(g.attempts)), Attempts: g.attempts}
	others := 0
	for _, a := range g.attempts {
		var mismatch *blob.MismatchError
		var status *fetch.StatusError
		switch {
		case errors.As(a.Err, &mismatch):
			e.Mismatch = true
		case errors.As(a.Err, &status) && status.Code == http.StatusNotFound:
		default:
			others++
		}
	}
	e.Mismatch = e.Mismatch && others == 0
	return e
}

// pursue looks for a group's manifest until one place gave it, or the search
// has ended and no place is left.
func (h *hunt) pursue(g *group) {
	defer g.cancel()
	var workers sync.WaitGroup
	for i := range parallel {
		workers.Go(func() {
			if err := guard(func() error { h.work(g, time.Duration(i)*headStart); return nil }); err != nil {
				h.refuse(g, err)
			}
		})
	}
	workers.Wait()
	h.mu.Lock()
	open := g.verified == nil && !g.refused && !errors.Is(g.ctx.Err(), context.Canceled)
	err := g.failure()
	h.mu.Unlock()
	if open {
		h.refuse(g, err)
	}
}

// work asks one place after the other, beginning after a delay.
func (h *hunt) work(g *group, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.ctx.Done():
	}
	for g.ctx.Err() == nil {
		var p *place
		h.wait(g.ctx, func() bool {
			p = g.pick()
			return p != nil || h.searched
		})
		if p == nil {
			return
		}
		h.ask(g, p)
	}
}

// ask tries to get the manifest from one place, once.
func (h *hunt) ask(g *group, p *place) {
	ctx, cancel := context.WithTimeoutCause(g.ctx, placeLimit, fetch.ErrTimeout)
	defer cancel()
	fetcher := *h.corridor.Fetcher
	fetcher.Retries, fetcher.Progress = 1, nil
	raw, err := fetcher.Small(ctx, "manifest", g.hash, g.size, p.urls)
	if err != nil {
		h.update(func() { g.fail(p, err) })
		return
	}
	c := h.corridor
	verified, err := manifest.Verifier{Root: c.Root, Want: c.want(), Floor: h.floor}.Manifest(raw, nil, g.pointer, c.Clock.Now())
	if err != nil {
		h.refuse(g, err) // the bytes are right, so every place has the same
		return
	}
	h.update(func() { h.accept(g, p, verified) })
}

// accept makes the group a release, and the best one if it is the newest. What
// is not newer need not be looked for any more.
func (h *hunt) accept(g *group, p *place, verified *manifest.Verified) {
	g.deliver(p, verified)
	if h.best == nil || g.version > h.best.version {
		h.best = g
	}
	for _, other := range h.groups {
		if other.version <= h.best.version {
			other.cancel()
		}
	}
	g.cancel()
}

// refuse ends a group that cannot become a release.
func (h *hunt) refuse(g *group, err error) {
	again := false
	h.update(func() { again, g.refused = g.refused, true })
	g.cancel()
	if !again {
		h.reject(g.origin, fmt.Errorf("manifest of release %d from %s: %w", g.version, g.origin, err))
	}
}
