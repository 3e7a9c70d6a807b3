package jobpeer

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
)

// answering is a stream whose request was read. What is said is gathered, so that
// the answer about a small job is one packet.
type answering struct {
	ctx    context.Context
	cancel context.CancelFunc
	stream peer.Stream
	block  time.Duration
	by     job.Caller
	out    []byte // not sent yet
	begun  bool   // something was sent
}

// full is how much is gathered before it is sent, in bytes.
const full = 16 << 10

// write says one thing. The caller flushes at the end.
func (a *answering) write(k kind, body []byte) (err error) {
	if a.out, err = appendFrame(a.out, k, body); err != nil {
		return err
	}
	if len(a.out) >= full {
		return a.flush()
	}
	return nil
}

// flush sends what was gathered, in bounded time.
func (a *answering) flush() error {
	for len(a.out) > 0 {
		if err := a.stream.SetWriteDeadline(time.Now().Add(a.block)); err != nil {
			return err
		}
		n, err := a.stream.Write(a.out[:min(len(a.out), chunk)])
		a.out = a.out[:copy(a.out, a.out[n:])]
		if err != nil {
			return err
		}
		a.begun = true
	}
	return nil
}

// finish says the last things.
func (a *answering) finish(last ...frame) error {
	for _, f := range append(last, frame{kind: sayDone}) {
		if err := a.write(f.kind, f.body); err != nil {
			return err
		}
	}
	return a.flush()
}

func (a *answering) status(s job.Status) error {
	raw, err := strictjson.MarshalCanonical(s)
	if err != nil {
		return err
	}
	return a.write(sayStatus, raw)
}

// fail says why not. What is wrong with the stream itself nobody is told; then, or
// if the answer cannot be sent, it returns an error.
func (a *answering) fail(err error) error {
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	if isTimeout(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	raw, bad := strictjson.MarshalCanonical(failureOf(err))
	if bad != nil {
		return bad
	}
	if err := a.write(sayFailure, raw); err != nil {
		return err
	}
	return a.flush()
}

// heed watches for the other end to go away, which ends ctx, while the answer takes
// its time. The other end has nothing more to say: that is a reason to end as well.
func (a *answering) heed() {
	_ = a.stream.SetReadDeadline(time.Time{})
	go func() {
		var one [1]byte
		if n, err := a.stream.Read(one[:]); n > 0 || !errors.Is(err, io.EOF) {
			a.cancel()
		}
	}()
}

// beat tells who waits how far a job is: after patience, when that changes, and
// now and then, which shows that both ends are there.
type beat struct {
	a     *answering
	every time.Duration

	mu    sync.Mutex
	last  job.Status
	timer *time.Timer // nil: stopped, or not begun
	over  bool
}

func newBeat(a *answering, every time.Duration) *beat { return &beat{a: a, every: every} }

// tell is for Desk.Watch.
func (b *beat) tell(s job.Status) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = s
	switch {
	case s.Stage == job.Ended || s.Stage == job.Committed || b.over:
	case b.timer == nil:
		b.timer = time.AfterFunc(patience, b.say)
	default:
		b.timer.Reset(patience)
	}
	return nil
}

func (b *beat) say() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	err := b.a.status(b.last)
	if err == nil {
		err = b.a.flush()
	}
	if err != nil {
		b.over = true
		b.a.cancel()
		return
	}
	b.timer.Reset(b.every)
}

// stop ends the beat; nothing is said after it.
func (b *beat) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.timer != nil {
		b.timer.Stop()
	}
}
