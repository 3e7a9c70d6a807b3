package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"
)

const (
	keptLines  = 8192     // cleaned console lines kept for readers
	maxConsole = 64 << 20 // bytes of raw console log
)

// ErrEnded is returned by waits on a machine that has ended.
var ErrEnded = errors.New("the machine has ended")

// Line is one cleaned line of the serial console.
type Line struct {
	N    int       // its number since power on, from 1
	At   time.Time // host clock when its last byte arrived
	Text string    // without control characters or escape sequences, never empty
}

// console keeps the latest lines of one serial console. Readers have their own
// place in it and may be slow: what they miss shows as a gap in Line.N.
type console struct {
	mu      sync.Mutex
	clean   cleaner
	lines   []Line        // ring: line N is at (N-1) % keptLines
	n       int           // number of the last finished line
	at      time.Time     // arrival of the bytes being consumed
	ended   bool          // no more bytes will come
	changed chan struct{} // closed, and replaced, at every change
}

func newConsole() *console {
	c := &console{changed: make(chan struct{})}
	c.clean.emit = c.add
	return c
}

// add is called by the cleaner with mu held.
func (c *console) add(text string) {
	c.n++
	line := Line{N: c.n, At: c.at, Text: text}
	if len(c.lines) < keptLines {
		c.lines = append(c.lines, line)
		return
	}
	c.lines[(c.n-1)%keptLines] = line
}

// copyFrom consumes r until its end, with the raw bytes going to log as well, and
// to live if that is not nil. It returns the first error of log, which does not
// stop it.
func (c *console) copyFrom(r io.Reader, log, live io.Writer) error {
	var logErr error
	left := maxConsole
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		c.feed(buf[:n])
		if live != nil && n > 0 {
			_, _ = live.Write(buf[:n])
		}
		if keep := min(n, left); keep > 0 && logErr == nil {
			left -= keep
			_, logErr = log.Write(buf[:keep])
		}
		if err != nil {
			c.finish()
			return logErr
		}
	}
}

func (c *console) feed(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Now()
	c.clean.write(p)
	c.notify()
}

func (c *console) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Now()
	c.clean.end()
	c.ended = true
	c.notify()
}

func (c *console) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// after returns the oldest kept line with a number above n. If there is none
// it returns the unfinished line (N = 0) and a channel that closes when
// something has changed; the channel is nil if nothing will.
func (c *console) after(n int) (Line, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < c.n {
		next := max(n+1, c.n-len(c.lines)+1)
		return c.lines[(next-1)%keptLines], nil
	}
	if c.ended {
		return Line{}, nil
	}
	return Line{At: c.at, Text: c.clean.partial()}, c.changed
}

// all yields the lines after number n as they come. It stops at the console's
// end and when ctx ends.
func (c *console) all(ctx context.Context, n int) iter.Seq[Line] {
	return func(yield func(Line) bool) {
		for ctx.Err() == nil {
			line, changed := c.after(n)
			switch {
			case line.N > 0:
				n = line.N
				if !yield(line) {
					return
				}
			case changed == nil:
				return
			default:
				select {
				case <-changed:
				case <-ctx.Done():
				}
			}
		}
	}
}

// wait returns the first line after number n that match accepts. The
// unfinished line is offered too (a prompt has no end); it is returned with
// the number that it will have.
func (c *console) wait(ctx context.Context, n int, match func(string) bool) (Line, error) {
	for {
		line, changed := c.after(n)
		switch {
		case line.N > 0:
			n = line.N
			if match(line.Text) {
				return line, nil
			}
			continue
		case changed == nil:
			return Line{}, ErrEnded
		case line.Text != "" && match(line.Text):
			line.N = n + 1
			return line, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Line{}, fmt.Errorf("waiting for a console line: %w", context.Cause(ctx))
		}
	}
}

// tail returns up to n of the last lines, the unfinished one included.
func (c *console) tail(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for i := max(c.n-min(n, len(c.lines)), 0) + 1; i <= c.n; i++ {
		out = append(out, c.lines[(i-1)%keptLines].Text)
	}
	if p := c.clean.partial(); p != "" && n > 0 {
		out = append(out, p)
	}
	return out[max(0, len(out)-n):]
}
