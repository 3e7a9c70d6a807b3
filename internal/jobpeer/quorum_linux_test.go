package jobpeer_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// A replica between nodes: committed, withheld from everybody, revealed to the set
// that its submitter has signed.
func TestReplicaBetweenNodes(t *testing.T) {
	s := open(t, quick{}, nil)
	s.keep(t, module)
	c := client(t, carrier)
	j := newJob(t, module, "the answer")
	plan := quorum.Plan{
		JobID: j.ID(), Submitter: public(owner), Nodes: []quorum.Node{{Key: public(worker)}, {Key: public(stranger)}},
		Replicas: 2, Quorum: 2, MaxNodes: 2, CostTable: 1, Nonce: "0123456789abcdef",
	}
	digest, err := plan.Digest()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := job.SignReplica(j, digest, public(worker), time.Now().Add(time.Hour), key(owner))
	if err != nil {
		t.Fatal(err)
	}
	var stages []job.Stage
	tell := func(s job.Status) {
		if stages = append(stages, s.Stage); s.End != nil {
			t.Error("a status tells how the replica ended")
		}
	}
	commitment, err := c.Commit(soon(t), s.peer, envelope, tell)
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) == 0 || stages[len(stages)-1] != job.Committed {
		t.Errorf("stages %v", stages)
	}
	own, err := quorum.OpenCommitment(commitment, public(worker))
	if err != nil || own.Ticket != (quorum.Ticket{JobID: j.ID(), Plan: digest, Submission: blob.Of(envelope)}) {
		t.Fatalf("%+v, %v", own, err)
	}
	if _, err := c.Await(soon(t), s.peer, j.ID(), nil); !errors.Is(err, job.ErrWithheld) {
		t.Errorf("its result: %v", err)
	}
	if _, err := c.Submit(soon(t), s.peer, envelope, nil); reason(err) != job.Replayed {
		t.Errorf("again: %v", err)
	}
	if same, err := c.Commit(soon(t), s.peer, envelope, nil); err != nil || !bytes.Equal(same, commitment) {
		t.Errorf("the same submission again: %v", err)
	}
	another, err := job.SignReplica(j, digest, public(worker), time.Now().Add(time.Hour), key(owner))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(soon(t), s.peer, another, nil); reason(err) != job.Replayed {
		t.Errorf("the same job in another submission: %v", err)
	}
	if _, err := client(t, stranger).Commit(soon(t), s.peer, envelope, nil); reason(err) != job.Replayed {
		t.Errorf("the same submission by somebody else: %v", err)
	}
	other, err := quorum.Commit(own.Ticket, []byte("x"), [32]byte{}, key(stranger))
	if err != nil {
		t.Fatal(err)
	}
	set := func(key ed25519.PrivateKey, commitments ...[]byte) []byte {
		raw, err := quorum.SignSet(plan, nil, commitments, key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if _, err := c.Reveal(soon(t), s.peer, j.ID(), set(key(owner), other)); !errors.Is(err, job.ErrSet) {
		t.Errorf("a set without its commitment: %v", err)
	}
	whole := set(key(owner), commitment, other)
	a, err := c.Reveal(soon(t), s.peer, j.ID(), whole)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := quorum.OpenSet(whole, public(owner))
	if err == nil {
		err = opened.Check(quorum.Reveal{Node: public(worker), Receipt: a.Receipt, Opening: a.Opening})
	}
	if err != nil || string(a.Stdout) != "the answer" {
		t.Errorf("%q, %v", a.Stdout, err)
	}
	if r, err := receipt.Verify(a.Receipt, public(worker)); err != nil || r.Result.Stdout.Digest != blob.Of(a.Stdout) {
		t.Error(err)
	}
	if _, err := c.Reveal(soon(t), s.peer, j.ID(), set(key(owner), commitment)); !errors.Is(err, job.ErrOtherSet) {
		t.Errorf("a second set: %v", err)
	}
	if _, err := c.Await(soon(t), s.peer, j.ID(), nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
