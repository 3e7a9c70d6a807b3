package discover_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/internal/discover"
)

// opened is a source that yields what it was opened with.
func opened(addrs []string) (discover.Source, func() error, error) {
	return source{"inner", func(_ context.Context, found func(discover.Candidate)) error {
		found(discover.Candidate{Pointer: fmt.Append(nil, addrs), Origin: "dht X"})
		return nil
	}}, func() error { return nil }, nil
}

func joined(ctx context.Context, j discover.Joined) (got []string, err error) {
	err = j.Search(ctx, query, func(c discover.Candidate) { got = append(got, string(c.Pointer)) })
	return got, err
}

func TestPeers(t *testing.T) {
	p := discover.NewPeers()
	for i := range 3 * discover.MaxPeers {
		p.Add(fmt.Sprint(i / 2))
	}
	if list := p.List(); len(list) != discover.MaxPeers || list[0] != "0" || list[1] != "1" {
		t.Errorf("%q", list)
	}
	if got := p.Wait(t.Context(), discover.MaxPeers-1); len(got) != 1 {
		t.Errorf("%q", got)
	}
	p.Done(nil)
	p.Done(errors.New("too late"))
	if got := p.Wait(t.Context(), discover.MaxPeers); got != nil {
		t.Errorf("%q", got)
	}
	var none *discover.Peers
	none.Add("x")
	none.Done(nil)
	if none.List() != nil || none.Wait(t.Context(), 0) != nil {
		t.Error("nobody holds peers")
	}
}

// Peers that come at about the same time are asked together, later ones after
// them, and the end of the search for peers ends the search.
func TestJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := discover.NewPeers()
		go func() {
			time.Sleep(time.Second)
			p.Add("a")
			p.Add("bad")
			time.Sleep(time.Millisecond)
			p.Add("b")
			time.Sleep(time.Second)
			p.Add("c")
			time.Sleep(time.Second)
			p.Done(nil)
		}()
		check := func(addr string) error {
			if addr == "bad" {
				return errors.New("bad")
			}
			return nil
		}
		got, err := joined(t.Context(), discover.Joined{Label: "lan", Peers: p, Check: check, Open: opened})
		if err != nil || !slices.Equal(got, []string{"[a b]", "[c]"}) {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestJoinedAnswers(t *testing.T) {
	refused, deaf := errors.New("refused"), errors.New("no interface")
	cannot := func([]string) (discover.Source, func() error, error) { return nil, nil, refused }
	for what, tt := range map[string]struct {
		add  []string
		done error
		open func([]string) (discover.Source, func() error, error)
		err  bool
		is   error
	}{
		"nobody":       {nil, nil, opened, false, nil},
		"nobody looks": {nil, deaf, opened, true, deaf},
		"cut short":    {[]string{"a"}, deaf, opened, false, nil},
		"nonsense":     {[]string{"bad"}, nil, opened, true, nil},
		"not possible": {[]string{"a"}, nil, cannot, true, refused},
	} {
		p := discover.NewPeers()
		for _, a := range tt.add {
			p.Add(a)
		}
		p.Done(tt.done)
		got, err := joined(t.Context(), discover.Joined{Label: "lan", Peers: p, Open: tt.open, Check: func(a string) error {
			if a == "bad" {
				return refused
			}
			return nil
		}})
		if (len(got) != 0) != (what == "cut short") || (err != nil) != tt.err || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	j := discover.Joined{Label: "lan", Peers: discover.NewPeers(), Open: opened}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got, err := joined(ctx, j); err != nil || len(got) != 0 || j.Name() != "lan" {
		t.Errorf("time over: %q, %v", got, err)
	}
	if err := j.Search(t.Context(), discover.Query{Channel: "a/b"}, nil); err == nil {
		t.Error("took a path for a name")
	}
}

// TestNobodyCouldBeAsked: the silence of nodes that nobody could look for is no
// answer.
func TestNobodyCouldBeAsked(t *testing.T) {
	for _, tt := range []struct {
		failed error
		code   string
	}{{errors.New("no interface"), "DISC-001"}, {nil, "DISC-002"}} {
		p := discover.NewPeers()
		lan := source{"lan", func(context.Context, func(discover.Candidate)) error {
			p.Done(tt.failed)
			return errors.New("nothing was heard")
		}}
		answers := discover.Search(t.Context(), query, time.Minute, []discover.Source{lan, discover.Joined{Label: "joined", Peers: p, Open: opened}}, nil)
		e := &discover.NotFound{Query: query, Answers: answers}
		if e.Code() != tt.code || tt.failed != nil && !strings.Contains(e.Error(), "joined nobody to start from: no interface") {
			t.Errorf("%s %v, want %s", e.Code(), e, tt.code)
		}
	}
}
