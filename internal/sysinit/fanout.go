package sysinit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// queueBytes is how much text waits for one slow output before text is dropped:
// about four screens, one second of a serial line at 115,200 baud.
const queueBytes = 12 << 10

// Queue puts a bounded buffer and a goroutine between a writer that must not
// wait and an output that may block for ever (a serial line with flow control
// and nobody there, a port whose reader is slow). What does not fit is dropped,
// whole Write calls at a time; the output can be told how many.
type Queue struct {
	out io.Writer
	cfg QueueConfig

	mu      sync.Mutex
	buf     []byte
	dropped int  // Write calls since the last note
	writing bool // the goroutine holds bytes that are not out yet
	closed  bool
	wake    chan struct{} // has room for one
	idle    chan struct{} // closed and replaced when everything is out
}

// QueueConfig says how much a Queue holds and what it does with a loss.
type QueueConfig struct {
	// Limit is in bytes; 0 means a few screens of text.
	Limit int
	// Note is written where writes were dropped; nil writes nothing there.
	Note func(dropped int) string
}

// NewQueue starts the goroutine that writes to out; Close ends it.
func NewQueue(out io.Writer, cfg QueueConfig) *Queue {
	if cfg.Limit == 0 {
		cfg.Limit = queueBytes
	}
	q := &Queue{out: out, cfg: cfg, wake: make(chan struct{}, 1), idle: make(chan struct{})}
	go q.run()
	return q
}

// Write never blocks and never fails; it returns len(p) even when p is dropped.
func (q *Queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return len(p), nil
	case len(q.buf)+len(p) > q.cfg.Limit:
		q.dropped++
	default:
		q.buf = append(q.buf, p...)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (q *Queue) run() {
	for range q.wake {
		for {
			chunk := q.take()
			if len(chunk) == 0 {
				break
			}
			// A failing output is not told to anybody: there may be no other.
			_, _ = q.out.Write(chunk)
		}
	}
}

// take hands out what waits, and wakes Flush when nothing does.
func (q *Queue) take() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	chunk := q.buf
	q.buf = nil
	if q.dropped > 0 && q.cfg.Note != nil {
		chunk = append(chunk, q.cfg.Note(q.dropped)...)
	}
	q.dropped = 0
	q.writing = len(chunk) > 0
	if !q.writing {
		close(q.idle)
		q.idle = make(chan struct{})
	}
	return chunk
}

// Flush waits until everything is written, or until ctx ends.
func (q *Queue) Flush(ctx context.Context) error {
	q.mu.Lock()
	idle, pending := q.idle, q.writing || len(q.buf) > 0 || q.dropped > 0
	q.mu.Unlock()
	if !pending {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close makes later writes vanish and lets the goroutine end when the output
// lets it. It does not wait: see Flush.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed = true
		close(q.wake)
	}
	return nil
}

// FanOut writes the same text to several outputs, each behind a Queue of its
// own, so that a blocked one cannot stop the others.
type FanOut struct{ queues []*Queue }

// NewFanOut starts a queue for each output.
func NewFanOut(outs ...io.Writer) *FanOut {
	f := &FanOut{}
	for _, out := range outs {
		f.queues = append(f.queues, NewQueue(out, QueueConfig{Note: consoleNote}))
	}
	return f
}

func consoleNote(dropped int) string {
	return fmt.Sprintf("\n[%d writes dropped: this console is too slow]\n", dropped)
}

// Write never blocks and never fails.
func (f *FanOut) Write(p []byte) (int, error) {
	for _, q := range f.queues {
		_, _ = q.Write(p)
	}
	return len(p), nil
}

// Flush waits for all outputs, or until ctx ends: a blocked console costs at
// most that long.
func (f *FanOut) Flush(ctx context.Context) error {
	var first error
	for _, q := range f.queues {
		if err := q.Flush(ctx); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Close closes all queues.
func (f *FanOut) Close() error {
	for _, q := range f.queues {
		_ = q.Close()
	}
	return nil
}

// maxKmsg is the longest line that the kernel's log takes as one record.
const maxKmsg = 960

// Kmsg writes to the kernel's log, one record for each line. It is the first
// place to write to: it is there before any console and blocks on none.
type Kmsg struct {
	prefix string
	out    io.Writer

	mu   sync.Mutex
	line []byte
}

// NewKmsg writes to out (/dev/kmsg) with a syslog level (6 is informational)
// and a name before each line.
func NewKmsg(out io.Writer, level int, name string) *Kmsg {
	return &Kmsg{out: out, prefix: fmt.Sprintf("<%d>%s: ", level&7, name)}
}

// Write splits p into lines; an unfinished one waits for its end, or for
// maxKmsg bytes. Carriage returns and other control bytes are left out.
func (k *Kmsg) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range p {
		if b == '\n' || len(k.line) == maxKmsg {
			if err := k.flush(); err != nil {
				return 0, err
			}
		}
		if b >= ' ' && b != 0x7f {
			k.line = append(k.line, b)
		}
	}
	return len(p), nil
}

func (k *Kmsg) flush() error {
	line := bytes.TrimSpace(k.line)
	k.line = k.line[:0]
	if len(line) == 0 {
		return nil
	}
	_, err := k.out.Write(append([]byte(k.prefix), line...))
	return err
}
