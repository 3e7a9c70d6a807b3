package boot

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/store"
)

// finderFunc is a fetch.Finder.
type finderFunc func(ctx context.Context, found func(fetch.Source)) error

func (f finderFunc) Find(ctx context.Context, _ blob.Digest, found func(fetch.Source)) error {
	return f(ctx, found)
}

// TestMachineFoundDuringTheTransfer: the only known provider has the manifest and
// goes away; a neighbour that finders hear of later has the rest, and is told to
// the next system.
func TestMachineFoundDuringTheTransfer(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.publishAt(1, w.keys, "http://half.test")
		w.hosts["half.test"] = w.manifestsOnly()
		late := finderFunc(func(ctx context.Context, found func(fetch.Source)) error {
			select {
			case <-time.After(Patience - time.Second):
				found(Provider(w.base))
			case <-ctx.Done():
			}
			<-ctx.Done()
			return nil
		})
		w.corridor.Sources = func(context.Context, *netup.Network) Reach {
			return Reach{Search: []discover.Source{after(0, "mirror", pointer, "http://half.test")}, Finders: []fetch.Finder{late}}
		}
		w.boots(SettleBudget + 2*time.Second)
		if got, want := w.loaded.Info.Bases, []string{w.base, "http://half.test"}; !slices.Equal(got, want) {
			w.Errorf("the bases are %q, want %q", got, want)
		}
		for _, r := range w.reports {
			if r.Error != "" || len(r.Sources) < 2 {
				w.Errorf("%+v", r)
			}
		}
	})
}

// TestFindersAreKeptWithinTheirBounds: a finder that panics, names places beyond
// the local network, or a source that panics costs nothing but itself.
func TestFindersAreKeptWithinTheirBounds(t *testing.T) {
	find := func(f fetch.Finder, local bool) (names []string, err error) {
		c := careful{f, &fetch.Fetcher{LocalOnly: local, Client: http.DefaultClient}}
		err = c.Find(t.Context(), blob.Of(nil), func(s fetch.Source) { names = append(names, s.String()) })
		return names, err
	}
	crowd := finderFunc(func(_ context.Context, found func(fetch.Source)) error {
		for _, base := range []string{"http://203.0.113.5", "http://192.168.0.9:8080/", "http://mirror.example", "ftp://192.168.0.9", "http://box.local"} {
			found(Provider(base))
		}
		return nil
	})
	at := func(base string) string { return fetch.BlobURLs(blob.Of(nil), []string{base})[0] }
	if got, err := find(crowd, true); err != nil || !slices.Equal(got, []string{at("http://192.168.0.9:8080"), at("http://box.local")}) {
		t.Errorf("in Local mode: %q, %v", got, err)
	}
	if got, err := find(crowd, false); err != nil || len(got) != 4 {
		t.Errorf("elsewhere: %q, %v", got, err)
	}
	var defect *PanicError
	bad := finderFunc(func(context.Context, func(fetch.Source)) error { panic("boom") })
	if _, err := find(bad, false); !errors.As(err, &defect) {
		t.Errorf("a finder's panic is %v", err)
	}
	if err := (guardedPlace{badSource{}}).Read(t.Context(), fetch.Part{}, io.Discard); !errors.As(err, &defect) {
		t.Errorf("a source's panic is %v", err)
	}
	if !(guardedPlace{badSource{}}).LastResort() || (guardedPlace{Provider("x")}).LastResort() {
		t.Error("what is a last resort is not passed on")
	}
	if err := Provider("x").Read(t.Context(), fetch.Part{}, io.Discard); err == nil {
		t.Error("a provider gave something by itself")
	}
}

// badSource panics, and is a last resort.
type badSource struct{}

func (badSource) String() string                                    { return "bad" }
func (badSource) Read(context.Context, fetch.Part, io.Writer) error { panic("boom") }
func (badSource) LastResort() bool                                  { return true }

// TestWhatIsBootedIsPinned: making room never takes it, nor the chunk lists.
func TestWhatIsBootedIsPinned(t *testing.T) {
	w := newWorld(t)
	cache, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	w.corridor.Fetcher.Store = cache
	w.publish(1, w.keys)
	if err := w.corridor.Run(t.Context()); !errors.Is(err, errJumped) {
		t.Fatal(err)
	}
	file, err := os.ReadFile(w.folder + "/stable/x86_64/manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	pins, err := cache.Pins()
	want := handover.Blobs(w.loaded.Verified.Manifest(), file)
	if err != nil || len(pins) != 1 || len(pins[handover.PinBooting]) != len(want) {
		t.Fatalf("%v, %v", pins, err)
	}
	for _, d := range want {
		if !slices.Contains(pins[handover.PinBooting], d) || !cache.Has(d) {
			t.Errorf("%s is pinned and there: %v, %v", d, slices.Contains(pins[handover.PinBooting], d), cache.Has(d))
		}
	}
}
