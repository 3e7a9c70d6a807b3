package quorum

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/receipt"
)

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase quorum test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// round plays a quorum with nodes that behave as they are told. All of it is the
// same in every run.
type round struct {
	t         testing.TB
	plan      Plan
	submitter ed25519.PrivateKey
	keys      map[string]ed25519.PrivateKey // by public key
	asked     int
	waves     []Wave
	last      *Set
}

const testTable = 1

func newRound(t testing.TB, nodes, replicas, quorum int) *round {
	t.Helper()
	r := &round{t: t, submitter: testKey("submitter"), keys: map[string]ed25519.PrivateKey{}}
	r.plan = Plan{
		JobID: blob.Of([]byte("job")), Submitter: public(r.submitter), Replicas: replicas, Quorum: quorum,
		MaxNodes: nodes, CostTable: testTable, Beacon: []byte("beacon"), Nonce: "0123456789abcdef",
	}
	for i := range nodes {
		key := testKey(fmt.Sprint("node ", i))
		r.keys[string(public(key))] = key
		r.plan.Nodes = append(r.plan.Nodes, Node{Key: public(key)})
	}
	r.plan.Nodes = sortedNodes(r.plan.Nodes)
	return r
}

// node is the key of the i-th node in the order of choice.
func (r *round) node(i int) ed25519.PrivateKey { return r.keys[string(r.plan.Order()[i].Key)] }

func (r *round) ticket(i int) Ticket {
	plan, err := r.plan.Digest()
	if err != nil {
		r.t.Fatal(err)
	}
	return Ticket{r.plan.JobID, plan, blob.Of([]byte(fmt.Sprint("submission ", i)))}
}

func secretOf(i int) [32]byte { return sha256.Sum256([]byte(fmt.Sprint("secret ", i))) }

