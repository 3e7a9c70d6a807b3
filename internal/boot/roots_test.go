package boot

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

// rootOf is a root of this version for the roles of keys, signed by its own root
// keys and those of others.
func (w *world) rootOf(version int64, keys *release.Keys, others ...*release.Keys) []byte {
	w.Helper()
	return w.rootSigned(version, keys, append(others, keys)...)
}

func (w *world) rootSigned(version int64, keys *release.Keys, signers ...*release.Keys) []byte {
	w.Helper()
	role := func(threshold int, private ...ed25519.PrivateKey) (r manifest.RoleKeys) {
		for _, key := range private {
			r.Keys = append(r.Keys, key.Public().(ed25519.PublicKey))
		}
		r.Threshold = threshold
		return r
	}
	draft, err := manifest.DraftRoot(manifest.RootSpec{Version: version, Expires: now.AddDate(1, 0, 0), Roles: map[manifest.Role]manifest.RoleKeys{
		manifest.RoleRoot: role(2, keys.Root[:]...), manifest.RoleTargets: role(2, keys.Targets[:]...), manifest.RoleTimestamp: role(1, keys.Timestamp),
	}})
	if err != nil {
		w.Fatal(err)
	}
	for _, signer := range signers {
		for _, key := range signer.Root[:2] {
			if err := draft.Sign(key); err != nil {
				w.Fatal(err)
			}
		}
	}
	raw, err := draft.Bytes()
	if err != nil {
		w.Fatal(err)
	}
	return raw
}

// serveRoot puts a root into the publisher's folder.
func (w *world) serveRoot(version int64, raw []byte) {
	w.Helper()
	dir := filepath.Join(w.folder, want.Channel, want.Arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.root.json", version)), raw, 0o644); err != nil {
		w.Fatal(err)
	}
}

// repoint is a pointer with changes, signed anew.
func (w *world) repoint(pointer []byte, key ed25519.PrivateKey, change func(*manifest.Pointer)) []byte {
	w.Helper()
	p, err := manifest.InspectPointer(pointer)
	if err != nil {
		w.Fatal(err)
	}
	change(&p)
	raw, err := manifest.SignPointer(p, key)
	if err != nil {
		w.Fatal(err)
	}
	return raw
}

func underRoot(version int64) func(*manifest.Pointer) {
	return func(p *manifest.Pointer) { p.RootVersion = version }
}

// except serves a host as another one, but for some paths.
func (w *world) except(handler http.Handler, suffix string, serve http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, suffix) {
			serve(rw, r)
			return
		}
		handler.ServeHTTP(rw, r)
	})
}

func stall(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// stored is the version of the newest root that the medium remembers.
func (w *world) stored() int64 {
	w.Helper()
	medium, err := manifest.ParseRoot(w.root)
	if err != nil {
		w.Fatal(err)
	}
	newest, _, err := w.state.Roots(medium)
	if err != nil {
		w.Error(err)
	}
	return newest.Version()
}

// booted asserts which release was loaded, under which root.
func (w *world) booted(version, root int64) {
	w.Helper()
	if got := w.loaded.Verified.Manifest().ManifestVersion; got != version {
		w.Errorf("release %d was loaded, want %d", got, version)
	}
	if got := w.corridor.Roots.Newest().Version(); got != root {
		w.Errorf("the newest root is %d, want %d", got, root)
	}
	if got := w.stored(); w.corridor.State != nil && got != root {
		w.Errorf("the newest stored root is %d, want %d", got, root)
	}
}

func (w *world) toldOf(text string) bool {
	return slices.ContainsFunc(w.told, func(s string) bool { return strings.Contains(s, text) })
}

// An old medium boots a release that is signed by keys it does not know, as long
// as its own root leads to them.
func TestOldMediumFollowsTheRoots(t *testing.T) {
	for name, c := range map[string]struct {
		rotate func(w *world, pointer []byte, next *release.Keys) []byte
		newest int64
	}{
		"every key is new": {func(w *world, pointer []byte, next *release.Keys) []byte {
			w.serveRoot(2, w.rootOf(2, next, w.keys))
			return w.repoint(pointer, next.Timestamp, underRoot(2))
		}, 2},
		"the timestamp key is the same": {func(w *world, pointer []byte, next *release.Keys) []byte {
			next.Timestamp = w.keys.Timestamp
			w.serveRoot(2, w.rootOf(2, next, w.keys))
			return w.repoint(pointer, next.Timestamp, underRoot(2))
		}, 2},
		"the pointer does not say so": {func(w *world, pointer []byte, next *release.Keys) []byte {
			next.Timestamp = w.keys.Timestamp
			w.serveRoot(2, w.rootOf(2, next, w.keys))
			return w.repoint(pointer, next.Timestamp, underRoot(1))
		}, 2},
		"by way of another root": {func(w *world, pointer []byte, next *release.Keys) []byte {
			between := w.strangers()
			w.serveRoot(2, w.rootOf(2, between, w.keys))
			w.serveRoot(3, w.rootOf(3, next, between))
			return w.repoint(pointer, next.Timestamp, underRoot(3))
		}, 3},
		"further than the pointer says": {func(w *world, pointer []byte, next *release.Keys) []byte {
			w.serveRoot(2, w.rootOf(2, next, w.keys))
			w.serveRoot(3, w.rootOf(3, next))
			w.serveRoot(4, w.rootOf(4, next))
			return w.repoint(pointer, next.Timestamp, underRoot(2))
		}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				next := w.strangers()
				pointer := c.rotate(w, w.publish(5, next), next)
				w.ask(after(0, "dht", pointer, w.base))
				w.boots(2 * time.Second)
				w.booted(5, c.newest)
				if !w.toldOf("The root keys were renewed: version 2") {
					w.Errorf("nobody was told: %q", w.told)
				}
			})
		})
	}
}

