package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
)

// large is the artifact of these tests: its last chunk is shorter.
var large = unlessChild(20*blob.ChunkSize + 12345)

// unlessChild is content, which the children of TestKilled need not make.
func unlessChild(size int) []byte {
	if os.Getenv(crashDir) != "" {
		return nil
	}
	return content(size)
}

// listOf is the chunk list of data.
func listOf(t testing.TB, data []byte) blob.Chunks {
	t.Helper()
	list, _, _, err := blob.ChunksOf(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// chunkedJob is a job for data with a chunk list, which has a source of its own.
func chunkedJob(t testing.TB, data []byte, urls ...string) job {
	t.Helper()
	j := jobFor(data, urls...)
	list := listOf(t, data).Bytes()
	j.chunks = blob.Of(list)
	j.bases = []string{serve(t, blobs(list))}
	return j
}

// blobs serves each of some blobs under its address.
func blobs(all ...[]byte) http.HandlerFunc {
	var mux http.ServeMux
	for _, data := range all {
		mux.HandleFunc("/blobs/{folder}/"+blob.Of(data).Hex()+".bin", honest(data))
	}
	return mux.ServeHTTP
}

// requests counts how many bytes of each chunk were asked for.
type requests struct {
	mu     sync.Mutex
	chunks map[int]int
}

func (q *requests) counted(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n == 2 {
			q.mu.Lock()
			if q.chunks == nil {
				q.chunks = map[int]int{}
			}
			for i := from / blob.ChunkSize; i <= to/blob.ChunkSize; i++ {
				q.chunks[i]++
			}
			q.mu.Unlock()
		}
		h(w, r)
	}
}

func (q *requests) all() map[int]int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.chunks
}

// reported is where a Fetcher's reports go.
func reported(f *Fetcher) *Report {
	last := new(Report)
	f.Report = func(r Report) {
		if r.Name == "kernel" {
			*last = r
		}
	}
	return last
}

func (r *Report) of(source string) SourceReport {
	for _, s := range r.Sources {
		if s.Source == source {
			return s
		}
	}
	return SourceReport{}
}

func TestSwarmFromOneAndFromMany(t *testing.T) {
	for n := 1; n <= 6; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var urls []string
			for range n {
				urls = append(urls, serve(t, honest(large)))
			}
			f := quick(t)
			r := reported(f)
			mustFile(t, f, chunkedJob(t, large, urls...), large)
			var sum int64
			for _, s := range r.Sources {
				sum += s.Bytes
				if s.Verdict != "good" && s.Verdict != "unused" {
					t.Errorf("%+v", s)
				}
			}
			if sum != int64(len(large)) || r.Size != sum || r.Error != "" || r.Kept != 0 || len(r.Sources) != n {
				t.Errorf("%d bytes are accounted for, %d fetched: %+v", sum, len(large), *r)
			}
		})
	}
}

func TestSizesAroundTheChunk(t *testing.T) {
	for _, size := range []int{blob.ChunkSize + 1, 2*blob.ChunkSize - 1, 2 * blob.ChunkSize, 2*blob.ChunkSize + 1, 5 * blob.ChunkSize} {
		data := content(size)
		mustFile(t, quick(t), chunkedJob(t, data, serve(t, honest(data))), data)
	}
}

// damaged is large with one bit of one chunk flipped.
func damaged(chunk int) []byte {
	b := bytes.Clone(large)
	b[chunk*blob.ChunkSize+4711] ^= 4
	return b
}

