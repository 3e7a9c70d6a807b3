package boot

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/portal"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const (
	// maxGroups bounds the releases looked at in one search: old pointers
	// that are still valid can be replayed by anybody.
	maxGroups = 8
	// maxWaiting bounds the refused candidates that are looked at again when
	// roots or clock have moved.
	maxWaiting = 256
	// closeLimit is how long the sources may take to close.
	closeLimit = 3 * time.Second
)

// hunt is a running search. Pointers are verified as they come, which takes no
// time, and those that name the same manifest make a group; the manifests are
// fetched beside the search, and newer roots and the time are asked for. All of
// it ends within SearchBudget, or by stop.
//
// A verdict holds under the roots and the clock of its moment. When one of them
// moves, everything is judged again: what was verified may be refused now, and
// what was refused may be verified.
type hunt struct {
	corridor *Corridor
	reach    Reach
	floor    floors
	started  time.Time
	ctx      context.Context
	cancel   context.CancelFunc
	tasks    sync.WaitGroup // everything that runs

	mu       sync.Mutex // held by update; methods that need it say so
	changed  chan struct{}
	groups   map[identity]*group
	first    string // who told of the first pointer that verified
	best     *group // the newest whose manifest is verified
	waiting  []refused
	rejected []error
	answers  []discover.Answer
	working  int  // pursuits that run
	searched bool // no candidate will come any more
	stopped  bool // nobody is to be told anything any more
	final    bool // the release is chosen: neither roots nor clock move any more

	moved bool // roots or clock did, and not everything was judged again yet
	timed bool // network time has come, or will not

	portalKnown bool // whether there is a captive portal is known, or will not be
	login       portal.Login

	seekers   map[string]*seeker // by source
	asked     map[string]bool    // bases asked for newer roots
	probing   int                // seekers' goroutines that run
	heard     bool               // a place has said whether it knows a newer root
	impatient bool               // that was rootGrace ago
}

// startHunt asks all sources at once. The caller must stop it.
func (c *Corridor) startHunt(ctx context.Context, network *netup.Network, floor floors) *hunt {
	h := newHunt(c, floor)
	h.ctx, h.cancel = context.WithTimeout(ctx, c.budget(SearchBudget))
	h.reach = c.Sources(h.ctx, network)
	h.askTime(network)
	h.askPortal(network)
	h.tasks.Go(func() { h.search(h.reach.Search) })
	return h
}

// throughTor is how many times longer than otherwise the search may take through
// Tor, whose circuits have six hops and are made first.
const throughTor = 3

// budget is how long something may take in this boot, d where it asks directly.
func (c *Corridor) budget(d time.Duration) time.Duration {
	if c.Config.Tor.Allow {
		return throughTor * d
	}
	return d
}

func newHunt(c *Corridor, floor floors) *hunt {
	return &hunt{
		corridor: c, floor: floor, started: time.Now(), changed: make(chan struct{}),
		groups: map[identity]*group{}, seekers: map[string]*seeker{}, asked: map[string]bool{},
	}
}

// stop ends the hunt and returns when nothing of it runs any more. Nobody may
// fetch with its finders then.
func (h *hunt) stop() {
	h.update(func() { h.stopped = true })
	h.cancel()
	h.tasks.Wait()
	closeWithin(h.reach.Close, closeLimit)
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
		answers = discover.Search(h.ctx, h.corridor.query(), h.corridor.budget(SearchBudget), guarded, h.examine)
		return nil
	})
	h.update(func() {
		if err != nil {
			h.reject("search", err)
		}
		h.answers, h.searched = answers, true
	})
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
		s.hunt.update(func() { s.hunt.reject(s.Name(), err) })
	}
	return err
}

// update changes the state, draws the conclusions, and tells everybody who
// waits.
func (h *hunt) update(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	h.reconsider()
	h.choose()
	h.tend()
	close(h.changed)
	h.changed = make(chan struct{})
}

// ended reports whether what comes now comes too late. The state is locked.
func (h *hunt) ended() bool { return h.stopped || h.final }

// over reports whether no release will come any more. The state is locked.
func (h *hunt) over() bool {
	return h.searched && h.working == 0 && h.probing == 0 && (h.timed || !h.awaitsTime())
}

// quiet reports whether nothing runs that the boot should wait for: also the
// answer about the time, as long as the clock cannot be believed. The state is
// locked.
func (h *hunt) quiet() bool {
	return h.searched && h.working == 0 && h.rooted() && (h.timed || h.corridor.Clock.State() == trust.Trusted)
}

