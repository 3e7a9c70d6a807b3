package dispatch

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/quorum"
)

// checkFrauds verifies the proofs from scratch: one for each of who.
func checkFrauds(t *testing.T, list []Fraud, kind quorum.Kind, who ...byte) {
	t.Helper()
	if len(list) != len(who) {
		t.Fatalf("%d proofs, want %d", len(list), len(who))
	}
	for _, f := range list {
		proof, err := quorum.VerifyFraud(f.Proof)
		if err != nil || proof.Kind != kind || f.Kind != kind || job.FormatKey(proof.Key) != f.Node {
			t.Errorf("%s of %s: %v", f.Kind, f.Node, err)
		}
		if !slices.ContainsFunc(who, func(n byte) bool { return job.FormatKey(publicOf(n)) == f.Node }) {
			t.Errorf("%s is accused", f.Node)
		}
	}
}

// Whoever signs what contradicts itself is proven to have done so, and nobody else.
func TestFraudsOfAQuorum(t *testing.T) {
	bubble(t, func(t *testing.T) {
		good, lie := conduct{}, conduct{lies: "lie"}
		town := newTown(conduct{misopens: true}, good, lie, good, good)
		a, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Replicas: 5})
		if err != nil {
			t.Fatal(err)
		}
		checkFrauds(t, a.Frauds, quorum.WrongOpening, 1)
	})
	bubble(t, func(t *testing.T) {
		town := newTown(conduct{misopens: true}, conduct{misopens: true}, conduct{lies: "lie"})
		_, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Replicas: 3})
		var f *Failure
		if !errors.As(err, &f) || f.Why != NoQuorum {
			t.Fatal(err)
		}
		checkFrauds(t, f.Frauds, quorum.WrongOpening, 1, 2)
	})
}

func TestFraudOfOneNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		town := newTown(conduct{turns: true})
		a, err := Run(context.Background(), town, testJob(t), Options{Search: town.search})
		if err != nil {
			t.Fatal(err)
		}
		checkFrauds(t, a.Frauds, quorum.TwoResults, 1)
	})
}

// Of one operator's nodes only the nearest votes, and the plan says whose they are.
func TestOperatorsVoteOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		town := newTown(make([]conduct, 6)...)
		owner := func(key ed25519.PublicKey) string {
			for _, n := range []byte{1, 2, 3, 4} {
				if key.Equal(publicOf(n)) {
					return "mallory"
				}
			}
			return ""
		}
		j := testJob(t)
		a, err := Run(context.Background(), town, j, Options{Search: town.search, Replicas: 3, Operator: owner})
		if err != nil {
			t.Fatal(err)
		}
		if count(a.Attempts, Unsuitable) != 3 || count(a.Attempts, "agreed") != 3 {
			t.Errorf("%+v", a.Attempts)
		}
		checkStatement(t, j, a, town)
		v, err := quorum.Verify(a.Quorum, quorum.Expectation{Nodes: []quorum.Node{{Key: publicOf(5)}, {Key: publicOf(6)}}})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(v.Plan.Nodes, func(n quorum.Node) bool { return n.Operator == "mallory" }) {
			t.Error("the plan does not tell the operator")
		}
		// Without enough others there is no quorum, however many nodes one has.
		var f *Failure
		all := Options{Search: town.search, Replicas: 3, Operator: func(ed25519.PublicKey) string { return "mallory" }}
		if _, err := Run(context.Background(), town, testJob(t), all); !errors.As(err, &f) || f.Why != NobodyTakes {
			t.Errorf("%v", err)
		}
	})
}
