package boot

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
)

// Reach is where a boot may look, by its mode.
type Reach struct {
	Search  []discover.Source // for releases
	Finders []fetch.Finder    // for their artifacts, beside the places that the search names
	Close   func()            // closes both, within 3 s; nil if nothing need be closed
}

// maxTrail bounds the places that a search may add to one transfer.
const maxTrail = 32

// trail gives a transfer the places of its release that the search comes to
// know meanwhile. It is a fetch.Finder for the artifacts of that release.
type trail struct {
	hunt  *hunt
	group *group

	mu    sync.Mutex
	known []string // bases that the transfer began with, or was given since
}

func (h *hunt) newTrail(g *group, bases []string) *trail {
	return &trail{hunt: h, group: g, known: slices.Clone(bases)}
}

// Find implements fetch.Finder. It ends when the search has.
func (t *trail) Find(ctx context.Context, d blob.Digest, found func(fetch.Source)) error {
	h := t.hunt
	told := t.bases()
	for {
		var fresh []string
		h.await(ctx, func() bool {
			fresh = slices.DeleteFunc(t.group.bases(), func(base string) bool { return slices.Contains(told, base) })
			return len(fresh) > 0 || h.over() || h.ended()
		})
		if len(fresh) == 0 || len(told)+len(fresh) > maxTrail || ctx.Err() != nil {
			return nil
		}
		told = append(told, fresh...)
		t.learn(fresh)
		for _, base := range fresh {
			found(Provider(base))
		}
	}
}

// bases are all that the transfer knew until now.
func (t *trail) bases() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.known)
}

func (t *trail) learn(bases []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, base := range bases {
		if !slices.Contains(t.known, base) {
			t.known = append(t.known, base)
		}
	}
}

// Provider is the base URL of a provider that a finder heard of, for a boot to
// ask for the blob that was looked for.
type Provider string

func (p Provider) String() string { return string(p) }

// Read implements fetch.Source, so that a finder can pass the provider on. It is
// never called: see careful.
func (p Provider) Read(context.Context, fetch.Part, io.Writer) error {
	return errors.New("a provider is asked for a blob by its URL")
}

// guardedPlace survives a panic in its own Read.
type guardedPlace struct{ fetch.Source }

func (g guardedPlace) Read(ctx context.Context, p fetch.Part, w io.Writer) error {
	return guard(func() error { return g.Source.Read(ctx, p, w) })
}

// LastResort implements fetch.LastResort for a source that does.
func (g guardedPlace) LastResort() bool {
	last, ok := g.Source.(fetch.LastResort)
	return ok && last.LastResort()
}

// careful survives a panic in its finder and in what that found, and makes
// sources of providers: as the one that is already known, where it is, and only on
// the local network where the mode stays there.
type careful struct {
	fetch.Finder
	fetcher *fetch.Fetcher
}

func (c careful) Find(ctx context.Context, d blob.Digest, found func(fetch.Source)) error {
	return guard(func() error {
		return c.Finder.Find(ctx, d, func(s fetch.Source) {
			base, ok := s.(Provider)
			if !ok {
				found(guardedPlace{s})
				return
			}
			for _, url := range fetch.BlobURLs(d, []string{string(base)}) {
				if !c.fetcher.LocalOnly || fetch.CheckLocal(url) == nil {
					found(fetch.NewHTTP(c.fetcher.Client, url))
				}
			}
		})
	})
}
