//go:build !linux

package provider

import (
	"io"
	"os"
)

// maxPiece is how much is sent at once where progress cannot be asked for: it
// has to go within the deadline.
const maxPiece = minProgress // bytes

func (c *conn) hold(bool) {}

func (c *conn) send(f *os.File, limit int64) (int64, error) {
	n, err := c.TCPConn.ReadFrom(io.LimitReader(f, min(limit, maxPiece)))
	if err == nil && n == maxPiece && n < limit {
		err = errFull
	}
	return n, err
}

func (c *conn) writable() error { return nil }

func (c *conn) unacknowledged() int64 { return 0 }
