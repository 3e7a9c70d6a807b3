package node

import (
	"crypto/rand"
	"fmt"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/quorum"
)

// A replica of a quorum ends like any job, but nobody is told how: the node
// answers a commitment to its receipt. It hands receipt and outputs out when it
// is shown the set of all commitments, signed by the job's submitter, and from
// then on opens its commitment to no other set. All of it is in the journal:
// after a kill -9 the commitment and the set are the same.

// replicaEntry says of which round a job is a replica.
type replicaEntry struct {
	Plan       blob.Digest `json:"plan"`
	Submission blob.Digest `json:"submission"`
}

// revealEntry says to which set a commitment was opened.
type revealEntry struct {
	ID  blob.Digest `json:"id"`
	Set blob.Digest `json:"set"`
}

func replicaOf(s *job.Submission) *replicaEntry {
	if s.Commit.IsZero() {
		return nil
	}
	return &replicaEntry{s.Commit, s.Digest}
}

// newSecret is what makes a commitment tell nothing of the few results that a
// job can have.
func newSecret() strictjson.Base64 {
	secret := make(strictjson.Base64, 32)
	_, _ = rand.Read(secret) // never fails
	return secret
}

// withheld reports whether the job has ended and nobody is told how.
func (r *record) withheld() bool {
	return r.ending != nil && len(r.ending.Secret) != 0 && r.shown.IsZero()
}

// close takes in the job's end.
func (r *record) close(e *endEntry) {
	r.ending, r.stage = e, job.Ended
	if r.withheld() {
		r.stage = job.Committed
	}
}

// open takes in that the commitment was opened to a set.
func (r *record) open(set blob.Digest) { r.shown, r.stage = set, job.Ended }

func (r *record) ticket() quorum.Ticket {
	return quorum.Ticket{JobID: r.job.ID(), Plan: r.replica.Plan, Submission: r.replica.Submission}
}

// findReplica is a replica that has ended with a receipt.
func (d *Desk) findReplica(id blob.Digest, by job.Caller) (*record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.find(id, by)
	switch {
	case err != nil:
		return nil, err
	case r.replica == nil:
		return nil, job.ErrNoReplica
	case r.ending == nil:
		return nil, job.ErrNotEnded
	case len(r.ending.Secret) != 32:
		return nil, job.ErrNoReceipt
	}
	return r, nil
}

// Submitted is the digest of the submission by which a replica came here, ended or
// not: who brings that very one again means this job and no other.
func (d *Desk) Submitted(id blob.Digest, by job.Caller) (blob.Digest, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.find(id, by)
	switch {
	case err != nil:
		return blob.Digest{}, err
	case r.replica == nil:
		return blob.Digest{}, job.ErrNoReplica
	}
	return r.replica.Submission, nil
}

// Commitment is that of a replica that has ended. It is the same whenever it is
// asked for.
func (d *Desk) Commitment(id blob.Digest, by job.Caller) ([]byte, error) {
	r, err := d.findReplica(id, by)
	if err != nil {
		return nil, err
	}
	return quorum.Commit(r.ticket(), r.ending.Receipt, [32]byte(r.ending.Secret), d.cfg.Node.cfg.Key)
}

// Reveal hands out a replica's receipt and the opening of its commitment to set,
// the quorum's set of commitments. From then on the receipt and the outputs are
// to be had like those of any job, and no other set is opened to: a submitter
// who showed one set here and another one elsewhere has openings that fit into
// no statement.
func (d *Desk) Reveal(id blob.Digest, set []byte, by job.Caller) (receipt, opening []byte, err error) {
	r, err := d.findReplica(id, by)
	if err != nil {
		return nil, nil, err
	}
	s, err := quorum.OpenSet(set, r.submitter)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("%w: %w", job.ErrSet, err)
	case s.PlanDigest() != r.replica.Plan:
		return nil, nil, fmt.Errorf("%w: it is of another plan than the submission", job.ErrSet)
	}
	opening, err = quorum.SignOpening(s, r.ticket(), r.ending.Receipt, [32]byte(r.ending.Secret), d.cfg.Node.cfg.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", job.ErrSet, err)
	}
	if err := d.show(r, s.Digest()); err != nil {
		return nil, nil, err
	}
	return r.ending.Receipt, opening, nil
}

// show writes down to which set the commitment is opened, before anybody gets
// the opening.
func (d *Desk) show(r *record, set blob.Digest) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r.shown {
	case set:
		return nil
	case blob.Digest{}:
	default:
		return job.ErrOtherSet
	}
	if err := d.journal.add(entry{Reveal: &revealEntry{r.job.ID(), set}}); err != nil {
		return &job.Refusal{Reason: job.Internal, Detail: "the set could not be written down", Err: err}
	}
	r.open(set)
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}
