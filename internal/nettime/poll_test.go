package nettime

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// pollOf builds a poll from a picture: for each server "n" (NTS) or "p"
// (plain) and what is known of it: "?" pending, "-" failed, "!" not asked, or
// the minutes its clock is ahead.
func pollOf(t *testing.T, impatient bool, picture ...string) *poll {
	t.Helper()
	p := &poll{impatient: impatient}
	for _, s := range picture {
		v := voice{server: Server{NTS: s[0] == 'n'}}
		switch s[1] {
		case '?':
		case '-':
			v.state, v.err = failed, ErrNoAnswer
		case '!':
			v.state, v.err = unasked, ErrTwice
		default:
			var minutes int
			if _, err := fmt.Sscan(s[1:], &minutes); err != nil {
				t.Fatal(err)
			}
			v.state, v.ahead = answered, time.Duration(minutes)*time.Minute
		}
		p.voices = append(p.voices, v)
	}
	return p
}

// TestPoll is the whole policy: when a poll is settled, and for what.
func TestPoll(t *testing.T) {
	const waits = Reason(-1)
	type row struct {
		impatient bool
		picture   []string
		reason    Reason // 0: an answer
		authentic bool
		minutes   int
	}
	pic := func(p ...string) []string { return p }
	for n, c := range []row{
		{false, pic(), NoServers, false, 0},
		{false, pic("p!", "n!"), NoServers, false, 0},
		{false, pic("p?"), waits, false, 0},
		{false, pic("p-"), NoAnswer, false, 0},
		{false, pic("p5"), 0, false, 5},
		{false, pic("p5", "p!"), 0, false, 5},
		{false, pic("p5", "p?"), waits, false, 0},
		{false, pic("p5", "p5", "p?"), 0, false, 5},
		{false, pic("p5", "p9", "p?"), waits, false, 0},
		{false, pic("p5", "p9", "p9"), 0, false, 9},
		{false, pic("p5", "p9", "p-"), NoAgreement, false, 0},
		{false, pic("p5", "p5", "p9", "p9"), NoAgreement, false, 0},
		{false, pic("p5", "p5", "p?", "p?"), waits, false, 0},
		{false, pic("p5", "p5", "p5", "p?", "p?"), 0, false, 5},

		// The only NTS server asked speaks for NTS; plain ones are not waited for.
		{false, pic("n5"), 0, true, 5},
		{false, pic("n5", "p?", "p?"), 0, true, 5},
		{false, pic("n5", "p9", "p9"), 0, true, 5},
		{false, pic("n5", "n!", "p9"), 0, true, 5},
		{false, pic("n?", "p9", "p9"), waits, false, 0},
		{true, pic("n?", "p9", "p9"), 0, false, 9},
		{true, pic("n?", "p9", "p?"), waits, false, 0},
		{true, pic("n?", "p9", "p8"), waits, false, 0},
		{true, pic("n?", "p-"), waits, false, 0},
		{false, pic("n-", "p9", "p?", "p9"), 0, false, 9},
		{false, pic("n-", "p-"), NoAnswer, false, 0},

		// Of several, two must agree, and more than half.
		{false, pic("n5", "n5", "n?"), 0, true, 5},
		{false, pic("n5", "n?", "n?"), waits, false, 0},
		{true, pic("n5", "n?", "n?"), waits, false, 0},
		{false, pic("n5", "n5", "n?", "n?"), waits, false, 0},
		{true, pic("n5", "n5", "n?", "n?"), 0, true, 5},
		{true, pic("n5", "n5", "n?", "n?", "p9"), 0, true, 5},
		{false, pic("n5", "n5", "n-", "n-"), 0, true, 5},
		{false, pic("n5", "n9", "n9"), 0, true, 9},
		{false, pic("n5", "n9", "n?", "p5", "p5"), waits, false, 0},
		{true, pic("n5", "n9", "n?", "p5", "p5"), waits, false, 0},

		// Authenticated servers that contradict each other leave no answer,
		// however many plain ones there are.
		{false, pic("n5", "n9"), NoAgreement, false, 0},
		{false, pic("n5", "n9", "p5", "p5", "p5"), NoAgreement, false, 0},
		{false, pic("n5", "n9", "p?"), NoAgreement, false, 0},

		// A lone one of several is no authenticated answer, but has a veto.
		{false, pic("n5", "n-"), 0, false, 5},
		{false, pic("n5", "n-", "p?"), waits, false, 0},
		{false, pic("n5", "n-", "p5"), 0, false, 5},
		{false, pic("n5", "n-", "p5", "p?"), 0, false, 5},
		{false, pic("n5", "n-", "p9"), NoAgreement, false, 0},
		{false, pic("n5", "n-", "p9", "p9", "p9"), NoAgreement, false, 0},
		{true, pic("n5", "n?", "p9", "p9", "p9"), waits, false, 0}, // the second may still come
		{true, pic("n5", "n?", "p5", "p5"), 0, false, 5},
	} {
		// Whatever the order of the servers.
		for range 5 {
			rand.Shuffle(len(c.picture), func(i, k int) { c.picture[i], c.picture[k] = c.picture[k], c.picture[i] })
			p := pollOf(t, c.impatient, c.picture...)
			if got := p.settled(); got != (c.reason != waits) {
				t.Errorf("row %d, %q: settled %v", n, c.picture, got)
				break
			}
			v := p.verdict()
			if c.reason == waits {
				continue
			}
			if v.reason != c.reason || v.authenticated != c.authentic || c.reason == 0 && median(v.agreed) != time.Duration(c.minutes)*time.Minute {
				t.Errorf("row %d, %q: %+v", n, c.picture, v)
				break
			}
		}
	}
}

