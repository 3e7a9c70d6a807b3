package boot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

// candidate is a verified manifest and where its artifacts may be had.
type candidate struct {
	verified *manifest.Verified
	origin   string   // who told us
	bases    []string // provider base URLs, untrusted hints
}

func (r *candidate) version() int64 { return r.verified.Manifest().ManifestVersion }

// maxExamined bounds the candidates looked at in one search: a flood of
// well-formed lies must not hold memory or time.
const maxExamined = 64

// hunt is a running search whose candidates are verified as they come.
type hunt struct {
	corridor *Corridor
	floor    manifest.Floor
	started  time.Time

	mu       sync.Mutex
	best     *candidate
	examined map[blob.Digest]bool
	rejected []error
	answers  []discover.Answer
	changed  chan struct{} // closed and replaced when best changes
	done     chan struct{} // closed when the search has ended
}

// startHunt asks all sources at once. The search ends by itself.
func (c *Corridor) startHunt(ctx context.Context, network *netup.Network, floor manifest.Floor) *hunt {
	h := &hunt{
		corridor: c, floor: floor, started: time.Now(),
		examined: map[blob.Digest]bool{}, changed: make(chan struct{}), done: make(chan struct{}),
	}
	c.Observe.Begin(timeline.StageDiscover)
	sources := c.Sources(ctx, network)
	go func() {
		defer close(h.done)
		query := discover.Query{Channel: c.Config.Channel, Arch: c.Config.Arch}
		answers := discover.Search(ctx, query, SearchBudget, sources, func(found discover.Candidate) {
			h.examine(ctx, found)
		})
		h.mu.Lock()
		h.answers = answers
		h.mu.Unlock()
	}()
	return h
}

// examine verifies one candidate and keeps it if it is the newest so far. The
// search calls it for one candidate at a time.
func (h *hunt) examine(ctx context.Context, found discover.Candidate) {
	if !h.isNew(found) {
		return
	}
	release, err := h.verify(ctx, found)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.rejected = append(h.rejected, err)
		h.corridor.Observe.Skipped(found.Origin, err)
		return
	}
	if h.best != nil && release.version() <= h.best.version() {
		return
	}
	h.best = release
	close(h.changed)
	h.changed = make(chan struct{})
}

// isNew reports whether these bytes were not examined before in this search.
// The same pointer with other bases counts as new: it may reach other providers.
func (h *hunt) isNew(found discover.Candidate) bool {
	id := blob.Of([]byte(string(found.Pointer) + "\x00" + strings.Join(found.Bases, "\x00")))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.examined[id] || len(h.examined) >= maxExamined {
		return false
	}
	h.examined[id] = true
	return true
}

// verify takes opaque bytes to a verified manifest: pointer, then manifest.
func (h *hunt) verify(ctx context.Context, found discover.Candidate) (*candidate, error) {
	c := h.corridor
	pointer, err := manifest.VerifyPointer(found.Pointer, c.Root, c.want(), c.Clock.Now())
	if c.Clock.Learn(err) {
		pointer, err = manifest.VerifyPointer(found.Pointer, c.Root, c.want(), c.Clock.Now())
	}
	if err != nil {
		return nil, fmt.Errorf("pointer from %s: %w", found.Origin, err)
	}
	p := pointer.Pointer()
	bases := append(basesOf(p), found.Bases...)
	urls := append([]string{}, p.URLs...)
	for _, base := range found.Bases {
		urls = append(urls, fmt.Sprintf("%s/%s/%s/manifest.json", base, p.Channel, p.Arch))
	}
	urls = append(urls, fetch.BlobURLs(p.ManifestHash, bases)...)
	raw, err := c.Fetcher.Small(ctx, "manifest", p.ManifestHash, p.ManifestSize, urls)
	if err != nil {
		return nil, fmt.Errorf("manifest of release %d from %s: %w", p.ManifestVersion, found.Origin, err)
	}
	verified, err := manifest.VerifyManifest(raw, c.Root, c.want(), h.floor, pointer, c.Clock.Now())
	if err != nil {
		return nil, fmt.Errorf("manifest of release %d from %s: %w", p.ManifestVersion, found.Origin, err)
	}
	return &candidate{verified: verified, origin: found.Origin, bases: bases}, nil
}

