package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// record is an accepted job. The desk's lock guards what changes.
type record struct {
	job       *job.Job
	owner     string            // who handed it in
	submitter ed25519.PublicKey // who signed; nil: nobody
	nonce     *nonceEntry
	accepted  time.Time
	replica   *replicaEntry // of a quorum; nil: of none

	begun   bool // by an earlier process
	stage   job.Stage
	ending  *endEntry // with job.Ended
	keptAs  string    // with ending: as Desk.keptOf has it
	cancel  context.CancelCauseFunc
	shown   blob.Digest   // the set to which the commitment was opened
	changed chan struct{} // closed at the next change
}

// who is whose turn and quota this job counts against.
func (r *record) who() string {
	if r.submitter != nil {
		return job.FormatKey(r.submitter)
	}
	return r.owner
}

func (r *record) task() task {
	return task{job: r.job, asked: r.accepted, submitter: r.submitter, who: r.who()}
}

func (r *record) acceptEntry() *acceptEntry {
	e := &acceptEntry{Spec: r.job.Payload(), Owner: r.owner, At: r.accepted, Nonce: r.nonce, Replica: r.replica}
	if r.submitter != nil {
		e.Submitter = job.FormatKey(r.submitter)
	}
	return e
}

// size is about what the record takes in memory, in bytes.
func (r *record) size() int64 {
	const rest = 2 << 10
	return int64(rest + 2*len(r.job.Payload()) + len(r.ending.Receipt) + len(r.ending.Stdout) + len(r.ending.Stderr))
}

func (r *record) status() job.Status {
	s := job.Status{ID: r.job.ID(), Stage: r.stage, Submitter: r.who(), Module: r.job.Module(), AcceptedAt: r.accepted}
	if r.ending != nil && !r.withheld() {
		end := r.ending.End
		s.End = &end
	}
	return s
}

// restore reads the journal and then makes it short.
func (d *Desk) restore() (err error) {
	d.journal, err = openJournal(d.cfg.Dir, d.replayEntry, func(line int, err error) {
		d.cfg.Log.Error("a line of the journal of jobs is passed over", "line", line, "err", err)
	})
	if err != nil {
		return err
	}
	for _, r := range d.sorted() {
		if r.ending == nil {
			d.owed = append(d.owed, r)
		}
	}
	if log := d.cfg.Receipts; log != nil && len(d.ended) > 0 {
		if last := d.ended[len(d.ended)-1].ending; !log.lately(blob.Of(last.Receipt)) {
			d.logReceipt(last)
		}
	}
	return d.journal.compact(d.entries())
}

// replayEntry does again what a line of the journal says.
func (d *Desk) replayEntry(e entry) {
	switch {
	case e.Accept != nil:
		if r, err := e.Accept.record(); err != nil {
			d.cfg.Log.Error("a job of the journal is lost", "err", err)
		} else {
			d.remember(r)
		}
	case e.Begin != nil && d.known[*e.Begin] != nil:
		d.known[*e.Begin].begun = true
	case e.End != nil && d.known[e.End.ID] != nil:
		r := d.known[e.End.ID]
		r.close(e.End)
		d.keep(r)
	case e.Forget != nil && d.known[*e.Forget] != nil:
		d.forget(*e.Forget)
	case e.Reveal != nil && d.known[e.Reveal.ID] != nil:
		d.known[e.Reveal.ID].open(e.Reveal.Set)
	case e.Nonce != nil:
		d.nonces.add(e.Nonce)
	}
}

func (d *Desk) forget(id blob.Digest) {
	for i, r := range d.ended {
		if r.job.ID() == id {
			d.ended = slices.Delete(d.ended, i, i+1)
			d.kept -= r.size()
			if d.keptOf[r.keptAs] -= r.size(); d.keptOf[r.keptAs] == 0 {
				delete(d.keptOf, r.keptAs)
			}
			break
		}
	}
	delete(d.known, id)
}