func TestRootsAreKeptForTheNextBoot(t *testing.T) {
	inBubble(t, func(w *world) {
		next := w.strangers()
		second := w.rootOf(2, next, w.keys)
		w.serveRoot(2, second)
		pointer := w.repoint(w.publish(5, next), next.Timestamp, underRoot(2))
		w.ask(after(0, "dht", pointer, w.base))
		w.boots(2 * time.Second)
		w.handsOn(pointer, w.root, second)
		medium, err := manifest.ParseRoot(w.root)
		if err != nil {
			t.Fatal(err)
		}
		roots, err := NewRoots(medium, w.state)
		if err != nil || roots.Newest().Version() != 2 {
			t.Errorf("root %d, %v", roots.Newest().Version(), err)
		}
		if err := os.WriteFile(filepath.Join(w.stateDir, "2.root.json"), []byte("rot"), 0o644); err != nil {
			t.Fatal(err)
		}
		if roots, err = NewRoots(medium, w.state); err == nil || roots.Newest().Version() != 1 {
			t.Errorf("with a damaged root: root %d, %v", roots.Newest().Version(), err)
		}
	})
}

func TestRootsAreNotKeptWithoutAState(t *testing.T) {
	inBubble(t, func(w *world) {
		next := w.strangers()
		w.serveRoot(2, w.rootOf(2, next, w.keys))
		medium := w.corridor.Roots.Newest()
		w.corridor.State = nil
		w.corridor.Roots, _ = NewRoots(medium, nil)
		w.ask(after(0, "dht", w.repoint(w.publish(5, next), next.Timestamp, underRoot(2)), w.base))
		w.boots(2 * time.Second)
		if _, err := os.Stat(w.stateDir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("something was stored: %v", err)
		}
	})
}

