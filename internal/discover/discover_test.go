package discover_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/internal/discover"
)

var query = discover.Query{Channel: "stable", Arch: "x86_64"}

// source is a Source made of a function.
type source struct {
	name   string
	search func(ctx context.Context, found func(discover.Candidate)) error
}

func (s source) Name() string { return s.name }
func (s source) Search(ctx context.Context, _ discover.Query, found func(discover.Candidate)) error {
	return s.search(ctx, found)
}

func gives(name string, pointers ...string) source {
	return source{name, func(_ context.Context, found func(discover.Candidate)) error {
		for _, p := range pointers {
			found(discover.Candidate{Pointer: []byte(p), Origin: name})
		}
		return nil
	}}
}

func TestSearchAsksAllAtOnce(t *testing.T) {
	// Each source answers only once both were asked.
	var met sync.WaitGroup
	met.Add(2)
	meets := func(name string) source {
		return source{name, func(ctx context.Context, found func(discover.Candidate)) error {
			met.Done()
			met.Wait()
			found(discover.Candidate{Pointer: []byte(name)})
			return nil
		}}
	}
	broken := errors.New("broken")
	fails := source{"fails", func(context.Context, func(discover.Candidate)) error { return broken }}
	got := map[string]bool{}
	answers := discover.Search(t.Context(), query, time.Minute, []discover.Source{meets("a"), fails, meets("b")},
		func(c discover.Candidate) { got[string(c.Pointer)] = true })
	if !got["a"] || !got["b"] {
		t.Errorf("found %v", got)
	}
	for i, want := range []struct {
		name string
		n    int
		err  error
	}{{"a", 1, nil}, {"fails", 0, broken}, {"b", 1, nil}} {
		a := answers[i]
		if a.Source != want.name || a.Candidates != want.n || !errors.Is(a.Err, want.err) || a.Took <= 0 {
			t.Errorf("answer %d: %+v", i, a)
		}
	}
}

func TestSearchSerialisesFound(t *testing.T) {
	many := source{"many", func(_ context.Context, found func(discover.Candidate)) error {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { found(discover.Candidate{Pointer: []byte("p")}) })
		}
		wg.Wait()
		return nil
	}}
	inside := 0 // the race detector and the count both watch it
	var last time.Duration
	answers := discover.Search(t.Context(), query, time.Minute, []discover.Source{many, many}, func(c discover.Candidate) {
		inside++
		if inside != 1 {
			t.Error("found called concurrently")
		}
		if c.At < last {
			t.Errorf("time went back from %v to %v", last, c.At)
		}
		last = c.At
		inside--
	})
	if answers[0].Candidates+answers[1].Candidates != 40 {
		t.Errorf("answers %+v", answers)
	}
}

func TestSearchKeepsItsBudget(t *testing.T) {
	synctest.Test(t, keepsItsBudget)
}

func keepsItsBudget(t *testing.T) {
	deaf := make(chan struct{})
	defer close(deaf)
	ignores := source{"ignores", func(context.Context, func(discover.Candidate)) error { <-deaf; return nil }}
	heeds := source{"heeds", func(ctx context.Context, _ func(discover.Candidate)) error { <-ctx.Done(); return ctx.Err() }}
	start := time.Now()
	answers := discover.Search(t.Context(), query, 50*time.Millisecond, []discover.Source{ignores, heeds, gives("quick", "p")}, func(discover.Candidate) {})
	if took := time.Since(start); took < 50*time.Millisecond || took > time.Second {
		t.Errorf("took %v", took)
	}
	if !errors.Is(answers[0].Err, discover.ErrStillBusy) {
		t.Errorf("deaf source: %v", answers[0].Err)
	}
	if !errors.Is(answers[1].Err, context.DeadlineExceeded) {
		t.Errorf("heeding source: %v", answers[1].Err)
	}
	if answers[2].Err != nil || answers[2].Candidates != 1 {
		t.Errorf("quick source: %+v", answers[2])
	}
}

func TestSearchEndsEarlyWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	slow := source{"slow", func(ctx context.Context, _ func(discover.Candidate)) error { <-ctx.Done(); return ctx.Err() }}
	start := time.Now()
	discover.Search(ctx, query, time.Hour, []discover.Source{slow, gives("quick", "p")}, func(discover.Candidate) { cancel() })
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

func TestNothingArrivesAfterSearch(t *testing.T) {
	release, done := make(chan struct{}), make(chan struct{})
	late := source{"late", func(_ context.Context, found func(discover.Candidate)) error {
		defer close(done)
		<-release
		found(discover.Candidate{Pointer: []byte("late")})
		return nil
	}}
	answers := discover.Search(t.Context(), query, time.Millisecond, []discover.Source{late}, func(discover.Candidate) {
		t.Error("candidate after the end")
	})
	close(release)
	<-done
	if answers[0].Candidates != 0 || !errors.Is(answers[0].Err, discover.ErrStillBusy) {
		t.Errorf("answer changed: %+v", answers[0])
	}
}

