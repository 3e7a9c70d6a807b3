package boot

import (
	"sync"
	"time"

	"github.com/phasebased/phase/internal/trust"
)

// Clock is the time by which documents are judged: the machine's own, never
// before what certainly has happened, moved forward by correctly signed
// documents that were made later, and corrected by network time. What may move
// it and how far is decided in package trust. It is safe for concurrent use.
type Clock struct {
	mu      sync.Mutex
	reading trust.Reading // as of read
	read    time.Time     // carries the monotonic reading that measures from then on
}

// NewClock starts from the machine's clock, the time the medium was made, and
// the time remembered from an earlier boot, which is zero if there is none.
func NewClock(machine, buildTime, stored time.Time) *Clock {
	return &Clock{reading: trust.Clock(machine, buildTime, stored), read: time.Now()}
}

// Now is the time to judge by.
func (c *Clock) Now() time.Time { return c.Reading().Time }

// State says how much the clock can be believed.
func (c *Clock) State() trust.ClockState { return c.Reading().State }

// Reading is the time to judge by and what is known about it.
func (c *Clock) Reading() trust.Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() trust.Reading {
	r := c.reading
	r.Time = r.Time.Add(time.Since(c.read))
	return r
}

// Learn moves the clock forward where a verification failed only because the
// document is younger than the clock. If it returns true, verify again.
func (c *Clock) Learn(verification error) bool {
	return c.move(func(r trust.Reading) (trust.Reading, bool) { return trust.Advance(r, verification) })
}

// Correct applies network time. If it returns true, verify again what was
// refused for its time.
func (c *Clock) Correct(t NetworkTime) bool {
	return c.move(func(r trust.Reading) (trust.Reading, bool) {
		return trust.Network(r, t.Time, t.Authenticated)
	})
}

func (c *Clock) move(by func(trust.Reading) (trust.Reading, bool)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, moved := by(c.now())
	if moved {
		c.reading, c.read = next, time.Now()
	}
	return moved
}
