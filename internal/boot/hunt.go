package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/netup"
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

	seekers   map[string]*seeker // by source
	asked     map[string]bool    // bases asked for newer roots
	probing   int                // seekers' goroutines that run
	heard     bool               // a place has said whether it knows a newer root
	impatient bool               // that was rootGrace ago
}

// refused is a candidate that another root or another time may do justice.
type refused struct {
	found discover.Candidate
	err   error
	root  int64 // version of the newer root that it claims to need; 0: none
}

// startHunt asks all sources at once. The caller must stop it.
func (c *Corridor) startHunt(ctx context.Context, network *netup.Network, floor floors) *hunt {
	h := newHunt(c, floor)
	h.ctx, h.cancel = context.WithTimeout(ctx, SearchBudget)
	sources, closeSources := c.Sources(h.ctx, network)
	h.askTime(network)
	h.tasks.Go(func() {
		h.search(sources)
		closeWithin(closeSources, closeLimit)
	})
	return h
}

func newHunt(c *Corridor, floor floors) *hunt {
	return &hunt{
		corridor: c, floor: floor, started: time.Now(), changed: make(chan struct{}),
		groups: map[identity]*group{}, seekers: map[string]*seeker{}, asked: map[string]bool{},
	}
}

// stop ends the hunt and returns when nothing of it runs any more.
func (h *hunt) stop() {
	h.update(func() { h.stopped = true })
	h.cancel()
	h.tasks.Wait()
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
	return h.searched && h.working == 0 && h.probing == 0 && (h.timed || !h.untimely())
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
	ctx, cancel := context.WithDeadline(ctx, h.started.Add(SettleBudget))
	defer cancel()
	h.await(ctx, func() bool { return ready() || h.quiet() })
}

// judge runs a verification. The state is locked.
func (h *hunt) judge(verify func(v manifest.Verifier, now time.Time) error) error {
	moved, err := h.corridor.judge(h.floor, verify)
	h.moved = h.moved || moved
	return err
}

// examine takes in one candidate. The search waits for it, so it does nothing
// that takes time.
func (h *hunt) examine(found discover.Candidate) {
	h.update(func() {
		if !h.ended() {
			h.consider(found, true)
		}
	})
}

// consider judges a candidate. isNew tells whether people were not told of it
// yet. The state is locked.
func (h *hunt) consider(found discover.Candidate, isNew bool) {
	var pointer *manifest.VerifiedPointer
	err := h.judge(func(v manifest.Verifier, now time.Time) (err error) {
		pointer, err = v.Pointer(found.Pointer, now)
		return err
	})
	if err != nil {
		h.refuse(found, fmt.Errorf("pointer from %s: %w", found.Origin, err), isNew)
		return
	}
	p := pointer.Pointer()
	if g := h.admit(pointer, found); g != nil {
		g.learn(p, found)
		h.probe("", "", basesOf(p))
		h.probe(found.Source, found.Origin, found.Bases)
	}
}

// refuse remembers why a candidate is of no use, and keeps it if a newer root or
// another time could change that. The state is locked.
func (h *hunt) refuse(found discover.Candidate, err error, isNew bool) {
	root, bases := claims(found, h.corridor.Roots.Newest())
	if root == 0 && !timely(err) || len(h.waiting) == maxWaiting {
		h.reject(found.Origin, err)
		return
	}
	h.waiting = append(h.waiting, refused{found, err, root})
	if isNew {
		h.corridor.Observe.Skipped(found.Origin, err)
	}
	if root != 0 || ruleOf(err).Object == "root" { // an expired root's successor may live
		h.probe(found.Source, found.Origin, bases)
	}
}

// timely reports whether a document was refused for the time alone.
func timely(err error) bool {
	rule := ruleOf(err).Rule
	return rule == manifest.RuleExpired || rule == manifest.RuleFuture
}

// ruleOf is the verifier's part of an error, or empty.
func ruleOf(err error) manifest.Error {
	var refused *manifest.Error
	if errors.As(err, &refused) {
		return *refused
	}
	return manifest.Error{}
}

// untimely reports whether something was refused for the time alone, so that
// another clock could help. The state is locked.
func (h *hunt) untimely() bool {
	for _, w := range h.waiting {
		if timely(w.err) {
			return true
		}
	}
	for _, g := range h.groups {
		if timely(g.refused) {
			return true
		}
	}
	return false
}

