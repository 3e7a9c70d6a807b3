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

// A Fault is how a mirror misbehaves. The zero value is none.
type Fault struct {
	Blob blob.Digest // that all of the following are about, but for Absent
	// After is how many bytes of it the mirror sends, to everybody and in all,
	// before it calls Then, once. Nobody gets another byte of it meanwhile.
	After int64
	Then  func(*Mirror)
	// Lies changes a byte in each MiB of it.
	Lies bool
	// Rate is how many bytes of it one connection gets in a second; 0: as many as
	// it can take.
	Rate int64
	// Absent answers every request with 404.
	Absent bool
}

// A Mirror stands between machines and a provider, as mirrors do: it passes
// requests on, counts what was asked and what it sent, and misbehaves as it was
// told to.
type Mirror struct {
	listen net.Listener
	server *http.Server
	gone   chan struct{}
	once   sync.Once
	served chan struct{} // the server has ended

	mu       sync.Mutex
	fault    *fault
	requests []*Request
}

// fault is a Fault that happens.
type fault struct {
	Fault
	left int64     // bytes until Then
	once sync.Once // of Then
}

// Request is one that a mirror was asked.
type Request struct {
	Path  string
	Range string // as it was asked for; "": the whole
	Sent  int64  // bytes of the answer's body
}

// NewMirror starts a mirror of the provider at a port of this machine, on another
// one, both of the loopback interface.
func NewMirror(provider int) (*Mirror, error) {
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a mirror: %w", err)
	}
	m := &Mirror{listen: listen, gone: make(chan struct{}), served: make(chan struct{}), fault: &fault{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{
		Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(provider)),
	})
	proxy.ModifyResponse = m.pass
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	m.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.now().Absent {
			http.NotFound(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() {
		defer close(m.served)
		m.server.Serve(listen) // ends with Stop or Die
	}()
	return m, nil
}

// Misbehave makes the mirror misbehave so from the next request on.
func (m *Mirror) Misbehave(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = &fault{Fault: f, left: f.After}
}

func (m *Mirror) now() *fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault
}

// Base is the mirror's URL as a guest reaches it.
func (m *Mirror) Base() string {
	return Ports{HTTP: m.listen.Addr().(*net.TCPAddr).Port}.Base()
}

// Gone is closed when the mirror has died or was stopped.
func (m *Mirror) Gone() <-chan struct{} { return m.gone }

// Die closes the door and cuts every connection. It may be called from Then.
func (m *Mirror) Die() {
	m.once.Do(func() {
		close(m.gone)
		m.listen.Close()
		m.server.Close()
	})
}

// Stop is Die, and waits until nothing is served any more.
func (m *Mirror) Stop() {
	m.Die()
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
	defer m.mu.Unlock()
	m.requests = append(m.requests, request)
	body := &mirrored{ReadCloser: r.Body, mirror: m, request: request, at: offset(r)}
	if f := m.fault; !f.Blob.IsZero() && strings.HasSuffix(request.Path, blobName(f.Blob)) {
		body.fault = f
	}
	r.Body = body
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
	fault   *fault // nil: none
	at      int64  // of the next byte in the file
	due     time.Time
}

// errDied ends the bodies of a mirror that died.
var errDied = fmt.Errorf("the mirror died: %w", io.ErrUnexpectedEOF)

// Read implements io.Reader.
func (b *mirrored) Read(p []byte) (int, error) {
	m, f := b.mirror, b.fault
	if f != nil {
		p = f.allow(m, p)
		b.pace(len(p))
		select {
		case <-m.gone:
			return 0, errDied
		default:
		}
	}
	n, err := b.ReadCloser.Read(p)
	if f != nil && f.Lies {
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
	if f != nil {
		f.left -= int64(n)
	}
	return n, err
}

// allow is as much of p as may be filled now.
func (f *fault) allow(m *Mirror, p []byte) []byte {
	if f.Then == nil {
		return p
	}
	m.mu.Lock()
	left := f.left
	m.mu.Unlock()
	if left > 0 {
		return p[:min(int64(len(p)), left)]
	}
	f.once.Do(func() { f.Then(m) }) // the others wait here
	return p
}

// pace waits until n further bytes are due.
func (b *mirrored) pace(n int) {
	if b.fault.Rate <= 0 {
		return
	}
	if now := time.Now(); b.due.Before(now) {
		b.due = now
	}
	b.due = b.due.Add(time.Duration(n) * time.Second / time.Duration(b.fault.Rate))
	timer := time.NewTimer(time.Until(b.due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.mirror.gone:
	}
}