// TestHostileChunks: each bad source alone gives a typed error, and beside an
// honest one it does no harm.
func TestHostileChunks(t *testing.T) {
	size := len(large)
	wanted := func(w http.ResponseWriter, r *http.Request) { // promises what was asked for
		w.Header().Set("Content-Range", strings.Replace(r.Header.Get("Range"), "=", " ", 1)+fmt.Sprintf("/%d", size))
	}
	ranged := func(contentRange string, n int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			wanted(w, r)
			if contentRange != "" {
				w.Header().Set("Content-Range", contentRange)
			}
			w.Header().Set("Content-Length", fmt.Sprint(n))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(large[:n])
		}
	}
	for _, c := range []struct {
		name     string
		h        http.HandlerFunc
		want     error
		mismatch bool
	}{
		{"drip", func(w http.ResponseWriter, r *http.Request) {
			wanted(w, r)
			w.WriteHeader(http.StatusPartialContent)
			for i := 0; i < size && r.Context().Err() == nil; i++ {
				w.Write(large[i : i+1])
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}, ErrSlow, false},
		{"no headers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrStalled, false},
		{"stall after headers", func(w http.ResponseWriter, r *http.Request) {
			wanted(w, r)
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, ErrStalled, false},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			wanted(w, r)
			w.WriteHeader(http.StatusPartialContent)
			for r.Context().Err() == nil {
				if _, err := w.Write(large); err != nil {
					return
				}
			}
		}, nil, true},
		{"range of another length", ranged(fmt.Sprintf("bytes 0-99/%d", size), 100), ErrRange, false},
		{"lying length", ranged("", 10), ErrRange, false},
		{"other total", ranged(fmt.Sprintf("bytes 0-%d/%d", newSpan*blob.ChunkSize-1, size+1), newSpan*blob.ChunkSize), ErrRange, false},
		{"multipart", func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Range", "bytes=0-99,200-299")
			honest(large)(w, r)
		}, ErrRange, false},
		{"416", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }, ErrRange, false},
		{"gzip", func(w http.ResponseWriter, r *http.Request) {
			wanted(w, r)
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(http.StatusPartialContent)
		}, ErrEncoded, false},
		{"portal", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html><form>Accept the terms")
		}, ErrWebPage, false},
		{"portal without a length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.(http.Flusher).Flush()
			io.WriteString(w, "<html><form>Accept the terms")
		}, ErrWebPage, false},
		{"closes at once", raw("", nil), io.EOF, false},
		{"sends less", func(w http.ResponseWriter, r *http.Request) {
			wanted(w, r)
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush()
			w.Write(large[:1000])
		}, ErrShort, false},
		{"redirect loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, ErrRedirect, false},
		{"redirect to a file", redirect("file:///etc/passwd"), ErrRedirect, false},
		{"redirect to metadata", redirect("http://169.254.169.254/latest"), ErrRedirect, false},
		{"absent", http.NotFound, new(StatusError), false},
		{"another file", honest(large[:len(large)-1]), ErrRange, false},
		{"one flipped bit", honest(damaged(0)), nil, true},
		{"one flipped bit at the end", honest(damaged(20)), nil, true},
		{"noise", honest(bytes.Repeat([]byte("noise"), size/5+1)[:size]), nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, c.h)
			_, err := patient(t, c.want).file(context.Background(), chunkedJob(t, large, url))
			checkFailure(t, err, c.want, c.mismatch)
			f := quick(t) // others are faster than its patience
			r := reported(f)
			mustFile(t, f, chunkedJob(t, large, url, serve(t, honest(large))), large)
			if got := r.of(url); c.mismatch && got.Verdict != "wrong bytes" && got.Bytes == 0 && got.Verdict != "unused" {
				t.Errorf("verdict %+v", got)
			}
		})
	}
}

func checkFailure(t *testing.T, err, want error, mismatch bool) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %T %v, want *Error", err, err)
	}
	if e.Mismatch != mismatch || isMismatch(err) != mismatch {
		t.Errorf("mismatch is %v, want %v: %v%s", e.Mismatch, mismatch, err, attempts(err))
	}
	var status *StatusError
	switch {
	case mismatch:
		if e.Error() != "Artifact kernel hash mismatch (expected "+e.Want.String()+")" || e.Code() != "FETCH-002" || len(e.Attempts) != 1 {
			t.Errorf("headline %q, code %s%s", e, e.Code(), attempts(err))
		}
		return
	case errors.As(want, &status) && errors.As(err, &status):
	case !errors.Is(err, want):
		t.Errorf("want %v%s", want, attempts(err))
	}
	if e.Error() != "Failed to fetch kernel after 3 retries" || e.Code() != "FETCH-001" || len(e.Attempts) < 3 || e.Hint() == "" {
		t.Errorf("headline %q, code %s%s", e, e.Code(), attempts(err))
	}
}

