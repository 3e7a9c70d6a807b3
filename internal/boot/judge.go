package boot

import (
	"errors"
	"fmt"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/manifest"
)

// refused is a candidate that another root or another time may do justice.
type refused struct {
	found discover.Candidate
	err   error
	root  int64 // version of the newer root that it claims to need; 0: none
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
	if !aboutKeys(err) {
		root = 0
	}
	if root == 0 && !aboutTime(err) || len(h.waiting) == maxWaiting {
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

// aboutKeys reports whether a document was refused for what another root may have
// otherwise.
func aboutKeys(err error) bool {
	rule := ruleOf(err).Rule
	return rule == manifest.RuleSignature || rule == manifest.RuleRootVersion
}

// aboutTime reports whether a document was refused for the time alone.
func aboutTime(err error) bool {
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

// awaitsTime reports whether something was refused for the time alone, so that
// another clock could help. The state is locked.
func (h *hunt) awaitsTime() bool {
	for _, w := range h.waiting {
		if aboutTime(w.err) {
			return true
		}
	}
	for _, g := range h.groups {
		if aboutTime(g.refused) {
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

// verdict is why a candidate that waited is refused in the end.
func (w refused) verdict(newest *manifest.Root, places int) error {
	switch {
	case w.root == 0:
		return w.err
	case ruleOf(w.err).Rule == manifest.RuleRootVersion:
		return fmt.Errorf("%w (%d places were asked for the next root, and none gave it)", w.err, places)
	}
	// It may be a forgery, or the newer root is being withheld: nobody can say.
	return &manifest.Error{
		Rule: manifest.RuleRootVersion, Object: "pointer", Err: w.err,
		Detail: fmt.Sprintf("it names root version %d, this machine has version %d, and none of %d places gave the next", w.root, newest.Version(), places),
	}
}
