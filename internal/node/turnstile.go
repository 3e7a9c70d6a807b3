package node

import (
	"context"
	"fmt"
	"slices"
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
//
// Turns are no help to somebody who comes while all places inside are taken by
// long jobs of one submitter. So of two or more places one submitter gets all but
// one, as long as anybody else waits, or was here within the last companyTime and
// may come again. A submitter who is alone gets them all: a node with one user
// works at its full width, and whoever joins that user waits for one job once.
// The node's own jobs are under no such bound, and keep no place from others.
type turnstile struct {
	slots, room, quota int // inside at once, waiting at once, of one submitter (0: any)
	now                func() time.Time

	mu      sync.Mutex
	running map[string]int // by submitter: inside
	seen    [2]visitor     // the last two different submitters who came or went, the latest first
	inside  int
	waiting int
	held    map[string]int       // by submitter: inside and waiting
	lines   map[string][]*ticket // by submitter, first in front; none is empty
	order   []string             // the submitters with a line, next in front
}

// companyTime is how long after a submitter's last job came or ended a place is
// kept for the next.
const companyTime = 5 * time.Minute

// visitor is a submitter who came or went.
type visitor struct {
	who string
	at  time.Time
}

func newTurnstile(slots, room, quota int, now func() time.Time) *turnstile {
	return &turnstile{slots: slots, room: room, quota: quota, now: now,
		running: map[string]int{}, held: map[string]int{}, lines: map[string][]*ticket{}}
}

// see notes that who is about.
func (t *turnstile) see(who string) {
	if who == ownJobs {
		return
	}
	if t.seen[0].who != who {
		t.seen[1] = t.seen[0]
	}
	t.seen[0] = visitor{who, t.now()}
}

// company reports whether a submitter other than who waits, or may come.
func (t *turnstile) company(who string) bool {
	for other := range t.lines {
		if other != who && other != ownJobs {
			return true
		}
	}
	other := t.seen[0]
	if other.who == who {
		other = t.seen[1]
	}
	return other.who != ownJobs && t.now().Sub(other.at) < companyTime
}

// roomFor is how many may wait when who comes. Whoever has no job here finds a little
// more room than there is for the others: nobody can fill it for those who have none.
func (t *turnstile) roomFor(who string) int {
	if t.held[who] > 0 || t.room == 0 {
		return t.room
	}
	return t.room + min(t.slots, t.room)
}

// may reports whether who may have one more place inside.
func (t *turnstile) may(who string) bool {
	return who == ownJobs || t.slots < 2 || t.running[who] < t.slots-1 || !t.company(who)
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
	t.see(who)
	full := t.waiting >= t.roomFor(who) && (t.inside >= t.slots || !t.may(who))
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

// call lets in whoever is next, while there is room inside. Who has to leave a place
// to others has jobs inside, and is called when one of them ends.
func (t *turnstile) call() {
	for t.inside < t.slots {
		i := slices.IndexFunc(t.order, t.may)
		if i < 0 {
			return
		}
		who := t.order[i]
		next := t.lines[who][0]
		t.order = slices.Delete(t.order, i, i+1)
		t.shorten(who, 0)
		if len(t.lines[who]) > 0 {
			t.order = append(t.order, who)
		}
		t.waiting--
		t.inside++
		t.running[who]++
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
	t.see(tk.who)
	lower(t.held, tk.who)
	select {
	case <-tk.called:
		t.inside--
		lower(t.running, tk.who)
	default:
		t.waiting--
		t.dropWaiting(tk)
	}
	t.call()
}

func lower(counts map[string]int, who string) {
	if counts[who]--; counts[who] == 0 {
		delete(counts, who)
	}
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