func TestStallNearTheEnd(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
		if to < len(large)-1 {
			honest(large)(w, r)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(large)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(large[from : to-100])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	_, err := impatient(t).file(context.Background(), chunkedJob(t, large, url))
	checkFailure(t, err, ErrStalled, false)
}

// TestOnlyTheLiarsChunksAreAskedAgain: what a liar gave rightly stays.
func TestOnlyTheLiarsChunksAreAskedAgain(t *testing.T) {
	var asked requests
	var lied atomic.Bool
	bad := damaged(2)
	liar := serve(t, func(w http.ResponseWriter, r *http.Request) {
		lied.Store(true)
		honest(bad)(w, r)
	})
	good := &gated{open: &lied}
	f := quick(t)
	r := reported(f)
	j := chunkedJob(t, large, liar)
	j.sources = []Source{good}
	good.Source = NewHTTP(f.Client, serve(t, asked.counted(honest(large))))
	mustFile(t, f, j, large)
	if got := r.of(liar); got.Verdict != "wrong bytes" {
		t.Errorf("liar: %+v", got)
	} else if got.Bytes+r.of(good.String()).Bytes != int64(len(large)) {
		t.Errorf("%+v", r.Sources)
	}
}

// gated is a source that is slow to begin until something has happened.
type gated struct {
	Source
	open *atomic.Bool
}

func (g *gated) Read(ctx context.Context, p Part, w io.Writer) error {
	for !g.open.Load() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	return g.Source.Read(ctx, p, w)
}

func TestAllLiars(t *testing.T) {
	var urls []string
	for i := range 5 {
		urls = append(urls, serve(t, honest(damaged(i))))
	}
	f := quick(t)
	// Together five liars have every chunk right, which is enough.
	mustFile(t, f, chunkedJob(t, large, append(urls, serve(t, honest(large)))...), large)
	var same []string
	for range 5 {
		same = append(same, serve(t, honest(damaged(7))))
	}
	_, err := f.file(context.Background(), chunkedJob(t, large, same...))
	var e *Error
	if !errors.As(err, &e) || !e.Mismatch || len(e.Attempts) != 5 {
		t.Errorf("%v%s", err, attempts(err))
	}
}

func TestServerWithoutRanges(t *testing.T) {
	var hits atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		r.Header.Del("Range")
		honest(large)(w, r)
	})
	mustFile(t, quick(t), chunkedJob(t, large, url), large)
	if hits.Load() > 4 {
		t.Errorf("%d requests", hits.Load())
	}
	mustFile(t, quick(t), chunkedJob(t, large, url, serve(t, honest(large))), large)
}

func TestFileChangesMeanwhile(t *testing.T) {
	other := content(len(large) + 1)
	var n atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 3 { // and changes back
			honest(other)(w, r)
			return
		}
		honest(large)(w, r)
	})
	f := quick(t)
	r := reported(f)
	mustFile(t, f, chunkedJob(t, large, url), large)
	if r.of(url).Bytes != int64(len(large)) {
		t.Errorf("%+v", r)
	}
}

func TestComesBack(t *testing.T) {
	var n atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if i := n.Add(1); i == 2 || i == 3 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		honest(large)(w, r)
	})
	mustFile(t, quick(t), chunkedJob(t, large, url), large)
}

