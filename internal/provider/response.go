package provider

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"time"

	"golang.org/x/time/rate"
)

// ServeHTTP answers one request within the limits, counts it and logs it.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rw := &response{ResponseWriter: w, ctx: r.Context(), rate: p.rate}
	rw.conn, _ = r.Context().Value(connKey{}).(*conn)
	who := clientOf(r.RemoteAddr)
	switch p.gate.enter(who) {
	case admitted:
		func() {
			defer p.gate.leave(who)
			p.mux.ServeHTTP(rw, r)
		}()
	case clientBusy, networkBusy:
		p.refuse(rw, refusedClient, http.StatusTooManyRequests, "too many requests at once from this address")
	case allBusy:
		p.refuse(rw, refusedTotal, http.StatusServiceUnavailable, "too many requests at once")
	}
	rw.status = cmp.Or(rw.status, http.StatusOK)
	p.counters.answered(r.Pattern, rw.status, rw.sent)
	p.logAccess(r, rw, time.Since(start))
}

// refuse tells a client to come again. It has to go first: what waits for room
// must not take any.
func (p *Provider) refuse(w http.ResponseWriter, why refusal, status int, text string) {
	p.counters.refused(why)
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Connection", "close")
	http.Error(w, text, status)
}

// Bounds of what a stranger may write into a line of the log, in bytes.
const (
	maxLogPath  = 200
	maxLogOther = 100
)

// logAccess writes a line. The log's handler adds the time, and escapes what
// could be taken for anything else.
func (p *Provider) logAccess(r *http.Request, w *response, took time.Duration) {
	p.cfg.Access.LogAttrs(r.Context(), p.accessLevel(), "request",
		slog.String("client", r.RemoteAddr), slog.String("method", clip(r.Method, 16)),
		slog.String("path", clip(r.URL.EscapedPath(), maxLogPath)), slog.Int("status", w.status), slog.Int64("bytes", w.sent),
		slog.Int64("ms", took.Milliseconds()), slog.String("range", clip(r.Header.Get("Range"), maxLogOther)),
		slog.String("agent", clip(r.UserAgent(), maxLogOther)))
}

func (p *Provider) accessLevel() slog.Level {
	if p.cfg.Quiet {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// A response counts what it sends, and sends files in steps: as much as the
// connection takes and the rate allows. It keeps the path to sendfile(2) open,
// which only an *io.LimitedReader around a plain file finds.
type response struct {
	http.ResponseWriter
	ctx    context.Context
	conn   *conn         // nil in tests without a connection
	rate   *rate.Limiter // of all bodies; nil: no limit
	paid   int64         // bytes that the rate allowed and that were not sent yet
	status int
	sent   int64
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *response) Write(b []byte) (n int, err error) {
	for n < len(b) {
		step, err := w.allow(int64(len(b) - n))
		if err != nil {
			return n, err
		}
		m, err := w.ResponseWriter.Write(b[n : n+int(step)])
		n += m
		w.count(int64(m))
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom.
func (w *response) ReadFrom(src io.Reader) (n int64, err error) {
	left := int64(math.MaxInt64)
	if lr, ok := src.(*io.LimitedReader); ok {
		src, left = lr.R, lr.N
		defer func() { lr.N -= n }()
	}
	for n < left {
		step, err := w.allow(left - n)
		if err != nil {
			return n, err
		}
		m, err := io.Copy(w.ResponseWriter, &io.LimitedReader{R: src, N: step})
		n += m
		w.count(m)
		if errors.Is(err, errFull) {
			err = w.conn.wait()
		} else if m < step {
			return n, err // the source has ended
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// rateStep is how much a client may send before the others have their turn, where
// there is a rate: in bytes, and the limiter's burst.
const rateStep = 64 << 10

// allow waits until some of n bytes may be sent, and says how many.
func (w *response) allow(n int64) (int64, error) {
	if w.rate == nil {
		return n, nil
	}
	if w.paid == 0 {
		step := min(n, rateStep)
		if err := w.rate.WaitN(w.ctx, int(step)); err != nil {
			return 0, err
		}
		w.paid = step
	}
	return min(n, w.paid), nil
}

func (w *response) count(n int64) {
	w.sent += n
	if w.rate != nil {
		w.paid -= n
	}
}
