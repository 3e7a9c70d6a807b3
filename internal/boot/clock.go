package boot

import (
	"sync"
	"time"

	"github.com/phasebased/phase/internal/trust"
)

// Clock is the time by which documents are judged: the machine's own, never
// before what certainly has happened, and moved forward by correctly signed
// documents that were made later. It is safe for concurrent use.
type Clock struct {
	mu    sync.Mutex
	zero  time.Time // the clock's time at read
	read  time.Time // carries the monotonic reading that measures from zero on
	state trust.State
}

// NewClock starts from the machine's clock and the time the medium was made.
func NewClock(machine, buildTime time.Time) *Clock {
	zero, state := trust.Clock(machine, buildTime, time.Time{})
	return &Clock{zero: zero, read: time.Now(), state: state}
}

// Now is the time to judge by.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() time.Time { return c.zero.Add(time.Since(c.read)) }

// State says how much the clock can be believed.
func (c *Clock) State() trust.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Learn moves the clock forward where a verification failed only because the
// document is younger than the clock. If it returns true, verify again.
func (c *Clock) Learn(verification error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, state, moved := trust.Advance(c.now(), c.state, verification)
	if moved {
		c.zero, c.read, c.state = now, time.Now(), state
	}
	return moved
}
