package fetch

import (
	"context"
	"fmt"
	"time"
)

// bounded adds the time-out of one attempt.
func (f *Fetcher) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if f.Timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, f.Timeout, fmt.Errorf("%w (%v)", ErrTimeout, f.Timeout))
}

// A watch ends an attempt whose source is too slow. Only time spent waiting
// for the source counts: a slow disk or processor on our side is not blamed
// on the network. It is for one goroutine at a time.
type watch struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stall   time.Duration
	minRate int64
	timer   *time.Timer

	since  time.Time     // when waiting began; zero: not waiting
	waited time.Duration // in the current window
	got    int64         // bytes in the current window
}

func (f *Fetcher) stall() time.Duration {
	if f.Stall <= 0 {
		return defaultStall
	}
	return f.Stall
}

func (f *Fetcher) patience() time.Duration {
	if f.Patience <= 0 {
		return f.stall()
	}
	return f.Patience
}

func (f *Fetcher) minRate() int64 {
	if f.MinRate == 0 {
		return defaultMinRate
	}
	return f.MinRate
}

func (f *Fetcher) newWatch(ctx context.Context) *watch {
	w := &watch{stall: f.stall(), minRate: f.minRate()}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(w.stall, func() {
		w.cancel(fmt.Errorf("%w for %v", ErrStalled, w.stall))
	})
	w.timer.Stop()
	return w
}

func (w *watch) close() {
	w.timer.Stop()
	w.cancel(nil)
}

// wait begins a time of waiting for the source, if none has begun.
func (w *watch) wait() {
	if w.since.IsZero() {
		w.since = time.Now()
		w.timer.Reset(w.stall)
	}
}

// arrived ends it with n bytes, and judges each window of waiting that is as
// long as stall.
func (w *watch) arrived(n int) error {
	w.timer.Stop()
	if !w.since.IsZero() {
		w.waited += time.Since(w.since)
		w.since = time.Time{}
	}
	w.got += int64(n)
	if w.ctx.Err() != nil {
		return attemptError(w.ctx, w.ctx.Err())
	}
	if w.waited < w.stall {
		return nil
	}
	rate := int64(float64(w.got) / w.waited.Seconds())
	if rate < w.minRate {
		return fmt.Errorf("%w: %d bytes/s, at least %d wanted", ErrSlow, rate, w.minRate)
	}
	w.waited, w.got = 0, 0
	return nil
}