func TestSearchBoundsEachSource(t *testing.T) {
	big := strings.Repeat("x", discover.MaxPointer+1)
	longBase := source{"long base", func(_ context.Context, found func(discover.Candidate)) error {
		found(discover.Candidate{Pointer: []byte("p"), Bases: []string{strings.Repeat("x", discover.MaxBase+1)}})
		found(discover.Candidate{Pointer: []byte("p"), Bases: make([]string, discover.MaxBases+1)})
		return nil
	}}
	flood := gives("flood", slicesRepeat("p", 1000)...)
	n := 0
	answers := discover.Search(t.Context(), query, time.Minute, []discover.Source{flood, gives("big", big, ""), longBase, gives("honest", "p")},
		func(discover.Candidate) { n++ })
	for i, want := range []struct{ taken, dropped int }{
		{discover.MaxCandidates, 1000 - discover.MaxCandidates}, {0, 2}, {0, 2}, {1, 0},
	} {
		if a := answers[i]; a.Candidates != want.taken || a.Dropped != want.dropped {
			t.Errorf("%s: took %d, dropped %d, want %v", a.Source, a.Candidates, a.Dropped, want)
		}
	}
	if n != discover.MaxCandidates+1 {
		t.Errorf("found %d", n)
	}
}

func slicesRepeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestSearchRefusesPathsAsNames(t *testing.T) {
	asked := source{"asked", func(context.Context, func(discover.Candidate)) error { t.Error("was asked"); return nil }}
	answers := discover.Search(t.Context(), discover.Query{Channel: "a/b", Arch: "x86_64"}, time.Minute, []discover.Source{asked}, nil)
	if answers[0].Err == nil {
		t.Error("no error")
	}
}

func TestSearchWithoutSources(t *testing.T) {
	if answers := discover.Search(t.Context(), query, time.Hour, nil, nil); len(answers) != 0 {
		t.Errorf("answers %v", answers)
	}
}

func TestQuery(t *testing.T) {
	for _, tt := range []struct {
		q  discover.Query
		ok bool
	}{
		{discover.Query{Channel: "stable", Arch: "x86_64"}, true},
		{discover.Query{Channel: "nightly-2", Arch: "arm64"}, true},
		{discover.Query{Arch: "x86_64"}, false},
		{discover.Query{Channel: "stable"}, false},
		{discover.Query{Channel: "Stable", Arch: "x86_64"}, false},
		{discover.Query{Channel: "st\u00e4ble", Arch: "x86_64"}, false},
		{discover.Query{Channel: "..", Arch: "x86_64"}, false},
		{discover.Query{Channel: "stable", Arch: "x86_64/"}, false},
		{discover.Query{Channel: strings.Repeat("a", 33), Arch: "x86_64"}, false},
	} {
		if err := tt.q.Validate(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.q, err)
		}
	}
	if got := query.Key(); got != "/phase/stable/x86_64/manifest" {
		t.Errorf("key %q", got)
	}
}

func TestNotFound(t *testing.T) {
	for _, tt := range []struct {
		answers []discover.Answer
		code    string
		texts   []string
	}{
		{nil, "DISC-001", []string{"stable/x86_64", "no source was configured"}},
		{[]discover.Answer{{Source: "dht", Err: errors.New("refused")}}, "DISC-001", []string{"dht refused"}},
		{[]discover.Answer{{Source: "dht", Err: errors.New("refused")}, {Source: "mdns"}}, "DISC-002", []string{"dht refused", "mdns knows none"}},
		{[]discover.Answer{{Source: "dht", Candidates: 2}, {Source: "m", Dropped: 3}}, "DISC-002", []string{"dht gave 2 unusable", "m gave 3 beyond"}},
	} {
		err := &discover.NotFound{Query: query, Answers: tt.answers}
		if err.Code() != tt.code || err.Hint() == "" {
			t.Errorf("%v: code %s, hint %q", err, err.Code(), err.Hint())
		}
		for _, text := range tt.texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q lacks %q", err.Error(), text)
			}
		}
	}
}

func FuzzCheckBase(f *testing.F) {
	for _, s := range []string{"http://192.0.2.1:8080", "https://[fd00::1]/phase/", "http://u:p@h", "file:///etc/passwd", "http://h/?q", "http://h/#", "//h", "http://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if discover.CheckBase(s) != nil {
			return
		}
		u := discover.PointerURL(s, query)
		if !strings.HasPrefix(strings.ToLower(u), "http") || !strings.HasSuffix(u, "/stable/x86_64/pointer.json") || bytes.ContainsAny([]byte(u), "?#") {
			t.Errorf("base %q gives %q", s, u)
		}
	})
}
