package boot

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/manifest"
)

// errUnplugged is what there is instead of a network.
var errUnplugged = &netup.Error{Reason: netup.NoInterface}

// local makes the world one of Local mode with a cache, and boots a release
// there while the network lasts.
func (w *world) local(version int64) {
	w.Helper()
	cache, err := store.Open(w.TempDir())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { cache.Close() })
	w.corridor.Config.Mode = bootcfg.Local
	w.corridor.Fetcher.Store = cache
	w.ask(after(0, "mdns", w.publish(version, w.keys), w.base))
	if err := w.corridor.Run(w.Context()); !errors.Is(err, errJumped) {
		w.Fatal(err)
	}
	w.forget()
}

// forget begins another boot.
func (w *world) forget() {
	w.loaded, w.asked, w.told, w.started = nil, nil, nil, time.Now()
}

func (w *world) unplug() {
	w.corridor.Network = func(context.Context) (*netup.Network, error) { return nil, errUnplugged }
}

func TestLastGoodWithoutANetwork(t *testing.T) {
	for name, confirmed := range map[string]bool{"confirmed": true, "only tried": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.local(5)
				if kept, err := w.state.LastGood(want); confirmed {
					if err = errors.Join(err, w.state.Confirm(want, kept[0].Payload)); err != nil {
						t.Fatal(err)
					}
				}
				w.unplug()
				w.boots(time.Second)
				w.booted(5, 1)
				w.handsOn(nil, w.root)
				if len(w.asked) > 0 {
					t.Errorf("without a network %q were asked", w.asked)
				}
				if !w.toldOf("Going back to release 5") || w.toldOf("WARNING") || w.toldOf("never said that it came up") == confirmed {
					t.Errorf("%q", w.told)
				}
				stages := slices.DeleteFunc(slices.Clone(w.told), func(s string) bool { return strings.HasPrefix(s, "note") })
				if want := []string{"begin network", "fail network", "begin fetch", "end fetch", "begin hand-over", "end hand-over"}; !slices.Equal(stages, want) {
					t.Errorf("the stages were %q", stages)
				}
			})
		})
	}
}

// What has expired boots in Local mode, and the person is told of what, when and
// by which clock; in the other modes it never does.
func TestExpiredLastGood(t *testing.T) {
	for name, c := range map[string]struct {
		mode    bootcfg.Mode
		later   time.Time
		network bool
		warning []string // nil: refused
		code    string
	}{
		"manifest, no network": {bootcfg.Local, now.AddDate(0, 4, 0), false,
			[]string{"WARNING: the manifest of release 5 expired at 2026-09-01T12:00:00Z", "the clock says 2026-10-01T12:00", "(machine clock, trusted)"}, ""},
		"manifest, only the expired release is offered": {bootcfg.Local, now.AddDate(0, 4, 0), true,
			[]string{"WARNING: the manifest of release 5 expired"}, ""},
		"root": {bootcfg.Local, now.AddDate(1, 1, 0), false,
			[]string{"expired at", "machine clock"}, ""},
		"Internet mode": {bootcfg.Internet, now.AddDate(0, 4, 0), true, nil, "VFY-013"},
		"Private mode":  {bootcfg.Private, now.AddDate(0, 4, 0), true, nil, "VFY-013"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.local(5)
				w.clockAt(c.later)
				w.corridor.Config.Mode = c.mode
				if !c.network {
					w.unplug()
				}
				if c.warning == nil {
					w.refused(c.code)
					return
				}
				w.boots(time.Second)
				w.booted(5, 1)
				for _, part := range c.warning {
					if !w.toldOf(part) {
						t.Errorf("nobody was told %q: %q", part, w.told)
					}
				}
				if object, _, stale := w.loaded.Verified.Stale(); !stale || object == "" {
					t.Error("the release is not marked as stale")
				}
			})
		})
	}
}