func TestRetryAfterIsBounded(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "3": 3 * time.Second, "99999": 0, "60000": maxRest, "-1": 0, "Fri, 31 Dec 1999 23:59:59 GMT": 0, "1e9": 0} {
		if got := retryAfter(http.Header{"Retry-After": {text}}); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

// finder finds one source when its time has come.
type finder struct {
	when <-chan struct{}
	src  Source
}

func (f *finder) Find(ctx context.Context, _ blob.Digest, found func(Source)) error {
	select {
	case <-f.when:
		found(f.src)
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

func TestSourceDiesAndAnotherIsFound(t *testing.T) {
	dead := make(chan struct{})
	var once sync.Once
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
		if to >= len(large)*6/10 {
			once.Do(func() { close(dead) })
			panic(http.ErrAbortHandler)
		}
		honest(large)(w, r)
	})
	f := quick(t)
	r := reported(f)
	j := chunkedJob(t, large, url)
	second := serve(t, honest(large))
	j.finders = []Finder{&finder{dead, NewHTTP(f.Client, second)}}
	mustFile(t, f, j, large)
	if first, then := r.of(url).Bytes, r.of(second).Bytes; first == 0 || then == 0 || first+then != int64(len(large)) {
		t.Errorf("%d and %d bytes", first, then)
	}
}

func TestNobodyIsFound(t *testing.T) {
	f := impatient(t)
	j := chunkedJob(t, large)
	j.finders = []Finder{&finder{nil, nil}}
	_, err := f.file(context.Background(), j)
	var e *Error
	if !errors.As(err, &e) || e.Code() != "FETCH-003" {
		t.Errorf("%v", err)
	}
}

// TestFloodOfSources: a crowd of useless ones is forgotten bit by bit, and keeps
// nobody out who comes after them.
func TestFloodOfSources(t *testing.T) {
	f := quick(t)
	f.Patience = 10 * time.Second
	j := chunkedJob(t, large)
	last := NewHTTP(f.Client, serve(t, honest(large)))
	j.finders = []Finder{flood{5 * maxPeers, last}}
	r := reported(f)
	mustFile(t, f, j, large)
	if len(r.Sources) > maxPeers || r.of(last.String()).Bytes == 0 {
		t.Errorf("%d sources are remembered: %+v", len(r.Sources), r.of(last.String()))
	}
}

// flood finds many sources that have nothing, and one behind them again and again.
type flood struct {
	n    int
	last Source
}

func (f flood) Find(ctx context.Context, _ blob.Digest, found func(Source)) error {
	for i := range f.n {
		found(nil)
		found(empty(fmt.Sprint(i)))
	}
	for ctx.Err() == nil {
		found(f.last)
		time.Sleep(time.Millisecond)
	}
	return nil
}

// TestRoomForNewcomers: only those who were found and failed make room, and
// nobody is met twice, least of all a liar.
func TestRoomForNewcomers(t *testing.T) {
	r := &roster{f: quick(t), log: slog.New(slog.DiscardHandler), retries: 3}
	given := r.add(empty("given"))
	r.failed(given, ErrAbsent, 0)
	for i := range maxNames + 99 {
		r.meet(empty(fmt.Sprint(i)))
		for _, p := range r.peers {
			if p.failures == 0 {
				r.failed(p, &blob.MismatchError{}, 0)
			}
		}
	}
	r.meet(empty("0"))
	if len(r.peers) != maxPeers || r.peers[0] != given || len(r.names) > maxNames || slices.ContainsFunc(r.peers, func(p *peer) bool { return p.name == "0" }) {
		t.Errorf("%d peers, %d names", len(r.peers), len(r.names))
	}
	if e := r.failure(context.Background(), job{}); !e.Mismatch {
		t.Error("the liars who were forgotten do not count")
	}
}

// TestCrowdOfSlowSources: they cannot take all connections for long.
func TestCrowdOfSlowSources(t *testing.T) {
	t.Parallel()
	drip := func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(large)))
		w.WriteHeader(http.StatusPartialContent)
		for i := from; i < to && r.Context().Err() == nil; i += 100 {
			w.Write(large[i : i+100])
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}
	f := quick(t)
	f.Stall, f.MinRate, f.Timeout = 2*time.Second, -1, time.Hour
	var urls []string
	for range 2 * f.conns() {
		urls = append(urls, serve(t, drip))
	}
	good := serve(t, honest(large))
	r := reported(f)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // they would need days
	defer cancel()
	file, err := f.file(ctx, chunkedJob(t, large, append(urls, good)...))
	if err != nil {
		t.Fatal(err, attempts(err))
	}
	file.Close()
	if got := r.of(good).Bytes; got != int64(len(large)) {
		t.Errorf("%d bytes are from the good one", got)
	}
}

