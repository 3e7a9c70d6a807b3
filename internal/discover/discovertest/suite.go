// Package discovertest is the conformance suite of discover.Source: what every
// implementation must do, whatever the network below it.
package discovertest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/manifest"
)

// patience bounds what ought to take milliseconds.
const patience = 10 * time.Second

// A World makes sources for one implementation.
type World struct {
	// Source returns a source in whose place exactly these pointers are
	// published, at most one for each channel and architecture. What it needs
	// lives until the test ends.
	Source func(t *testing.T, pointers ...[]byte) discover.Source
	// Silent returns a source whose far end accepts connections and never
	// answers, or has no far end at all if none can accept.
	Silent func(t *testing.T) discover.Source
	// Wait is how long to look for what is not there, for sources that cannot
	// know that nobody will answer. 0 means that the source ends by itself.
	Wait time.Duration
}

// Run runs the suite.
func Run(t *testing.T, w World) {
	stable := discover.Query{Channel: "stable", Arch: manifest.ArchX8664}
	pointer := Pointer(t, stable, 7)
	t.Run("finds the exact bytes", func(t *testing.T) {
		got, err := w.ask(t, w.Source(t, pointer), stable, true)
		if err != nil || len(got) == 0 {
			t.Fatalf("found %d, error %v", len(got), err)
		}
		for _, c := range got {
			if !bytes.Equal(c.Pointer, pointer) {
				t.Errorf("bytes differ: %.80q", c.Pointer)
			}
			if c.Origin == "" {
				t.Error("candidate without origin")
			}
			for _, base := range c.Bases {
				if err := discover.CheckBase(base); err != nil {
					t.Error(err)
				}
			}
		}
	})
	t.Run("keeps streams apart", func(t *testing.T) {
		testing := discover.Query{Channel: "testing", Arch: manifest.ArchX8664}
		arm := discover.Query{Channel: "stable", Arch: manifest.ArchARM64}
		armPointer := Pointer(t, arm, 9)
		src := w.Source(t, pointer, armPointer)
		if got, _ := w.ask(t, src, testing, false); len(got) != 0 {
			t.Errorf("asked for %v, got %d candidates", testing, len(got))
		}
		got, err := w.ask(t, src, arm, true)
		if err != nil || len(got) == 0 || !bytes.Equal(got[0].Pointer, armPointer) {
			t.Errorf("asked for %v: %d candidates, error %v", arm, len(got), err)
		}
	})
	t.Run("nothing published", func(t *testing.T) {
		if got, _ := w.ask(t, w.Source(t), stable, false); len(got) != 0 {
			t.Errorf("found %d candidates", len(got))
		}
	})
	t.Run("has a stable name", func(t *testing.T) {
		src := w.Source(t)
		name := src.Name()
		w.ask(t, src, stable, false)
		if name == "" || src.Name() != name {
			t.Errorf("name %q, after a search %q", name, src.Name())
		}
	})
	t.Run("refuses names that are paths", func(t *testing.T) {
		src := w.Source(t, pointer)
		for _, q := range []discover.Query{{}, {Channel: "../stable", Arch: stable.Arch}, {Channel: "stable", Arch: "x86_64/../x86_64"}} {
			if got, err := w.ask(t, src, q, true); err == nil || len(got) != 0 {
				t.Errorf("%v: found %d, error %v", q, len(got), err)
			}
		}
	})
	t.Run("candidates are the caller's", func(t *testing.T) {
		src := w.Source(t, pointer)
		got, err := w.ask(t, src, stable, true)
		if err != nil || len(got) == 0 {
			t.Fatalf("found %d, error %v", len(got), err)
		}
		clear(got[0].Pointer)
		again, err := w.ask(t, src, stable, true)
		if err != nil || len(again) == 0 || !bytes.Equal(again[0].Pointer, pointer) {
			t.Errorf("after scribbling on a candidate: found %d, error %v", len(again), err)
		}
	})
	t.Run("searches at the same time", func(t *testing.T) {
		src := w.Source(t, pointer)
		var searches sync.WaitGroup
		for range 4 {
			searches.Go(func() {
				if got, err := w.ask(t, src, stable, true); err != nil || len(got) == 0 {
					t.Errorf("found %d, error %v", len(got), err)
				}
			})
		}
		searches.Wait()
	})
	t.Run("ends when told", func(t *testing.T) { w.endsWhenTold(t, stable) })
}

// endsWhenTold checks a source that waits for an answer that never comes.
func (w World) endsWhenTold(t *testing.T, q discover.Query) {
	src := w.Silent(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	ended := make(chan error, 1)
	go func() {
		ended <- src.Search(ctx, q, func(discover.Candidate) { t.Error("candidate from a silent place") })
	}()
	select {
	case <-ended:
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v to end after 300ms", took)
		}
	case <-time.After(patience):
		t.Error("did not end")
	}
}

// ask runs one search. If something is expected, it stops waiting once it came.
func (w World) ask(t *testing.T, src discover.Source, q discover.Query, expect bool) ([]discover.Candidate, error) {
	t.Helper()
	wait := patience
	if !expect && w.Wait > 0 {
		wait = w.Wait
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	var mu sync.Mutex
	var got []discover.Candidate
	var over atomic.Bool
	err := src.Search(ctx, q, func(c discover.Candidate) {
		mu.Lock()
		defer mu.Unlock()
		if over.Load() {
			t.Error("candidate after the end of the search")
		}
		got = append(got, c)
		if w.Wait > 0 {
			cancel() // it would look for more until its time is over
		}
	})
	over.Store(true)
	mu.Lock()
	defer mu.Unlock()
	if len(got) > 0 && ctx.Err() != nil {
		err = nil // ended by us
	}
	return got, err
}

// Key is the timestamp key that signs the suite's pointers.
func Key() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{0x5a}, ed25519.SeedSize))
}

// Pointer makes a signed pointer for q that is valid for a week from now.
func Pointer(t testing.TB, q discover.Query, version int64) []byte {
	t.Helper()
	return PointerAt(t, q, version, time.Now().Add(-time.Hour), 7*24*time.Hour)
}

// PointerAt makes a signed pointer for q with the given creation time and life.
func PointerAt(t testing.TB, q discover.Query, version int64, created time.Time, life time.Duration) []byte {
	t.Helper()
	created = created.UTC().Truncate(time.Second)
	raw, err := manifest.SignPointer(manifest.Pointer{
		Channel: q.Channel, Arch: q.Arch,
		ManifestVersion: version,
		ManifestHash:    blob.Of(fmt.Appendf(nil, "manifest %d", version)),
		ManifestSize:    1000 + version,
		RootVersion:     1,
		CreatedAt:       created,
		ExpiresAt:       created.Add(life),
		URLs:            []string{fmt.Sprintf("http://192.0.2.1/%s/%s/manifest.json", q.Channel, q.Arch)},
	}, Key())
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
