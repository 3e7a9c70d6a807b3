package trust

import (
	"errors"
	"time"

	"github.com/phasebased/phase/manifest"
)

// State says how much the clock can be believed. It is shown to people.
type State int

const (
	// Unknown: nothing bounds the clock from below, or it lies absurdly far
	// ahead. Do not judge anything by it without saying so.
	Unknown State = iota
	// Floored: the machine's clock was behind something that certainly
	// happened before, so that moment is used instead. The real time is later.
	Floored
	// Trusted: the machine's clock is plausible.
	Trusted
)

// String returns "unknown", "floored" or "trusted".
func (s State) String() string {
	switch s {
	case Floored:
		return "floored"
	case Trusted:
		return "trusted"
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler with String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

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
// before either of them.
func Clock(now, buildTime, stored time.Time) (time.Time, State) {
	floor := buildTime
	if stored.After(floor) {
		floor = stored
	}
	switch {
	case floor.IsZero():
		return now, Unknown
	case now.Before(floor):
		return floor, Floored
	case now.After(floor.Add(maxAhead)):
		return now, Unknown
	}
	return now, Trusted
}

// Advance moves a clock forward when err says that a correctly signed document
// was made after it: such a document is evidence of the time. It does so
// whenever the clock was Floored, and by at most a day and a half, for clocks
// that keep local time, otherwise. If it returns true, verify again with the
// returned time and state. The new time was vouched for by the root's keys only.
func Advance(now time.Time, state State, err error) (time.Time, State, bool) {
	var refused *manifest.Error
	if !errors.As(err, &refused) || refused.Rule != manifest.RuleFuture || !refused.At.After(now) {
		return now, state, false
	}
	if state != Floored && refused.At.After(now.Add(maxZone)) {
		return now, state, false
	}
	return refused.At, Floored, true
}
