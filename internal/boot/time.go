package boot

import (
	"context"
	"fmt"
	"time"

	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
)

// noticeable is a correction of the clock that a person is told of.
const noticeable = 10 * time.Second

// NetworkTime is what time servers answered.
type NetworkTime struct {
	Time          time.Time // now, when the answer is returned
	Authenticated bool      // the servers proved who they are
	From          string    // whose answer it is, for people: "3 servers"
}

// TimeSource asks time servers. It bounds its own time and returns soon after
// ctx has ended.
type TimeSource func(ctx context.Context, network *netup.Network) (NetworkTime, error)

// askTime asks for network time beside the search. A boot whose clock can be
// believed does not wait for the answer; see quiet.
func (h *hunt) askTime(network *netup.Network) {
	ask := h.corridor.Time
	if ask == nil {
		h.timed = true
		return
	}
	h.corridor.Observe.Begin(timeline.StageTime)
	h.tasks.Go(func() {
		var answer NetworkTime
		err := guard(func() (err error) { answer, err = ask(h.ctx, network); return err })
		// Without an answer the boot goes on, so that this is no failed stage.
		h.corridor.Observe.End(timeline.StageTime, h.takeTime(answer, err), nil)
	})
}

// takeTime ends the wait for network time. It tells a person what matters, and
// returns the rest for the timeline.
func (h *hunt) takeTime(answer NetworkTime, err error) (note string) {
	c, late, moved := h.corridor, false, false
	off := answer.Time.Sub(c.Clock.Now())
	h.update(func() {
		h.timed, late = true, h.ended()
		if err == nil && !late {
			moved = c.Clock.Correct(answer)
			h.moved = h.moved || moved
		}
	})
	if moved {
		c.clockMoved()
	}
	reading := c.Clock.Reading()
	doubtful := reading.State != trust.Trusted
	switch {
	case late:
		return "not waited for"
	case err != nil && doubtful:
		c.Observe.Note(timeline.StageTime, fmt.Sprintf("WARNING: no time server answered; going on from %s", reading))
	case err == nil && !moved && doubtful:
		c.Observe.Note(timeline.StageTime, fmt.Sprintf("WARNING: network time from %s is not believed; going on from %s", answer.From, reading))
	case moved && (doubtful || off.Abs() >= noticeable):
		c.Observe.Note(timeline.StageTime, fmt.Sprintf("The clock was set to %s.", reading))
	}
	if err != nil {
		return "no answer: " + err.Error()
	}
	return fmt.Sprintf("%+.3f s, %s", off.Seconds(), answer.From)
}

// clockMoved lets the machine's clock follow ours.
func (c *Corridor) clockMoved() {
	if c.SetClock != nil {
		c.SetClock(c.Clock.Now())
	}
}
