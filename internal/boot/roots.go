package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const (
	// seekersPerSource is how many places that one source names are asked for
	// newer roots at a time, so that none holds up what the others name.
	seekersPerSource = 4
	// maxRootPlaces bounds the places that one source may name.
	maxRootPlaces = 64
	// rootLimit bounds the attempt to get one root, of at most 128 KiB.
	rootLimit = 3 * time.Second
	// rootGrace is how long, after the first place has said whether it knows a
	// newer root, the boot still waits for others to say so. Whoever holds the
	// publisher's online key may hide a rotation, and only another place can
	// tell; but anybody can name places that never answer.
	rootGrace = 500 * time.Millisecond
)

// Roots is the newest root that this machine came to trust: the medium's, or
// the last of those that followed from it one by one (TUF 1.0.34, section
// 5.3). It is safe for concurrent use and survives a failed walk.
type Roots struct {
	state *trust.State
	last  int64 // no root beyond this version is followed to

	mu     sync.Mutex
	newest *manifest.Root
	raws   [][]byte // of those that followed the medium's
}

// NewRoots starts from the medium's root and follows the successors that were
// stored, if there is a state. The error says which of those could not be
// followed: a warning, for the Roots are good without them.
func NewRoots(medium *manifest.Root, state *trust.State) (*Roots, error) {
	newest, raws, err := state.Roots(medium)
	return &Roots{state: state, last: medium.Version() + manifest.MaxRootChain, newest: newest, raws: raws}, err
}

// Newest is the root to verify with.
func (r *Roots) Newest() *manifest.Root {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest
}

// files are those of the medium's successors up to the newest root.
func (r *Roots) files() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.raws)
}

// next is the version of the root to look for, and false if the chain may not
// become longer.
func (r *Roots) next() (version int64, ok bool) {
	version = r.Newest().Version() + 1
	return version, version <= r.last
}

// follow accepts raw as the root of this version if it is the successor of the
// newest one, and reports whether there is a new one. Another place may have
// brought that version meanwhile; then raw is not looked at.
func (r *Roots) follow(version int64, raw []byte) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if version <= r.newest.Version() {
		return false, nil
	}
	next, err := r.newest.Update(raw)
	if err != nil {
		return false, err
	}
	r.newest, r.raws = next, append(r.raws, slices.Clone(raw))
	return true, nil
}

// seeker looks for newer roots at the places that one source names.
type seeker struct {
	places  []*rootPlace
	turns   map[string]int // how many places of each origin were asked
	running int
}

// rootPlace is a provider base URL that somebody named.
type rootPlace struct {
	base, origin string
	asked        bool
}

// probe looks for newer roots at places that were not asked yet. source is who
// named them; empty for the publisher, in a signed document. The state is
// locked.
func (h *hunt) probe(source, origin string, bases []string) {
	s := h.seekers[source]
	if s == nil {
		s = &seeker{turns: map[string]int{}}
		h.seekers[source] = s
	}
	for _, base := range bases {
		base = strings.TrimRight(base, "/")
		if len(s.places) == maxRootPlaces || h.ended() {
			return
		}
		if discover.CheckBase(base) != nil || slices.ContainsFunc(s.places, func(p *rootPlace) bool { return p.base == base }) {
			continue
		}
		s.places = append(s.places, &rootPlace{base: base, origin: origin})
		if s.running < seekersPerSource {
			s.running++
			h.probing++
			h.tasks.Go(func() { h.seek(s) })
		}
	}
}

// seek asks one place after the other.
func (h *hunt) seek(s *seeker) {
	for {
		var p *rootPlace
		h.update(func() {
			if p = h.nextPlace(s); p == nil {
				s.running--
				h.probing--
			}
		})
		if p == nil {
			return
		}
		if err := guard(func() error { h.climb(p); return nil }); err != nil {
			h.update(func() { h.reject(p.base, err) })
		}
	}
}

