package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
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
// on the network.
type watch struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stall   time.Duration
	minRate int64
	timer   *time.Timer
	way     *route

	src    io.Reader
	waited time.Duration // in the current window
	got    int64         // bytes in the current window
}

func (f *Fetcher) newWatch(ctx context.Context) *watch {
	w := &watch{stall: f.Stall, minRate: f.MinRate}
	if w.stall <= 0 {
		w.stall = defaultStall
	}
	if w.minRate == 0 {
		w.minRate = defaultMinRate
	}
	ctx, w.way = withRoute(ctx)
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

// request sends a GET and waits for the head of the answer.
func (w *watch) request(c *http.Client, u string, header http.Header) (*http.Response, error) {
	if err := checkURL(u); err != nil {
		return nil, err
	}
	ctx := httptrace.WithClientTrace(w.ctx, w.way.trace())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, shorten(err))
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "phase-fetch")
	w.timer.Reset(w.stall)
	defer w.timer.Stop()
	resp, err := c.Do(req)
	if err != nil {
		return nil, w.where(attemptError(w.ctx, inWords(shorten(err))))
	}
	return resp, nil
}

// where adds to the end of an attempt's time what it was spent on.
func (w *watch) where(err error) error {
	if at, _ := w.way.stage.Load().(string); at != "" && w.ctx.Err() != nil {
		return fmt.Errorf("%w, while %s", err, at)
	}
	return err
}

// tell adds to the error of an attempt that a proxy stood in between: what is
// wrong may be its doing.
func (w *watch) tell(err error) error {
	if err == nil || !w.way.proxied.Load() {
		return err
	}
	var status *StatusError
	if errors.As(err, &status) && status.Code == http.StatusUnauthorized {
		err = proxyAuth(status.Code) // a mirror that wants one would have its own way to ask
	}
	return fmt.Errorf("through the proxy: %w", err)
}

// body is r under watch.
func (w *watch) body(r io.Reader) io.Reader {
	w.src = r
	return w
}

// Read implements io.Reader.
func (w *watch) Read(p []byte) (int, error) {
	start := time.Now()
	w.timer.Reset(w.stall)
	n, err := w.src.Read(p)
	w.timer.Stop()
	w.got += int64(n)
	w.waited += time.Since(start)
	if err == io.EOF {
		return n, err
	}
	if err != nil {
		return n, attemptError(w.ctx, err)
	}
	return n, w.checkRate()
}

// checkRate judges each window of waiting that is as long as stall.
func (w *watch) checkRate() error {
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
