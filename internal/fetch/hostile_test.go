package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

// body is the artifact of these tests: more than one buffer, and more than can
// be checked without a chunk list before its end.
var body = unlessChild(blob.ChunkSize + bufferSize + 50_000)

func gzipped(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	z.Write(body)
	z.Close()
}

// raw answers with exact bytes of HTTP/1.1 and closes the connection.
func raw(head string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		rw.WriteString(head)
		rw.Write(data)
		rw.Flush()
	}
}

// after sends n bytes of a proper answer and then hangs.
func after(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.WriteHeader(http.StatusOK)
		w.Write(body[:n])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func drip(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	for i := 0; i < len(body) && r.Context().Err() == nil; i++ {
		w.Write(body[i : i+1])
		w.(http.Flusher).Flush()
		time.Sleep(10 * time.Millisecond)
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	for r.Context().Err() == nil {
		if _, err := w.Write(body); err != nil {
			return
		}
	}
}

func flipped() []byte {
	b := bytes.Clone(body)
	b[len(b)-1] ^= 0x80
	return b
}

// TestHostileSources: each bad source alone gives a typed error in bounded
// time, and beside an honest one it does no harm.
func TestHostileSources(t *testing.T) {
	for _, c := range []struct {
		name     string
		h        http.HandlerFunc
		want     error // in some attempt; nil: a mismatch
		mismatch bool  // headline
	}{
		{"drip", drip, ErrSlow, false},
		{"no headers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrStalled, false},
		{"stall after headers", after(0), ErrStalled, false},
		{"stall at 99 %", after(len(body) * 99 / 100), ErrStalled, false},
		{"endless", endless, nil, true},
		{"one byte more, chunked", raw("HTTP/1.1 200 OK\r\n\r\n", append(bytes.Clone(body), 'x')), nil, true},
		{"states less", raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", body[:10]), nil, true},
		{"states more", raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)+1), body), nil, true},
		{"states right, sends less", raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)), body[:1000]), ErrShort, false},
		{"sends less without length", raw("HTTP/1.1 200 OK\r\n\r\n", body[:1000]), ErrShort, false},
		{"sends nothing", raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)), nil), ErrShort, false},
		{"closes at once", raw("", nil), io.EOF, false},
		{"right size, wrong hash", honest(flipped()), nil, true},
		{"gzip", gzipped, ErrEncoded, false},
		{"portal", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "<html><form>Accept the terms")
		}, ErrWebPage, false},
		{"206 unasked", raw(fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n", len(body)-1, len(body), len(body)), body), new(StatusError), false},
		{"304 unasked", raw("HTTP/1.1 304 Not Modified\r\n\r\n", nil), new(StatusError), false},
		{"redirect loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, ErrRedirect, false},
		{"redirect to a file", redirect("file:///etc/passwd"), ErrRedirect, false},
		{"redirect to metadata", redirect("http://169.254.169.254/latest"), ErrRedirect, false},
		{"redirect to IPv6 link-local", redirect("http://[fe80::1%25eth0]/"), ErrRedirect, false},
		{"redirect to mapped link-local", redirect("http://[::ffff:169.254.1.1]/"), ErrRedirect, false},
		{"redirect with password", redirect("http://u:p@127.0.0.1/"), ErrRedirect, false},
		{"huge headers", raw("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n", nil), errAny, false},
		{"not HTTP", raw("SSH-2.0-OpenSSH_9.2\r\n", nil), errAny, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, c.h)
			_, err := patient(t, c.want).file(context.Background(), jobFor(body, url))
			checkHostile(t, err, c.want, c.mismatch)
			f := quick(t)
			if c.want == ErrStalled || c.want == ErrSlow {
				f.Stall = 3 * time.Second // it is asked first, and has to be given up
			}
			mustFile(t, f, jobFor(body, url, serve(t, honest(body))), body)
		})
	}
}

// errAny stands for an error of net/http that has no type to match.
var errAny = errors.New("any")

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

