package boot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

// script is a source that does what it says.
type script struct {
	name string
	run  func(ctx context.Context, found func(discover.Candidate))
}

func (s script) Name() string { return s.name }

func (s script) Search(ctx context.Context, _ discover.Query, found func(discover.Candidate)) error {
	s.run(ctx, found)
	return nil
}

// after is a source that answers once, when d has passed.
func after(d time.Duration, name string, pointer []byte, bases ...string) discover.Source {
	return script{name, func(ctx context.Context, found func(discover.Candidate)) {
		time.Sleep(d)
		found(discover.Candidate{Pointer: pointer, Bases: bases, Origin: name})
	}}
}

// silent is a source that never answers.
func silent() discover.Source {
	return script{"silent", func(ctx context.Context, _ func(discover.Candidate)) { <-ctx.Done() }}
}

// inBubble runs a test with its own clock. When it returns every goroutine of
// the corridor must have ended, or the test fails.
func inBubble(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) { test(newWorld(t)) })
}

// boots runs the corridor and asserts that it jumped within the time.
func (w *world) boots(within time.Duration) {
	w.Helper()
	if err := w.corridor.Run(w.Context()); !errors.Is(err, errJumped) {
		w.Fatal(err)
	}
	if took := time.Since(w.started); took > within {
		w.Errorf("it took %v, more than %v", took, within)
	}
}

// drop removes a blob from the publisher's server.
func (w *world) drop(name string) {
	w.Helper()
	hex := blob.Of([]byte(name)).Hex()
	for _, path := range []string{"blobs/" + hex[:2] + "/" + hex + ".bin", "stable/x86_64/" + name} {
		if err := os.Remove(filepath.Join(w.folder, path)); err != nil {
			w.Fatal(err)
		}
	}
}

// manifestsOnly is a provider that has no artifacts.
func (w *world) manifestsOnly() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/manifest.json") {
			http.NotFound(rw, r)
			return
		}
		http.ServeFile(rw, r, filepath.Join(w.folder, r.URL.Path))
	})
}

func TestStallingProvider(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.publishAt(1, w.keys)
		w.hosts["tarpit.test"] = nil
		w.ask(after(0, "hostile", pointer, "http://tarpit.test"), after(100*time.Millisecond, "honest", pointer, w.base))
		w.boots(time.Second)
		if got, want := w.loaded.Info.Bases, []string{w.base, "http://tarpit.test"}; !slices.Equal(got, want) {
			w.Errorf("the bases are %q, want %q", got, want)
		}
	})
}

func TestOnlyStallingProviders(t *testing.T) {
	for name, delay := range map[string]time.Duration{"first": 0, "at the end": 28 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				pointer := w.publishAt(1, w.keys)
				w.hosts["tarpit.test"] = nil
				w.ask(after(delay, "hostile", pointer, "http://tarpit.test"), silent())
				err := w.refused("FETCH-001")
				if delay == 0 && !errors.Is(err, fetch.ErrTimeout) {
					w.Errorf("%v does not say that the attempt took too long", err)
				}
				if took := time.Since(w.started); took > SearchBudget+time.Second {
					w.Errorf("the search took %v", took)
				}
			})
		})
	}
}

func TestFloodOfPlaces(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.publishAt(1, w.keys)
		w.hosts["tarpit.test"] = nil
		w.ask(script{"hostile", func(_ context.Context, found func(discover.Candidate)) {
			for i := range discover.MaxCandidates {
				var bases []string
				for j := range discover.MaxBases {
					bases = append(bases, fmt.Sprintf("http://tarpit.test/%d/%d", i, j))
				}
				found(discover.Candidate{Pointer: pointer, Bases: bases, Origin: "hostile"})
			}
		}}, after(100*time.Millisecond, "honest", pointer, w.base))
		w.boots(time.Second)
		if bases := w.loaded.Info.Bases; bases[0] != w.base || len(bases) > 64 {
			w.Errorf("the next system is told %d bases, first %s", len(bases), bases[0])
		}
	})
}

func TestFloodOfJunk(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.publish(1, w.keys)
		w.ask(junk(), after(100*time.Millisecond, "honest", pointer))
		w.boots(time.Second)
	})
}

func junk() discover.Source {
	return script{"junk", func(_ context.Context, found func(discover.Candidate)) {
		for i := range discover.MaxCandidates {
			found(discover.Candidate{Pointer: fmt.Append(nil, "junk", i), Origin: "junk"})
		}
	}}
}