// nextPlace is the place to ask next, of the origin with the fewest turns, or
// nil. What another source named as well is asked once.
func (h *hunt) nextPlace(s *seeker) *rootPlace {
	if h.ctx.Err() != nil || h.ended() {
		return nil
	}
	var next *rootPlace
	for _, p := range s.places {
		if !p.asked && !h.asked[p.base] && (next == nil || s.turns[p.origin] < s.turns[next.origin]) {
			next = p
		}
	}
	if next != nil {
		next.asked, h.asked[next.base] = true, true
		s.turns[next.origin]++
	}
	return next
}

// climb asks one place for the successor of the newest root, and for the
// successor of that one, until the place has no more.
func (h *hunt) climb(p *rootPlace) {
	for version, ok := h.corridor.Roots.next(); ok; version, ok = h.corridor.Roots.next() {
		raw, err := h.getRoot(p.base, version)
		if err != nil {
			if spoke(err) {
				h.update(h.answered)
			}
			return
		}
		if !h.follow(p, version, raw) {
			return
		}
	}
}

// spoke reports whether a place that gave no root said anything at all. What
// says that there is none differs: 404, or 403 where folders are not listed.
func spoke(err error) bool {
	var status *fetch.StatusError
	return errors.As(err, &status) || errors.Is(err, fetch.ErrWebPage) || errors.Is(err, fetch.ErrTooLarge)
}

func (h *hunt) getRoot(base string, version int64) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(h.ctx, rootLimit, fetch.ErrTimeout)
	defer cancel()
	want := h.corridor.want()
	url := fmt.Sprintf("%s/%s/%s/%d.root.json", base, want.Channel, want.Arch, version)
	return h.corridor.Fetcher.Get(ctx, url, manifest.MaxRootBytes)
}

// follow takes in what a place gave as the root of this version, and reports
// whether it is worth asking for the next. A new root is kept at once.
func (h *hunt) follow(p *rootPlace, version int64, raw []byte) (again bool) {
	c, isNew := h.corridor, false
	h.update(func() {
		h.answered()
		if h.ended() {
			return
		}
		var err error
		if isNew, err = c.Roots.follow(version, raw); err != nil {
			h.reject(p.base, fmt.Errorf("root %d from %.120s: %w", version, p.base, err))
			return
		}
		again, h.moved = true, h.moved || isNew
	})
	if !isNew {
		return again
	}
	c.Observe.Note(timeline.StageVerify, fmt.Sprintf("The root keys were renewed: version %d holds from now on.", version))
	if err := c.Roots.state.SaveRoot(version, raw); err != nil {
		c.Observe.Note(timeline.StageVerify, fmt.Sprintf("WARNING: the new root could not be stored and must be found again next time: %v", err))
	}
	return again
}

// answered notes that a place has said whether it knows a newer root, after
// which the boot does not wait long for others.
func (h *hunt) answered() {
	if h.heard {
		return
	}
	h.heard = true
	h.tasks.Go(func() {
		timer := time.NewTimer(rootGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-h.ctx.Done():
		}
		h.update(func() { h.impatient = true })
	})
}

// rooted reports whether the boot need not wait for the places that are still
// being asked for newer roots.
func (h *hunt) rooted() bool { return h.probing == 0 || h.impatient }

// claims returns the root version that a refused candidate names, if that is
// newer than ours, which may be why it was refused, else 0; and where roots may
// be found. Nobody has signed this.
func claims(found discover.Candidate, newest *manifest.Root) (version int64, bases []string) {
	p, err := manifest.InspectPointer(found.Pointer)
	if err != nil {
		return 0, nil
	}
	if p.RootVersion > newest.Version() {
		version = p.RootVersion
	}
	return version, slices.Concat(found.Bases, basesOf(p))
}

// basesOf are the provider base URLs behind a pointer's URLs of the manifest.
func basesOf(p manifest.Pointer) (bases []string) {
	for _, url := range p.URLs {
		if base, ok := strings.CutSuffix(url, manifestPath(p)); ok {
			bases = append(bases, base)
		}
	}
	return bases
}

func manifestPath(p manifest.Pointer) string {
	return "/" + p.Channel + "/" + p.Arch + "/manifest.json"
}