// A successor that cannot be had or does not follow changes nothing: what needs
// it is refused, what does not boots.
func TestRootsThatDoNotFollow(t *testing.T) {
	type serve func(w *world, next *release.Keys)
	for name, c := range map[string]struct {
		serve   serve
		refusal manifest.Rule // of the root, if it was refused
	}{
		"withheld":                 {func(*world, *release.Keys) {}, ""},
		"stalled":                  {func(w *world, _ *release.Keys) { w.answerRoots(stall) }, ""},
		"dripped":                  {func(w *world, _ *release.Keys) { w.answerRoots(drip) }, ""},
		"huge":                     {func(w *world, _ *release.Keys) { w.answerRoots(huge) }, ""},
		"server error":             {func(w *world, _ *release.Keys) { w.answerRoots(broken) }, ""},
		"signed by the old side":   {func(w *world, next *release.Keys) { w.serveRoot(2, w.rootSigned(2, next, w.keys)) }, manifest.RuleRootChain},
		"signed by the new side":   {func(w *world, next *release.Keys) { w.serveRoot(2, w.rootSigned(2, next, next)) }, manifest.RuleRootChain},
		"skips a version":          {func(w *world, next *release.Keys) { w.serveRoot(2, w.rootOf(3, next, w.keys)) }, manifest.RuleRootChain},
		"the same version":         {func(w *world, next *release.Keys) { w.serveRoot(2, w.rootOf(1, next, w.keys)) }, manifest.RuleRootChain},
		"no root":                  {func(w *world, _ *release.Keys) { w.serveRoot(2, []byte("{}")) }, manifest.RuleMalformed},
		"somebody else's, unknown": {func(w *world, next *release.Keys) { w.serveRoot(2, w.rootOf(2, next, w.strangers())) }, manifest.RuleRootChain},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				next := w.strangers()
				c.serve(w, next)
				pointer := w.repoint(w.publish(5, next), next.Timestamp, underRoot(2))
				w.ask(after(0, "dht", pointer, w.base))
				err := w.corridor.Run(w.Context())
				if w.loaded != nil || w.stored() != 1 {
					w.Errorf("loaded %v, root %d", w.loaded != nil, w.stored())
				}
				if !refusedBy(err, manifest.RuleRootVersion) || c.refusal != "" && !refusedBy(err, c.refusal) {
					w.Errorf("got %v", err)
				}
				if took := time.Since(w.started); took > SearchBudget {
					w.Errorf("it took %v", took)
				}
			})
		})
		t.Run(name+", not needed", func(t *testing.T) {
			inBubble(t, func(w *world) {
				c.serve(w, w.strangers())
				w.ask(after(0, "dht", w.publish(5, w.keys), w.base))
				within := time.Second
				if name == "stalled" || name == "dripped" { // nobody has said anything
					within = rootLimit + time.Second
				}
				w.boots(within)
				w.booted(5, 1)
			})
		})
	}
}

// refusedBy reports whether a failed search has such a refusal.
func refusedBy(err error, rule manifest.Rule) bool {
	var none *NotFoundError
	return errors.As(err, &none) && slices.ContainsFunc(none.Rejected, func(err error) bool { return ruleOf(err).Rule == rule })
}

// answerRoots answers every request for a root with a number.
func (w *world) answerRoots(serve http.HandlerFunc) {
	w.hosts["publisher.test"] = w.except(w.hosts["publisher.test"], ".root.json", serve)
}

func huge(rw http.ResponseWriter, _ *http.Request) {
	for range 10 {
		_, _ = rw.Write(make([]byte, 1<<20))
	}
}

func broken(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) }

// drip sends its answer's head at once and the rest never. The recorder of the
// test's network delivers it when it ends.
func drip(rw http.ResponseWriter, r *http.Request) {
	rw.WriteHeader(http.StatusOK)
	_, _ = rw.Write([]byte("{"))
	<-r.Context().Done()
}

// An endless chain ends at the bound, whoever signed it.
func TestEndlessChain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.answerRoots(func(rw http.ResponseWriter, r *http.Request) {
			var version int64
			if _, err := fmt.Sscanf(filepath.Base(r.URL.Path), "%d.root.json", &version); err != nil {
				http.NotFound(rw, r)
				return
			}
			_, _ = rw.Write(w.rootOf(version, w.keys))
		})
		w.ask(after(0, "dht", w.publish(5, w.keys), w.base))
		w.boots(SettleBudget + time.Second)
		w.booted(5, 1+manifest.MaxRootChain)
		for _, path := range w.asked {
			if strings.HasSuffix(path, fmt.Sprintf("/%d.root.json", 2+manifest.MaxRootChain)) {
				w.Errorf("%s was asked for", path)
			}
		}
	})
}

// Of two successors that are both signed as they must be, the first one holds,
// and what follows from the other is refused.
func TestForkedChain(t *testing.T) {
	inBubble(t, func(w *world) {
		ours, theirs := w.strangers(), w.strangers()
		w.serveRoot(2, w.rootOf(2, ours, w.keys))
		forked := map[string][]byte{"2.root.json": w.rootOf(2, theirs, w.keys), "3.root.json": w.rootOf(3, theirs)}
		w.hosts["fork.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			raw, known := forked[filepath.Base(r.URL.Path)]
			if !known {
				http.NotFound(rw, r)
				return
			}
			_, _ = rw.Write(raw)
		})
		pointer := w.repoint(w.publish(5, ours), ours.Timestamp, underRoot(2))
		w.ask(after(0, "honest", pointer, w.base), after(100*time.Millisecond, "fork", pointer, "http://fork.test"))
		w.boots(2 * time.Second)
		w.booted(5, 2)
		if !w.toldOf("skipped http://fork.test") {
			w.Errorf("the fork's next root was not refused: %q", w.told)
		}
	})
}

