package quorum

import (
	"errors"
	"strings"
	"testing"
)

// TestWordsAreNotCompared: why a node has no vote may be said in other words than ours,
// as another version does; they are not taken over either. Words about votes are none.
func TestWordsAreNotCompared(t *testing.T) {
	r := newRound(t, 5, 3, 2).wave("right", "broken", "right")
	good := r.sign()
	for name, c := range map[string]struct {
		node string
		why  string
		want error
	}{
		"other words":       {"1", "the secret is of another commitment", nil},
		"no words":          {"1", "", nil},
		"too many words":    {"1", strings.Repeat("a", MaxWhyBytes+1), ErrMalformed},
		"words for nobody":  {"1", "a\u001bb", ErrMalformed},
		"words about votes": {"0", "it is a friend", ErrOutcome},
	} {
		raw := forge(t, good, r.submitter, set("predicate.outcome.nodes."+c.node+".why", c.why))
		v, err := Verify(raw, r.expects())
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == nil && (v == nil || v.Outcome.Nodes[1].Fate != Misopened || v.Outcome.Nodes[1].Why != "the opening does not fit the commitment") {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