func TestFoundBeyondTheLocalNetwork(t *testing.T) {
	t.Parallel()
	f := quick(t)
	f.LocalOnly, f.Patience = true, 500*time.Millisecond
	j := chunkedJob(t, large)
	now := make(chan struct{})
	close(now)
	// Its client would go anywhere, also when it is redirected.
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "127.") {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		t.Errorf("dials %s", addr)
		return nil, errAny
	}}}
	t.Cleanup(client.CloseIdleConnections)
	for _, u := range []string{remoteURLs[0], serve(t, redirect(remoteURLs[0]))} {
		j.finders = []Finder{&finder{now, NewHTTP(client, u)}}
		_, err := f.file(context.Background(), j)
		var e *Error
		if !errors.As(err, &e) || len(e.Attempts) > 0 && !errors.Is(err, ErrNotLocal) {
			t.Errorf("%s: %v%s", u, err, attempts(err))
		}
	}
}

// crowded is a target on a disk that is full as long as the cache's copy is there.
type crowded struct {
	*memFile
	store *store.Store
}

func (c crowded) WriteAt(p []byte, off int64) (int, error) {
	parts, err := c.store.Partials()
	if off >= 5*blob.ChunkSize && (err != nil || len(parts) > 0) {
		return 0, syscall.ENOSPC
	}
	return c.memFile.WriteAt(p, off)
}

// TestCopyMakesRoom: the cache gives way to what was asked for.
func TestCopyMakesRoom(t *testing.T) {
	for name, j := range map[string]job{"one at a time": jobFor(large), "chunks": chunkedJob(t, large)} {
		t.Run(name, func(t *testing.T) {
			f := quick(t)
			f.Store = openStore(t)
			j.urls = []string{serve(t, honest(large))}
			if err := f.fetch(context.Background(), j, crowded{inMemory(t), f.Store}); err != nil {
				t.Fatal(err)
			}
			if parts, _ := f.Store.Partials(); len(parts) > 0 || f.Store.Has(j.digest) {
				t.Error("the copy is still there")
			}
		})
	}
}

type empty string

func (e empty) String() string                                  { return string(e) }
func (empty) Read(_ context.Context, _ Part, _ io.Writer) error { return ErrAbsent }

// TestSlowSourceIsHelped: the rest of a slow one's span goes to a fast one, and
// in the end its last chunk as well.
func TestSlowSourceIsHelped(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(large)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(large[from : from+1000])
		w.(http.Flusher).Flush()
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	f := quick(t)
	f.Stall = time.Hour
	f.Timeout = time.Hour
	r := reported(f)
	fast := serve(t, honest(large))
	mustFile(t, f, chunkedJob(t, large, slow, fast), large)
	if got := r.of(fast).Bytes; got != int64(len(large)) {
		t.Errorf("%d bytes are from the fast one", got)
	}
}

// lastly is a source of last resort.
type lastly struct {
	Source
	asked atomic.Int32
}

func (*lastly) LastResort() bool { return true }
func (l *lastly) Read(ctx context.Context, p Part, w io.Writer) error {
	l.asked.Add(1)
	return l.Source.Read(ctx, p, w)
}

func TestLastResort(t *testing.T) {
	f := quick(t)
	l := &lastly{Source: NewHTTP(f.Client, serve(t, honest(large)))}
	j := chunkedJob(t, large, serve(t, honest(large)))
	j.sources = []Source{l}
	mustFile(t, f, j, large)
	if n := l.asked.Load(); n > 0 {
		t.Errorf("asked %d times though another gave all", n)
	}
	j = chunkedJob(t, large, serve(t, http.NotFound))
	j.sources = []Source{l}
	mustFile(t, f, j, large)
	j = jobFor(large, serve(t, http.NotFound)) // without a list as well
	j.sources = []Source{l}
	mustFile(t, f, j, large)
}