func TestFloodOfOldReleases(t *testing.T) {
	inBubble(t, func(w *world) {
		w.hosts["tarpit.test"] = nil
		var sources []discover.Source
		for version := range int64(maxGroups + 2) {
			pointer := w.publishAt(version+1, w.keys)
			sources = append(sources, after(0, "replay", pointer, "http://tarpit.test"))
		}
		pointer := w.publishAt(100, w.keys)
		w.ask(append(sources, after(time.Second, "honest", pointer, w.base))...)
		w.boots(2 * time.Second)
	})
}

// Whoever has stolen the online key can name newer releases that nobody has. One
// source full of them does not keep out what another one knows.
func TestFloodOfInventedReleases(t *testing.T) {
	inBubble(t, func(w *world) {
		real := w.publishAt(1, w.keys)
		w.hosts["tarpit.test"] = nil
		w.ask(script{"thief", func(_ context.Context, found func(discover.Candidate)) {
			p, err := manifest.InspectPointer(real)
			if err != nil {
				t.Error(err)
			}
			for i := range discover.MaxCandidates {
				p.ManifestVersion, p.ManifestHash = 1<<50+int64(i), blob.Of(fmt.Append(nil, i))
				invented, err := manifest.SignPointer(p, w.keys.Timestamp)
				if err != nil {
					t.Error(err)
				}
				found(discover.Candidate{Pointer: invented, Bases: []string{"http://tarpit.test"}, Origin: fmt.Sprint("thief ", i)})
			}
		}}, after(time.Second, "honest", real, w.base))
		w.boots(SettleBudget + time.Second)
		w.booted(1, 1)
	})
}

func TestNewerGroupsEvict(t *testing.T) {
	inBubble(t, func(w *world) {
		h := newHunt(w.corridor, floors{})
		h.ctx = w.Context()
		h.searched = true // so that each pursuit ends at once
		for version := range int64(2 * maxGroups) {
			h.examine(discover.Candidate{Pointer: w.publishAt(version+1, w.keys), Origin: "x"})
		}
		h.examine(discover.Candidate{Pointer: w.publishAt(1, w.keys), Origin: "x"})
		h.tasks.Wait()
		if len(h.groups) != maxGroups {
			w.Errorf("%d groups", len(h.groups))
		}
		for id := range h.groups {
			if !h.groups[id].useless() && id.version <= maxGroups {
				w.Errorf("release %d was kept", id.version)
			}
		}
	})
}

func TestProvidersOfOneReleaseAreMerged(t *testing.T) {
	for name, delay := range map[string]time.Duration{"at once": 0, "during the fetch": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				pointer := w.publishAt(1, w.keys)
				w.hosts["half.test"] = w.manifestsOnly()
				w.ask(after(0, "half", pointer, "http://half.test"), after(delay, "whole", pointer, w.base+"/"))
				w.boots(delay + time.Second)
				if got, want := w.loaded.Info.Bases, []string{w.base, "http://half.test"}; delay > 0 && !slices.Equal(got, want) {
					w.Errorf("the bases are %q, want %q", got, want)
				}
			})
		})
	}
}

func TestFetchFailureWaitsForTheSearchToSettle(t *testing.T) {
	inBubble(t, func(w *world) {
		w.publish(1, w.keys)
		w.drop("kernel")
		w.ask(&discover.HTTP{Base: w.base, Get: w.corridor.Fetcher.Get}, silent())
		w.refused("FETCH-001")
		// The silent one may still know another place.
		if took := time.Since(w.started); took < SettleBudget || took > SettleBudget+Patience {
			w.Errorf("it took %v", took)
		}
	})
}