// Who holds a timestamp key that was revoked can still sign pointers for it, and
// hide the root that revokes it at his own places. Another place tells.
func TestStolenTimestampKeyCannotHideARotation(t *testing.T) {
	for name, delay := range map[string]time.Duration{"at once": 0, "later": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				next := *w.keys
				next.Timestamp = w.strangers().Timestamp
				withdrawn := w.publishAt(6, w.keys) // signed by the targets keys, which did not change
				current := w.repoint(w.publishAt(5, &next), next.Timestamp, underRoot(2))
				w.hosts["attacker.test"] = w.except(w.hosts["publisher.test"], ".root.json", http.NotFound)
				w.serveRoot(2, w.rootOf(2, &next, w.keys))
				w.ask(after(0, "attacker", withdrawn, "http://attacker.test"), after(delay, "honest", current, w.base))
				w.boots(3 * time.Second)
				w.booted(5, 2)
			})
		})
	}
}

// A root that is found while the artifacts of a release are fetched, by which
// that release is refused, sends the boot to the next one.
func TestRotationDuringTheFetch(t *testing.T) {
	inBubble(t, func(w *world) {
		next := *w.keys
		next.Timestamp = w.strangers().Timestamp
		withdrawn, current := w.publish(6, w.keys), w.repoint(w.publish(5, &next), next.Timestamp, underRoot(2))
		raw := w.rootOf(2, &next, w.keys)
		w.hosts["late.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/2.root.json") {
				http.NotFound(rw, r)
				return
			}
			time.Sleep(2 * time.Second)
			_, _ = rw.Write(raw)
		})
		serve := w.hosts["publisher.test"]
		w.hosts["publisher.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if w.corridor.Roots.Newest().Version() == 1 && strings.Contains(r.URL.Path, blob.Of([]byte("kernel")).Hex()) {
				<-r.Context().Done() // a release that takes its time
			}
			serve.ServeHTTP(rw, r)
		})
		w.ask(after(0, "stale", withdrawn), after(0, "honest", current, "http://late.test"))
		w.boots(4 * time.Second)
		w.booted(5, 2)
		if !w.toldOf("note release 6 is not accepted any more") {
			w.Errorf("%q", w.told)
		}
	})
}

// When nothing is left after a rotation the boot ends with the refusal.
func TestRotationLeavesNothing(t *testing.T) {
	inBubble(t, func(w *world) {
		next := *w.keys
		next.Timestamp = w.strangers().Timestamp
		raw := w.rootOf(2, &next, w.keys)
		w.answerRoots(func(rw http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/2.root.json") {
				http.NotFound(rw, r)
				return
			}
			time.Sleep(time.Second)
			_, _ = rw.Write(raw)
		})
		w.ask(after(0, "stale", w.publish(6, w.keys)))
		err := w.corridor.Run(w.Context())
		if w.loaded != nil || !refusedBy(err, manifest.RuleSignature) {
			w.Errorf("loaded %v, %v", w.loaded != nil, err)
		}
		if last := w.told[len(w.told)-1]; last != "fail verify" {
			w.Errorf("the observer was told %q", w.told)
		}
	})
}

// Anybody can name a newer root, and places where it is not.
func TestFloodOfClaims(t *testing.T) {
	for name, rotated := range map[string]bool{"nothing new": false, "behind a rotation": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.hosts["tarpit.test"] = nil
				root, keys := int64(1), w.keys
				if rotated {
					root, keys = 2, w.strangers()
					w.serveRoot(2, w.rootOf(2, keys, w.keys))
				}
				pointer := w.repoint(w.publishAt(5, keys), keys.Timestamp, underRoot(root))
				forged := w.strangers()
				w.ask(script{"hostile", func(_ context.Context, found func(discover.Candidate)) {
					for i := range discover.MaxCandidates {
						claim := w.repoint(pointer, forged.Timestamp, underRoot(99+int64(i)))
						var bases []string
						for j := range discover.MaxBases {
							bases = append(bases, fmt.Sprintf("http://tarpit.test/%d/%d", i, j))
						}
						found(discover.Candidate{Pointer: claim, Bases: bases, Origin: fmt.Sprint("hostile ", i)})
					}
				}}, after(100*time.Millisecond, "honest", pointer, w.base))
				w.boots(2 * time.Second)
				w.booted(5, root)
				if len(w.asked) > 50 {
					w.Errorf("%d requests", len(w.asked))
				}
			})
		})
	}
}

