package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

// half is where these servers break.
var half = len(body) / 2

// breaking serves half of the file to the first request, with head, and hands
// all later ones to next.
func breaking(head http.Header, next http.HandlerFunc) (http.HandlerFunc, *atomic.Int32) {
	count := new(atomic.Int32)
	return func(w http.ResponseWriter, r *http.Request) {
		if count.Add(1) > 1 {
			next(w, r)
			return
		}
		for k, v := range head {
			w.Header()[k] = v
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write(body[:half])
		panic(http.ErrAbortHandler)
	}, count
}

var tagged = http.Header{"Etag": {`"one"`}}

// rest checks that the request is a proper resumption and serves it by f.
func rest(t *testing.T, f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.Header.Get("Range"), fmt.Sprintf("bytes=%d-", half); got != want {
			t.Errorf("Range %q, want %q", got, want)
		}
		if got := r.Header.Get("If-Range"); got != `"one"` {
			t.Errorf("If-Range %q", got)
		}
		f(w, r)
	}
}

// ranged answers 206 with the given range text and bytes.
func ranged(tag, contentRange string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" { // started again
			w.Write(body)
			return
		}
		w.Header().Set("ETag", tag)
		w.Header().Set("Content-Range", contentRange)
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(data)
	}
}

func TestResume(t *testing.T) {
	whole := func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.Write(data) }
	}
	right := fmt.Sprintf("bytes %d-%d/%d", half, len(body)-1, len(body))
	for _, c := range []struct {
		name     string
		next     http.HandlerFunc
		requests int32
	}{
		{"goes on", ranged(`"one"`, right, body[half:]), 2},
		{"goes on, untagged", ranged("", right, body[half:]), 2},
		{"whole file to a range request", whole(body), 3},
		{"starts too early", ranged(`"one"`, fmt.Sprintf("bytes 0-%d/%d", len(body)-1, len(body)), body), 3},
		{"starts too late", ranged(`"one"`, fmt.Sprintf("bytes %d-%d/%d", half+1, len(body)-1, len(body)), body[half+1:]), 3},
		{"other total", ranged(`"one"`, fmt.Sprintf("bytes %d-%d/%d", half, len(body)-1, len(body)+1), body[half:]), 3},
		{"unknown total", ranged(`"one"`, fmt.Sprintf("bytes %d-%d/*", half, len(body)-1), body[half:]), 3},
		{"no range text", ranged(`"one"`, "", body[half:]), 3},
		{"right text, other length", ranged(`"one"`, right, body[half:len(body)-1]), 3},
		{"other tag", ranged(`"two"`, right, body[half:]), 3},
		{"right text, other bytes", ranged(`"one"`, right, flipped()[half:]), 3},
		{"right text, shifted bytes", ranged(`"one"`, right, body[half-1:len(body)-1]), 3},
		{"416", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			w.Write(body)
		}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := true
			h, count := breaking(tagged, func(w http.ResponseWriter, r *http.Request) {
				if first {
					first = false
					rest(t, c.next)(w, r)
					return
				}
				c.next(w, r)
			})
			mustFile(t, quick(t), jobFor(body, serve(t, h)), body)
			if count.Load() != c.requests {
				t.Errorf("%d requests, want %d", count.Load(), c.requests)
			}
		})
	}
}

func TestResumeKeepsTheCachedCopyRight(t *testing.T) {
	h, _ := breaking(tagged, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
	f := quick(t)
	f.Store = openStore(t)
	mustFile(t, f, jobFor(body, serve(t, h)), body)
	r, err := f.Store.Open(blob.Of(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(r); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("cached copy: %v", err)
	}
}

// Without a validator, or with a weak one, nobody can say that the rest is of
// the same file.
func TestNoResumeWithoutValidator(t *testing.T) {
	for name, head := range map[string]http.Header{"none": {}, "weak": {"Etag": {`W/"one"`}}} {
		t.Run(name, func(t *testing.T) {
			h, _ := breaking(head, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Range"); got != "" {
					t.Errorf("asked for %q", got)
				}
				w.Write(body)
			})
			mustFile(t, quick(t), jobFor(body, serve(t, h)), body)
		})
	}
}

func TestFileChangedForGood(t *testing.T) {
	// The server has another file now; it is asked for the rest, then alone
	// from the beginning, and then named as the one that gave wrong bytes.
	h, count := breaking(tagged, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`) // and lies about it
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(flipped()))
	})
	url := serve(t, h)
	_, err := quick(t).file(context.Background(), jobFor(body, url))
	var e *Error
	if !errors.As(err, &e) || !e.Mismatch || e.Attempts[len(e.Attempts)-1].URL != url {
		t.Errorf("got %v%s", err, attempts(err))
	}
	if count.Load() != 3 {
		t.Errorf("%d requests, want 3", count.Load())
	}
}

func TestAnotherSourceCompletes(t *testing.T) {
	dies, _ := breaking(tagged, http.NotFound)
	good := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Range"); got != "" {
			t.Errorf("a second source was asked for %q: bytes of two sources cannot be told apart", got)
		}
		honest(body)(w, r)
	})
	mustFile(t, quick(t), jobFor(body, serve(t, dies), good), body)
}

func TestPrefixSurvivesASourceThatGivesNothing(t *testing.T) {
	h, count := breaking(tagged, rest(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	missing := serve(t, http.NotFound)
	mustFile(t, quick(t), jobFor(body, serve(t, h), missing), body)
	if count.Load() != 2 {
		t.Errorf("%d requests, want 2", count.Load())
	}
}
