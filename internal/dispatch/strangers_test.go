package dispatch

import (
	"context"
	"crypto/ed25519"
	"slices"
	"testing"

	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
)

// everybody is known to whoever wants the job run.
func everybody(ed25519.PublicKey) bool { return true }

// TestLiarsAboutTheTable: more keys than there are honest nodes say that they count
// fuel by a table that nobody knows. They are no group that others would have to join.
func TestLiarsAboutTheTable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var nodes []conduct
		for range 20 {
			nodes = append(nodes, conduct{lies: "lie", no: func(c *jobpeer.Capacity) { c.CostTable = fuel.CostTable + 998 }})
		}
		nodes = append(nodes, conduct{}, conduct{}, conduct{})
		for _, replicas := range []int{1, 3} {
			town := newTown(nodes...)
			a, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Replicas: replicas})
			if err != nil || string(a.Stdout) != output || a.Agreed != replicas {
				t.Fatalf("%d replicas: %+v, %v", replicas, a, err)
			}
			for _, n := range numbered(t, town.given) {
				if n <= 20 {
					t.Errorf("%d replicas: liar %d got the job", replicas, n)
				}
			}
			if n := count(a.Attempts, Unsuitable); n != 20 {
				t.Errorf("%d replicas: %d are unsuitable", replicas, n)
			}
		}
		town := newTown(nodes[:20]...)
		if _, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Replicas: 3}); err == nil || len(town.given) != 0 {
			t.Errorf("among liars alone: %v, given to %v", err, town.given)
		}
	})
}

// TestKnownNodesComeFirst: strangers that are all idle, by what they say, and as many
// as are asked at all, do not keep the job from a busy node that is known.
func TestKnownNodesComeFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var nodes []conduct
		for range maxFound + 20 {
			nodes = append(nodes, conduct{lies: "lie"})
		}
		nodes = append(nodes, conduct{no: busier(9)})
		known := publicOf(byte(len(nodes)))
		town := newTown(nodes...)
		late := func(_ context.Context, found func(peer.Peer)) error {
			for n := range nodes {
				found(peer.Peer{Key: publicOf(byte(n + 1))}) // who is known comes last
			}
			return nil
		}
		for _, o := range []Options{
			{Search: late, Known: func(key ed25519.PublicKey) bool { return key.Equal(known) }},
			{Search: late, Nodes: []peer.Peer{{Key: known}}},
		} {
			town.given = nil
			a, err := Run(context.Background(), town, testJob(t), o)
			if err != nil || string(a.Stdout) != output || !slices.Equal(town.given, []string{job.FormatKey(known)}) {
				t.Errorf("given to %v, %v", town.given, err)
			}
		}
	})
}

// TestIdleStrangersAreNotPreferred: among strangers chance decides, and not who claims
// to be the least busy. One who has no place is asked later.
func TestIdleStrangersAreNotPreferred(t *testing.T) {
	bubble(t, func(t *testing.T) {
		got := map[int]int{}
		for range 60 {
			town := newTown(conduct{no: busier(0)}, conduct{no: busier(3)}, conduct{no: busier(4)})
			if _, err := Run(context.Background(), town, testJob(t), Options{Search: town.search}); err != nil {
				t.Fatal(err)
			}
			got[numbered(t, town.given)[0]]++
		}
		if got[1] == 0 || got[2] == 0 || got[3] != 0 {
			t.Errorf("of 60 jobs each got %v", got)
		}
	})
}
