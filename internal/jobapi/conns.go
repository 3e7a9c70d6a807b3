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
// takes the place of the one that has asked nothing for the longest time; if all
// are being answered, it is closed itself. So ten thousand connections that say
// nothing keep nobody out.
type bounded struct {
	net.Listener
	most int

	mu    sync.Mutex
	conns map[*heldConn]time.Time // since when it asks nothing; zero: it is being answered
}

func newBounded(l net.Listener, most int) *bounded {
	return &bounded{Listener: l, most: most, conns: map[*heldConn]time.Time{}}
}

// heldConn leaves its listener's count when it is closed.
type heldConn struct {
	net.Conn
	from *bounded
}

// Close closes the connection and makes room.
func (c *heldConn) Close() error {
	c.from.mu.Lock()
	delete(c.from.conns, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
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
	held := &heldConn{c, b}
	b.conns[held] = time.Now()
	b.mu.Unlock()
	if out != nil {
		out.Conn.Close()
	}
	return held
}

func (b *bounded) idlest() (out *heldConn) {
	var since time.Time
	for c, at := range b.conns {
		if !at.IsZero() && (out == nil || at.Before(since)) {
			out, since = c, at
		}
	}
	return out
}

// note is told by the HTTP server what a connection is at.
func (b *bounded) note(c net.Conn, state http.ConnState) {
	held, ok := c.(*heldConn)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, there := b.conns[held]; !there {
		return
	}
	switch state {
	case http.StateActive:
		b.conns[held] = time.Time{}
	case http.StateNew, http.StateIdle:
		b.conns[held] = time.Now()
	}
}