func (e *acceptEntry) record() (*record, error) {
	j, err := job.Parse(e.Spec)
	if err != nil {
		return nil, err
	}
	r := &record{job: j, owner: e.Owner, accepted: e.At, nonce: e.Nonce, replica: e.Replica, stage: job.Queued, changed: make(chan struct{})}
	if e.Submitter != "" {
		r.submitter, err = job.ParseKey(e.Submitter)
	}
	return r, err
}

// find is the record of a job that the caller may know of.
func (d *Desk) find(id blob.Digest, by job.Caller) (*record, error) {
	r := d.known[id]
	if r == nil || !by.Admin && r.owner != by.Name {
		return nil, job.ErrUnknown
	}
	return r, nil
}

// Get tells how far a job is.
func (d *Desk) Get(id blob.Digest, by job.Caller) (job.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.find(id, by)
	if err != nil {
		return job.Status{}, err
	}
	return r.status(), nil
}

// List tells of the jobs that the caller may know of, the ended ones first.
func (d *Desk) List(by job.Caller) []job.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := []job.Status{}
	for _, r := range d.sorted() {
		if by.Admin || r.owner == by.Name {
			list = append(list, r.status())
		}
	}
	return list
}

// Watch tells of a job now and at each change, until it has ended, or committed
// to its end, tell fails or ctx ends. A slow listener misses stages, never the
// end.
func (d *Desk) Watch(ctx context.Context, id blob.Digest, by job.Caller, tell func(job.Status) error) error {
	d.mu.Lock()
	r, err := d.find(id, by)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	for {
		d.mu.Lock()
		status, changed := r.status(), r.changed
		d.mu.Unlock()
		if err := tell(status); err != nil || status.Stage == job.Ended || status.Stage == job.Committed {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Cancel ends a job that has not ended: it gets a stated failure and no
// receipt. It does not wait for that.
func (d *Desk) Cancel(id blob.Digest, by job.Caller) (job.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.find(id, by)
	if err != nil {
		return job.Status{}, err
	}
	if r.cancel != nil {
		r.cancel(errCancelled)
	}
	return r.status(), nil
}

func (d *Desk) findEnd(id blob.Digest, by job.Caller) (*record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.find(id, by)
	switch {
	case err != nil:
	case r.ending == nil:
		err = job.ErrNotEnded
	case r.withheld():
		err = job.ErrWithheld
	}
	return r, err
}

// Receipt is the signed receipt of a job that has ended.
func (d *Desk) Receipt(id blob.Digest, by job.Caller) ([]byte, error) {
	r, err := d.findEnd(id, by)
	if err == nil && len(r.ending.Receipt) == 0 {
		err = job.ErrNoReceipt
	}
	if err != nil {
		return nil, err
	}
	return r.ending.Receipt, nil
}

// Spec is the canonical specification of a job.
func (d *Desk) Spec(id blob.Digest, by job.Caller) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.find(id, by)
	if err != nil {
		return nil, err
	}
	return r.job.Payload(), nil
}

// Output opens what is kept of a stream of a job that has ended. What is read
// from the store is compared with its digest: a read fails where it differs.
func (d *Desk) Output(id blob.Digest, stderr bool, by job.Caller) (io.ReadCloser, job.Output, error) {
	r, err := d.findEnd(id, by)
	if err != nil {
		return nil, job.Output{}, err
	}
	out, kept := r.ending.End.Stdout, r.ending.Stdout
	if stderr {
		out, kept = r.ending.End.Stderr, r.ending.Stderr
	}
	if int64(len(kept)) == out.Size {
		return io.NopCloser(bytes.NewReader(kept)), out, nil
	}
	if d.cfg.Outputs == nil {
		return nil, out, job.ErrGone
	}
	body, err := d.cfg.Outputs.Open(out.Digest, out.Size)
	if err != nil {
		return nil, out, fmt.Errorf("%w: %w", job.ErrGone, err)
	}
	return body, out, nil
}
