package provider

import (
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	maxConns       = 1024
	connsPerClient = 64 // so that one client cannot keep all others out with idle ones
	// piece is how much is sent before its deadline is renewed: a client that
	// takes a piece in less than pieceTime, 16 KiB/s, may take all day.
	piece     = 1 << 20 // bytes
	pieceTime = 64 * time.Second
)

// Server returns an http.Server for h, a *Provider, that bounds how long a
// client may take and how many connect. It does not listen to clients whose address
// serves refuses; nil refuses nobody. The caller sets the server's address, serves
// and shuts it down.
func Server(h http.Handler, serves func(netip.Addr) bool) *http.Server {
	d := &door{
		serves: serves, gate: gate{perClient: connsPerClient, total: maxConns, open: map[client]int{}},
		inside: map[net.Conn]client{},
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      pieceTime, // renewed by the Provider while a client makes progress
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnState:         d.watch,
	}
}

// A door lets connections in while there is room.
type door struct {
	serves func(netip.Addr) bool
	gate   gate // counts connections

	mu     sync.Mutex
	inside map[net.Conn]client
}

// watch is an http.Server's ConnState.
func (d *door) watch(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		if !d.enter(c) {
			c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		d.mu.Lock()
		defer d.mu.Unlock()
		if who, ok := d.inside[c]; ok {
			delete(d.inside, c)
			d.gate.leave(who)
		}
	}
}

func (d *door) enter(c net.Conn) bool {
	remote := c.RemoteAddr().String()
	if d.serves != nil {
		if from, err := netip.ParseAddrPort(remote); err != nil || !d.serves(from.Addr()) {
			return false
		}
	}
	who := clientOf(remote)
	if d.gate.enter(who) != admitted {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside[c] = who
	return true
}

// ServeHTTP answers one request within the limits, counts it and logs it.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rw := &response{ResponseWriter: w, control: http.NewResponseController(w)}
	who := clientOf(r.RemoteAddr)
	switch p.gate.enter(who) {
	case admitted:
		func() {
			defer p.gate.leave(who)
			p.mux.ServeHTTP(rw, r)
		}()
	case clientBusy:
		p.refuse(rw, http.StatusTooManyRequests, "too many requests at once from this address")
	case allBusy:
		p.refuse(rw, http.StatusServiceUnavailable, "too many requests at once")
	}
	if rw.status == 0 {
		rw.status = http.StatusOK
	}
	p.counters.requests[min(max(rw.status/100, 0), 5)].Add(1)
	p.counters.sent.Add(rw.sent)
	level := slog.LevelInfo
	if p.cfg.Quiet {
		level = slog.LevelDebug
	}
	p.cfg.Log.Log(r.Context(), level, "request", "client", r.RemoteAddr, "method", clip(r.Method, 16), "path", clip(r.URL.Path, 200),
		"range", clip(r.Header.Get("Range"), 64), "status", rw.status, "bytes", rw.sent, "took", time.Since(start))
}

func (p *Provider) refuse(w http.ResponseWriter, status int, text string) {
	p.counters.refused.Add(1)
	w.Header().Set("Retry-After", "1")
	http.Error(w, text, status)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// A client is an IPv4 address or an IPv6 /64, which one host has for itself; on a
// link, where all share one /64, a link-local address.
type client netip.Prefix

func clientOf(remote string) client {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return client{} // all that have no address share one limit
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 64
	if addr.Is4() || addr.IsLinkLocalUnicast() {
		bits = addr.BitLen()
	}
	prefix, _ := addr.Prefix(bits) // bits fit the address
	return client(prefix)
}

type verdict int

const (
	admitted verdict = iota
	clientBusy
	allBusy
)

// A gate counts requests under way, or connections. Its map holds only clients that have some.
type gate struct {
	perClient, total int

	mu   sync.Mutex
	all  int
	open map[client]int
}

func (g *gate) enter(c client) verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= g.total:
		return allBusy
	case g.open[c] >= g.perClient:
		return clientBusy
	}
	g.all++
	g.open[c]++
	return admitted
}

func (g *gate) leave(c client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.open[c]--; g.open[c] <= 0 {
		delete(g.open, c)
	}
}

func (g *gate) inFlight() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}

// A response counts, and renews the write deadline piece by piece. It keeps
// the path to sendfile open: ReadFrom hands the file on.
type response struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	sent    int64
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
func (w *response) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.sent += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom. An *io.LimitedReader is taken apart
// because only one around a plain file reaches sendfile(2).
func (w *response) ReadFrom(src io.Reader) (n int64, err error) {
	left := int64(math.MaxInt64)
	if lr, ok := src.(*io.LimitedReader); ok {
		src, left = lr.R, lr.N
		defer func() { lr.N -= n }()
	}
	for n < left {
		// Recorders in tests have no deadlines; real connections do.
		_ = w.control.SetWriteDeadline(time.Now().Add(pieceTime))
		want := min(piece, left-n)
		m, err := io.Copy(w.ResponseWriter, &io.LimitedReader{R: src, N: want})
		n += m
		w.sent += m
		if err != nil || m < want {
			return n, err
		}
	}
	return n, nil
}
