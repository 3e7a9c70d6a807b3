package boot

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

// serveTime lets the corridor's time servers answer after d, with the time that
// it is by their clock when the test begins, or never if d is negative.
func (w *world) serveTime(d time.Duration, at time.Time, authenticated bool) {
	w.corridor.Time = func(ctx context.Context, _ *netup.Network) (NetworkTime, error) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		if d < 0 {
			timer.Stop()
		}
		select {
		case <-timer.C:
			return NetworkTime{Time: at.Add(time.Since(w.started)), Authenticated: authenticated, From: "2 of 3 time servers"}, nil
		case <-ctx.Done():
			return NetworkTime{}, ctx.Err()
		}
	}
	w.corridor.SetClock = func(now time.Time) { w.clocks = append(w.clocks, now) }
}

// clockAt starts the machine's clock at a time; the medium is a month old.
func (w *world) clockAt(machine time.Time) {
	w.corridor.Clock = NewClock(machine, now.AddDate(0, -1, 0), time.Time{})
}

func TestTimeDoesNotDelayABootThatGoesWell(t *testing.T) {
	inBubble(t, func(w *world) {
		w.serveTime(-1, now, true)
		w.publish(1, w.keys)
		w.boots(time.Second)
		if notes := w.notes[timeline.StageTime]; len(notes) != 1 || notes[0] != "not waited for" {
			t.Errorf("the stage ended with %q", notes)
		}
		if w.toldOf("WARNING") {
			t.Errorf("%q", w.told)
		}
	})
}

func TestTimeIsAStageBesideTheOthers(t *testing.T) {
	inBubble(t, func(w *world) {
		w.serveTime(100*time.Millisecond, now.Add(2*time.Second), true)
		w.ask(after(200*time.Millisecond, "honest", w.publish(1, w.keys)))
		w.boots(time.Second)
		if notes := w.notes[timeline.StageTime]; len(notes) != 1 || notes[0] != "+2.000 s, 2 of 3 time servers" {
			t.Errorf("the stage ended with %q", notes)
		}
		if w.toldOf("The clock was set") || len(w.clocks) != 1 {
			t.Errorf("a small correction: told %q, set %v", w.told, w.clocks)
		}
	})
}

// A clock that is ahead refuses everything; servers that prove who they are set
// it right, and what was refused is looked at again.
func TestClockAheadIsSetBack(t *testing.T) {
	for name, c := range map[string]struct {
		authenticated bool
		code          string
	}{
		"by servers that proved who they are": {true, ""},
		"by anybody":                          {false, "VFY-013"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.clockAt(now.AddDate(14, 0, 0))
				w.serveTime(3*time.Second, now, c.authenticated)
				w.publish(1, w.keys)
				if c.code != "" {
					err := w.refused(c.code)
					for _, part := range []string{"pointer refused (expired)", "2040-06-01", "machine clock"} {
						if !strings.Contains(err.Error(), part) {
							t.Errorf("%v does not name %q", err, part)
						}
					}
					return
				}
				w.boots(4 * time.Second)
				if len(w.clocks) == 0 || !w.toldOf("note The clock was set to 2026-06-01T12:00:03Z (authenticated network time, trusted).") {
					t.Errorf("set to %v, told %q", w.clocks, w.told)
				}
				if w.loaded.Info.ClockState != "trusted" {
					t.Errorf("the next system is told %q", w.loaded.Info.ClockState)
				}
			})
		})
	}
}

// A dead clock goes on from the medium's age. Then yesterday's pointer can be
// replayed, until somebody says what time it is.
func TestDeadClockAsksForTheTime(t *testing.T) {
	inBubble(t, func(w *world) {
		w.clockAt(time.Unix(0, 0))
		later := now.AddDate(0, 0, 20) // when the pointer has expired
		w.serveTime(2*time.Second, later, false)
		w.publish(1, w.keys)
		err := w.refused("VFY-013")
		if !strings.Contains(err.Error(), "(network time)") {
			t.Errorf("%v does not say where the clock came from", err)
		}
		if took := time.Since(w.started); took > SettleBudget {
			t.Errorf("it took %v", took)
		}
	})
}

