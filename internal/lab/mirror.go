package lab

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
)

// MirrorConfig says whose mirror it is and how it misbehaves. The zero value of
// each fault is none.
type MirrorConfig struct {
	Backend int // the port of the provider on this machine

	// Fault is the blob that the following are about.
	Fault blob.Digest
	// DiesAfter is how many bytes of it the mirror sends, to everybody and in
	// all, before it cuts every connection and closes its door.
	DiesAfter int64
	// LastRites is called when the mirror has sent them, before it dies: nobody
	// gets another byte meanwhile. nil: it dies at once.
	LastRites func()
	// Lies changes a byte in each MiB of it.
	Lies bool
	// Rate is how many bytes of it one connection gets in a second; 0: as many as
	// it can take.
	Rate int64
}

// A Mirror stands between machines and a provider, as mirrors do: it passes
// requests on, counts what was asked and what it sent, and misbehaves as it was
// told to.
type Mirror struct {
	cfg    MirrorConfig
	listen net.Listener
	server *http.Server
	gone   chan struct{}
	once   sync.Once
	served chan struct{} // the server has ended

	mu       sync.Mutex
	requests []*Request
	left     int64 // bytes of the fault's blob until the mirror dies
}

// Request is one that a mirror was asked.
type Request struct {
	Path  string
	Range string // as it was asked for; "": the whole
	Sent  int64  // bytes of the answer's body
}

// NewMirror starts a mirror on a free port of this machine's loopback interface.
func NewMirror(cfg MirrorConfig) (*Mirror, error) {
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a mirror: %w", err)
	}
	m := &Mirror{cfg: cfg, listen: listen, gone: make(chan struct{}), served: make(chan struct{}), left: cfg.DiesAfter}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{
		Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Backend)),
	})
	proxy.ModifyResponse = m.pass
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	m.server = &http.Server{Handler: proxy}
	go func() {
		defer close(m.served)
		m.server.Serve(listen) // ends with Stop
	}()
	return m, nil
}

// Base is the mirror's URL as a guest reaches it.
func (m *Mirror) Base() string {
	return Ports{HTTP: m.listen.Addr().(*net.TCPAddr).Port}.Base()
}

// Gone is closed when the mirror has died or was stopped.
func (m *Mirror) Gone() <-chan struct{} { return m.gone }

// Stop closes the door and every open connection. It may be called again.
func (m *Mirror) Stop() {
	m.once.Do(func() {
		close(m.gone)
		m.listen.Close()
		m.server.Close()
	})
	<-m.served
}

// Requests are those made so far, in their order.
func (m *Mirror) Requests() []Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Request, len(m.requests))
	for i, r := range m.requests {
		out[i] = *r
	}
	return out
}

// Forget begins to count anew.
func (m *Mirror) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests = nil
}

// Sent is how many bytes of a blob were sent in all.
func (m *Mirror) Sent(d blob.Digest) (n int64) {
	for _, r := range m.Requests() {
		if strings.HasSuffix(r.Path, blobName(d)) {
			n += r.Sent
		}
	}
	return n
}

// Asked are the paths that were asked for, each once, in order of the alphabet.
func (m *Mirror) Asked() []string {
	var paths []string
	for _, r := range m.Requests() {
		paths = append(paths, r.Path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func blobName(d blob.Digest) string { return "/blobs/" + d.Hex()[:2] + "/" + d.Hex() + ".bin" }

// pass takes note of an answer and puts the faults into its body.
func (m *Mirror) pass(r *http.Response) error {
	request := &Request{Path: r.Request.URL.Path, Range: r.Request.Header.Get("Range")}
	m.mu.Lock()
	m.requests = append(m.requests, request)
	m.mu.Unlock()
	faulty := !m.cfg.Fault.IsZero() && strings.HasSuffix(request.Path, blobName(m.cfg.Fault))
	r.Body = &mirrored{ReadCloser: r.Body, mirror: m, request: request, faulty: faulty, at: offset(r)}
	return nil
}

// offset is where in the file an answer begins.
func offset(r *http.Response) int64 {
	text, _ := strings.CutPrefix(r.Header.Get("Content-Range"), "bytes ")
	text, _, _ = strings.Cut(text, "-")
	at, _ := strconv.ParseInt(text, 10, 64) // 0 for the whole
	return at
}

// mirrored is the body of an answer on its way.
type mirrored struct {
	io.ReadCloser
	mirror  *Mirror
	request *Request
	faulty  bool
	at      int64 // of the next byte in the file
	due     time.Time
}

// errDied ends the bodies of a mirror that died.
var errDied = fmt.Errorf("the mirror died: %w", io.ErrUnexpectedEOF)

// Read implements io.Reader.
func (b *mirrored) Read(p []byte) (int, error) {
	m := b.mirror
	if b.faulty {
		if p = m.allow(p); len(p) == 0 {
			return 0, errDied
		}
		b.pace(len(p))
	}
	n, err := b.ReadCloser.Read(p)
	if b.faulty && m.cfg.Lies {
		for i := range p[:n] {
			if (b.at+int64(i))%blob.ChunkSize == 0 {
				p[i] ^= 1
			}
		}
	}
	b.at += int64(n)
	m.mu.Lock()
	defer m.mu.Unlock()
	b.request.Sent += int64(n)
	if b.faulty {
		m.left -= int64(n)
	}
	return n, err
}

// allow is as much of p as the mirror may still fill, nothing once it has died.
func (m *Mirror) allow(p []byte) []byte {
	if m.cfg.DiesAfter == 0 {
		return p
	}
	m.mu.Lock()
	left := m.left
	m.mu.Unlock()
	if left > 0 {
		return p[:min(int64(len(p)), left)]
	}
	m.die()
	return nil
}

// die is called by each connection that finds nothing left, and waits for the end.
func (m *Mirror) die() {
	m.once.Do(func() {
		if m.cfg.LastRites != nil {
			m.cfg.LastRites()
		}
		close(m.gone)
		m.listen.Close()
		go m.server.Close() // it would wait for this handler
	})
}

// pace waits until n further bytes are due.
func (b *mirrored) pace(n int) {
	if b.mirror.cfg.Rate <= 0 {
		return
	}
	if now := time.Now(); b.due.Before(now) {
		b.due = now
	}
	b.due = b.due.Add(time.Duration(n) * time.Second / time.Duration(b.mirror.cfg.Rate))
	timer := time.NewTimer(time.Until(b.due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.mirror.gone:
	}
}