// Within one source, too, an honest word is heard behind a flood.
func TestFloodWithinASource(t *testing.T) {
	inBubble(t, func(w *world) {
		w.hosts["tarpit.test"] = nil
		next := w.strangers()
		w.serveRoot(2, w.rootOf(2, next, w.keys))
		pointer := w.repoint(w.publishAt(5, next), next.Timestamp, underRoot(2))
		w.ask(script{"dht", func(_ context.Context, found func(discover.Candidate)) {
			for i := range 40 {
				claim := w.repoint(pointer, w.keys.Targets[0], underRoot(99))
				found(discover.Candidate{Pointer: claim, Bases: []string{fmt.Sprintf("http://tarpit.test/%d", i)}, Origin: "one peer"})
			}
			found(discover.Candidate{Pointer: pointer, Bases: []string{w.base}, Origin: "another peer"})
		}})
		w.boots(rootLimit + 2*time.Second)
		w.booted(5, 2)
	})
}

// The root of an old medium may have expired: only the last one is judged.
func TestExpiredMediumRoot(t *testing.T) {
	for name, rotated := range map[string]bool{"with a successor": true, "without one": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				later := now.AddDate(1, 1, 0)
				w.corridor.Clock = NewClock(later, now, time.Time{})
				keys := w.keys
				pointer := w.repoint(w.publish(5, keys), keys.Timestamp, func(p *manifest.Pointer) {
					p.CreatedAt, p.ExpiresAt = later.Add(-time.Hour), later.Add(24*time.Hour)
				})
				w.ask(after(0, "dht", pointer, w.base))
				if !rotated {
					w.refused("VFY-013")
					return
				}
				w.serveRoot(2, w.rootExpiring(2, keys, later.AddDate(1, 0, 0)))
				// The release itself is as old as the root; what matters here is
				// that the pointer is judged under the new root.
				err := w.corridor.Run(w.Context())
				if ruleOf(err).Object != "manifest" || w.corridor.Roots.Newest().Version() != 2 {
					w.Errorf("root %d, %v", w.corridor.Roots.Newest().Version(), err)
				}
			})
		})
	}
}

// rootExpiring is rootOf with another end.
func (w *world) rootExpiring(version int64, keys *release.Keys, expires time.Time) []byte {
	w.Helper()
	draft, err := manifest.OpenRootDraft(w.rootOf(version, keys))
	if err != nil {
		w.Fatal(err)
	}
	spec := draft.Spec()
	spec.Expires = expires
	raw, err := manifest.NewRoot(spec, keys.Root[0], keys.Root[1])
	if err != nil {
		w.Fatal(err)
	}
	return raw
}

func TestFloorReset(t *testing.T) {
	inBubble(t, func(w *world) {
		// A stolen key has made this machine accept an enormous version.
		if err := w.state.SaveFloor(want, manifest.Floor{ManifestVersion: 1 << 40, RootVersion: 1}, nil); err != nil {
			t.Fatal(err)
		}
		draft, err := manifest.OpenRootDraft(w.rootOf(2, w.keys))
		if err != nil {
			t.Fatal(err)
		}
		spec := draft.Spec()
		spec.Floors = map[string]manifest.FloorReset{want.Channel: {Root: 2, Version: 4}}
		raw, err := manifest.NewRoot(spec, w.keys.Root[0], w.keys.Root[1])
		if err != nil {
			t.Fatal(err)
		}
		w.serveRoot(2, raw)
		w.ask(after(0, "dht", w.repoint(w.publish(5, w.keys), w.keys.Timestamp, underRoot(2)), w.base))
		w.boots(2 * time.Second)
		w.booted(5, 2)
		if floor, err := w.state.Floor(want); err != nil || floor.ManifestVersion != 5 || floor.RootVersion != 2 {
			t.Errorf("the floor is %+v, %v", floor, err)
		}
	})
}

