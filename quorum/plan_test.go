package quorum

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
)

// TestChoose holds the order: whoever works it out gets this one.
func TestChoose(t *testing.T) {
	var nodes []Node
	for i := range 6 {
		nodes = append(nodes, Node{Key: public(testKey(fmt.Sprint("node ", i)))})
	}
	job := blob.Of([]byte("job"))
	names := func(order []Node) (list []int) {
		for _, n := range order {
			list = append(list, slices.IndexFunc(nodes, func(o Node) bool { return o.Key.Equal(n.Key) }))
		}
		return list
	}
	first := names(Choose(job, []byte("beacon"), nodes))
	if want := []int{4, 0, 2, 1, 3, 5}; !slices.Equal(first, want) {
		t.Errorf("the order is %v, want %v", first, want)
	}
	backwards := slices.Clone(nodes)
	slices.Reverse(backwards)
	if again := names(Choose(job, []byte("beacon"), backwards)); !slices.Equal(again, first) {
		t.Errorf("the order of the list changes that of choice: %v", again)
	}
	if slices.Equal(names(Choose(job, []byte("beacon 2"), nodes)), first) || slices.Equal(names(Choose(blob.Of(nil), []byte("beacon"), nodes)), first) {
		t.Error("another beacon or job, and the same order")
	}
	operated := slices.Clone(nodes)
	for _, i := range first[:3] {
		operated[i].Operator = "one"
	}
	if got := names(Choose(job, []byte("beacon"), operated)); !slices.Equal(got, append(first[:1:1], first[3:]...)) {
		t.Errorf("of an operator's nodes %v are chosen", got)
	}
}

// TestPlans refuses plans that can prove nothing.
func TestPlans(t *testing.T) {
	good := newRound(t, 4, 3, 2).plan
	if _, err := good.Digest(); err != nil {
		t.Fatal(err)
	}
	weak := make(ed25519.PublicKey, 32)
	for name, change := range map[string]func(*Plan){
		"no job":              func(p *Plan) { p.JobID = blob.Digest{} },
		"quorum of one":       func(p *Plan) { p.Replicas, p.Quorum = 1, 1 },
		"half":                func(p *Plan) { p.Replicas, p.Quorum = 4, 2 },
		"more than replicas":  func(p *Plan) { p.Quorum = 4 },
		"negative":            func(p *Plan) { p.Quorum, p.Replicas = -1, -1 },
		"fewer than replicas": func(p *Plan) { p.MaxNodes = 2 },
		"too many asked":      func(p *Plan) { p.MaxNodes = MaxNodes + 1 },
		"too few nodes":       func(p *Plan) { p.Nodes = p.Nodes[:1] },
		"no nodes":            func(p *Plan) { p.Nodes = nil },
		"too many nodes":      func(p *Plan) { p.Nodes = make([]Node, MaxCandidates+1) },
		"a node twice":        func(p *Plan) { p.Nodes = append(slices.Clone(p.Nodes), p.Nodes[0]) },
		"a weak key":          func(p *Plan) { p.Nodes = append(slices.Clone(p.Nodes), Node{Key: weak}) },
		"operator too long": func(p *Plan) {
			p.Nodes = append(slices.Clone(p.Nodes[1:]), Node{p.Nodes[0].Key, strings.Repeat("a", 65)})
		},
		"operator not text":    func(p *Plan) { p.Nodes = append(slices.Clone(p.Nodes[1:]), Node{p.Nodes[0].Key, "a\nb"}) },
		"no submitter":         func(p *Plan) { p.Submitter = nil },
		"weak submitter":       func(p *Plan) { p.Submitter = weak },
		"no cost table":        func(p *Plan) { p.CostTable = 0 },
		"beacon too long":      func(p *Plan) { p.Beacon = make([]byte, MaxBeaconBytes+1) },
		"nonce too short":      func(p *Plan) { p.Nonce = "short" },
		"nonce too long":       func(p *Plan) { p.Nonce = strings.Repeat("a", MaxNonceBytes+1) },
		"nonce not text":       func(p *Plan) { p.Nonce = "0123456789abcdef\x00" },
		"cost table too large": func(p *Plan) { p.CostTable = 1 << 60 },
	} {
		p := good
		change(&p)
		if _, err := p.Digest(); !errors.Is(err, ErrPlan) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Tally(p, []Wave{{}}); !errors.Is(err, ErrPlan) {
			t.Errorf("%s: tally: %v", name, err)
		}
	}
}