func TestLocalFailureDoesNotWait(t *testing.T) {
	for code, arm := range map[string]func(w *world){
		"KEXEC-001": func(w *world) { w.corridor.Fits = tooLittle },
		"BOOT-090":  func(w *world) { w.corridor.Observe = panicking{w} },
	} {
		t.Run(code, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.publish(1, w.keys)
				w.ask(&discover.HTTP{Base: w.base, Get: w.corridor.Fetcher.Get}, silent())
				arm(w)
				w.refused(code)
				if took := time.Since(w.started); took > time.Second {
					w.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestHuntEndsBeforeTheJump(t *testing.T) {
	inBubble(t, func(w *world) {
		first, second := w.publish(1, w.keys), w.publishAt(2, w.keys)
		w.hosts["tarpit.test"] = nil
		stop, closed := make(chan struct{}), false
		var ended atomic.Bool
		babbler := script{"babbler", func(ctx context.Context, found func(discover.Candidate)) {
			found(discover.Candidate{Pointer: first, Origin: "babbler"})
			found(discover.Candidate{Pointer: second, Bases: []string{"http://tarpit.test"}, Origin: "babbler"})
			for ctx.Err() == nil {
				found(discover.Candidate{Pointer: []byte("junk"), Origin: "babbler"})
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
			ended.Store(true)
			<-stop // a source that does not end
			found(discover.Candidate{Pointer: []byte("late"), Origin: "late"})
			panic("late")
		}}
		w.corridor.Sources = func(context.Context, *netup.Network) Reach {
			return Reach{Search: []discover.Source{babbler}, Close: func() { closed = true }}
		}
		load := w.corridor.Load
		w.corridor.Load = func(set handover.Set) (Loaded, error) {
			if !ended.Load() || !closed {
				w.Errorf("loading began when the search had ended: %v, its sources were closed: %v", ended.Load(), closed)
			}
			return load(set)
		}
		w.boots(SettleBudget + 2*time.Second)
		before := len(w.told)
		close(stop)
		synctest.Wait()
		if late := w.told[before:]; len(late) > 0 {
			w.Errorf("after Run had returned the observer was told %q", late)
		}
	})
}

func TestHangingCloseDoesNotStopTheBoot(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.publish(1, w.keys)
		stop := make(chan struct{})
		defer close(stop)
		w.corridor.Sources = func(context.Context, *netup.Network) Reach {
			return Reach{Search: []discover.Source{after(0, "honest", pointer)}, Close: func() { <-stop }}
		}
		w.boots(closeLimit + time.Second)
	})
}

func TestCancelledRun(t *testing.T) {
	for name, c := range map[string]struct {
		sources func(w *world) []discover.Source
		last    string
	}{
		"while searching": {func(w *world) []discover.Source { return nil }, "fail discovery"},
		"while settling": {func(w *world) []discover.Source {
			return []discover.Source{after(0, "honest", w.publish(1, w.keys))}
		}, "end fetch"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.ask(append(c.sources(w), silent())...)
				ctx, cancel := context.WithTimeout(w.Context(), time.Second)
				defer cancel()
				if err := w.corridor.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
					w.Error(err)
				}
				if last := w.told[len(w.told)-1]; last != c.last {
					w.Errorf("the last stage: %s", last)
				}
			})
		})
	}
}

func TestNearProvidersFirst(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.publishAt(1, w.keys, "http://far.test")
		w.hosts["far.test"] = w.hosts["publisher.test"]
		w.ask(after(0, "near", pointer, w.base))
		w.boots(time.Second)
		if slices.Contains(w.asked, "far.test/stable/x86_64/manifest.json") {
			w.Error("the far provider was asked for the manifest that the near one had")
		}
		if got, want := w.loaded.Info.Bases, []string{w.base, "http://far.test"}; !slices.Equal(got, want) {
			w.Errorf("the bases are %q, want %q", got, want)
		}
	})
}

