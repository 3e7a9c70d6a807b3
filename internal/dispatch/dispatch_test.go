package dispatch

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// bubble runs f where time is not that of the clock: nobody waits for it. It begins
// at a fixed moment, in which the keys' documents are made as well.
func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

// busier makes a node look as if it had so many jobs, so that the order of choice
// is known.
func busier(n int64) func(*jobpeer.Capacity) { return func(c *jobpeer.Capacity) { c.Running = n } }

// nodes gives each its place in the order.
func inOrder(nodes ...conduct) []conduct {
	for i := range nodes {
		if nodes[i].no == nil {
			nodes[i].no = busier(int64(i))
		}
	}
	return nodes
}

func TestOneNode(t *testing.T) {
	forge := func(how func(*receipt.Statement)) conduct { return conduct{forges: how} }
	for _, c := range []struct {
		name  string
		bad   conduct
		want  Outcome // of the first node
		text  string
		times int // the first node's outcomes
	}{
		{"unreachable", conduct{unreachable: true}, Unreachable, "cannot be reached", 1},
		{"refuses", conduct{refuses: job.Unauthorised}, Refused, "does not want to", 1},
		{"silent", conduct{silent: true}, TimedOut, "within its time", 1},
		{"always busy", conduct{busy: 1000}, Refused, "", 1},
		{"dead", conduct{breaks: 9}, Unreachable, "broke off", 1},
		{"failed", conduct{infra: true}, Failed, "the node failed", 1},
		{"signed by another", conduct{otherKey: true}, Invalid, "does not verify", 1},
		{"other output", conduct{swaps: true}, Invalid, "another output", 1},
		{"other module", forge(func(s *receipt.Statement) { s.Result.Module = blob.Of(nil) }), Invalid, "another module", 1},
		{"other job", forge(func(s *receipt.Statement) { s.Result.JobID = blob.Of(nil) }), Invalid, "another job", 1},
		{"other arguments", forge(func(s *receipt.Statement) { s.Result.Args = []string{"b"} }), Invalid, "other arguments", 1},
		{"other input", forge(func(s *receipt.Statement) { s.Result.Stdin = blob.Of([]byte("x")) }), Invalid, "other input", 1},
		{"an input more", forge(func(s *receipt.Statement) {
			s.Result.Inputs = map[string]receipt.Input{"a": {Digest: blob.Of(nil)}}
		}), Invalid, "other inputs", 1},
		{"other limits", forge(func(s *receipt.Statement) { s.Result.Limits.MemoryBytes++ }), Invalid, "other limits", 1},
		{"other determinism", forge(func(s *receipt.Statement) { s.Result.Determinism = receipt.Relaxed }), Invalid, "other determinism", 1},
		{"future", forge(func(s *receipt.Statement) {
			s.Observation.Timings.StartedAt = s.Observation.Timings.StartedAt.Add(time.Hour)
		}), Invalid, "future", 1},
		{"too small", conduct{no: func(c *jobpeer.Capacity) { c.MemoryBytes = 1 }}, Unsuitable, "memory_bytes", 1},
		{"too small for the module", conduct{no: func(c *jobpeer.Capacity) { c.ModuleBytes = 1 }}, Unsuitable, "the module", 1},
		{"does not know her", conduct{no: func(c *jobpeer.Capacity) { c.Accepts = false }}, Unsuitable, "submitter", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				town := newTown(inOrder(c.bad, conduct{})...)
				a, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Known: everybody})
				if err != nil {
					t.Fatal(err)
				}
				if string(a.Stdout) != output || a.Statement.Result.EndState != receipt.Exited || a.Quorum != nil || a.Agreed != 1 {
					t.Errorf("%+v", a)
				}
				got := outcomes(a.Attempts)
				if want := []Outcome{Answered}; !reflect.DeepEqual(got[2], want) {
					t.Errorf("the good node: %v", got[2])
				}
				if c.bad.busy > 0 { // it never got the job: the other was asked meanwhile
					return
				}
				if len(got[1]) != c.times || got[1][0] != c.want || !strings.Contains(a.Attempts[0].Text, c.text) {
					t.Errorf("the bad node: %v, %+v", got[1], a.Attempts[0])
				}
				// Alone it is a failure that tells the same.
				alone := newTown(c.bad)
				_, err = Run(context.Background(), alone, testJob(t), Options{Search: alone.search})
				var f *Failure
				if !errors.As(err, &f) || outcomes(f.Attempts)[1][0] != c.want || f.Code() == "" || f.Hint() == "" || !strings.Contains(f.Error(), string(c.want)) {
					t.Errorf("alone: %v", err)
				}
			})
		})
	}
}

// The first node is the least busy one, and nobody else gets the job.
func TestTheIdleNodeGetsTheJob(t *testing.T) {
	bubble(t, func(t *testing.T) {
		town := newTown(conduct{no: busier(3)}, conduct{no: busier(0)}, conduct{no: busier(9)})
		if _, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Known: everybody}); err != nil {
			t.Fatal(err)
		}
		if got := numbered(t, town.given); !slices.Equal(got, []int{2}) {
			t.Errorf("given to %v", got)
		}
	})
}

