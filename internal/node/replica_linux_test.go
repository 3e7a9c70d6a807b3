package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// quorumTest is a submitter and the desks to which it gives the replicas.
type quorumTest struct {
	t     *testing.T
	key   ed25519.PrivateKey
	job   *job.Job
	desks []*deskTest
	plan  quorum.Plan
}

// newQuorum opens desks; the arguments of the first job are their own.
func newQuorum(t *testing.T, desks int) *quorumTest {
	t.Helper()
	key, err := EphemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	q := &quorumTest{t: t, key: key, job: spec(t, "hello", "round")}
	q.plan = quorum.Plan{
		JobID: q.job.ID(), Submitter: key.Public().(ed25519.PublicKey), Replicas: max(desks, 2), Quorum: 2, MaxNodes: 4,
		CostTable: 1, Nonce: "0123456789abcdef",
	}
	for range desks {
		d := openDesk(t, t.TempDir(), q.allow(nil))
		q.desks = append(q.desks, d)
		q.plan.Nodes = append(q.plan.Nodes, quorum.Node{Key: d.node.Public()})
	}
	for len(q.plan.Nodes) < 2 {
		other, err := EphemeralKey()
		if err != nil {
			t.Fatal(err)
		}
		q.plan.Nodes = append(q.plan.Nodes, quorum.Node{Key: other.Public().(ed25519.PublicKey)})
	}
	return q
}

// allow lets the submitter in, with the node's key if it had one before.
func (q *quorumTest) allow(nodeKey ed25519.PrivateKey) func(*Config, *DeskConfig) {
	return func(c *Config, dc *DeskConfig) {
		dc.Submitters = []ed25519.PublicKey{q.key.Public().(ed25519.PublicKey)}
		if nodeKey != nil {
			c.Key = nodeKey
		}
	}
}

// replica gives a desk its replica of j and waits for the commitment.
func (q *quorumTest) replica(d *deskTest, j *job.Job, plan quorum.Plan) []byte {
	q.t.Helper()
	digest, err := plan.Digest()
	if err != nil {
		q.t.Fatal(err)
	}
	envelope, err := job.SignReplica(j, digest, d.node.Public(), time.Now().Add(time.Hour), q.key)
	if err != nil {
		q.t.Fatal(err)
	}
	s, err := d.SubmitSigned(envelope, alice)
	if err != nil {
		q.t.Fatal(err)
	}
	if stage := d.settle(q.t, s.ID); stage != job.Committed {
		q.t.Fatalf("stage %s", stage)
	}
	commitment, err := d.Commitment(s.ID, alice)
	if err != nil {
		q.t.Fatal(err)
	}
	return commitment
}

// settle waits until the node tells no more about a job for now.
func (d *deskTest) settle(t *testing.T, id blob.Digest) (stage job.Stage) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.Watch(ctx, id, alice, func(s job.Status) error { stage = s.Stage; return nil }); err != nil {
		t.Fatal(err)
	}
	return stage
}

func (q *quorumTest) set(plan quorum.Plan, key ed25519.PrivateKey, commitments ...[]byte) []byte {
	q.t.Helper()
	raw, err := quorum.SignSet(plan, nil, commitments, key)
	if err != nil {
		q.t.Fatal(err)
	}
	return raw
}