// receipt is that of the i-th node for a job that wrote out.
func (r *round) receipt(i int, out string, change func(*receipt.Statement)) []byte {
	s := receipt.Statement{
		Result: receipt.Result{
			JobID: r.plan.JobID, Module: blob.Of([]byte("module")), Args: []string{}, Stdin: blob.Of(nil),
			Stdout: receipt.OutputOf([]byte(out), false), Stderr: receipt.OutputOf(nil, false), EndState: receipt.Exited,
			Limits: receipt.Limits{MemoryBytes: 1 << 20, DeadlineMS: 1000, StdoutBytes: 9, StderrBytes: 9, Fuel: 1000},
			Fuel:   receipt.Fuel{Used: 7, CostTable: testTable}, Determinism: receipt.Strict,
		},
		Observation: receipt.Observation{
			Engine: "test", Walls: []string{}, Submitter: r.plan.Submitter,
			Timings: receipt.Timings{StartedAt: time.Date(2026, 3, 1, 12, 0, i, 0, time.UTC)},
		},
	}
	if change != nil {
		change(&s)
	}
	raw, err := receipt.Sign(s, r.node(i))
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

// behaviours say what a node's receipt is, "" for none.
var behaviours = map[string]func(r *round, i int) []byte{
	"right":  func(r *round, i int) []byte { return r.receipt(i, "right", nil) },
	"lie":    func(r *round, i int) []byte { return r.receipt(i, "wrong", nil) },
	"lie 2":  func(r *round, i int) []byte { return r.receipt(i, "wrong as well", nil) },
	"stall":  func(r *round, i int) []byte { return r.receipt(i, "right", nil) },
	"copy":   func(r *round, i int) []byte { return r.receipt(i, "right", nil) },
	"broken": func(r *round, i int) []byte { return r.receipt(i, "right", nil) },
	"silent": func(r *round, i int) []byte { return nil },
	"late": func(r *round, i int) []byte {
		return r.receipt(i, "rig", func(s *receipt.Statement) { s.Result.EndState, s.Result.Fuel.Used = receipt.Deadline, 0 })
	},
	"failed": func(r *round, i int) []byte {
		return r.receipt(i, "", func(s *receipt.Statement) { s.Result.EndState, s.Result.Fuel.Used = receipt.InfraError, 0 })
	},
	"small": func(r *round, i int) []byte {
		return r.receipt(i, "", func(s *receipt.Statement) { s.Result.EndState, s.Result.Fuel.Used = receipt.OutOfMemory, 0 })
	},
	"table": func(r *round, i int) []byte {
		return r.receipt(i, "right", func(s *receipt.Statement) { s.Result.Fuel.CostTable++ })
	},
	"relaxed": func(r *round, i int) []byte {
		return r.receipt(i, "right", func(s *receipt.Statement) { s.Result.Determinism = receipt.Relaxed })
	},
	"other job": func(r *round, i int) []byte {
		return r.receipt(i, "right", func(s *receipt.Statement) { s.Result.JobID = blob.Of([]byte("other")) })
	},
	"other submitter": func(r *round, i int) []byte {
		return r.receipt(i, "right", func(s *receipt.Statement) { s.Observation.Submitter = nil })
	},
	"not its own": func(r *round, i int) []byte { return r.receipt((i+1)%len(r.plan.Nodes), "right", nil) },
	"no receipt":  func(*round, int) []byte { return []byte(`{"a":1}`) },
	"null":        func(*round, int) []byte { return []byte(`null`) },
	"nothing":     func(*round, int) []byte { return []byte(`""`) },
}

// commitment is that of the i-th node; a copying one takes the hash of the node
// before it.
func (r *round) commitment(i int, does string) []byte {
	file := behaviours[does](r, i)
	if does != "copy" {
		raw, err := Commit(r.ticket(i), file, secretOf(i), r.node(i))
		if err != nil {
			r.t.Fatal(err)
		}
		return raw
	}
	t := r.ticket(i)
	before := r.receipt(i-1, "right", nil)
	return r.seal(CommitmentType, wireCommitment{
		Version: Version, JobID: t.JobID, Plan: t.Plan, Submission: t.Submission, Node: wireKey(public(r.node(i))),
		Hash: hide(r.ticket(i-1), public(r.node(i-1)), blob.Of(before), secretOf(i-1)),
	}, r.node(i))
}

func (r *round) seal(kind string, v any, key ed25519.PrivateKey) []byte {
	r.t.Helper()
	raw, err := seal(kind, v, key, MaxStatementBytes)
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

// reveal is the answer of the i-th node to a set.
func (r *round) reveal(i int, does string, s *Set) Reveal {
	r.t.Helper()
	file, secret, key := behaviours[does](r, i), secretOf(i), r.node(i)
	if does == "copy" { // what it learned of the other's answer is of no use
		secret = secretOf(i - 1)
	}
	if does != "broken" && does != "copy" {
		opening, err := SignOpening(s, r.ticket(i), file, secret, key)
		if err != nil {
			r.t.Fatal(err)
		}
		return Reveal{public(key), file, opening}
	}
	c, _ := s.Of(public(key))
	if does == "broken" {
		secret[0]++
	}
	return Reveal{public(key), file, r.seal(OpeningType, wireOpening{
		Version: Version, Node: wireKey(public(key)), Plan: s.plan, Set: s.digest, Commitment: c.digest, Receipt: blob.Of(file), Secret: secret[:],
	}, key)}
}

// wave asks the next nodes, which behave as told.
func (r *round) wave(does ...string) *round {
	r.t.Helper()
	var w Wave
	var commitments [][]byte
	first := r.asked
	for i, what := range does {
		if what == "silent" {
			w.Silent = append(w.Silent, Silence{public(r.node(first + i)), "no answer"})
			continue
		}
		commitments = append(commitments, r.commitment(first+i, what))
	}
	r.asked += len(does)
	if len(commitments) > 0 {
		raw, err := SignSet(r.plan, r.last, commitments, r.submitter)
		if err != nil {
			r.t.Fatal(err)
		}
		w.Set = raw
		if r.last, err = OpenSet(raw, public(r.submitter)); err != nil {
			r.t.Fatal(err)
		}
	}
	for i, what := range does {
		if what != "silent" && what != "stall" {
			answer := r.reveal(first+i, what, r.last)
			if err := r.last.Check(answer); err != nil {
				r.t.Fatalf("%s: %v", what, err)
			}
			w.Reveals = append(w.Reveals, answer)
		}
	}
	r.waves = append(r.waves, w)
	return r
}

func (r *round) sign() []byte {
	r.t.Helper()
	raw, err := Sign(r.plan, r.waves, r.submitter)
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

// expects is a verifier who believes in all nodes of the plan.
func (r *round) expects() Expectation {
	return Expectation{Nodes: r.plan.Nodes, JobID: r.plan.JobID, Submitter: r.plan.Submitter}
}

// TestRounds plays rounds and looks at what came of every node.
func TestRounds(t *testing.T) {
	for name, test := range map[string]struct {
		nodes, replicas, quorum int
		waves                   [][]string
		votes, more             int
		decided                 bool
		fates                   []Fate
	}{
		"all agree":            {5, 3, 2, [][]string{{"right", "right", "right"}}, 3, 0, true, []Fate{Agreed, Agreed, Agreed}},
		"one lies":             {5, 3, 2, [][]string{{"right", "lie", "right"}}, 2, 0, true, []Fate{Agreed, Dissented, Agreed}},
		"one copies":           {5, 3, 2, [][]string{{"right", "copy", "right"}}, 2, 0, true, []Fate{Agreed, Copied, Agreed}},
		"who is copied stalls": {5, 3, 2, [][]string{{"stall", "copy", "right"}}, 1, 1, false, []Fate{Stalled, Misopened, Voted}},
		"one opens wrongly":    {5, 3, 2, [][]string{{"right", "broken", "right"}}, 2, 0, true, []Fate{Agreed, Misopened, Agreed}},
		"liars agree":          {5, 3, 2, [][]string{{"lie", "lie", "right"}}, 2, 0, true, []Fate{Agreed, Agreed, Dissented}},
		"all differ":           {5, 3, 2, [][]string{{"lie", "lie 2", "right"}}, 1, 2, false, []Fate{Voted, Voted, Voted}},
		"split of two":         {2, 2, 2, [][]string{{"lie", "right"}}, 1, 0, false, []Fate{Voted, Voted}},
		"split, then one more": {5, 2, 2, [][]string{{"lie", "right"}, {"right"}}, 2, 0, true, []Fate{Dissented, Agreed, Agreed}},
		"draw of quorums": {5, 2, 2, [][]string{{"lie", "right"}, {"stall"}, {"stall"}, {"lie"}}, 2, 0, true,
			[]Fate{Agreed, Dissented, Stalled, Stalled, Agreed}},
		"two and two": {6, 3, 2, [][]string{{"lie", "right", "lie 2"}, {"right", "lie"}}, 2, 0, false,
			[]Fate{Voted, Voted, Voted, Voted, Voted}},
		"two and two, one left": {8, 3, 2, [][]string{{"lie", "right", "lie 2"}, {"right", "lie"}, {"right", "right"}}, 4, 0, true,
			[]Fate{Dissented, Agreed, Dissented, Agreed, Dissented, Agreed, Agreed}},
		"lies, copies, stalls, dies, is cut off": {8, 5, 3, [][]string{{"right", "copy", "lie", "stall", "silent"}, {"right", "silent", "right"}}, 3, 0, true,
			[]Fate{Agreed, Copied, Dissented, Stalled, Silent, Agreed, Silent, Agreed}},
		"the second wave is silent": {4, 2, 2, [][]string{{"lie", "right"}, {"silent"}}, 1, 1, false, []Fate{Voted, Voted, Silent}},
		"ends that are no votes": {9, 5, 3, [][]string{{"late", "failed", "small", "table", "relaxed"}, {"right", "right", "right"}}, 3, 0, true,
			[]Fate{NoVote, NoVote, NoVote, NoVote, NoVote, Agreed, Agreed, Agreed}},
		"deadlines agree on nothing": {3, 3, 2, [][]string{{"late", "late", "late"}}, 0, 0, false, []Fate{NoVote, NoVote, NoVote}},
		"what is no receipt of it": {8, 4, 3, [][]string{{"other job", "other submitter", "not its own", "no receipt"}, {"right", "right", "right"}}, 3, 0, true,
			[]Fate{Misopened, Misopened, Misopened, Misopened, Agreed, Agreed, Agreed}},
		"what is nothing at all": {6, 3, 2, [][]string{{"null", "nothing", "right"}, {"right"}}, 2, 0, true, []Fate{Misopened, Misopened, Agreed, Agreed}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRound(t, test.nodes, test.replicas, test.quorum)
			for _, w := range test.waves {
				r.wave(w...)
			}
			o, err := Tally(r.plan, r.waves)
			if err != nil {
				t.Fatal(err)
			}
			var fates []Fate
			for i, s := range o.Nodes {
				fates = append(fates, s.Fate)
				if !s.Node.Equal(public(r.node(i))) {
					t.Errorf("node %d stands elsewhere", i)
				}
			}
			if !slices.Equal(fates, test.fates) {
				t.Errorf("fates %v, want %v", fates, test.fates)
			}
			if o.Decided() != test.decided || o.Votes != test.votes || o.More != test.more {
				t.Errorf("decided %v with %d votes, %d more; want %v, %d, %d", o.Decided(), o.Votes, o.More, test.decided, test.votes, test.more)
			}
			r.checkStatement(test.decided)
		})
	}
}

// checkStatement verifies the round's statement from its bytes alone.
func (r *round) checkStatement(decided bool) {
	r.t.Helper()
	v, err := Verify(r.sign(), r.expects())
	switch {
	case decided && (err != nil || !v.Outcome.Decided() || v.Known != v.Outcome.Votes):
		r.t.Errorf("statement: %v", err)
	case !decided && (!errors.Is(err, ErrUndecided) || v == nil || len(v.Outcome.Nodes) != r.asked):
		r.t.Errorf("statement without agreement: %v", err)
	}
}

// TestKnown: votes of keys that the verifier does not believe in, or that one
// operator has made by the dozen, are worth nothing to it.
func TestKnown(t *testing.T) {
	r := newRound(t, 5, 5, 3).wave("right", "right", "right", "lie", "lie")
	raw := r.sign()
	order := r.plan.Order()
	operated := func(names ...string) (list []Node) {
		for i, name := range names {
			list = append(list, Node{order[i].Key, name})
		}
		return list
	}
	for name, test := range map[string]struct {
		want  Expectation
		known int
		err   error
	}{
		"all":                            {Expectation{Nodes: order}, 3, nil},
		"nobody":                         {Expectation{}, 0, ErrTooFew},
		"two":                            {Expectation{Nodes: order[:2]}, 2, ErrTooFew},
		"two are enough":                 {Expectation{Nodes: order[:2], Votes: 2}, 2, nil},
		"one key twice":                  {Expectation{Nodes: []Node{order[0], order[0]}, Votes: 2}, 1, ErrTooFew},
		"two keys of one operator":       {Expectation{Nodes: operated("a", "a", "b"), Votes: 3}, 2, ErrTooFew},
		"as many known ones say not":     {Expectation{Nodes: slices.Concat(order[:1], order[3:4]), Votes: 1}, 1, ErrTooFew},
		"the liars' friends":             {Expectation{Nodes: order[3:], Votes: 1}, 0, ErrTooFew},
		"strangers":                      {Expectation{Nodes: []Node{{Key: public(testKey("stranger"))}}, Votes: 1}, 0, ErrTooFew},
		"more votes than there are":      {Expectation{Nodes: order, Votes: 4}, 3, ErrTooFew},
		"operators as the verifier says": {Expectation{Nodes: operated("a", "b", "c")}, 3, nil},
	} {
		v, err := Verify(raw, test.want)
		if !errors.Is(err, test.err) || err != nil && test.err == nil {
			t.Errorf("%s: %v, want %v", name, err, test.err)
		} else if v.Known != test.known {
			t.Errorf("%s: %d known votes, want %d", name, v.Known, test.known)
		}
		verdict, _, _ := Judge(raw, test.want)
		if want := map[bool]receipt.Verdict{true: receipt.Accept, false: receipt.Unverifiable}[test.err == nil]; verdict != want {
			t.Errorf("%s: %s, want %s", name, verdict, want)
		}
	}
}

// TestExpected refuses statements about something else.
func TestExpected(t *testing.T) {
	r := newRound(t, 3, 3, 2).wave("right", "right", "lie")
	raw := r.sign()
	for name, test := range map[string]struct {
		change func(*Expectation)
		err    error
	}{
		"job":       {func(w *Expectation) { w.JobID = blob.Of([]byte("other")) }, ErrExpected},
		"submitter": {func(w *Expectation) { w.Submitter = public(testKey("other")) }, ErrExpected},
		"stdout":    {func(w *Expectation) { w.Stdout = blob.Of([]byte("wrong")) }, receipt.ErrOutput},
		"stderr":    {func(w *Expectation) { w.Stderr = blob.Of([]byte("right")) }, receipt.ErrOutput},
	} {
		want := r.expects()
		want.Stdout, want.Stderr = blob.Of([]byte("right")), blob.Of(nil)
		if _, err := Verify(raw, want); err != nil {
			t.Fatal(err)
		}
		test.change(&want)
		if v, err := Verify(raw, want); !errors.Is(err, test.err) || v != nil {
			t.Errorf("%s: %v, want %v", name, err, test.err)
		}
		if verdict, _, _ := Judge(raw, want); verdict != receipt.Reject {
			t.Errorf("%s: %s", name, verdict)
		}
	}
}

// TestCheck refuses answers that would spoil the statement for everybody, or that
// are somebody else's doing.
func TestCheck(t *testing.T) {
	r := newRound(t, 4, 3, 2)
	odd := map[string]string{
		"deep": strings.Repeat("[", 5) + strings.Repeat("]", 5), "space": ` {}`, "not sorted": `{"b":1,"a":1}`, "no JSON": "x",
		"empty": "", "large": `"` + strings.Repeat("a", receipt.MaxBytes) + `"`, "number": "1.5",
	}
	for name, text := range odd {
		c, err := Commit(r.ticket(0), []byte(text), secretOf(0), r.node(0))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := SignSet(r.plan, nil, [][]byte{c}, r.submitter)
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenSet(raw, public(r.submitter))
		if err != nil {
			t.Fatal(err)
		}
		opening, err := SignOpening(s, r.ticket(0), []byte(text), secretOf(0), r.node(0))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(Reveal{public(r.node(0)), []byte(text), opening}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Check(Reveal{public(r.node(0)), r.receipt(0, "wrong", nil), opening}); !errors.Is(err, ErrRound) {
			t.Errorf("a receipt that was swapped: %v", err)
		}
		if err := s.Check(Reveal{public(r.node(1)), []byte(text), opening}); !errors.Is(err, ErrSet) {
			t.Errorf("an answer of a node without a commitment: %v", err)
		}
		if _, err := SignOpening(s, r.ticket(1), []byte(text), secretOf(0), r.node(0)); !errors.Is(err, ErrRound) {
			t.Errorf("opened for another submission: %v", err)
		}
		if _, err := SignOpening(s, r.ticket(0), []byte(text), secretOf(0), r.node(1)); !errors.Is(err, ErrSet) {
			t.Errorf("opened by a node without a commitment: %v", err)
		}
	}
}