// reject remembers why a candidate or a place is of no use. The state is
// locked.
func (h *hunt) reject(origin string, err error) {
	if h.stopped {
		return
	}
	h.rejected = addRejected(h.rejected, err)
	h.corridor.Observe.Skipped(origin, err)
}

// reconsider judges everything again after the roots or the clock moved. What
// is judged may move the clock once more, each time further towards a limit. The
// state is locked.
func (h *hunt) reconsider() {
	for h.moved && !h.ended() {
		h.moved = false
		waiting := h.waiting
		h.waiting = nil
		for _, g := range h.groups {
			h.review(g)
		}
		for _, w := range waiting {
			h.consider(w.found, false)
		}
	}
}

// choose makes the newest verified release the best one. The state is locked.
func (h *hunt) choose() {
	if h.best != nil && (h.best.verified == nil || h.best.dropped) {
		h.best = nil
	}
	for _, g := range h.groups {
		if g.verified != nil && (h.best == nil || g.version > h.best.version) {
			h.best = g
		}
	}
}

// tend starts the pursuits that are needed and ends those that are not. The
// state is locked.
func (h *hunt) tend() {
	for _, g := range h.groups {
		switch useful := h.useful(g); {
		case g.running && !useful:
			g.cancel()
		case !g.running && useful && h.ctx.Err() == nil && (!h.searched || g.pending()):
			h.begin(g)
		}
	}
}

// useful reports whether the group's manifest is still wanted: it is neither
// here nor older than what is verified. The state is locked.
func (h *hunt) useful(g *group) bool {
	return !h.ended() && !g.dropped && g.verified == nil && g.refused == nil && (h.best == nil || g.version > h.best.version)
}

// admit returns the pointer's group, made if it is new, or nil if it is older
// than enough others. The state is locked.
func (h *hunt) admit(p *manifest.VerifiedPointer, found discover.Candidate) *group {
	id := identify(p.Pointer())
	if g := h.groups[id]; g != nil {
		g.renew(p, found.Pointer)
		return g
	}
	if len(h.groups) >= maxGroups && !h.evict(id.version) {
		return nil
	}
	g := newGroup(p, found)
	h.groups[id] = g
	h.first = cmp.Or(h.first, found.Origin)
	return g
}

// evict makes room for a newer release: a refused one goes first, then the
// oldest. The state is locked.
func (h *hunt) evict(version int64) bool {
	var oldest *group
	for _, g := range h.groups {
		if g.useless() {
			oldest = g
			break
		}
		if g != h.best && (oldest == nil || g.version < oldest.version) {
			oldest = g
		}
	}
	if oldest == nil || !oldest.useless() && oldest.version >= version {
		return false
	}
	h.drop(oldest)
	return true
}

// drop forgets a group. The state is locked.
func (h *hunt) drop(g *group) {
	g.dropped = true
	if g.running {
		g.cancel()
	}
	delete(h.groups, g.identity)
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
	if err := ctx.Err(); err != nil {
		return err
	}
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

// verdict is why a candidate that waited is refused in the end.
func (w refused) verdict(newest *manifest.Root, places int) error {
	if w.root == 0 || ruleOf(w.err).Rule == manifest.RuleRootVersion {
		return w.err
	}
	// It may be a forgery, or the newer root is being withheld: nobody can say.
	return &manifest.Error{
		Rule: manifest.RuleRootVersion, Object: "pointer", Err: w.err,
		Detail: fmt.Sprintf("it names root version %d, this machine has version %d, and none of %d places gave the next", w.root, newest.Version(), places),
	}
}

// verified is the group's manifest, or nil if it is refused after all.
func (h *hunt) verified(g *group) *manifest.Verified {
	h.mu.Lock()
	defer h.mu.Unlock()
	return g.verified
}

// choice is what was concluded.
func (h *hunt) choice(g *group, f *files) *choice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &choice{verified: g.verified, manifest: g.manifest, proof: g.proof, bases: g.bases(), files: f}
}

// newest is the newest verified release, nil while there is none.
func (h *hunt) newest() *group {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.best
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