// A near provider that is found later comes before the publisher's far one, but
// not one that let itself be overtaken.
func TestOrderOfBases(t *testing.T) {
	for name, c := range map[string]struct {
		sources func(pointer []byte) []discover.Source
		want    []string
		bases   []string // in the pointer, before the publisher's
	}{
		"near later": {want: []string{"http://near.test", "http://publisher.test"},
			sources: func(pointer []byte) []discover.Source {
				return []discover.Source{after(0, "dht", pointer), after(time.Second, "near", pointer, "http://near.test")}
			}},
		"near stalls": {want: []string{"http://publisher.test", "http://tarpit.test"},
			sources: func(pointer []byte) []discover.Source {
				return []discover.Source{after(0, "near", pointer, "http://tarpit.test")}
			}},
		"near is the publisher's second": {want: []string{"http://publisher.test", "http://far.test"}, bases: []string{"http://far.test"},
			sources: func(pointer []byte) []discover.Source {
				return []discover.Source{after(0, "dht", pointer), after(time.Second, "near", pointer, "http://publisher.test")}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.hosts["far.test"] = w.hosts["publisher.test"]
				w.hosts["near.test"], w.hosts["tarpit.test"] = w.hosts["publisher.test"], nil
				pointer := w.publishAt(1, w.keys, append(c.bases, w.base)...)
				w.ask(append(c.sources(pointer), after(2*time.Second, "slow", nil))...)
				w.boots(3 * time.Second)
				if got := w.loaded.Info.Bases; !slices.Equal(got, c.want) {
					w.Errorf("the bases are %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestNewerReleaseReplacesAnOlderOne(t *testing.T) {
	inBubble(t, func(w *world) {
		older := w.publish(1, w.keys)
		newer := w.publish(2, w.keys)
		serve := w.hosts["publisher.test"]
		var stalled atomic.Bool
		w.hosts["publisher.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, blob.Of([]byte("kernel")).Hex()) && stalled.CompareAndSwap(false, true) {
				<-r.Context().Done()
			}
			serve.ServeHTTP(rw, r)
		})
		w.ask(after(0, "quick", older), after(2*time.Second, "slow", newer))
		w.boots(3 * time.Second)
		if got := w.loaded.Verified.Manifest().ManifestVersion; got != 2 {
			w.Errorf("release %d was loaded, want 2", got)
		}
		stages := slices.DeleteFunc(slices.Clone(w.told), func(s string) bool { return strings.HasPrefix(s, "note") })
		want := []string{"begin network", "end network", "begin discovery", "end discovery", "begin verify", "end verify",
			"begin fetch", "end fetch", "begin fetch", "end fetch", "begin hand-over", "end hand-over"}
		if !slices.Equal(stages, want) {
			w.Errorf("the stages were %q", stages)
		}
		if note := w.notes[timeline.StageFetch][0]; note != "gave way to another release" {
			w.Errorf("the older release's fetch ended with %q", note)
		}
	})
}

func TestStagesHaveTheirRealTimes(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.publish(1, w.keys)
		serve := w.hosts["publisher.test"]
		w.hosts["publisher.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			serve.ServeHTTP(rw, r)
		})
		w.ask(after(2*time.Second, "honest", pointer))
		w.boots(5 * time.Second)
		for event, want := range map[string]time.Duration{
			"begin discovery": 0, "end discovery": 2 * time.Second, "begin verify": 2 * time.Second,
			"end verify": 3 * time.Second, "begin fetch": 3 * time.Second,
		} {
			if got := w.at[event].Truncate(100 * time.Millisecond); got != want {
				w.Errorf("%s at %v, want %v", event, got, want)
			}
		}
	})
}

func TestFailureEndsTheRunningStage(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(w *world)
		code    string
		last    string
	}{
		"stranger's pointer": {func(w *world) { w.publish(1, w.strangers()) }, "VFY-004", "fail discovery"},
		"no manifest": {func(w *world) {
			w.ask(after(0, "x", w.publishAt(1, w.keys)))
		}, "FETCH-003", "fail verify"},
		"no kernel": {func(w *world) { w.publish(1, w.keys); w.drop("kernel") }, "FETCH-001", "fail fetch"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				c.prepare(w)
				w.refused(c.code)
				stages := slices.DeleteFunc(w.told, func(s string) bool { return strings.HasPrefix(s, "skipped") })
				if last := stages[len(stages)-1]; last != c.last {
					w.Errorf("the observer was told %q", stages)
				}
			})
		})
	}
}

// Which other root might help is only asked where keys are in question.
func TestNewerRootDoesNotExcuseEverything(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.repoint(w.publish(1, w.keys), w.keys.Timestamp, func(p *manifest.Pointer) { p.RootVersion, p.Channel = 2, "testing" })
		w.ask(after(0, "dht", pointer, w.base))
		w.refused("VFY-008")
		if len(w.asked) > 0 {
			w.Errorf("%q were asked", w.asked)
		}
	})
}

func TestManifestOfAStranger(t *testing.T) {
	inBubble(t, func(w *world) {
		keys := *w.keys
		keys.Targets = w.strangers().Targets
		w.publish(1, &keys)
		w.refused("VFY-004")
	})
}

func TestFloorThatCannotBeStored(t *testing.T) {
	inBubble(t, func(w *world) {
		file := filepath.Join(w.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			w.Fatal(err)
		}
		w.publish(1, w.keys)
		w.corridor.State = trust.OpenState(filepath.Join(w.TempDir(), "state"))
		load := w.corridor.Load
		w.corridor.Load = func(set handover.Set) (Loaded, error) {
			w.corridor.State = trust.OpenState(filepath.Join(file, "state")) // the stick dies
			return load(set)
		}
		w.boots(time.Second)
		if !slices.ContainsFunc(w.told, func(s string) bool { return strings.HasPrefix(s, "note WARNING: the version floor") }) {
			w.Errorf("nobody was told: %q", w.told)
		}
	})
}

func TestFloorRaisedMeanwhile(t *testing.T) {
	for name, floor := range map[string]manifest.Floor{
		"higher": {ManifestVersion: 9, Digest: blob.Of([]byte("9"))},
		"other":  {ManifestVersion: 1, Digest: blob.Of([]byte("1"))},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.publish(1, w.keys)
				w.corridor.Load = func(handover.Set) (Loaded, error) { return w, w.state.SaveFloor(want, floor, nil) }
				w.refused("VFY-021")
				if w.unloaded != 1 {
					w.Errorf("the kernel was unloaded %d times", w.unloaded)
				}
			})
		})
	}
}