func checkHostile(t *testing.T, err, want error, mismatch bool) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %T %v, want *Error", err, err)
	}
	if len(e.Attempts) == 0 || e.Hint() == "" {
		t.Error("no attempts or no hint")
	}
	if e.Mismatch != mismatch || isMismatch(err) != mismatch {
		t.Errorf("mismatch is %v, want %v: %v%s", e.Mismatch, mismatch, err, attempts(err))
	}
	if mismatch {
		if e.Error() != "Artifact kernel hash mismatch (expected "+blob.Of(body).String()+")" || e.Code() != "FETCH-002" {
			t.Errorf("headline %q, code %s", e, e.Code())
		}
		if len(e.Attempts) != 1 {
			t.Errorf("a source that lied was asked again%s", attempts(err))
		}
		return
	}
	if e.Error() != "Failed to fetch kernel after 3 retries" || e.Code() != "FETCH-001" || len(e.Attempts) != 3 {
		t.Errorf("headline %q, code %s%s", e, e.Code(), attempts(err))
	}
	var status *StatusError
	switch {
	case want == errAny:
	case errors.As(want, &status):
		if !errors.As(err, &status) {
			t.Errorf("want a StatusError%s", attempts(err))
		}
	case !errors.Is(err, want):
		t.Errorf("want %v%s", want, attempts(err))
	}
}

func TestEndlessBodyIsCutAtTheStatedSize(t *testing.T) {
	var sent atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		for r.Context().Err() == nil {
			n, err := w.Write(body)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	sink := &countingSink{}
	err := quick(t).fetch(context.Background(), jobFor(body, url), sink)
	if !isMismatch(err) {
		t.Errorf("got %v", err)
	}
	if sink.n > int64(len(body)) {
		t.Errorf("%d bytes were kept, the artifact has %d", sink.n, len(body))
	}
}

type countingSink struct {
	document
	n int64
}

func (s *countingSink) WriteAt(p []byte, off int64) (int, error) {
	s.n += int64(len(p))
	return s.document.WriteAt(p, off)
}

func TestMixedFaultsAreNotCalledAMismatch(t *testing.T) {
	t.Parallel()
	liar := serve(t, honest(flipped()))
	dead := serve(t, after(0))
	_, err := impatient(t).file(context.Background(), jobFor(body, liar, dead))
	var e *Error
	if !errors.As(err, &e) || e.Mismatch {
		t.Errorf("one source was merely slow: %v%s", err, attempts(err))
	}
	missing := serve(t, http.NotFound)
	_, err = quick(t).file(context.Background(), jobFor(body, missing, liar))
	if !errors.As(err, &e) || !e.Mismatch {
		t.Errorf("the only source that has it lied: %v%s", err, attempts(err))
	}
}

func TestNoSource(t *testing.T) {
	_, err := quick(t).file(context.Background(), jobFor(body))
	var e *Error
	if !errors.As(err, &e) || e.Code() != "FETCH-003" || e.Error() != "Failed to fetch kernel: no source is known" {
		t.Errorf("got %v", err)
	}
}

func TestCallerGivesUp(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{"stalled": after(1000), "backing off": http.NotFound} {
		t.Run(name, func(t *testing.T) {
			f := quick(t)
			f.Stall, f.Backoff = time.Minute, time.Minute
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_, err := f.file(ctx, jobFor(body, serve(t, h)))
			var e *Error
			if !errors.As(err, &e) || e.Code() != "FETCH-004" || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v%s", err, attempts(err))
			}
		})
	}
}

func TestTimeoutOfAnAttempt(t *testing.T) {
	f := quick(t)
	f.Timeout, f.Stall, f.MinRate, f.Retries = 100*time.Millisecond, time.Minute, -1, 1
	_, err := f.file(context.Background(), jobFor(body, serve(t, drip)))
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v%s", err, attempts(err))
	}
}

func TestSlowConsumerIsNotTheSourcesFault(t *testing.T) {
	t.Parallel()
	data := content(12 * bufferSize) // more than sockets buffer
	f := quick(t)
	f.Stall, f.Retries = 5*time.Second, 1
	if err := f.fetch(context.Background(), jobFor(data, serve(t, honest(data))), &slowSink{inMemory(t), f.Stall + f.Stall/10, 2}); err != nil {
		t.Errorf("%v%s", err, attempts(err))
	}
}

