package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/phasebased/phase/blob"
)

func TestBlob(t *testing.T) {
	t.Parallel()
	data := content(5000)
	var hits atomic.Int32
	busy := func(times int32) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if hits.Add(1) <= times {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			honest(data)(w, r)
		}
	}
	stalled := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for _, c := range []struct {
		name string
		from []http.HandlerFunc
		max  int64
		want error // nil: it comes
		code string
		hits int32
	}{
		{"honest", []http.HandlerFunc{honest(data)}, 5000, nil, "", 0},
		{"after absent ones", []http.HandlerFunc{http.NotFound, honest(data)}, 9000, nil, "", 0},
		{"after a liar", []http.HandlerFunc{honest(content(4999)), honest(data)}, 9000, nil, "", 0},
		{"busy, more often than failures are forgiven", []http.HandlerFunc{busy(2)}, 9000, nil, "", 3},
		{"too large", []http.HandlerFunc{honest(data)}, 4999, ErrTooLarge, "FETCH-001", 0},
		{"absent", []http.HandlerFunc{http.NotFound}, 9000, ErrAbsent, "FETCH-001", 0},
		{"stalls", []http.HandlerFunc{stalled}, 9000, ErrStalled, "FETCH-001", 0},
		{"liar", []http.HandlerFunc{http.NotFound, honest(content(4999))}, 9000, new(blob.MismatchError), "FETCH-002", 0},
		{"nobody", nil, 9000, nil, "FETCH-003", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			hits.Store(0)
			var urls []string
			for _, h := range c.from {
				urls = append(urls, serve(t, h))
			}
			f := quick(t)
			f.Retries = 2
			if c.want == ErrStalled {
				f = impatient(t)
			}
			got, err := f.Blob(context.Background(), "module", blob.Of(data), c.max, urls)
			if c.code == "" {
				if err != nil || !bytes.Equal(got, data) || hits.Load() != c.hits {
					t.Errorf("%d bytes, %v, %d requests%s", len(got), err, hits.Load(), attempts(err))
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Code() != c.code || got != nil || !strings.Contains(err.Error(), "module") {
				t.Fatalf("%v%s", err, attempts(err))
			}
			if isMismatch(c.want) != isMismatch(err) || c.want != nil && !isMismatch(err) && !errors.Is(err, c.want) {
				t.Errorf("want %v%s", c.want, attempts(err))
			}
		})
	}
	if _, err := quick(t).Blob(context.Background(), "module", blob.Digest{}, 10, nil); err == nil {
		t.Error("no digest was accepted")
	}
	f := quick(t)
	f.LocalOnly = true
	if _, err := f.Blob(context.Background(), "module", blob.Of(data), 9000, []string{remoteURLs[0]}); !errors.Is(err, ErrNotLocal) {
		t.Errorf("beyond the local network: %v", err)
	}
}

// TestBusyForEver: who is busy all the time is given up like others.
func TestBusyForEver(t *testing.T) {
	f := quick(t)
	r := &roster{f: f, log: f.newDownload(job{}, nil).log, retries: 2}
	r.add(empty("busy"))
	for n := 0; !r.worn(r.peers[0]); n++ {
		if n > maxWaits+2 {
			t.Fatal("no end")
		}
		r.failed(r.peers[0], &StatusError{Code: 503, RetryAfter: 1}, 0)
	}
	if r.rounds != 2 || len(r.attempts) != maxWaits+2 {
		t.Errorf("%d rounds, %d attempts", r.rounds, len(r.attempts))
	}
}

// bomb is a source that panics.
type bomb struct{}

func (bomb) String() string                              { return "bomb" }
func (bomb) Read(context.Context, Part, io.Writer) error { panic("boom") }

// TestPanicIsAFailure: neither a source's nor that of what reads foreign bytes
// ends the program.
func TestPanicIsAFailure(t *testing.T) {
	t.Parallel()
	for name, j := range map[string]job{"one at a time": jobFor(large), "chunks": chunkedJob(t, large)} {
		t.Run(name, func(t *testing.T) {
			j.sources = []Source{bomb{}}
			_, err := quick(t).file(context.Background(), j)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(attempts(err), "boom") {
				t.Errorf("%v%s", err, attempts(err))
			}
			j.urls = []string{serve(t, honest(large))}
			mustFile(t, quick(t), j, large)
		})
	}
	d := quick(t).newDownload(jobFor(large), inMemory(t))
	if err := d.fill(context.Background(), "patch", func(io.Writer) error { panic("boom") }); err == nil {
		t.Error("no error")
	}
}

// TestGivenUpWhileFilling: also what comes from this machine's disks ends soon.
func TestGivenUpWhileFilling(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errAny)
	d := quick(t).newDownload(jobFor(large), inMemory(t))
	err := d.fill(ctx, "patch", func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(large))
		return err
	})
	if !errors.Is(err, errAny) {
		t.Errorf("%v", err)
	}
}