func TestChunkListFaults(t *testing.T) {
	t.Parallel()
	list := listOf(t, large).Bytes()
	wrong := slices.Clone(list)
	wrong[5] ^= 1
	for name, h := range map[string]http.HandlerFunc{
		"withheld":     http.NotFound,
		"wrong digest": honest(wrong),
		"too short":    honest(list[:len(list)-32]),
		"too long":     honest(append(slices.Clone(list), list[:32]...)),
		"stalls":       func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			var asked requests
			j := jobFor(large, serve(t, asked.counted(honest(large))))
			j.chunks, j.bases = blob.Of(list), []string{serve(t, h)}
			f := quick(t)
			f.Stall = time.Second
			mustFile(t, f, j, large)
			if len(asked.all()) > 0 {
				t.Error("chunks were asked for without a list")
			}
			// Beside an honest one it costs nothing.
			j.bases = append(j.bases, serve(t, blobs(list)))
			mustFile(t, quick(t), j, large)
			if len(asked.all()) == 0 {
				t.Error("the list was not used")
			}
		})
	}
}

// TestPublishersListIsWrong: it is signed and does not fit the artifact.
func TestPublishersListIsWrong(t *testing.T) {
	bad := damaged(3)
	list := listOf(t, bad).Bytes()
	j := jobFor(large, serve(t, honest(bad)))
	j.chunks, j.bases = blob.Of(list), []string{serve(t, blobs(list))}
	f := quick(t)
	r := reported(f)
	_, err := f.file(context.Background(), j)
	var e *ListError
	if !errors.As(err, &e) || e.Code() != "FETCH-006" || e.Hint() == "" || e.Want != blob.Of(large) || e.Got != blob.Of(bad) {
		t.Errorf("%v", err)
	}
	if len(r.Sources) != 1 || r.Sources[0].Verdict != "good" || r.Error == "" {
		t.Errorf("the source is blamed: %+v", r)
	}
}

// forgetful gives back other bytes than were written.
type forgetful struct{ *memFile }

func (f forgetful) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.memFile.ReadAt(p, off)
	if off == 0 && n > 0 {
		p[0] ^= 1
	}
	return n, err
}

func TestTargetForgets(t *testing.T) {
	err := quick(t).fetch(context.Background(), chunkedJob(t, large, serve(t, honest(large))), forgetful{inMemory(t)})
	var local *LocalError
	if !errors.As(err, &local) {
		t.Errorf("%v", err)
	}
}

func TestDiskFullHalfWay(t *testing.T) {
	var hits atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { hits.Add(1); honest(large)(w, r) })
	err := quick(t).fetch(context.Background(), chunkedJob(t, large, url, url+"/2"), &fullSink{inMemory(t), int64(len(large) / 2)})
	var local *LocalError
	if !errors.As(err, &local) || !strings.Contains(local.Hint(), "Make room") {
		t.Fatalf("got %v, want a LocalError", err)
	}
}

func TestMoreThanTheMemory(t *testing.T) {
	j := jobFor(large, serve(t, func(http.ResponseWriter, *http.Request) { t.Error("was asked") }))
	j.size = 1 << 60
	_, err := quick(t).file(context.Background(), j)
	var local *LocalError
	if !errors.As(err, &local) || !strings.Contains(err.Error(), "MiB of memory") {
		t.Errorf("%v", err)
	}
}

func TestProgressGrows(t *testing.T) {
	var calls []Progress
	f := quick(t)
	f.Progress = func(p Progress) { calls = append(calls, p) }
	liar := serve(t, honest(damaged(1)))
	mustFile(t, f, chunkedJob(t, large, liar, serve(t, honest(large))), large)
	for i := 1; i < len(calls); i++ {
		if calls[i].Done < calls[i-1].Done {
			t.Errorf("fell from %+v to %+v", calls[i-1], calls[i])
		}
	}
	if last := calls[len(calls)-1]; last.Done != int64(len(large)) || last.Total != last.Done || last.Sources != 0 {
		t.Errorf("last report %+v", last)
	}
}
