package trust

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/phasebased/phase/manifest"
)

func TestClock(t *testing.T) {
	build := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	stored := build.Add(time.Hour)
	var none time.Time
	tests := []struct {
		name               string
		now, build, stored time.Time
		want               time.Time
		state              ClockState
	}{
		{"plausible", stored.Add(time.Minute), build, stored, stored.Add(time.Minute), Trusted},
		{"at the floor", stored, build, stored, stored, Trusted},
		{"a second before", stored.Add(-time.Second), build, stored, stored, Floored},
		{"1970", time.Unix(0, 0), build, stored, stored, Floored},
		{"year 1", none, build, stored, stored, Floored},
		{"build after stored", build.Add(-time.Second), build, build.AddDate(-1, 0, 0), build, Floored},
		{"nothing stored", time.Unix(0, 0), build, none, build, Floored},
		{"no build time", time.Unix(0, 0), none, stored, stored, Floored},
		{"no floor", build, none, none, build, Unknown},
		{"2038 and on", time.Unix(1<<31+5, 0), build, stored, time.Unix(1<<31+5, 0), Trusted},
		{"absurdly late", build.AddDate(60, 0, 0), build, stored, build.AddDate(60, 0, 0), Unknown},
	}
	for _, tt := range tests {
		got := Clock(tt.now, tt.build, tt.stored)
		if !got.Time.Equal(tt.want) || got.State != tt.state {
			t.Errorf("%s: %s, want %s %s", tt.name, got, tt.want, tt.state)
		}
	}
}

func TestAdvance(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	future := func(d time.Duration) error {
		return fmt.Errorf("candidate: %w", &manifest.Error{Rule: manifest.RuleFuture, At: now.Add(d), Now: now})
	}
	tests := []struct {
		name  string
		state ClockState
		err   error
		moved bool
	}{
		{"no error", Floored, nil, false},
		{"another error", Floored, errors.New("no"), false},
		{"another rule", Floored, &manifest.Error{Rule: manifest.RuleExpired, At: now.Add(time.Hour)}, false},
		{"not later", Floored, future(-time.Hour), false},
		{"floored, months", Floored, future(90 * 24 * time.Hour), true},
		{"trusted, a time zone", Trusted, future(8 * time.Hour), true},
		{"trusted, months", Trusted, future(90 * 24 * time.Hour), false},
		{"unknown, months", Unknown, future(90 * 24 * time.Hour), false},
	}
	for _, tt := range tests {
		before := Reading{Time: now, State: tt.state, Floor: now}
		got, moved := Advance(before, tt.err)
		if moved != tt.moved {
			t.Errorf("%s: moved is %v", tt.name, moved)
		}
		if !moved && (!got.Time.Equal(now) || got.State != tt.state) {
			t.Errorf("%s: changed without moving", tt.name)
		}
		if moved && (!got.Time.After(now) || got.State != Floored) {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}

func TestStateText(t *testing.T) {
	for state, want := range map[ClockState]string{Unknown: "unknown", Floored: "floored", Trusted: "trusted", 9: "unknown"} {
		if text, err := state.MarshalText(); err != nil || string(text) != want {
			t.Errorf("%d is %q, %v", state, text, err)
		}
	}
}
