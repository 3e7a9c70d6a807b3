package mdns

import (
	"context"
	"slices"
	"sync"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
)

// Finder finds providers on the local network while something is transferred:
// also a machine that appears, having booted, long after the search for a release
// has ended. It implements fetch.Finder; all transfers at one time share one
// browsing, which ends with the last of them. What is heard is a hint: whoever
// announces the query's channel and architecture may be asked for any of its
// blobs, and may not have them.
//
// As with Source, only addresses on the link on which they were heard are passed
// on, so that it serves Local mode as well; the client that asks them keeps that
// promise. Private mode asks nothing of its neighbours and does without.
type Finder struct {
	query  discover.Query
	source func(base string) fetch.Source
	browse func(context.Context, func(announced)) error

	mu    sync.Mutex
	users int // transfers under way
	heard *heard
}

var _ fetch.Finder = (*Finder)(nil)

// NewFinder makes a Finder of providers of q. source makes a source out of the
// base URL of one of them, such as http://192.0.2.7:8080; it may be called
// concurrently.
func NewFinder(q discover.Query, source func(base string) fetch.Source) *Finder {
	return &Finder{query: q, source: source, browse: browse}
}

// Find yields every provider that is heard, at most 32, until ctx ends, which is
// no error. It fails with ErrNoLink, ErrFlood, or what else kept it from
// listening.
func (f *Finder) Find(ctx context.Context, _ blob.Digest, found func(fetch.Source)) error {
	if err := f.query.Validate(); err != nil {
		return err
	}
	h := f.join()
	defer f.leave(h)
	for known := 0; ; {
		bases, news := h.after(known)
		for _, base := range bases {
			found(f.source(base))
		}
		known += len(bases)
		select {
		case <-news:
		case <-h.ended:
			if bases, _ := h.after(known); len(bases) == 0 {
				return h.err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// join begins the browsing, or joins the one that runs.
func (f *Finder) join() *heard {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users++
	if f.heard == nil {
		ctx, cancel := context.WithCancel(context.Background())
		h := &heard{news: make(chan struct{}), ended: make(chan struct{}), stop: cancel}
		f.heard = h
		go func() {
			defer close(h.ended)
			census := newCensus(f.query)
			h.err = f.browse(ctx, func(a announced) { h.add(census.add(a)) })
		}()
	}
	return f.heard
}

// leave ends the browsing with its last user.
func (f *Finder) leave(h *heard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	f.heard = nil
	h.stop()
	<-h.ended
}

// heard is what one browsing has heard.
type heard struct {
	stop  context.CancelFunc
	ended chan struct{} // closed when the browsing has
	err   error         // of the browsing, once it has

	mu    sync.Mutex
	bases []string
	news  chan struct{} // closed, and made anew, when there are more
}

func (h *heard) add(bases []string) {
	if len(bases) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bases = append(h.bases, bases...)
	close(h.news)
	h.news = make(chan struct{})
}

// after are the bases beyond the first known ones, and what is closed when there
// are more.
func (h *heard) after(known int) ([]string, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.bases[known:]), h.news
}