func TestLastGoodBelowTheSecurityFloor(t *testing.T) {
	for name, raise := range map[string]func(w *world) error{
		"accepted since": func(w *world) error {
			return w.state.SaveFloor(want, manifest.Floor{ManifestVersion: 9, SecurityFloor: 6, RootVersion: 1}, nil)
		},
		"built in": func(w *world) error { w.corridor.Floor = manifest.Floor{ManifestVersion: 6}; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.local(5)
				if err := raise(w); err != nil {
					t.Fatal(err)
				}
				w.unplug()
				err := w.refused("VFY-010")
				var failed *LastGoodError
				if !errors.As(err, &failed) || !errors.Is(err, errUnplugged) || failed.Hint() == "" || !strings.Contains(err.Error(), "6") {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// A release below the floor but not below the security floor may be gone back
// to: the newest may be the one that fails.
func TestLastGoodBelowTheFloor(t *testing.T) {
	inBubble(t, func(w *world) {
		w.local(5)
		floor := manifest.Floor{ManifestVersion: 9, Digest: blob.Of([]byte("9")), SecurityFloor: 5, RootVersion: 1}
		if err := w.state.SaveFloor(want, floor, nil); err != nil {
			t.Fatal(err)
		}
		w.unplug()
		w.boots(time.Second)
		w.booted(5, 1)
		if got, err := w.state.Floor(want); err != nil || got != floor {
			t.Errorf("the floor is %+v, %v", got, err)
		}
	})
}

func TestLocalPrefersWhatIsNewer(t *testing.T) {
	inBubble(t, func(w *world) {
		w.local(5)
		w.ask(after(0, "mdns", w.publish(6, w.keys), w.base))
		w.boots(2 * time.Second)
		w.booted(6, 1)
		if kept, err := w.state.LastGood(want); err != nil || kept[0].Payload != w.loaded.Verified.Digest() {
			t.Errorf("%+v, %v", kept, err)
		}
	})
}

// A new release whose kernel cannot be loaded gives way to the one before, and is
// not remembered. Without one before, or in another mode, it is an error.
func TestNewKernelThatCannotBeLoaded(t *testing.T) {
	unsigned := errors.New("nobody signed this kernel")
	inBubble(t, func(w *world) {
		w.local(5)
		w.ask(after(0, "mdns", w.publishWith(6, w.keys, []byte("another kernel")), w.base))
		load := w.corridor.Load
		w.corridor.Load = func(set handover.Set) (Loaded, error) {
			if set.Verified.Manifest().ManifestVersion == 6 {
				return nil, unsigned
			}
			return load(set)
		}
		w.boots(SettleBudget + time.Second)
		w.booted(5, 1)
		if !w.toldOf("release 6: nobody signed this kernel). Going back to release 5") {
			t.Errorf("%q", w.told)
		}
		if floor, err := w.state.Floor(want); err != nil || floor.ManifestVersion != 5 {
			t.Errorf("the floor is %+v, %v", floor, err)
		}

		w.forget()
		w.corridor.Config.Mode = bootcfg.Internet
		if err := w.corridor.Run(w.Context()); !errors.Is(err, unsigned) {
			t.Errorf("internet mode: %v", err)
		}
	})
	inBubble(t, func(w *world) {
		w.local(5) // the kept release is the one that fails now
		w.fail = unsigned
		if err := w.corridor.Run(w.Context()); !errors.Is(err, unsigned) {
			t.Errorf("%v", err)
		}
		if w.toldOf("Going back") {
			t.Errorf("%q", w.told)
		}
	})
}

// Nobody goes back to what a new release withdrew, although that one cannot be
// started either.
func TestReleaseThatWithdraws(t *testing.T) {
	unsigned := errors.New("nobody signed this kernel")
	for name, c := range map[string]struct {
		broken func(w *world)
		told   func(w *world, err error) bool
	}{
		"cannot be loaded": {
			func(w *world) { w.fail = unsigned },
			func(w *world, err error) bool {
				return errors.Is(err, unsigned) && w.loaded.Verified.Manifest().ManifestVersion == 6
			},
		},
		"cannot be had": {
			func(w *world) { w.drop("kernel"); w.corridor.Fetcher.Store = nil },
			func(w *world, err error) bool {
				var failed *LastGoodError
				return errors.As(err, &failed) && failed.Code() == "VFY-010" && w.loaded == nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.local(5)
				raw, err := os.ReadFile(w.folder + "/stable/x86_64/manifest.json")
				if err != nil {
					t.Fatal(err)
				}
				draft, err := manifest.OpenManifestDraft(raw)
				if err != nil {
					t.Fatal(err)
				}
				m := draft.Manifest()
				m.ManifestVersion, m.SecurityFloor = 6, 6
				w.ask(after(0, "mdns", w.publishManifest(m), w.base))
				c.broken(w)
				if err := w.corridor.Run(w.Context()); !c.told(w, err) {
					t.Errorf("%v", err)
				}
				if !w.toldOf("withdrew all before version 6") {
					t.Errorf("%q", w.told)
				}
				if floor, err := w.state.Floor(want); err != nil || floor.SecurityFloor != 0 {
					t.Errorf("the floor is %+v, %v", floor, err)
				}
			})
		})
	}
}

// publishManifest signs a manifest whose artifacts are published already, and
// returns a pointer to it.
func (w *world) publishManifest(m manifest.Manifest) []byte {
	w.Helper()
	file, err := manifest.SignManifest(m, w.keys.Targets[:2]...)
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(w.folder+"/stable/x86_64/manifest.json", file, 0o644); err != nil {
		w.Fatal(err)
	}
	pointer, err := manifest.SignPointer(manifest.Pointer{
		Channel: m.Channel, Arch: m.Arch, ManifestVersion: m.ManifestVersion, ManifestHash: blob.Of(file),
		ManifestSize: int64(len(file)), RootVersion: 1, CreatedAt: m.CreatedAt, ExpiresAt: m.CreatedAt.AddDate(0, 0, 7),
	}, w.keys.Timestamp)
	if err != nil {
		w.Fatal(err)
	}
	return pointer
}

func TestLocalWithoutAnythingBetter(t *testing.T) {
	for name, offer := range map[string]func(w *world) discover.Source{
		"nobody answers": func(w *world) discover.Source {
			return script{"mdns", func(context.Context, func(discover.Candidate)) {}}
		},
		"a stranger does": func(w *world) discover.Source { return after(0, "mdns", w.publish(9, w.strangers()), w.base) },
		"an older release": func(w *world) discover.Source {
			return after(0, "mdns", w.publish(4, w.keys), w.base)
		},
		"without artifacts": func(w *world) discover.Source {
			kernel := w.folder + "/stable/x86_64/kernel"
			pointer := w.publishWith(9, w.keys, []byte("another kernel"))
			if err := errors.Join(os.Remove(kernel), os.RemoveAll(w.folder+"/blobs")); err != nil {
				w.Fatal(err)
			}
			return after(0, "mdns", pointer, w.base)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.local(5)
				w.ask(offer(w))
				w.boots(SettleBudget + 10*time.Second)
				w.booted(5, 1)
			})
		})
	}
}