// basesOf derives provider base URLs from a pointer's own URLs.
func basesOf(p manifest.Pointer) []string {
	var bases []string
	for _, url := range p.URLs {
		if base, ok := strings.CutSuffix(url, fmt.Sprintf("/%s/%s/manifest.json", p.Channel, p.Arch)); ok {
			bases = append(bases, base)
		}
	}
	return bases
}

// next waits for a verified release newer than the version given, and fails
// when the search ends without one.
func (h *hunt) next(ctx context.Context, newerThan int64) (*candidate, error) {
	for {
		h.mu.Lock()
		best, changed := h.best, h.changed
		h.mu.Unlock()
		if best != nil && best.version() > newerThan {
			c := h.corridor
			c.Observe.End(timeline.StageDiscover, best.origin, nil)
			c.Observe.Begin(timeline.StageVerify)
			c.Observe.End(timeline.StageVerify, fmt.Sprintf("release %d, signed by %d keys", best.version(), len(best.verified.KeyIDs())), nil)
			return best, nil
		}
		select {
		case <-changed:
		case <-h.done:
			if h.newest() <= newerThan {
				err := h.failure()
				h.corridor.Observe.End(timeline.StageDiscover, "", err)
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// untilNewer is a context that ends when a release newer than version is found.
func (h *hunt) untilNewer(ctx context.Context, version int64) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for {
			h.mu.Lock()
			changed := h.changed
			newer := h.best != nil && h.best.version() > version
			h.mu.Unlock()
			if newer {
				return
			}
			select {
			case <-changed:
			case <-h.done:
				if h.newest() <= version {
					<-ctx.Done()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx
}

// settled waits until the search has ended or may no longer hold up the boot,
// and returns the newest verified version.
func (h *hunt) settled(ctx context.Context) int64 {
	timer := time.NewTimer(time.Until(h.started.Add(SettleBudget)))
	defer timer.Stop()
	select {
	case <-h.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return h.newest()
}

func (h *hunt) newest() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.best == nil {
		return 0
	}
	return h.best.version()
}

// NotFoundError says that no source led to a release that verifies.
type NotFoundError struct {
	Query    discover.Query
	Answers  []discover.Answer // what each source answered
	Rejected []error           // why each candidate was refused
}

func (h *hunt) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &NotFoundError{
		Query:   discover.Query{Channel: h.corridor.Config.Channel, Arch: h.corridor.Config.Arch},
		Answers: h.answers, Rejected: h.rejected,
	}
}

// Error leads with a refused candidate's reason where there was one: that
// something was offered and did not verify matters more than who was silent.
func (e *NotFoundError) Error() string {
	if telling := e.telling(); telling != nil {
		return telling.Error()
	}
	return fmt.Sprintf("no release of channel %s for %s was found", e.Query.Channel, e.Query.Arch)
}

// telling is the refusal that says most: a failed verification before a failed
// download.
func (e *NotFoundError) telling() error {
	for _, err := range e.Rejected {
		var refused *manifest.Error
		if errors.As(err, &refused) {
			return err
		}
	}
	if len(e.Rejected) > 0 {
		return e.Rejected[0]
	}
	return nil
}

// Unwrap gives the most telling refusal, so that callers can match its type.
func (e *NotFoundError) Unwrap() error { return e.telling() }

// Code is the refusal's own code, or that nothing was found.
func (e *NotFoundError) Code() string {
	var coded interface{ Code() string }
	if telling := e.telling(); telling != nil && errors.As(telling, &coded) {
		return coded.Code()
	}
	return "DISC-001"
}

// Hint says what to do next.
func (e *NotFoundError) Hint() string {
	var hinted interface{ Hint() string }
	if telling := e.telling(); telling != nil && errors.As(telling, &hinted) {
		return hinted.Hint()
	}
	return "check that a provider for this channel and architecture is running and reachable, or boot with phase.provider=http://host:port"
}
