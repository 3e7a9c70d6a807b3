package trust

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/manifest"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

func TestClock(t *testing.T) {
	build := moment
	stored := build.Add(time.Hour)
	var none time.Time
	tests := []struct {
		name               string
		now, build, stored time.Time
		want               time.Time
		state              ClockState
		source             string
	}{
		{"plausible", stored.Add(time.Minute), build, stored, stored.Add(time.Minute), Trusted, SourceMachine},
		{"at the floor", stored, build, stored, stored, Trusted, SourceMachine},
		{"a second before", stored.Add(-time.Second), build, stored, stored, Floored, SourceStored},
		{"1970", time.Unix(0, 0), build, stored, stored, Floored, SourceStored},
		{"year 1", none, build, stored, stored, Floored, SourceStored},
		{"build after stored", build.Add(-time.Second), build, build.AddDate(-1, 0, 0), build, Floored, SourceBuild},
		{"nothing stored", time.Unix(0, 0), build, none, build, Floored, SourceBuild},
		{"no build time", time.Unix(0, 0), none, stored, stored, Floored, SourceStored},
		{"no floor", build, none, none, build, Unknown, SourceMachine},
		{"2038 and on", time.Unix(1<<31+5, 0), build, stored, time.Unix(1<<31+5, 0), Trusted, SourceMachine},
		{"2040", build.AddDate(14, 0, 0), build, stored, build.AddDate(14, 0, 0), Trusted, SourceMachine},
		{"absurdly late", build.AddDate(60, 0, 0), build, stored, stored, Floored, SourceStored},
		{"stored absurdly late", time.Unix(0, 0), build, build.AddDate(60, 0, 0), build, Floored, SourceBuild},
		{"stored late", time.Unix(0, 0), build, build.AddDate(20, 0, 0), build.AddDate(20, 0, 0), Floored, SourceStored},
	}
	for _, tt := range tests {
		got := Clock(tt.now, tt.build, tt.stored)
		if !got.Time.Equal(tt.want) || got.State != tt.state || got.Source != tt.source {
			t.Errorf("%s: %s, want %s %s %s", tt.name, got, tt.want, tt.source, tt.state)
		}
	}
}

// future is the refusal of a document that was made at.
func future(object string, at time.Time) error {
	return fmt.Errorf("candidate: %w", &manifest.Error{Rule: manifest.RuleFuture, Object: object, At: at})
}

