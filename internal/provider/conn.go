package provider

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// minProgress is how many bytes a client must take, and acknowledge, in each
// Config.Patience. Anything faster may take all day: somebody behind a bad line
// is not to be told apart from a dead client by how long a download lasts.
const minProgress = 64 << 10

// errFull says that the kernel takes no more for this client for the moment.
var errFull = errors.New("the client takes no more for now")

// errSlow says that a client made no progress and was cut.
var errSlow = fmt.Errorf("the client took less than %d bytes in time: %w", minProgress, os.ErrDeadlineExceeded)

// A conn is a client's connection. Unlike that of net/http, its deadline for
// writing moves with what the client acknowledges, and files are sent without
// waiting inside: a client that waits costs a goroutine and its sockets'
// buffers in the kernel, and nothing of net/http's buffers for copying.
//
// Its methods are called by one goroutine at a time, except Close.
type conn struct {
	*net.TCPConn
	who      client
	patience time.Duration // Config.Patience
	slow     func()        // called when the client is cut
	sent     int64         // bytes handed to the kernel
	fast     int           // waits in a row that were short; from fastWaits on it counts as fast

	closed  sync.Once
	release func()        // called once, when the connection is closed
	place   *list.Element // among those that are idle; of the door, under its lock
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closed.Do(c.release)
	return c.TCPConn.Close()
}

// Write implements io.Writer.
func (c *conn) Write(b []byte) (n int, err error) {
	for {
		var m int
		err := c.insist(func() (err error) {
			m, err = c.TCPConn.Write(b[n:])
			n += m
			c.sent += int64(m)
			return err
		})
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// ReadFrom implements io.ReaderFrom. Of a file it sends what the kernel takes
// at once, and returns errFull if that was not all; wait waits for more room.
func (c *conn) ReadFrom(src io.Reader) (int64, error) {
	if lr, ok := src.(*io.LimitedReader); ok {
		if f, ok := lr.R.(*os.File); ok {
			n, err := c.send(f, lr.N)
			lr.N -= n
			c.sent += n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c}, src)
}

// wait returns when the kernel takes more for this client.
func (c *conn) wait() error {
	start := time.Now()
	err := c.insist(c.writable)
	c.pace(time.Since(start))
	return err
}

// How soon the kernel has room again for a client that is fast, how often in a
// row, and how late for one that is not any more.
const (
	fastWait  = 50 * time.Millisecond
	fastWaits = 4
	slowWait  = time.Second
)

// pace lets the kernel keep more for clients that turn out to be fast.
func (c *conn) pace(waited time.Duration) {
	switch {
	case waited > slowWait && c.fast >= fastWaits:
		c.hold(true)
		c.fast = 0
	case waited > fastWait && c.fast < fastWaits:
		c.fast = 0
	case c.fast < fastWaits:
		if c.fast++; c.fast == fastWaits {
			c.hold(false)
		}
	}
}

// insist does write again after a deadline, as long as the client makes progress.
func (c *conn) insist(write func() error) error {
	for before := c.acknowledged(); ; {
		if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
			return err
		}
		err := write()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		now := c.acknowledged()
		if now-before < minProgress {
			_ = c.SetLinger(0) // it takes nothing: what the kernel keeps for it is let go
			c.slow()
			return errSlow
		}
		before = now
	}
}

// acknowledged is how many bytes the client's machine has.
func (c *conn) acknowledged() int64 { return c.sent - c.unacknowledged() }