// One that is busy is asked again after the time that it named.
func TestBusyNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		town := newTown(conduct{busy: 2})
		begin := time.Now()
		a, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Known: everybody})
		if err != nil || time.Since(begin) != 2*time.Second || count(a.Attempts, Refused) != 2 {
			t.Errorf("after %s: %+v, %v", time.Since(begin), a, err)
		}
		town = newTown(conduct{busy: 99})
		var f *Failure
		if _, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Known: everybody}); !errors.As(err, &f) || f.Why != EverybodyOut || len(f.Attempts) != busyTries+1 {
			t.Errorf("%v", err)
		}
	})
}

// A conversation that breaks is taken up again: the node has the job.
func TestBrokenConversation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		town := newTown(conduct{breaks: 1})
		a, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Known: everybody})
		if err != nil || town.awaited != 1 || len(town.given) != 1 || string(a.Stdout) != output {
			t.Errorf("awaited %d, given %v, %v", town.awaited, town.given, err)
		}
	})
}

// The first try is cut off after the job's deadline and the grace, and the node is
// told that nobody waits any longer.
func TestTimeIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		town := newTown(inOrder(conduct{silent: true}, conduct{silent: true})...)
		begin := time.Now()
		_, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, Grace: 10 * time.Second})
		var f *Failure
		if !errors.As(err, &f) || f.Why != EverybodyOut || time.Since(begin) != 2*(20+10)*time.Second {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		if got := numbered(t, town.cancelled); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("cancelled at %v", got)
		}
	})
}

func TestMaxNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := make([]conduct, 10)
		for i := range nodes {
			nodes[i].infra = true
		}
		town := newTown(nodes...)
		var f *Failure
		if _, err := Run(context.Background(), town, testJob(t), Options{Search: town.search, MaxNodes: 4}); !errors.As(err, &f) || len(town.given) != 4 || len(f.Attempts) != 4 {
			t.Errorf("given to %d: %v", len(town.given), err)
		}
	})
}

func TestNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var f *Failure
		if _, err := Run(context.Background(), newTown(), testJob(t), Options{}); !errors.As(err, &f) || f.Why != NobodyFound {
			t.Errorf("%v", err)
		}
		lost := errors.New("no network")
		o := Options{Search: func(context.Context, func(peer.Peer)) error { return lost }}
		if _, err := Run(context.Background(), newTown(), testJob(t), o); !errors.As(err, &f) || f.Why != NobodyFound || !errors.Is(err, lost) {
			t.Errorf("%v", err)
		}
		// A search without an end is ended.
		o = Options{Search: func(ctx context.Context, _ func(peer.Peer)) error { <-ctx.Done(); return ctx.Err() }}
		if _, err := Run(context.Background(), newTown(), testJob(t), o); !errors.As(err, &f) || f.Why != NobodyFound {
			t.Errorf("%v", err)
		}
	})
}

func TestInterrupted(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		bubble(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			town := newTown(conduct{silent: true}, conduct{}, conduct{})
			enough := errors.New("enough")
			o := Options{Nodes: []peer.Peer{{Key: publicOf(1)}}, Replicas: replicas, Tell: func(e Event) {
				if e.Stage == job.Running && e.Node == job.FormatKey(publicOf(1)) {
					cancel(enough)
				}
			}}
			if replicas > 1 {
				o.Search = town.search
			}
			_, err := Run(ctx, town, testJob(t), o)
			var f *Failure
			if !errors.As(err, &f) || f.Why != Interrupted || !errors.Is(err, enough) || outcomes(f.Attempts)[1][0] != Stopped {
				t.Errorf("%v", err)
			}
			if got := numbered(t, town.cancelled); !slices.Equal(got, []int{1}) {
				t.Errorf("cancelled at %v", got)
			}
		})
	}
}

