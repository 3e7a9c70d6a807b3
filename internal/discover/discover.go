// Package discover asks every source of boot pointers at once.
//
// A source (a mirror, the neighbourhood, the DHT) answers a Query with
// Candidates: opaque bytes that claim to be a signed pointer. Nothing in this
// package trusts or even reads those bytes. It promises the caller only bounded
// effort: all sources start together, none can hold up the others, none can
// yield more than MaxCandidates, and nothing arrives after Search has returned.
// Whoever receives a Candidate verifies it (manifest.Verifier) before using
// anything in it; a Candidate that fails there is skipped, and absence of
// candidates means "unavailable", never "nothing newer exists".
package discover

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits on what one source may hand over during one Search. A signed pointer
// is at most 2 KiB; a source that exceeds these is faulty or hostile, and the
// excess is dropped and counted in Answer.Dropped.
const (
	MaxPointer    = 2 << 10 // bytes of Candidate.Pointer
	MaxCandidates = 64      // candidates per source
	MaxBases      = 16      // entries of Candidate.Bases
	MaxBase       = 2 << 10 // bytes of one entry of Candidate.Bases
)

// stopGrace is how long Search waits, after its context ended, for sources to
// notice and report why they stopped. A source still busy then is abandoned.
const stopGrace = 100 * time.Millisecond

// ErrStillBusy is the error of a source that neither ended nor reacted to the
// end of the search.
var ErrStillBusy = errors.New("source did not stop in time")

// A Query names the product stream asked for. Both fields are canonical names
// (manifest.ParseArch), since they become parts of DHT keys and URLs.
type Query struct {
	Channel string // such as "stable"
	Arch    string // "x86_64" or "arm64"
}

// Validate refuses names that could alter the key or path they become part of:
// each must be 1–32 characters of a–z, 0–9, '-' and '_'.
func (q Query) Validate() error {
	if !plainName(q.Channel) {
		return fmt.Errorf("invalid channel %.40q", q.Channel)
	}
	if !plainName(q.Arch) {
		return fmt.Errorf("invalid architecture %.40q", q.Arch)
	}
	return nil
}

func plainName(s string) bool {
	if len(s) == 0 || len(s) > 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// Key is the DHT key of the pointer, /phase/<channel>/<arch>/manifest.
func (q Query) Key() string { return "/phase/" + q.Channel + "/" + q.Arch + "/manifest" }

// SignedKey is the DHT key of the pointer that signer, a timestamp key, has signed:
// whoever stores it can check that without a root. It is Key, "/" and signer in
// hexadecimal.
func (q Query) SignedKey(signer ed25519.PublicKey) string {
	return q.Key() + "/" + hex.EncodeToString(signer)
}

// A Candidate is one unverified answer.
type Candidate struct {
	// Pointer is a signed pointer document, opaque and unverified.
	Pointer []byte
	// Bases are base URLs of providers hinted by the source, unverified. They
	// are where blobs may be tried, never a reason to trust them.
	Bases []string
	// Origin says where the bytes came from, for people and logs:
	// "dht 12D3Koo…", "mdns plasmd-x", "http://mirror".
	Origin string
	// Source is the name of the source that found it. Search sets it: unlike
	// the origin it cannot be multiplied by who answers.
	Source string
	// At is the time since the search started. Search sets it.
	At time.Duration
}

// A Source looks for pointers in one place.
//
// Search calls found for every pointer it comes across, possibly several times
// and from any goroutine, but never after it has returned. It should return soon
// after ctx ends. An error says that the place could not be asked (unreachable,
// broken); having been told "nothing here" is a nil error without candidates.
// Search may be called concurrently.
type Source interface {
	Name() string
	Search(ctx context.Context, q Query, found func(Candidate)) error
}

// An Answer is the account of one source after a Search.
type Answer struct {
	Source     string        // Source.Name
	Candidates int           // how many candidates were handed on
	Dropped    int           // how many exceeded a limit of this package
	Took       time.Duration // until the source ended, or the search did
	Err        error         // nil if the source could be asked
}

// Search asks all sources at once and returns one Answer for each, in their
// order, when all have ended, budget has passed, or ctx is done. A budget of 0
// or less leaves the time to ctx alone.
//
// found is called for each candidate as it arrives, never concurrently and never
// after Search has returned; while it runs other candidates wait, so slow work
// belongs elsewhere. To stop early, for instance at the first verified pointer,
// cancel ctx from found.
func Search(ctx context.Context, q Query, budget time.Duration, sources []Source, found func(Candidate)) []Answer {
	if budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, budget)
		defer cancel()
	}
	s := &search{start: time.Now(), found: found, answers: make([]Answer, len(sources)), ended: make([]bool, len(sources))}
	invalid := q.Validate()
	var running sync.WaitGroup
	for i, src := range sources {
		s.answers[i].Source = src.Name()
		if invalid != nil {
			s.end(i, invalid)
			continue
		}
		running.Go(func() {
			s.end(i, src.Search(ctx, q, func(c Candidate) { s.take(i, c) }))
		})
	}
	all := make(chan struct{})
	go func() { running.Wait(); close(all) }()
	select {
	case <-all:
	case <-ctx.Done():
		grace := time.NewTimer(stopGrace)
		defer grace.Stop()
		select {
		case <-all:
		case <-grace.C:
		}
	}
	return s.close()
}

// search is the state shared by the sources of one Search.
type search struct {
	start time.Time

	mu      sync.Mutex // serialises found and guards what follows
	closed  bool
	found   func(Candidate)
	answers []Answer
	ended   []bool
}

// take hands a candidate of source i on, if it is within the limits and the
// search still runs.
func (s *search) take(i int, c Candidate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	a := &s.answers[i]
	if a.Candidates >= MaxCandidates || len(c.Pointer) == 0 || len(c.Pointer) > MaxPointer || !basesOK(c.Bases) {
		a.Dropped++
		return
	}
	a.Candidates++
	c.Source, c.At = a.Source, time.Since(s.start)
	s.found(c)
}

func basesOK(bases []string) bool {
	for _, b := range bases {
		if len(b) > MaxBase {
			return false
		}
	}
	return len(bases) <= MaxBases
}

// end records that source i is done.
func (s *search) end(i int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.ended[i] = true
	s.answers[i].Took = time.Since(s.start)
	s.answers[i].Err = err
}

// close stops everything from arriving and completes the answers.
func (s *search) close() []Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for i := range s.answers {
		if !s.ended[i] {
			s.answers[i].Took = time.Since(s.start)
			s.answers[i].Err = ErrStillBusy
		}
	}
	return s.answers
}