// wait blocks until ready, which is called with the state locked, and reports
// whether it was before the hunt was over or ctx done.
func (h *hunt) wait(ctx context.Context, ready func() bool) bool {
	ok := false
	h.await(ctx, func() bool { ok = ready(); return ok || h.over() })
	return ok
}

// await blocks until ready, which is called with the state locked, or ctx is
// done.
func (h *hunt) await(ctx context.Context, ready func() bool) {
	for {
		h.mu.Lock()
		ok, changed := ready(), h.changed
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until ready is true, or nothing runs any more that the boot
// should wait for, or the search may no longer hold it up.
func (h *hunt) settle(ctx context.Context, ready func() bool) {
	ctx, cancel := context.WithDeadline(ctx, h.started.Add(h.corridor.budget(SettleBudget)))
	defer cancel()
	h.await(ctx, func() bool { return ready() || h.quiet() })
}

// pointer waits for the first verified pointer and returns who told of it.
func (h *hunt) pointer(ctx context.Context) (origin string, err error) {
	if !h.wait(ctx, func() bool { origin = h.first; return origin != "" }) {
		return "", h.failure(ctx)
	}
	return origin, nil
}

// release waits for a verified manifest and returns the newest.
func (h *hunt) release(ctx context.Context) (*group, error) {
	var best *group
	if !h.wait(ctx, func() bool { best = h.best; return best != nil }) {
		return nil, h.failure(ctx)
	}
	return best, nil
}

func (h *hunt) failure(ctx context.Context) error {
	within, cancel := context.WithDeadline(ctx, h.started.Add(portalLimit))
	defer cancel()
	h.await(within, func() bool { return h.portalKnown })
	if err := ctx.Err(); err != nil {
		return err
	}
	return h.blame(h.notFound())
}

// notFound is the account of a search that came to nothing.
func (h *hunt) notFound() *NotFoundError {
	h.mu.Lock()
	defer h.mu.Unlock()
	rejected := h.rejected
	for _, w := range h.waiting {
		rejected = addRejected(rejected, w.verdict(h.corridor.Roots.Newest(), len(h.asked)))
	}
	return &NotFoundError{
		NotFound: discover.NotFound{Query: h.corridor.query(), Answers: h.answers}, Rejected: rejected,
	}
}

// verified is the group's manifest, or nil if it is refused after all, and the
// file that it came in.
func (h *hunt) verified(g *group) (v *manifest.Verified, file []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return g.verified, g.manifest
}

// choice is what was concluded.
func (h *hunt) choice(g *group, f *files) *choice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &choice{
		verified: g.verified, manifest: g.manifest, proof: g.proof, pointer: g.found.Pointer, bases: g.bases(), files: f,
	}
}

// newest is the newest verified release, nil while there is none.
func (h *hunt) newest() *group {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.best
}

// withdrawn is the highest security floor of the releases that are verified.
func (h *hunt) withdrawn() (floor int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.groups {
		floor = max(floor, g.verified.Floor().SecurityFloor)
	}
	return floor
}

// untilOther is a context that ends with errGaveWay when g is not the best
// release any more: a newer one is verified, or g is refused after all. The
// caller calls the function when it is done.
func (h *hunt) untilOther(ctx context.Context, g *group) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if h.wait(ctx, func() bool { return h.best != g }) {
			cancel(errGaveWay)
		}
	})
	return ctx, func() { cancel(nil); watch.Wait() }
}

// conclude waits for the search to settle, judges everything once more, and
// reports whether g is the release to boot. Then nothing is judged any more: the
// verdict is that of the newest root and the clock as they are now.
func (h *hunt) conclude(ctx context.Context, g *group) bool {
	h.settle(ctx, func() bool { return h.best != g })
	h.update(func() {
		h.moved = true
		h.reconsider()
		h.choose()
		h.final = h.best == g
	})
	return h.newest() == g
}

// bases are the group's provider base URLs known so far, best first.
func (h *hunt) bases(g *group) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return g.bases()
}

// more says that bases did not give the artifacts, and reports whether the
// settled search knows others, or another release.
func (h *hunt) more(ctx context.Context, g *group, bases []string) bool {
	more := func() bool { return g.unspent() || h.best != g }
	h.update(func() { g.spend(bases) })
	h.settle(ctx, more)
	h.mu.Lock()
	defer h.mu.Unlock()
	return more()
}
