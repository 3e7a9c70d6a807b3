package jobapi

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConns is how many connections are held at once.
const maxConns = 512

// bounded holds at most most connections. One that comes when there are as many
// takes the place of the one on which nothing has happened for the longest time: no
// request came, no body, nobody took the answer. Only those whose requests are being
// worked on stay, which is never for long, or bounded in number; if all are, the new
// one is closed itself. So ten thousand connections keep nobody out, whatever they
// say: who asks and listens is done before it is their turn to go.
type bounded struct {
	net.Listener
	most int

	mu    sync.Mutex
	conns map[*heldConn]struct{}
}

func newBounded(l net.Listener, most int) *bounded {
	return &bounded{Listener: l, most: most, conns: map[*heldConn]struct{}{}}
}

// heldConn leaves its listener's count when it is closed. A nil one is of no
// listener of ours.
type heldConn struct {
	net.Conn
	from *bounded

	// Of from's lock.
	since  time.Time // when something happened last; zero: its request is worked on
	pinned bool      // until the end of this request, as there are few of its kind
}

// Close closes the connection and makes room.
func (c *heldConn) Close() error {
	c.from.mu.Lock()
	delete(c.from.conns, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}

// moved notes that something happened: the client said something, or took some of
// the answer.
func (c *heldConn) moved() { c.set(time.Now(), false) }

// works notes that the client has said all, and that it is the node's turn.
func (c *heldConn) works() { c.set(time.Time{}, false) }

// pin keeps the connection until the answer to this request is complete.
func (c *heldConn) pin() { c.set(time.Time{}, true) }

func (c *heldConn) set(since time.Time, pin bool) {
	if c == nil {
		return
	}
	c.from.mu.Lock()
	defer c.from.mu.Unlock()
	c.since, c.pinned = since, c.pinned || pin
}

// Accept waits for the next connection that there is room for.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if held := b.hold(c); held != nil {
			return held, nil
		}
		c.Close()
	}
}

func (b *bounded) hold(c net.Conn) net.Conn {
	b.mu.Lock()
	var out *heldConn
	if len(b.conns) >= b.most {
		if out = b.idlest(); out == nil {
			b.mu.Unlock()
			return nil
		}
		delete(b.conns, out)
	}
	held := &heldConn{Conn: c, from: b, since: time.Now()}
	b.conns[held] = struct{}{}
	b.mu.Unlock()
	if out != nil {
		out.Conn.Close()
	}
	return held
}

func (b *bounded) idlest() (out *heldConn) {
	for c := range b.conns {
		if !c.pinned && !c.since.IsZero() && (out == nil || c.since.Before(out.since)) {
			out = c
		}
	}
	return out
}

// note is told by the HTTP server what a connection is at.
func (b *bounded) note(c net.Conn, state http.ConnState) {
	held, ok := c.(*heldConn)
	if !ok || state != http.StateNew && state != http.StateIdle {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	held.since, held.pinned = time.Now(), false
}

// answering notes what the client takes of an answer, and ends it where it takes
// nothing for too long.
type answering struct {
	http.ResponseWriter
	conn    *heldConn
	patient time.Duration
}

// Write writes a part of the answer.
func (w answering) Write(p []byte) (int, error) {
	w.conn.moved()
	if err := http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.patient)); err != nil {
		return 0, err
	}
	n, err := w.ResponseWriter.Write(p)
	w.conn.moved()
	return n, err
}

// Unwrap is for http.ResponseController.
func (w answering) Unwrap() http.ResponseWriter { return w.ResponseWriter }
