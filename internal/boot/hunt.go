package boot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/manifest"
)

const (
	// maxGroups bounds the releases looked at in one search: old pointers
	// that are still valid can be replayed by anybody.
	maxGroups = 8
	// closeLimit is how long the sources may take to close.
	closeLimit = 3 * time.Second
)

// hunt is a running search. Pointers are verified as they come, which takes no
// time, and those that name the same manifest make a group; the manifests are
// fetched beside the search. All of it ends within SearchBudget, or by stop.
type hunt struct {
	corridor *Corridor
	floor    manifest.Floor
	started  time.Time
	ctx      context.Context
	cancel   context.CancelFunc
	pursuits sync.WaitGroup // one for each group
	ended    chan struct{}  // closed when nothing of this runs any more

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change below
	groups   map[identity]*group
	first    *group // whose pointer was the first to verify
	best     *group // the newest whose manifest is verified
	rejected []error
	answers  []discover.Answer
	searched bool // no candidate will come any more
	over     bool // nor any manifest
	stopped  bool // nobody is to be told anything any more
}

// startHunt asks all sources at once. The caller must stop it.
func (c *Corridor) startHunt(ctx context.Context, network *netup.Network, floor manifest.Floor) *hunt {
	h := &hunt{
		corridor: c, floor: floor, started: time.Now(), groups: map[identity]*group{},
		changed: make(chan struct{}), ended: make(chan struct{}),
	}
	h.ctx, h.cancel = context.WithTimeout(ctx, SearchBudget)
	sources, closeSources := c.Sources(h.ctx, network)
	go func() {
		defer close(h.ended)
		h.search(sources)
		h.pursuits.Wait()
		h.update(func() { h.over = true })
		closeWithin(closeSources, closeLimit)
	}()
	return h
}

// stop ends the hunt and returns when nothing of it runs any more.
func (h *hunt) stop() {
	h.update(func() { h.stopped = true })
	h.cancel()
	<-h.ended
}

// closeWithin waits for end, which stops networks and must not stop the boot.
func closeWithin(end func(), limit time.Duration) {
	if end == nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = guard(func() error { end(); return nil }) // what it closes is not used any more
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}

// search runs until every source has answered or the time is over.
func (h *hunt) search(sources []discover.Source) {
	guarded := make([]discover.Source, len(sources))
	for i, source := range sources {
		guarded[i] = guardedSource{source, h}
	}
	var answers []discover.Answer
	err := guard(func() error {
		answers = discover.Search(h.ctx, h.corridor.query(), SearchBudget, guarded, h.examine)
		return nil
	})
	if err != nil {
		h.reject("search", err)
	}
	h.update(func() { h.answers, h.searched = answers, true })
}

// guardedSource survives a panic in its own Search and in what that found.
type guardedSource struct {
	discover.Source
	hunt *hunt
}

func (s guardedSource) Search(ctx context.Context, q discover.Query, found func(discover.Candidate)) error {
	err := guard(func() error { return s.Source.Search(ctx, q, found) })
	var defect *PanicError
	if errors.As(err, &defect) {
		s.hunt.reject(s.Name(), err)
	}
	return err
}

