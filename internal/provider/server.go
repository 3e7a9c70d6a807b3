package provider

import (
	"container/list"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	headerTimeout = 10 * time.Second // for the head of a request
	readTimeout   = 30 * time.Second // for a whole request; a receipt is small
	idleTimeout   = 60 * time.Second // between two requests
	stopTimeout   = 3 * time.Second  // for answers under way when the server ends
	maxHeader     = 16 << 10         // bytes of a request's head
)

// Serve answers requests on l until ctx ends, which is no error; answers under
// way then have a few seconds. It closes l.
func (p *Provider) Serve(ctx context.Context, l net.Listener) error {
	d := p.door()
	web := p.httpServer(d)
	var stopping sync.WaitGroup
	defer stopping.Wait()
	ended, end := context.WithCancel(ctx)
	defer end()
	stopping.Go(func() {
		<-ended.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if web.Shutdown(grace) != nil {
			_ = web.Close()
		}
	})
	if err := web.Serve(&listener{l, d}); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// httpServer has no deadline for writing: that of a conn moves.
func (p *Provider) httpServer(d *door) *http.Server {
	return &http.Server{
		Handler:           p,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         d.watch,
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
	}
}

// connKey is where a request's context has its *conn.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// A door lets connections in while there is room. Where there is none, one that
// is idle has to go: between two requests a client needs no place.
type door struct {
	serves   func(netip.Addr) bool // nil: everybody
	patience time.Duration
	gate     *gate // counts connections
	counters *counters

	mu   sync.Mutex
	idle list.List // of *conn between two requests; the longest idle comes first

	leaving chan struct{} // has a place for each of a few connections that are told to go
}

// room is how many connections there may be where n requests may be under way.
// Some are idle, and who is refused has to be told so.
func room(n int) int { return n + n/4 + 16 }

func (p *Provider) door() *door {
	return &door{
		serves: p.cfg.Serves, patience: p.cfg.Patience, gate: &p.conns, counters: &p.counters,
		leaving: make(chan struct{}, maxLeaving),
	}
}

// A listener accepts only connections that the door lets in.
type listener struct {
	net.Listener
	door *door
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := c.(*net.TCPConn)
		if !ok {
			c.Close()
			return nil, errors.New("provider: not a TCP listener")
		}
		if admitted := l.door.enter(tcp); admitted != nil {
			return admitted, nil
		}
	}
}

// enter returns nil for a connection that it closed.
func (d *door) enter(tcp *net.TCPConn) *conn {
	remote := tcp.RemoteAddr().String()
	from, err := netip.ParseAddrPort(remote)
	if err != nil || d.serves != nil && !d.serves(from.Addr()) {
		d.counters.refused(refusedStranger)
		tcp.Close()
		return nil
	}
	who := clientOf(remote)
	if !d.admit(who) {
		d.counters.refused(refusedConnection)
		d.dismiss(tcp)
		return nil
	}
	c := &conn{TCPConn: tcp, who: who, patience: d.patience, slow: func() { d.counters.slow.Add(1) }}
	c.release = func() {
		d.forget(c)
		d.gate.leave(who)
	}
	c.hold(true)
	return c
}

// busy is all that a client hears for which there is no room, not even to be
// listened to.
const busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

const (
	maxLeaving = 64          // connections that are told why they are closed
	leaveTime  = time.Second // for each
)

// dismiss closes a connection, and says why where that costs little: the answer
// is lost if the connection is closed before the request was read.
func (d *door) dismiss(tcp *net.TCPConn) {
	select {
	case d.leaving <- struct{}{}:
	default:
		tcp.Close()
		return
	}
	go func() {
		defer func() { <-d.leaving }()
		defer tcp.Close()
		_ = tcp.SetDeadline(time.Now().Add(leaveTime))
		_, _ = io.WriteString(tcp, busy)
		_ = tcp.CloseWrite()
		_, _ = io.CopyN(io.Discard, tcp, maxHeader)
	}()
}

// admit counts a connection in, in place of an idle one if need be: of the same
// client or network if that has too many, else of whoever is idle longest.
func (d *door) admit(who client) bool {
	for range 2 {
		switch d.gate.enter(who) {
		case admitted:
			return true
		case clientBusy:
			if !d.shed(func(c client) bool { return c == who }) {
				return false
			}
		case networkBusy:
			if !d.shed(func(c client) bool { return c.network() == who.network() }) {
				return false
			}
		case allBusy:
			if !d.shed(func(client) bool { return true }) {
				return false
			}
		}
	}
	return false
}

// shed closes the longest idle connection of those asked for, if there is one.
func (d *door) shed(of func(client) bool) bool {
	d.mu.Lock()
	var found *conn
	for e := d.idle.Front(); e != nil && found == nil; e = e.Next() {
		if c := e.Value.(*conn); of(c.who) {
			found = c
		}
	}
	d.mu.Unlock()
	if found == nil {
		return false
	}
	d.counters.shed.Add(1)
	found.Close()
	return true
}

// watch is an http.Server's ConnState.
func (d *door) watch(nc net.Conn, s http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	if s != http.StateIdle {
		d.forget(c)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.place = d.idle.PushBack(c)
}

// forget notes that a connection is not idle.
func (d *door) forget(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.place != nil {
		d.idle.Remove(c.place)
		c.place = nil
	}
}
