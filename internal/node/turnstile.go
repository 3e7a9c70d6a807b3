package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/job"
)

// busyRetry is what a refused submitter is told to wait.
const busyRetry = 2 * time.Second

// ownJobs is the submitter of the node's own jobs, who has no quota.
const ownJobs = ""

// turnstile lets a bounded number of jobs in at once. Those that wait stand in
// a line per submitter, and the lines take turns: one who submits a hundred
// jobs does not delay another's first by more than one. Both the lines together
// and what one submitter may have inside and waiting are bounded; who comes
// when there is no room is refused at once.
type turnstile struct {
	slots, room, quota int // inside at once, waiting at once, of one submitter (0: any)

	mu      sync.Mutex
	inside  int
	waiting int
	held    map[string]int       // by submitter: inside and waiting
	lines   map[string][]*ticket // by submitter, first in front; none is empty
	order   []string             // the submitters with a line, next in front
}

func newTurnstile(slots, room, quota int) *turnstile {
	return &turnstile{slots: slots, room: room, quota: quota, held: map[string]int{}, lines: map[string][]*ticket{}}
}

// A ticket is a place in a line, and later the right to be inside. Exactly one
// leave ends it.
type ticket struct {
	gate   *turnstile
	who    string
	called chan struct{} // closed when it may enter
	left   bool
}

// take gives a place, or refuses with Busy. A job that was accepted earlier, by
// a node that was started again, has its place by right.
func (t *turnstile) take(who string, byRight bool) (*ticket, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	full := t.inside >= t.slots && t.waiting >= t.room
	over := t.quota > 0 && who != ownJobs && t.held[who] >= t.quota
	switch {
	case byRight:
	case full:
		return nil, &job.Refusal{Reason: job.Busy, RetryAfter: busyRetry,
			Detail: fmt.Sprintf("%d jobs are running and %d are waiting", t.inside, t.waiting)}
	case over:
		return nil, &job.Refusal{Reason: job.Busy, RetryAfter: busyRetry,
			Detail: fmt.Sprintf("%d jobs of this submitter are running or waiting, no more are allowed", t.held[who])}
	}
	tk := &ticket{gate: t, who: who, called: make(chan struct{})}
	t.held[who]++
	t.waiting++
	if len(t.lines[who]) == 0 {
		t.order = append(t.order, who)
	}
	t.lines[who] = append(t.lines[who], tk)
	t.call()
	return tk, nil
}

// call lets in whoever is next, while there is room inside.
func (t *turnstile) call() {
	for t.inside < t.slots && len(t.order) > 0 {
		who := t.order[0]
		next := t.lines[who][0]
		t.order = t.order[1:]
		t.shorten(who, 0)
		if len(t.lines[who]) > 0 {
			t.order = append(t.order, who)
		}
		t.waiting--
		t.inside++
		close(next.called)
	}
}

// shorten takes place i out of a line.
func (t *turnstile) shorten(who string, i int) {
	line := append(t.lines[who][:i:i], t.lines[who][i+1:]...)
	if len(line) == 0 {
		delete(t.lines, who)
		return
	}
	t.lines[who] = line
}

// wait returns when it is this ticket's turn, or with ctx's cause.
func (tk *ticket) wait(ctx context.Context) error {
	select {
	case <-tk.called:
		return nil
	default:
	}
	select {
	case <-tk.called:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives the place back, whether it was used or not.
func (tk *ticket) leave() {
	t := tk.gate
	t.mu.Lock()
	defer t.mu.Unlock()
	if tk.left {
		return
	}
	tk.left = true
	if t.held[tk.who]--; t.held[tk.who] == 0 {
		delete(t.held, tk.who)
	}
	select {
	case <-tk.called:
		t.inside--
	default:
		t.waiting--
		t.dropWaiting(tk)
	}
	t.call()
}

func (t *turnstile) dropWaiting(tk *ticket) {
	for i, other := range t.lines[tk.who] {
		if other == tk {
			t.shorten(tk.who, i)
			break
		}
	}
	if len(t.lines[tk.who]) > 0 {
		return
	}
	for i, who := range t.order {
		if who == tk.who {
			t.order = append(t.order[:i:i], t.order[i+1:]...)
			return
		}
	}
}

// counts are how many are inside and waiting.
func (t *turnstile) counts() (inside, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inside, t.waiting
}