func TestPanicsBecomeErrors(t *testing.T) {
	for name, arm := range map[string]func(w *world){
		"source": func(w *world) {
			w.ask(script{"bad", func(context.Context, func(discover.Candidate)) { panic("boom") }})
		},
		"manifest": func(w *world) {
			w.hosts["publisher.test"] = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })
			w.ask(after(0, "honest", w.publish(1, w.keys)))
		},
		"artifact": func(w *world) { w.corridor.Observe = panicking{w} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.publish(1, w.keys)
				arm(w)
				err := w.refused("BOOT-090")
				var defect *PanicError
				if !errors.As(err, &defect) || defect.Value != "boom" || !strings.Contains(defect.Stack, "_test.go") {
					w.Errorf("%#v", err)
				}
			})
		})
	}
}

// panicking is an observer with a defect.
type panicking struct{ *world }

func (panicking) Progress(fetch.Progress) { panic("boom") }

func TestPanickingSourceIsSkipped(t *testing.T) {
	inBubble(t, func(w *world) {
		pointer := w.publish(1, w.keys)
		w.ask(script{"bad", func(context.Context, func(discover.Candidate)) { panic("boom") }}, after(time.Second, "honest", pointer))
		w.boots(2 * time.Second)
		if !slices.Contains(w.told, "skipped bad") {
			w.Errorf("the observer was told %q", w.told)
		}
	})
}

func TestNobodyKnowsARelease(t *testing.T) {
	inBubble(t, func(w *world) {
		w.ask(script{"mdns", func(context.Context, func(discover.Candidate)) {}})
		err := w.refused("DISC-002")
		if !strings.Contains(err.Error(), "mdns knows none") {
			w.Error(err)
		}
	})
}

func TestMostTellingRefusal(t *testing.T) {
	refusal := func(rule manifest.Rule) error {
		return fmt.Errorf("from x: %w", &manifest.Error{Rule: rule, Object: "manifest"})
	}
	unfetched := fmt.Errorf("from x: %w", &fetch.Error{Artifact: "manifest", Rounds: 1})
	malformed, unsigned := refusal(manifest.RuleMalformed), refusal(manifest.RuleSignature)
	defect := &PanicError{Value: "boom"}
	for _, c := range []struct {
		offered []error
		code    string
	}{
		{[]error{malformed, unfetched}, "FETCH-001"},
		{[]error{malformed, unfetched, unsigned}, "VFY-004"},
		{[]error{unsigned, refusal(manifest.RuleRollback), refusal(manifest.RuleExpired)}, "VFY-010"},
		{[]error{unsigned, refusal(manifest.RuleExpired)}, "VFY-013"},
		{[]error{unsigned, refusal(manifest.RuleSameVersion)}, "VFY-011"},
		{[]error{unsigned, refusal(manifest.RuleFuture)}, "VFY-014"},
		{[]error{unsigned, refusal(manifest.RulePolicy)}, "VFY-015"},
		{[]error{unsigned, refusal(manifest.RuleChannel)}, "VFY-008"},
		{[]error{unsigned, refusal(manifest.RuleArch)}, "VFY-009"},
		{[]error{refusal(manifest.RuleRollback), defect}, "BOOT-090"},
		{[]error{malformed}, "VFY-002"},
		{nil, "DISC-001"},
	} {
		e := &NotFoundError{}
		for range 3 * maxRejected { // noise before and after must not push it out
			e.Rejected = addRejected(e.Rejected, malformed)
		}
		if c.offered == nil || c.offered[0] == malformed && len(c.offered) == 1 {
			e.Rejected = nil
		}
		for _, err := range c.offered {
			e.Rejected = addRejected(e.Rejected, err)
		}
		if len(e.Rejected) > maxRejected || e.Code() != c.code || e.Hint() == "" || e.Error() == "" {
			t.Errorf("%v: %d kept, %s %q", c.offered, len(e.Rejected), e.Code(), e.Error())
		}
	}
}

func TestJunkOnly(t *testing.T) {
	inBubble(t, func(w *world) {
		w.ask(junk())
		err := w.refused("VFY-002")
		var none *NotFoundError
		if !errors.As(err, &none) || len(none.Rejected) != maxRejected || none.Answers[0].Candidates != discover.MaxCandidates {
			w.Errorf("%+v", err)
		}
	})
}