// TestSettledStays: what settled a poll is not overturned by what comes later,
// unless by somebody who had to be given up for lost.
func TestSettledStays(t *testing.T) {
	minutes := []string{"5", "5", "5", "9", "-", "?", "?"}
	for range 20_000 {
		var picture []string
		for range 1 + rand.IntN(6) {
			picture = append(picture, string("np"[rand.IntN(2)])+minutes[rand.IntN(len(minutes))])
		}
		p := pollOf(t, false, picture...)
		if !p.settled() {
			continue
		}
		before := p.verdict()
		for n := range p.voices {
			if p.voices[n].state == pending {
				p.take(answer{index: n, reading: reading{ahead: time.Duration([]int{5, 9, 13}[rand.IntN(3)]) * time.Minute}})
			}
		}
		after := p.verdict()
		if before.reason != after.reason || before.authenticated != after.authenticated || before.reason == 0 && median(before.agreed) != median(after.agreed) {
			t.Fatalf("%q settled as %+v, and ended as %+v", picture, before, after)
		}
	}
}

func TestAgreeing(t *testing.T) {
	seconds := func(s ...int) []time.Duration {
		var out []time.Duration
		for _, n := range s {
			out = append(out, time.Duration(n)*time.Second)
		}
		return out
	}
	for _, c := range []struct{ all, want []time.Duration }{
		{nil, nil},
		{seconds(7), seconds(7)},
		{seconds(10, 0), seconds(0, 10)},
		{seconds(11, 0), seconds(0)},
		{seconds(0, 8, 16), seconds(0, 8)},
		{seconds(0, 9, 16), seconds(9, 16)},
		{seconds(100, 3, 1, 2, 99), seconds(1, 2, 3)},
		{[]time.Duration{-1 << 62, 1 << 61}, []time.Duration{-1 << 62}}, // 136 years apart and more
	} {
		if got := agreeing(c.all); !slices.Equal(got, c.want) {
			t.Errorf("of %v agree %v, want %v", c.all, got, c.want)
		}
	}
	for _, c := range []struct {
		of   []time.Duration
		want time.Duration
	}{{seconds(5), 5 * time.Second}, {seconds(4, 6), 5 * time.Second}, {seconds(1, 2, 9), 2 * time.Second}, {seconds(1, 2, 4, 9), 3 * time.Second}} {
		if got := median(c.of); got != c.want {
			t.Errorf("median of %v: %s", c.of, got)
		}
	}
}

func TestTargets(t *testing.T) {
	for address, want := range map[string]string{
		"time.example": "time.example:123", "time.example:1123": "time.example:1123", "192.0.2.1": "192.0.2.1:123", "2001:db8::1": "[2001:db8::1]:123",
		"[2001:db8::1]:5": "[2001:db8::1]:5", "_ntp.example.": "_ntp.example.:123",
	} {
		got, err := newTarget(0, Server{Address: address}, false)
		if err != nil || got.hostPort() != want {
			t.Errorf("%s: %s, %v", address, got.hostPort(), err)
		}
	}
	if got, err := newTarget(0, Server{Address: "time.example", NTS: true}, false); err != nil || got.hostPort() != "time.example:4460" {
		t.Errorf("NTS: %s, %v", got.hostPort(), err)
	}
	for _, pair := range [][2]string{{"time.example", "TIME.example."}, {"time.example", "time.example:123"}, {"::1", "[::1]:123"}} {
		p, targets := newPoll([]Server{{Address: pair[0]}, {Address: pair[1]}}, false)
		if len(targets) != 1 || !errors.Is(p.voices[1].err, ErrTwice) {
			t.Errorf("%q are asked as %v", pair, targets)
		}
	}
	if _, targets := newPoll([]Server{{Address: "a"}, {Address: "a", NTS: true}}, false); len(targets) != 2 {
		t.Errorf("with and without NTS: %v", targets)
	}
}
