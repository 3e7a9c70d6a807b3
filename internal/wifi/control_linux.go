package wifi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	answerTime = 10 * time.Second // what wpa_cli waits for an answer
	graceTime  = time.Second      // for the answer to a command whose context is over
	maxAnswer  = 64 << 10         // bytes of one answer or event
)

// control is one connection to wpa_supplicant's socket, for commands or for
// events, used by one goroutine at a time.
type control struct {
	conn  *net.UnixConn
	local string // our end's file
	buf   []byte
}

// dial connects from a socket at local, which the answers come to.
func dial(remote, local string) (*control, error) {
	if err := os.Remove(local); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("connect: %w", err)
	}
	conn, err := net.DialUnix("unixgram", &net.UnixAddr{Name: local, Net: "unixgram"}, &net.UnixAddr{Name: remote, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &control{conn: conn, local: local, buf: make([]byte, maxAnswer)}, nil
}

func (c *control) close() {
	c.conn.Close()
	_ = os.Remove(c.local)
}

// ask sends a command and returns the answer. A command under way is given a
// moment when ctx ends, for healthy programs answer at once; after an error the
// connection is of no use, since a late answer would be taken for that to the
// next command.
func (c *control) ask(ctx context.Context, command string) (string, error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now().Add(graceTime)) })
	defer stop()
	if _, err := c.conn.Write([]byte(command)); err != nil {
		return "", plain(err)
	}
	for {
		text, err := c.read()
		if err != nil {
			return "", plain(err)
		}
		if !strings.HasPrefix(text, "<") { // an event
			return text, nil
		}
	}
}

// plain takes the addresses out of a socket's error: they are of no use to
// anybody.
func plain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("no answer in time")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// tell sends a command whose answer comes among the events.
func (c *control) tell(command string) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := c.conn.Write([]byte(command))
	return err
}

// forever takes the deadline off.
func (c *control) forever() error { return c.conn.SetDeadline(time.Time{}) }

// read returns the next datagram, whole.
func (c *control) read() (string, error) {
	n, _, flags, _, err := c.conn.ReadMsgUnix(c.buf, nil)
	switch {
	case err != nil:
		return "", err
	case flags&unix.MSG_TRUNC != 0:
		return "", fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return string(c.buf[:n]), nil
}