func TestRules(t *testing.T) {
	j := testJob(t)
	relaxed, err := job.New(job.Spec{Version: 1, Module: blob.Of(testModule), Determinism: job.Relaxed})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		job Job
		o   Options
	}{
		"many replicas":     {j, Options{Replicas: 17}},
		"low quorum":        {j, Options{Replicas: 4, Quorum: 2}},
		"high quorum":       {j, Options{Replicas: 3, Quorum: 4}},
		"few nodes":         {j, Options{Replicas: 3, MaxNodes: 2}},
		"many nodes":        {j, Options{MaxNodes: 65}},
		"relaxed quorum":    {Job{relaxed, testModule, nil, j.Key}, Options{Replicas: 3}},
		"no job":            {Job{nil, testModule, nil, j.Key}, Options{}},
		"no key":            {Job{j.Job, testModule, nil, nil}, Options{}},
		"of another module": {Job{j.Job, nil, nil, j.Key}, Options{}},
		"input missing":     {Job{jobWithInput(t).Job, testModule, nil, j.Key}, Options{}},
	} {
		if _, err := Run(context.Background(), newTown(), c.job, c.o); err == nil || errors.As(err, new(*Failure)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestQuorum has towns with bad nodes in them. Whoever is near is random in each
// run; so all nodes of a kind are alike.
func TestQuorum(t *testing.T) {
	good := conduct{}
	for _, c := range []struct {
		name  string
		nodes []conduct
		o     Options
		why   Why             // 0: an answer
		want  map[int]Outcome // of nodes that must have been asked
	}{
		{"all honest", []conduct{good, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: "agreed", 2: "agreed", 3: "agreed"}},
		{"one lies", []conduct{{lies: "lie"}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: "dissented", 2: "agreed", 3: "agreed"}},
		{"one hides", []conduct{{hides: true}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: "stalled"}},
		{"one is silent", []conduct{{silent: true}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: TimedOut, 2: "agreed"}},
		{"one dies", []conduct{{breaks: 9}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: Unreachable}},
		{"one breaks off, and has the job", []conduct{{breaks: 2}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: "agreed", 2: "agreed", 3: "agreed"}},
		{"one failed", []conduct{{infra: true}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: "no_vote"}},
		{"one is of another job", []conduct{{forges: func(s *receipt.Statement) { s.Result.JobID = blob.Of(nil) }}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: "misopened"}},
		{"one hands out other bytes", []conduct{{swaps: true}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: "agreed"}},
		{"one is busy", []conduct{{busy: 2}, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: "agreed"}},
		{"one counts otherwise", []conduct{{no: func(c *jobpeer.Capacity) { c.CostTable = 2 }}, good, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: Unsuitable, 2: "agreed"}},
		{"one takes no part", []conduct{{no: func(c *jobpeer.Capacity) { c.Quorum = false }}, good, good, good}, Options{Replicas: 3}, 0, map[int]Outcome{1: Unsuitable}},
		{"five, one of each", []conduct{{lies: "lie"}, {hides: true}, {silent: true}, {breaks: 9}, good, good, good}, Options{Replicas: 5, Quorum: 3, MaxNodes: 7}, 0,
			map[int]Outcome{5: "agreed", 6: "agreed", 7: "agreed"}},
		{"a split of two makes more run it", []conduct{{lies: "lie"}, good, good}, Options{Replicas: 2, Quorum: 2, MaxNodes: 3}, 0, map[int]Outcome{2: "agreed", 3: "agreed"}},
		{"all lie alike and win", []conduct{{lies: "lie"}, {lies: "lie"}, good}, Options{Replicas: 3}, 0, map[int]Outcome{3: "dissented"}},
		{"no two agree", []conduct{{lies: "1"}, {lies: "2"}, good}, Options{Replicas: 3}, NoQuorum, map[int]Outcome{1: "voted", 3: "voted"}},
		{"too few", []conduct{good}, Options{Replicas: 3}, NobodyTakes, nil},
		{"all die", []conduct{{breaks: 9}, {breaks: 9}, {breaks: 9}}, Options{Replicas: 3}, EverybodyOut, map[int]Outcome{1: Unreachable}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				town := newTown(slices.Clone(c.nodes)...)
				o := c.o
				o.Search = town.search
				j := testJob(t)
				a, err := Run(context.Background(), town, j, o)
				var f *Failure
				if errors.As(err, &f) {
					a = &Answer{Attempts: f.Attempts, Quorum: f.Quorum}
				}
				switch {
				case c.why == 0 && err != nil, c.why != 0 && (f == nil || f.Why != c.why):
					t.Fatalf("%v", err)
				case c.why == 0:
					checkStatement(t, j, a, town)
				case c.why == NoQuorum:
					if _, err := quorum.Verify(f.Quorum, quorum.Expectation{}); !errors.Is(err, quorum.ErrUndecided) {
						t.Errorf("the statement: %v", err)
					}
				}
				got := outcomes(a.Attempts)
				for node, want := range c.want {
					if len(got[node]) != 1 || got[node][0] != want {
						t.Errorf("node %d: %v, want %s", node, got[node], want)
					}
				}
				for node, list := range got {
					if len(list) != 1 {
						t.Errorf("node %d: %v", node, list)
					}
				}
			})
		})
	}
}

// checkStatement verifies what a quorum has come to, from scratch.
func checkStatement(t *testing.T, j Job, a *Answer, town *town) {
	t.Helper()
	var nodes []quorum.Node
	for n := range byte(len(town.nodes)) {
		nodes = append(nodes, quorum.Node{Key: publicOf(n + 1)})
	}
	v, err := quorum.Verify(a.Quorum, quorum.Expectation{
		Nodes: nodes, JobID: j.Job.ID(), Submitter: publicOf(alice), Stdout: blob.Of(a.Stdout), Stderr: blob.Of(a.Stderr),
	})
	if err != nil || v.Known != a.Agreed {
		t.Errorf("%d agree, %v", a.Agreed, err)
	}
}