func TestBuiltInFloorOutlivesAReset(t *testing.T) {
	f := floors{
		stored:  manifest.Floor{ManifestVersion: 1 << 40, SecurityFloor: 3, RootVersion: 1},
		builtIn: manifest.Floor{ManifestVersion: 50, SecurityFloor: 50, RootVersion: 2},
	}
	w := newWorld(t)
	spec := func() manifest.RootSpec {
		draft, err := manifest.OpenRootDraft(w.rootOf(3, w.keys))
		if err != nil {
			t.Fatal(err)
		}
		return draft.Spec()
	}
	plain, reset := spec(), spec()
	reset.Floors = map[string]manifest.FloorReset{want.Channel: {Root: 2, Version: 4}}
	for _, c := range []struct {
		spec manifest.RootSpec
		want manifest.Floor
	}{
		{plain, manifest.Floor{ManifestVersion: 1 << 40, SecurityFloor: 50, RootVersion: 1}},
		{reset, manifest.Floor{ManifestVersion: 50, SecurityFloor: 50, RootVersion: 2}},
	} {
		raw, err := manifest.NewRoot(c.spec, w.keys.Root[0], w.keys.Root[1])
		if err != nil {
			t.Fatal(err)
		}
		root, err := manifest.ParseRoot(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.under(root, want.Channel); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}

func TestUnreadableStateOfRoots(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(filepath.Join(w.stateDir, "2.root.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	medium := w.corridor.Roots.Newest()
	roots, err := NewRoots(medium, trust.OpenState(w.stateDir))
	if err == nil || roots.Newest() != medium {
		t.Errorf("root %d, %v", roots.Newest().Version(), err)
	}
}

// A new root that cannot be stored holds for this boot.
func TestRootThatCannotBeStored(t *testing.T) {
	inBubble(t, func(w *world) {
		if err := os.WriteFile(w.stateDir, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		next := w.strangers()
		w.serveRoot(2, w.rootOf(2, next, w.keys))
		w.ask(after(0, "dht", w.repoint(w.publish(5, next), next.Timestamp, underRoot(2)), w.base))
		w.boots(2 * time.Second)
		if !w.toldOf("WARNING: the new root could not be stored") {
			w.Errorf("%q", w.told)
		}
	})
}

// What a person reads says what was looked for, whether the publisher's key or
// nobody known signed the pointer.
func TestWithheldRootIsExplained(t *testing.T) {
	for name, own := range map[string]bool{"our timestamp key": true, "an unknown key": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				key := w.keys.Timestamp
				if !own {
					key = w.strangers().Timestamp
				}
				w.ask(after(0, "dht", w.repoint(w.publish(5, w.keys), key, underRoot(3)), "http://unknown.test"))
				err := w.refused("VFY-017")
				var none *NotFoundError
				if !errors.As(err, &none) || len(none.Rejected) != 1 || !strings.Contains(none.Rejected[0].Error(), "2 places") {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestClaims(t *testing.T) {
	w := newWorld(t)
	pointer := w.publish(1, w.keys)
	root := w.corridor.Roots.Newest()
	for _, c := range []struct {
		pointer []byte
		version int64
		bases   int
	}{
		{w.repoint(pointer, w.keys.Timestamp, underRoot(2)), 2, 2},
		{w.repoint(pointer, w.strangers().Timestamp, underRoot(99)), 99, 2},
		{pointer, 0, 2},
		{[]byte("{}"), 0, 0},
	} {
		version, bases := claims(discover.Candidate{Pointer: c.pointer, Bases: []string{"http://near.test"}}, root)
		if version != c.version || len(bases) != c.bases {
			t.Errorf("root %d, bases %q; want %d, %d", version, bases, c.version, c.bases)
		}
	}
	// The manifest need not lie where a provider would have it.
	p := manifest.Pointer{Channel: "stable", Arch: "x86_64", URLs: []string{"http://a/stable/x86_64/manifest.json", "http://b/m", "http://c/stable/arm64/manifest.json"}}
	if got := basesOf(p); !slices.Equal(got, []string{"http://a"}) {
		t.Errorf("%q", got)
	}
}