// slowSink blocks longer than the source may, some times.
type slowSink struct {
	*memFile
	pause time.Duration
	times int
}

func (s *slowSink) WriteAt(p []byte, off int64) (int, error) {
	if s.times--; s.times >= 0 {
		time.Sleep(s.pause)
	}
	return s.memFile.WriteAt(p, off)
}

func TestRedirectsFromTLS(t *testing.T) {
	plain := serve(t, honest(body))
	var to string
	tls := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/file" {
			honest(body)(w, r)
			return
		}
		http.Redirect(w, r, to, http.StatusFound)
	}))
	defer tls.Close()
	f := quick(t)
	f.Client = tls.Client()
	to = plain
	_, err := f.file(context.Background(), jobFor(body, tls.URL))
	if !errors.Is(err, ErrRedirect) {
		t.Errorf("https to http: %v%s", err, attempts(err))
	}
	to = "/file"
	mustFile(t, f, jobFor(body, tls.URL), body)
	// From http to https is allowed.
	mustFile(t, f, jobFor(body, serve(t, redirect(tls.URL+"/file"))), body)
	// A certificate of nobody we know is an error like others.
	_, err = quick(t).file(context.Background(), jobFor(body, tls.URL+"/file"))
	var e *Error
	if !errors.As(err, &e) || e.Mismatch {
		t.Errorf("unknown certificate: %v", err)
	}
}

func TestRedirectCount(t *testing.T) {
	hops := func(n int) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			if len(r.URL.Path) > n {
				honest(body)(w, r)
				return
			}
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		})
	}
	mustFile(t, quick(t), jobFor(body, hops(maxRedirects)), body)
	if _, err := quick(t).file(context.Background(), jobFor(body, hops(maxRedirects+1))); !errors.Is(err, ErrRedirect) {
		t.Errorf("six redirects: %v", err)
	}
}

func TestRedirectPolicy(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"http://a.example/x", "http://b.example/", true},
		{"http://a.example/x", "https://a.example/", true},
		{"https://a.example/x", "http://a.example/", false},
		{"http://a.example/x", "http://169.254.169.254/", false},
		{"http://a.example/x", "http://[fe80::1%25eth0]/", false},
		{"http://a.example/x", "http://[::ffff:169.254.1.1]/", false},
		{"http://a.example/x", "http://0.0.0.0/", false},
		{"http://a.example/x", "ftp://b.example/", false},
		{"http://a.example/x", "http://u@b.example/", false},
		{"http://169.254.7.7:8080/x", "http://169.254.7.7:8080/y", true}, // a LAN without DHCP
		{"http://169.254.7.7:8080/x", "http://169.254.7.8:8080/y", false},
	} {
		to, err := http.NewRequest("GET", c.to, nil)
		if err != nil {
			t.Fatal(err)
		}
		from, _ := http.NewRequest("GET", c.from, nil)
		err = checkRedirect(to, []*http.Request{from})
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrRedirect) {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}

func TestDialerRefusesRedirectedNames(t *testing.T) {
	ctx, way := withRoute(context.Background())
	if err := refuseRedirectedLinkLocal(ctx, "tcp", "169.254.1.1:80", nil); err != nil {
		t.Errorf("a neighbour asked directly: %v", err)
	}
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://evil.example/", nil)
	via, _ := http.NewRequestWithContext(ctx, "GET", "http://mirror.example/", nil)
	if err := checkRedirect(req, []*http.Request{via}); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"169.254.1.1:80", "[fe80::1%eth0]:80", "0.0.0.0:80", "[::]:80"} {
		if err := refuseRedirectedLinkLocal(ctx, "tcp", addr, nil); !errors.Is(err, ErrRedirect) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := refuseRedirectedLinkLocal(ctx, "tcp", "192.0.2.1:80", nil); err != nil {
		t.Errorf("ordinary address: %v", err)
	}
	way.proxied.Store(true)
	if err := refuseRedirectedLinkLocal(ctx, "tcp", "169.254.1.1:3128", nil); err != nil {
		t.Errorf("the proxy: %v", err)
	}
}
