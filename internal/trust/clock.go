package trust

import (
	"errors"
	"fmt"
	"time"

	"github.com/phasebased/phase/manifest"
)

// ClockState says how much the clock can be believed. It is shown to people.
type ClockState int

const (
	// Unknown: nothing bounds the clock from below. Do not judge anything by
	// it without saying so.
	Unknown ClockState = iota
	// Floored: the machine's clock was behind something that certainly
	// happened before, or absurdly far beyond it, so that moment is used
	// instead, or a later one that nobody vouches for. The real time is not
	// earlier.
	Floored
	// Trusted: the machine's clock is plausible, or several servers that proved
	// who they are agreed on the time.
	Trusted
)

// String returns "unknown", "floored" or "trusted".
func (s ClockState) String() string {
	switch s {
	case Floored:
		return "floored"
	case Trusted:
		return "trusted"
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler with String.
func (s ClockState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Where a time comes from, in the words of messages.
const (
	SourceMachine       = "machine clock"
	SourceBuild         = "image build time"
	SourceStored        = "stored time"
	SourceDocument      = "signed document"
	SourceNetwork       = "network time"
	SourceAuthenticated = "authenticated network time"
)

// Reading is a time to judge documents by, and what is known about it. Make one
// with Clock; change only Time, for the time that has passed since.
type Reading struct {
	Time   time.Time
	State  ClockState
	Source string    // one of the words above
	Floor  time.Time // certainly passed, Time is never before it; zero: unknown

	limit         time.Time // no signed document moves Time beyond it; zero: see latest
	authenticated bool      // network time was, so that other network time says nothing new
}

// String describes the reading to people.
func (r Reading) String() string {
	return fmt.Sprintf("%s (%s, %s)", r.Time.UTC().Format(time.RFC3339), r.Source, r.State)
}

const (
	// maxAhead is how far beyond its floor a clock is still plausible: longer
	// than any medium is of use.
	maxAhead = 25 * 365 * 24 * time.Hour
	// maxZone is how far a plausible clock may be behind a signed document:
	// machines whose clock keeps local time are off by up to 14 hours, and a
	// day more costs nothing.
	maxZone = 38 * time.Hour
)

// Clock returns the time to judge documents by. now is the machine's clock, a
// hint; buildTime is when the medium was made and stored is the latest time
// remembered from an earlier boot, both zero if unknown. The result is never
// before either of them, except that a stored time absurdly long after the
// build time is damage, and ignored. So is a machine's clock absurdly long after
// the floor: firmware without a battery may take the year 70 for 2070, and
// whoever can set that year can set 1970 as well.
func Clock(now, buildTime, stored time.Time) Reading {
	floor, source := buildTime, SourceBuild
	if stored.After(floor) && (floor.IsZero() || !stored.After(floor.Add(maxAhead))) {
		floor, source = stored, SourceStored
	}
	r := Reading{Time: now, State: Trusted, Source: SourceMachine, Floor: floor, limit: now.Add(maxZone)}
	switch {
	case floor.IsZero():
		r.State = Unknown
	case now.Before(floor), now.After(floor.Add(maxAhead)):
		return Reading{Time: floor, State: Floored, Source: source, Floor: floor}
	}
	return r
}

// Advance moves a clock forward when err says that a correctly signed document
// was made after it: such a document is evidence of the time. A clock that
// started from its floor is moved as far as is plausible, another one only by
// what a clock that keeps local time may be off, however many documents ask for
// more. What was made after the end of its root is no evidence: package manifest
// refuses it by RuleExpired, whatever the clock says, so that a thief of the key
// that signs pointers cannot move a clock further. If it returns true, verify again with the returned time. The new time
// was vouched for by the root's keys only; the floor rises with a manifest, but
// not with a pointer, which a single key signs that is kept online.
func Advance(r Reading, err error) (Reading, bool) {
	var refused *manifest.Error
	if !errors.As(err, &refused) || refused.Rule != manifest.RuleFuture || !refused.At.After(r.Time) {
		return r, false
	}
	limit := r.latest()
	if refused.At.After(limit) {
		return r, false
	}
	r.Time, r.State, r.Source, r.limit = refused.At, Floored, SourceDocument, limit
	if refused.Object == "manifest" {
		r.Floor = refused.At
	}
	return r, true
}

// latest is how far documents may move the clock.
func (r Reading) latest() time.Time {
	switch {
	case !r.limit.IsZero():
		return r.limit
	case r.State == Floored && !r.Floor.IsZero():
		return r.Floor.Add(maxAhead)
	}
	return r.Time.Add(maxZone)
}

// Network lets network time correct a clock. Servers that prove who they are
// (authenticated) set it, forward or back. Anybody on the way can answer for
// other servers, so those only move it forward, which nobody vouches for: the
// State stays. Neither moves it below its floor or absurdly far beyond, nor
// does the second kind speak up against the first.
func Network(r Reading, answer time.Time, authenticated bool) (Reading, bool) {
	switch {
	case answer.Before(r.Floor), !r.Floor.IsZero() && answer.After(r.Floor.Add(maxAhead)):
		return r, false
	case authenticated:
		return Reading{
			Time: answer, State: Trusted, Source: SourceAuthenticated, Floor: r.Floor,
			limit: answer.Add(maxZone), authenticated: true,
		}, true
	case r.authenticated, !answer.After(r.Time):
		return r, false
	}
	r.Time, r.Source = answer, SourceNetwork
	if limit := answer.Add(maxZone); !r.limit.IsZero() && limit.After(r.limit) {
		r.limit = limit
	}
	return r, true
}