// TestQuorumOfDesks runs a round with three desks to its statement.
func TestQuorumOfDesks(t *testing.T) {
	q := newQuorum(t, 3)
	var commitments [][]byte
	for _, d := range q.desks {
		commitments = append(commitments, q.replica(d, q.job, q.plan))
	}
	wave := quorum.Wave{Set: q.set(q.plan, q.key, commitments...)}
	for _, d := range q.desks {
		file, opening, err := d.Reveal(q.job.ID(), wave.Set, alice)
		if err != nil {
			t.Fatal(err)
		}
		wave.Reveals = append(wave.Reveals, quorum.Reveal{Node: d.node.Public(), Receipt: file, Opening: opening})
	}
	raw, err := quorum.Sign(q.plan, []quorum.Wave{wave}, q.key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := quorum.Verify(raw, quorum.Expectation{Nodes: q.plan.Nodes, JobID: q.job.ID(), Votes: 3, Stdout: blob.Of([]byte("hello"))})
	if err != nil || v.Known != 3 {
		t.Error(err)
	}
}

// TestWithheld: nothing about the end of a replica is told before the node has
// seen the set, also not after a kill -9, and to an admin neither.
func TestWithheld(t *testing.T) {
	q := newQuorum(t, 1)
	d := q.desks[0]
	id, commitment := q.job.ID(), q.replica(d, q.job, q.plan)
	check := func(d *deskTest) {
		t.Helper()
		for _, by := range []job.Caller{alice, root} {
			if _, err := d.Receipt(id, by); !errors.Is(err, job.ErrWithheld) {
				t.Errorf("receipt: %v", err)
			}
			if _, _, err := d.Output(id, false, by); !errors.Is(err, job.ErrWithheld) {
				t.Errorf("output: %v", err)
			}
			if s, err := d.Get(id, by); err != nil || s.End != nil || s.Stage != job.Committed {
				t.Errorf("status: %+v, %v", s, err)
			}
			for _, s := range d.List(by) {
				if s.End != nil {
					t.Error("the list tells the end")
				}
			}
		}
		if _, err := d.Commitment(id, bob); !errors.Is(err, job.ErrUnknown) {
			t.Errorf("a stranger: %v", err)
		}
		if again, err := d.Commitment(id, alice); err != nil || string(again) != string(commitment) {
			t.Errorf("another commitment: %v", err)
		}
	}
	check(d)
	set := q.set(q.plan, q.key, commitment)
	killed := openDesk(t, crash(t, d.dir), q.allow(d.node.cfg.Key))
	check(killed)
	if _, _, err := killed.Reveal(id, set, bob); !errors.Is(err, job.ErrUnknown) {
		t.Errorf("a stranger: %v", err)
	}
	file, opening, err := killed.Reveal(id, set, alice)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := receipt.Verify(file, killed.node.Public()); err != nil || s.Result.JobID != id {
		t.Error(err)
	}
	if _, err := quorum.ReadOpening(opening, killed.node.Public()); err != nil {
		t.Error(err)
	}
	if end := killed.finish(t, id); end.State != job.Exited || !end.Receipt {
		t.Errorf("after the set: %+v", end)
	}
	if got, err := killed.Receipt(id, alice); err != nil || string(got) != string(file) {
		t.Errorf("after the set: %v", err)
	}
	// Killed again: the set is still the only one.
	second := openDesk(t, crash(t, killed.dir), q.allow(d.node.cfg.Key))
	if _, again, err := second.Reveal(id, set, alice); err != nil || string(again) != string(opening) {
		t.Errorf("the same set again: %v", err)
	}
	if stage := second.settle(t, id); stage != job.Ended {
		t.Errorf("after a restart it is %s", stage)
	}
}

// TestSetsAreRefused shows a node sets to which it must not open its commitment.
func TestSetsAreRefused(t *testing.T) {
	q := newQuorum(t, 2)
	d, id := q.desks[0], q.job.ID()
	own := q.replica(d, q.job, q.plan)
	others := q.replica(q.desks[1], q.job, q.plan)
	stranger, err := EphemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	theirs := q.plan
	theirs.Submitter = stranger.Public().(ed25519.PublicKey)
	changed := q.plan
	changed.MaxNodes = 3
	digest, err := changed.Digest()
	if err != nil {
		t.Fatal(err)
	}
	forge := func(key ed25519.PrivateKey, plan blob.Digest) []byte { // as if the node had said so
		raw, err := quorum.Commit(quorum.Ticket{JobID: id, Plan: plan, Submission: blob.Of(nil)}, []byte("x"), [32]byte{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	planDigest, err := q.plan.Digest()
	if err != nil {
		t.Fatal(err)
	}
	theirDigest, err := theirs.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string][]byte{
		"none":                         nil,
		"no set":                       []byte(`{}`),
		"without its own":              q.set(q.plan, q.key, others),
		"signed by another":            q.set(theirs, stranger, forge(d.node.cfg.Key, theirDigest)),
		"of a rule changed afterwards": q.set(changed, q.key, forge(d.node.cfg.Key, digest)),
		"with another of its own":      q.set(q.plan, q.key, forge(d.node.cfg.Key, planDigest)),
	} {
		if _, _, err := d.Reveal(id, set, alice); !errors.Is(err, job.ErrSet) {
			t.Errorf("%s: %v", name, err)
		}
	}
	first := q.set(q.plan, q.key, own, others)
	if _, _, err := d.Reveal(id, first, alice); err != nil {
		t.Fatal(err)
	}
	// The submitter shows the second node another set: its opening says so.
	second := q.set(q.plan, q.key, others)
	file, opening, err := q.desks[1].Reveal(id, second, alice)
	if err != nil {
		t.Fatal(err)
	}
	s, err := quorum.OpenSet(first, q.plan.Submitter)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(quorum.Reveal{Node: q.desks[1].node.Public(), Receipt: file, Opening: opening}); !errors.Is(err, quorum.ErrRound) {
		t.Errorf("an opening to another set: %v", err)
	}
	if _, _, err := q.desks[1].Reveal(id, first, alice); !errors.Is(err, job.ErrOtherSet) {
		t.Errorf("a second set: %v", err)
	}
	if _, err := quorum.ProveFraud(quorum.TwoSets, q.plan.Submitter, first, second); err != nil {
		t.Errorf("two sets prove nothing: %v", err)
	}
}

// TestReplicasEnd: what is no replica has no commitment, nor has a replica
// without a receipt; one at work at a kill -9 commits itself to its failure.
func TestReplicasEnd(t *testing.T) {
	q := newQuorum(t, 1)
	d := q.desks[0]
	plain, err := d.submit(t, alice, "plain", "")
	if err != nil {
		t.Fatal(err)
	}
	d.finish(t, plain)
	if _, err := d.Commitment(plain, alice); !errors.Is(err, job.ErrNoReplica) {
		t.Errorf("no replica: %v", err)
	}
	if _, _, err := d.Reveal(plain, nil, alice); !errors.Is(err, job.ErrNoReplica) {
		t.Errorf("no replica: %v", err)
	}
	missing := newJob(t, job.Spec{Module: blob.Of([]byte("missing")), Args: []string{"x"}})
	waits := spec(t, "wait", "")
	for _, j := range []*job.Job{missing, waits} {
		plan := q.plan
		plan.JobID = j.ID()
		digest, err := plan.Digest()
		if err != nil {
			t.Fatal(err)
		}
		envelope, err := job.SignReplica(j, digest, d.node.Public(), time.Now().Add(time.Hour), q.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.SubmitSigned(envelope, alice); err != nil {
			t.Fatal(err)
		}
	}
	if stage := d.settle(t, missing.ID()); stage != job.Ended {
		t.Errorf("without its module it is %s", stage)
	}
	if _, err := d.Commitment(missing.ID(), alice); !errors.Is(err, job.ErrNoReceipt) {
		t.Errorf("no receipt: %v", err)
	}
	for arg := range d.runner.started {
		if arg == "wait" {
			break
		}
	}
	if _, err := d.Commitment(waits.ID(), alice); !errors.Is(err, job.ErrNotEnded) {
		t.Errorf("at work: %v", err)
	}
	after := openDesk(t, crash(t, d.dir), q.allow(d.node.cfg.Key))
	if stage := after.settle(t, waits.ID()); stage != job.Committed {
		t.Errorf("after a kill it is %s", stage)
	}
	if _, err := after.Commitment(waits.ID(), alice); err != nil {
		t.Error(err)
	}
}