func TestDeadClockDoesNotWaitForEver(t *testing.T) {
	inBubble(t, func(w *world) {
		w.clockAt(time.Unix(0, 0))
		w.serveTime(-1, now, true)
		w.publish(1, w.keys)
		w.boots(SettleBudget + time.Second)
		if took := time.Since(w.started); took < SettleBudget {
			t.Errorf("a clock that cannot be believed was not worth waiting for: %v", took)
		}
		if w.loaded.Info.ClockState != "floored" {
			t.Errorf("the next system is told %q", w.loaded.Info.ClockState)
		}
	})
}

func TestNoTimeServerAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		machine time.Time
		warned  bool
	}{"trusted clock": {now, false}, "dead clock": {time.Unix(0, 0), true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.clockAt(c.machine)
				w.corridor.Time = func(context.Context, *netup.Network) (NetworkTime, error) {
					return NetworkTime{}, errors.New("nobody there")
				}
				w.ask(after(time.Second, "honest", w.publish(1, w.keys)))
				w.boots(2 * time.Second)
				if got := w.toldOf("WARNING: no time server answered; going on from 20"); got != c.warned {
					t.Errorf("%q", w.told)
				}
				if notes := w.notes[timeline.StageTime]; len(notes) != 1 || notes[0] != "no answer: nobody there" {
					t.Errorf("the stage ended with %q", notes)
				}
			})
		})
	}
}

// Time that comes while the artifacts are fetched judges the release again.
func TestClockJumpsWhileFetching(t *testing.T) {
	inBubble(t, func(w *world) {
		w.publish(1, w.keys)
		w.serveTime(time.Second, now.AddDate(0, 0, 20), true)
		kernel := blob.Of([]byte("kernel")).Hex()
		serve := w.hosts["publisher.test"]
		w.hosts["publisher.test"] = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, kernel) {
				<-r.Context().Done()
				return
			}
			serve.ServeHTTP(rw, r)
		})
		w.refused("VFY-013")
		if !w.toldOf("note release 1 is not accepted any more") {
			t.Errorf("%q", w.told)
		}
	})
}

// When the clock jumps back and forth between what is verified, the last word
// before the hand-over is that of the clock as it is then.
func TestTimeAfterTheReleaseWasFetched(t *testing.T) {
	inBubble(t, func(w *world) {
		w.clockAt(time.Unix(0, 0)) // so that the answer is waited for
		w.publish(1, w.keys)
		w.serveTime(3*time.Second, now.AddDate(0, 0, 30), true)
		w.refused("VFY-013")
		if !w.toldOf("end fetch") {
			t.Errorf("the test came too early: %q", w.told)
		}
	})
}

func TestCorrectWithinItsRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClock(time.Unix(0, 0), now.AddDate(0, -1, 0), now.AddDate(0, 0, -7))
		if r := c.Reading(); r.State != trust.Floored || r.Source != trust.SourceStored || !r.Time.Equal(now.AddDate(0, 0, -7)) {
			t.Errorf("%v", r)
		}
		time.Sleep(time.Minute)
		if got := c.Now(); !got.Equal(now.AddDate(0, 0, -7).Add(time.Minute)) {
			t.Errorf("after a minute: %v", got)
		}
		if c.Correct(NetworkTime{Time: now.AddDate(0, 0, -8), Authenticated: true}) {
			t.Error("set back beyond its floor")
		}
		if !c.Correct(NetworkTime{Time: now, Authenticated: true}) || c.State() != trust.Trusted {
			t.Errorf("%v", c.Reading())
		}
		if c.Correct(NetworkTime{Time: now.AddDate(1, 0, 0)}) {
			t.Error("plain network time spoke up against the other")
		}
	})
}

// The time of the booted manifest is remembered, not that of its pointer.
func TestTimeIsRemembered(t *testing.T) {
	w := newWorld(t)
	pointer := w.repoint(w.publish(1, w.keys), w.keys.Timestamp, func(p *manifest.Pointer) { p.CreatedAt = now })
	w.ask(source{name: "honest", pointer: pointer, bases: []string{w.base}})
	if err := w.corridor.Run(t.Context()); !errors.Is(err, errJumped) {
		t.Fatal(err)
	}
	if stored, err := w.state.Time(); err != nil || !stored.Equal(now.Add(-time.Hour)) {
		t.Errorf("%v, %v", stored, err)
	}
}