// update changes the state and tells everybody who waits for it.
func (h *hunt) update(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait blocks until ready, which is called with the state locked, and reports
// whether it was before the hunt was over or ctx done.
func (h *hunt) wait(ctx context.Context, ready func() bool) bool {
	for {
		h.mu.Lock()
		ok, over, changed := ready(), h.over, h.changed
		h.mu.Unlock()
		if ok || over {
			return ok
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// examine takes in one candidate. The search waits for it, so it does nothing
// that takes time.
func (h *hunt) examine(found discover.Candidate) {
	c := h.corridor
	verifier := manifest.Verifier{Root: c.Root, Want: c.want()}
	pointer, err := verifier.Pointer(found.Pointer, c.Clock.Now())
	if c.Clock.Learn(err) {
		pointer, err = verifier.Pointer(found.Pointer, c.Clock.Now())
	}
	if err != nil {
		h.reject(found.Origin, fmt.Errorf("pointer from %s: %w", found.Origin, err))
		return
	}
	h.update(func() {
		if g := h.admit(pointer, found.Origin); g != nil {
			g.learn(pointer.Pointer(), found)
		}
	})
}

// reject remembers why a candidate is of no use.
func (h *hunt) reject(origin string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return
	}
	h.rejected = addRejected(h.rejected, err)
	h.corridor.Observe.Skipped(origin, err)
}

// admit returns the pointer's group, begun if it is new, or nil if it is of no
// interest: not newer than what is verified, or older than enough others.
func (h *hunt) admit(p *manifest.VerifiedPointer, origin string) *group {
	id := identify(p.Pointer())
	if g := h.groups[id]; g != nil {
		return g
	}
	if h.best != nil && id.version <= h.best.version || len(h.groups) >= maxGroups && !h.evict(id.version) {
		return nil
	}
	g := newGroup(h.ctx, p, origin)
	h.groups[id] = g
	if h.first == nil {
		h.first = g
	}
	h.pursuits.Go(func() { h.pursue(g) })
	return g
}

// evict makes room for a newer release: a refused one goes first, then the
// oldest.
func (h *hunt) evict(version int64) bool {
	var oldest *group
	for _, g := range h.groups {
		if g.refused {
			oldest = g
			break
		}
		if g != h.best && (oldest == nil || g.version < oldest.version) {
			oldest = g
		}
	}
	if oldest == nil || !oldest.refused && oldest.version >= version {
		return false
	}
	oldest.cancel()
	delete(h.groups, oldest.identity)
	return true
}

// pointer waits for the first verified pointer.
func (h *hunt) pointer(ctx context.Context) (*group, error) {
	if !h.wait(ctx, func() bool { return h.first != nil }) {
		return nil, h.failure(ctx)
	}
	return h.first, nil
}

// release waits for the first verified manifest.
func (h *hunt) release(ctx context.Context) (*group, error) {
	if !h.wait(ctx, func() bool { return h.best != nil }) {
		return nil, h.failure(ctx)
	}
	return h.newest(), nil
}

func (h *hunt) failure(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return &NotFoundError{
		NotFound: discover.NotFound{Query: h.corridor.query(), Answers: h.answers}, Rejected: h.rejected,
	}
}

// newest is the newest verified release, nil while there is none.
func (h *hunt) newest() *group {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.best
}

// untilNewer is a context that ends with errGaveWay when a release newer than g
// is verified. The caller calls the function when it is done.
func (h *hunt) untilNewer(ctx context.Context, g *group) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if h.wait(ctx, func() bool { return h.best.version > g.version }) {
			cancel(errGaveWay)
		}
	})
	return ctx, func() { cancel(nil); watch.Wait() }
}

// settled waits until the search has ended or may no longer hold up the boot,
// or ready is true, and reports whether that is so.
func (h *hunt) settled(ctx context.Context, ready func() bool) bool {
	ctx, cancel := context.WithDeadline(ctx, h.started.Add(SettleBudget))
	defer cancel()
	return h.wait(ctx, ready)
}

// superseded reports whether the settled search knows a newer release than g.
func (h *hunt) superseded(ctx context.Context, g *group) bool {
	return h.settled(ctx, func() bool { return h.best.version > g.version })
}

// bases are the group's provider base URLs known so far, best first.
func (h *hunt) bases(g *group) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return g.bases()
}

// more says that bases did not give the artifacts, and reports whether the
// settled search knows others, or a newer release.
func (h *hunt) more(ctx context.Context, g *group, bases []string) bool {
	h.update(func() { g.spend(bases) })
	return h.settled(ctx, func() bool { return g.unspent() || h.best.version > g.version })
}