// Without the artifacts there is nothing to start, and both reasons are told.
func TestLastGoodWithoutArtifacts(t *testing.T) {
	inBubble(t, func(w *world) {
		w.local(5)
		if err := w.corridor.Fetcher.Store.Remove(blob.Of([]byte("kernel"))); err != nil {
			t.Fatal(err)
		}
		w.unplug()
		w.hosts = nil
		err := w.refused("NET-001")
		var missing *fetch.Error
		if !errors.As(err, &missing) || missing.Artifact != "kernel" {
			t.Errorf("%v", err)
		}
	})
}

// What lies in the memory of a medium is verified like anything else.
func TestLastGoodIsNotTrusted(t *testing.T) {
	inBubble(t, func(w *world) {
		w.local(5)
		stranger := w.strangers()
		w.publish(7, stranger)
		raw, err := os.ReadFile(w.folder + "/stable/x86_64/manifest.json")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.state.Tried(want, blob.Of([]byte("x")), raw, nil); err != nil {
			t.Fatal(err)
		}
		w.unplug()
		w.boots(time.Second)
		w.booted(5, 1)
		if !w.toldOf("cannot be started: Manifest signature verification failed") {
			t.Errorf("%q", w.told)
		}
	})
}

// A kept release, too, must be logged where the medium asks for that.
func TestLastGoodMustBeLogged(t *testing.T) {
	inBubble(t, func(w *world) {
		w.local(5)
		w.corridor.Log = newTestLog(t, "log.test").policy(t)
		w.unplug()
		w.refused("VFY-016")
	})
}

func TestLocalWithoutAMemory(t *testing.T) {
	inBubble(t, func(w *world) {
		w.local(5)
		w.corridor.State = nil
		w.unplug()
		w.refused("NET-001")
	})
}

// A network that does not come up is waited for less long when there is
// something to start without it.
func TestLocalDoesNotWaitLongForANetwork(t *testing.T) {
	inBubble(t, func(w *world) {
		w.local(5)
		w.corridor.Network = func(ctx context.Context) (*netup.Network, error) {
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
			return nil, errUnplugged
		}
		w.boots(localNetwork + time.Second)
		w.booted(5, 1)
	})
}

func TestCancelledLocalBootDoesNotFallBack(t *testing.T) {
	inBubble(t, func(w *world) {
		w.local(5)
		w.ask(silent())
		ctx, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if err := w.corridor.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || w.loaded != nil {
			t.Errorf("loaded %v, %v", w.loaded != nil, err)
		}
	})
}

func TestLastGoodErrorSpeaks(t *testing.T) {
	refusal := &manifest.Error{Rule: manifest.RuleRollback, Object: "manifest"}
	missing := &fetch.Error{Artifact: "kernel", Rounds: 1}
	for _, c := range []struct {
		kept []error
		code string
		says string
	}{
		{[]error{refusal}, "VFY-010", "Manifest version downgrade detected"},
		{[]error{missing, refusal}, "VFY-010", "Manifest version downgrade detected"},
		{[]error{missing}, "NET-001", "Failed to fetch kernel"},
		{[]error{errors.New("x")}, "NET-001", "cannot be started: x"},
	} {
		e := &LastGoodError{Kept: c.kept, Online: errUnplugged}
		if e.Code() != c.code || e.Hint() == "" || !strings.Contains(e.Error(), c.says) || !strings.Contains(e.Error(), errUnplugged.Error()) {
			t.Errorf("%s %q (%s)", e.Code(), e, e.Hint())
		}
	}
	plain := &LastGoodError{Kept: []error{errors.New("x")}, Online: errors.New("y")}
	if plain.Code() != "BOOT-011" || plain.Hint() == "" {
		t.Errorf("%s %q", plain.Code(), plain.Hint())
	}
}