func TestAdvance(t *testing.T) {
	trusted := Clock(moment, moment.Add(-year), time.Time{})
	floored := Clock(time.Unix(0, 0), moment, time.Time{})
	unknown := Clock(moment, time.Time{}, time.Time{})
	tests := []struct {
		name  string
		from  Reading
		err   error
		moved bool
	}{
		{"no error", floored, nil, false},
		{"another error", floored, errors.New("no"), false},
		{"another rule", floored, &manifest.Error{Rule: manifest.RuleExpired, At: moment.Add(time.Hour)}, false},
		{"not later", floored, future("pointer", moment), false},
		{"earlier", floored, future("pointer", moment.Add(-time.Hour)), false},
		{"floored, months", floored, future("pointer", moment.Add(90*day)), true},
		{"floored, absurdly far", floored, future("pointer", moment.Add(26*year)), false},
		{"trusted, a time zone", trusted, future("pointer", moment.Add(8*time.Hour)), true},
		{"trusted, months", trusted, future("pointer", moment.Add(90*day)), false},
		{"unknown, a time zone", unknown, future("pointer", moment.Add(8*time.Hour)), true},
		{"unknown, months", unknown, future("pointer", moment.Add(90*day)), false},
		{"made by hand, months", Reading{Time: moment, State: Trusted}, future("pointer", moment.Add(90*day)), false},
	}
	for _, tt := range tests {
		got, moved := Advance(tt.from, tt.err)
		if moved != tt.moved {
			t.Errorf("%s: moved is %v", tt.name, moved)
		}
		if !moved && got != tt.from {
			t.Errorf("%s: changed without moving", tt.name)
		}
		if moved && (!got.Time.After(moment) || got.State != Floored || got.Source != SourceDocument) {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}

// TestAdvanceStepByStep: documents cannot lead a plausible clock away by asking
// for a little again and again.
func TestAdvanceStepByStep(t *testing.T) {
	r := Clock(moment, moment.Add(-year), time.Time{})
	steps := 0
	for moved := true; moved; steps++ {
		r, moved = Advance(r, future("pointer", r.Time.Add(10*time.Hour)))
	}
	if steps != 4 || r.Time.After(moment.Add(maxZone)) {
		t.Errorf("%d steps, to %s", steps, r)
	}
}

// TestOnlyManifestsRaiseTheFloor: a pointer's single key is kept online.
func TestOnlyManifestsRaiseTheFloor(t *testing.T) {
	for object, want := range map[string]time.Time{"pointer": moment, "manifest": moment.Add(90 * day)} {
		r, moved := Advance(Clock(time.Unix(0, 0), moment, time.Time{}), future(object, moment.Add(90*day)))
		if !moved || !r.Floor.Equal(want) {
			t.Errorf("%s: %v, floor %s", object, moved, r.Floor)
		}
		back, moved := Network(r, moment.Add(day), true)
		if moved != (object == "pointer") || back.Time.Before(r.Floor) {
			t.Errorf("%s: authenticated time before it: %v, %s", object, moved, back)
		}
	}
}

func TestNetwork(t *testing.T) {
	floor := moment
	machine := func(now time.Time) Reading { return Clock(now, floor, time.Time{}) }
	dead, right, ahead, absurd := machine(time.Unix(0, 0)), machine(floor.Add(30*day)), machine(floor.Add(14*year)), machine(floor.Add(60*year))
	proven, _ := Network(dead, floor.Add(30*day), true)
	tests := []struct {
		name          string
		from          Reading
		answer        time.Time
		authenticated bool
		moved         bool
		state         ClockState
	}{
		{"dead clock, plain", dead, floor.Add(30 * day), false, true, Floored},
		{"dead clock, authenticated", dead, floor.Add(30 * day), true, true, Trusted},
		{"dead clock, answer before the floor", dead, floor.Add(-time.Second), false, false, Floored},
		{"dead clock, authenticated before the floor", dead, floor.Add(-time.Second), true, false, Floored},
		{"dead clock, answer at the floor", dead, floor, true, true, Trusted},
		{"dead clock, absurd answer", dead, floor.Add(26 * year), false, false, Floored},
		{"dead clock, absurd authenticated answer", dead, floor.Add(26 * year), true, false, Floored},
		{"right, plain behind", right, floor.Add(29 * day), false, false, Trusted},
		{"right, plain the same", right, floor.Add(30 * day), false, false, Trusted},
		{"right, plain ahead", right, floor.Add(31 * day), false, true, Trusted},
		{"right, authenticated behind", right, floor.Add(29 * day), true, true, Trusted},
		{"in 2040, plain", ahead, floor.Add(30 * day), false, false, Trusted},
		{"in 2040, authenticated", ahead, floor.Add(30 * day), true, true, Trusted},
		{"absurd, plain", absurd, floor.Add(30 * day), false, true, Floored},
		{"absurd, authenticated", absurd, floor.Add(30 * day), true, true, Trusted},
		{"proven, then plain", proven, floor.Add(40 * day), false, false, Trusted},
		{"proven, then proven", proven, floor.Add(20 * day), true, true, Trusted},
		{"no floor, plain", Clock(floor, time.Time{}, time.Time{}), floor.Add(day), false, true, Unknown},
		{"no floor, authenticated", Clock(floor, time.Time{}, time.Time{}), floor.Add(-day), true, true, Trusted},
	}
	for _, tt := range tests {
		got, moved := Network(tt.from, tt.answer, tt.authenticated)
		if moved != tt.moved || got.State != tt.state {
			t.Errorf("%s: %v, %s", tt.name, moved, got)
			continue
		}
		source := map[bool]string{false: SourceNetwork, true: SourceAuthenticated}[tt.authenticated]
		if moved && (!got.Time.Equal(tt.answer) || got.Source != source) {
			t.Errorf("%s: %s", tt.name, got)
		}
		if !moved && got != tt.from {
			t.Errorf("%s: changed without moving", tt.name)
		}
	}
}

// TestDocumentsAfterNetworkTime: plain network time must not make a clock
// refuse documents that it would have accepted, nor make it accept anything.
func TestDocumentsAfterNetworkTime(t *testing.T) {
	dead := Clock(time.Unix(0, 0), moment, time.Time{})
	plain, _ := Network(dead, moment.Add(day), false) // a router whose clock is behind as well
	if _, moved := Advance(plain, future("pointer", moment.Add(90*day))); !moved {
		t.Error("a clock that was floored stopped learning")
	}
	machine, _ := Network(Clock(moment, moment.Add(-year), time.Time{}), moment.Add(30*day), false)
	if _, moved := Advance(machine, future("pointer", moment.Add(31*day))); !moved {
		t.Error("a day after network time is too much")
	}
	if _, moved := Advance(machine, future("pointer", moment.Add(90*day))); moved {
		t.Error("plain network time opened the clock to any document")
	}
	proven, _ := Network(dead, moment.Add(day), true)
	if r, moved := Advance(proven, future("pointer", moment.Add(90*day))); moved {
		t.Errorf("a document moved authenticated time to %s", r)
	}
	near, moved := Advance(proven, future("pointer", moment.Add(day+time.Hour)))
	if !moved {
		t.Error("an hour after authenticated time is too much")
	}
	if _, moved := Network(near, moment.Add(2*day), false); moved {
		t.Error("plain network time spoke up against authenticated time")
	}
}

// TestClockIsNeverBelowItsFloor jumps at random: the machine's clock, what is
// stored, documents, the network, and time that passes.
func TestClockIsNeverBelowItsFloor(t *testing.T) {
	random := rand.New(rand.NewPCG(2038, 1))
	someTime := func() time.Time {
		edges := []time.Time{{}, time.Unix(0, 0), time.Unix(1<<31, 0), time.Unix(1<<32, 0), moment, moment.Add(14 * year)}
		at := edges[random.IntN(len(edges))]
		if at.IsZero() {
			return at
		}
		spread := []time.Duration{time.Second, day, year, 50 * year}[random.IntN(4)]
		return at.Add(time.Duration(random.Int64N(int64(2*spread))) - spread)
	}
	for range 20_000 {
		now, build, stored := someTime(), someTime(), someTime()
		r := Clock(now, build, stored)
		check := func(what string, floor time.Time) {
			if r.Time.Before(r.Floor) || r.Floor.Before(floor) || r.Time.Before(build) {
				t.Fatalf("%s of %s, %s, %s: %s, floor %s", what, now, build, stored, r, r.Floor)
			}
			if r.Source == "" || (r.State == Trusted && r.Floor.IsZero() && r.Source != SourceAuthenticated) {
				t.Fatalf("%s of %s, %s, %s: %s", what, now, build, stored, r)
			}
		}
		check("Clock", build)
		if stored.After(r.Time) && !stored.After(build.Add(maxAhead)) {
			t.Fatalf("Clock of %s, %s, %s: %s, before what is stored", now, build, stored, r)
		}
		for range 4 {
			before, moved := r, false
			switch random.IntN(4) {
			case 0:
				if r, moved = Advance(r, future([]string{"pointer", "manifest"}[random.IntN(2)], someTime())); moved && !r.Time.After(before.Time) {
					t.Fatalf("a document moved %s back to %s", before, r)
				}
			case 1:
				if r, moved = Network(r, someTime(), false); moved && !r.Time.After(before.Time) {
					t.Fatalf("plain network time moved %s back to %s", before, r)
				}
			case 2:
				r, _ = Network(r, someTime(), true)
			case 3:
				r.Time = r.Time.Add(time.Duration(random.Int64N(int64(day))))
			}
			check("step", before.Floor)
		}
	}
}

func TestClockText(t *testing.T) {
	for state, want := range map[ClockState]string{Unknown: "unknown", Floored: "floored", Trusted: "trusted", 9: "unknown"} {
		if text, err := state.MarshalText(); err != nil || string(text) != want {
			t.Errorf("%d is %q, %v", state, text, err)
		}
	}
	zone := time.FixedZone("somewhere", 3600)
	if got := Clock(moment.In(zone), moment, time.Time{}).String(); got != "2026-03-01T12:00:00Z (machine clock, trusted)" {
		t.Error(got)
	}
	if !strings.Contains(Clock(time.Time{}, moment, time.Time{}).String(), "(image build time, floored)") {
		t.Error("a floored clock does not say so")
	}
}
