package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/store"
)

// A Desk takes jobs in, remembers them, and answers for them: every job that
// it accepted ends with a receipt or a stated failure, also when the node is
// killed meanwhile.
//
// Who may submit: whoever the node's owner named by key, with a signature, and
// who stands at the machine itself (a job.Caller), without one. Nobody else.
//
// After a kill -9 the journal says which jobs are owed an end. One that still
// waited is put into the queue again: nothing of it was done. One that had left
// the queue ends with an infra_error receipt and is not tried again, because it
// may be what killed the node, and would do so at every start. infra_error is
// the state that submitters retry elsewhere.
type Desk struct {
	cfg     DeskConfig
	journal *journal
	lock    io.Closer // of Dir

	ctx  context.Context // of running jobs
	stop context.CancelCauseFunc
	jobs sync.WaitGroup

	mu     sync.Mutex
	open   bool // Run was called and has not ended
	known  map[blob.Digest]*record
	ended  []*record        // of known, oldest first
	kept   int64            // bytes of ended
	keptOf map[string]int64 // of each submitter
	nonces *nonces
	owed   []*record // accepted before a restart, until Run
}

// DeskConfig says how a desk works. Only Node is needed.
type DeskConfig struct {
	Node *Node
	// Dir holds the journal; it exists. "" writes nothing anywhere: the desk
	// forgets its jobs with the process (Private mode).
	Dir string
	// Receipts gets every receipt; nil: none is logged (Private mode).
	Receipts *ReceiptLog
	// Outputs keeps outputs above 64 KiB; give it a limit. Nil keeps them in memory.
	Outputs *store.Store
	// Submitters are the keys whose signed jobs are accepted; empty: none are.
	Submitters []ed25519.PublicKey
	// RequireSigned refuses jobs without a signature from local callers, too.
	RequireSigned bool
	// KeepJobs and KeepBytes bound what is remembered of ended jobs, outputs
	// in memory included; the oldest are forgotten of the submitter who has most.
	// Default 1000 and 32 MiB.
	KeepJobs  int
	KeepBytes int64
	Log       *slog.Logger // nil discards
}

// smallOutput is the largest output that is kept with its job, in memory and
// in the journal, in bytes.
const smallOutput = 64 << 10

var (
	errStopping  = errors.New("the node stops")
	errCancelled = errors.New("the job was cancelled")
)

// NewDesk reads the journal. It starts nothing. Close ends the desk's hold of Dir,
// which is for one desk at a time.
func NewDesk(cfg DeskConfig) (*Desk, error) {
	if cfg.Node == nil {
		return nil, errors.New("desk: no node")
	}
	if cfg.Dir != "" && cfg.Outputs == nil {
		return nil, errors.New("desk: a journal, but no store for outputs")
	}
	if cfg.KeepJobs <= 0 {
		cfg.KeepJobs = 1000
	}
	if cfg.KeepBytes <= 0 {
		cfg.KeepBytes = 32 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Desk{cfg: cfg, known: map[blob.Digest]*record{}, keptOf: map[string]int64{}, nonces: newNonces(maxNonces)}
	d.ctx, d.stop = context.WithCancelCause(context.Background())
	if cfg.Dir == "" {
		return d, nil
	}
	var err error
	if d.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("desk: %w", err)
	}
	if err := d.restore(); err != nil {
		d.lock.Close()
		return nil, fmt.Errorf("desk: %w", err)
	}
	return d, nil
}

// Close gives the folder back. Run has ended, or was never called.
func (d *Desk) Close() error {
	if d.journal == nil {
		return nil
	}
	return errors.Join(d.journal.lines.close(), d.lock.Close())
}

// Run works off the jobs that earlier starts owe, keeps the desk open until ctx
// ends, and then waits for the running ones, which are ended. Jobs that wait
// stay in the journal.
func (d *Desk) Run(ctx context.Context) error {
	flushing, stopFlushing := context.WithCancel(context.Background())
	defer stopFlushing()
	var files sync.WaitGroup
	failed := make(chan error, 2)
	for _, l := range d.lineFiles() {
		files.Go(func() {
			if err := l.flushes(flushing); err != nil {
				failed <- err
			}
		})
	}
	d.begin()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	d.mu.Lock()
	d.open = false
	d.mu.Unlock()
	d.stop(errStopping)
	d.jobs.Wait()
	stopFlushing()
	files.Wait()
	return err
}

func (d *Desk) lineFiles() (files []*lineFile) {
	if d.journal != nil {
		files = append(files, d.journal.lines)
	}
	if d.cfg.Receipts != nil {
		files = append(files, d.cfg.Receipts.file)
	}
	return files
}

// begin opens the desk and pays what is owed.
func (d *Desk) begin() {
	d.mu.Lock()
	d.open = true
	owed := d.owed
	d.owed = nil
	d.mu.Unlock()
	for _, r := range owed {
		if r.begun {
			d.endBroken(r)
			continue
		}
		place, err := d.cfg.Node.gate.take(r.who(), true)
		if err != nil {
			d.end(r, Report{}, err)
			continue
		}
		d.mu.Lock()
		d.follow(r, place)
		d.mu.Unlock()
	}
}

// endBroken ends a job that was at work when the node died.
func (d *Desk) endBroken(r *record) {
	res := job.Result{State: job.InfraError, Engine: "none",
		Detail: "the node stopped while the job was at work; it was not tried again"}
	report, err := d.cfg.Node.sign(r.task(), res, r.accepted)
	d.end(r, report, err)
}

// SubmitSigned accepts a job in an envelope, whoever brings it. Errors are
// *job.Refusal. When it returns nil the job will end.
func (d *Desk) SubmitSigned(envelope []byte, by job.Caller) (job.Status, error) {
	s, err := job.Authority{
		Node: d.cfg.Node.Public(), Submitters: d.cfg.Submitters, Now: d.cfg.Node.cfg.Now(),
	}.Open(envelope)
	if err == nil {
		err = s.BroughtBy(by)
	}
	if err != nil {
		return job.Status{}, d.refused(err)
	}
	return d.accept(&record{
		job: s.Job, owner: by.Name, submitter: s.Submitter,
		nonce:   &nonceEntry{job.FormatKey(s.Submitter), s.Nonce, s.Expires},
		replica: replicaOf(s),
	})
}

// SubmitLocal accepts a bare specification from somebody at this machine.
// Errors are *job.Refusal.
func (d *Desk) SubmitLocal(spec []byte, by job.Caller) (job.Status, error) {
	if d.cfg.RequireSigned {
		return job.Status{}, d.refused(&job.Refusal{Reason: job.Unauthorised, Detail: "this node runs no job without a signature"})
	}
	j, err := job.Parse(spec)
	if err != nil {
		return job.Status{}, d.refused(err)
	}
	return d.accept(&record{job: j, owner: by.Name})
}

// Replay runs a job again for somebody at this machine, whether it is known or
// not, and remembers nothing of it. It returns the receipt.
func (d *Desk) Replay(ctx context.Context, spec []byte, by job.Caller) ([]byte, error) {
	if d.cfg.RequireSigned && !by.Admin {
		return nil, d.refused(&job.Refusal{Reason: job.Unauthorised, Detail: "this node runs no job without a signature"})
	}
	j, err := job.Parse(spec)
	if err != nil {
		return nil, d.refused(err)
	}
	report, err := d.cfg.Node.executeAs(ctx, j, by.Name)
	return report.Receipt, err
}

func (d *Desk) refused(err error) error {
	d.cfg.Node.tally.note(job.Result{}, err)
	return err
}

// accept admits r, writes it down and gives it a place in the queue.
func (d *Desk) accept(r *record) (job.Status, error) {
	if err := d.cfg.Node.admit(r.job); err != nil {
		return job.Status{}, d.refused(err)
	}
	r.accepted = d.cfg.Node.cfg.Now()
	r.stage, r.changed = job.Queued, make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fresh(r); err != nil {
		return job.Status{}, d.refused(err)
	}
	place, err := d.cfg.Node.gate.take(r.who(), false)
	if err != nil {
		return job.Status{}, d.refused(err)
	}
	if err := d.journal.add(entry{Accept: r.acceptEntry()}); err != nil {
		place.leave()
		d.cfg.Log.Error("job not accepted", "job", r.job.ID(), "err", err)
		return job.Status{}, d.refused(&job.Refusal{Reason: job.Internal, Detail: "the job could not be written down", Err: err})
	}
	d.remember(r)
	status := r.status()
	d.follow(r, place)
	return status, nil
}

// fresh refuses a job that was here before, by its id or its nonce.
func (d *Desk) fresh(r *record) error {
	if !d.open {
		return &job.Refusal{Reason: job.Busy, Detail: "the node is starting or stopping", RetryAfter: busyRetry}
	}
	if d.known[r.job.ID()] != nil {
		return &job.Refusal{Reason: job.Replayed, Detail: fmt.Sprintf("job %s was given to this node before", r.job.ID())}
	}
	if r.nonce == nil {
		return nil
	}
	if d.nonces.used(r.nonce) {
		return &job.Refusal{Reason: job.Replayed, Detail: "the submission's nonce was used before"}
	}
	if !d.nonces.room(r.nonce.Who, len(d.cfg.Submitters), d.cfg.Node.cfg.Now()) {
		return &job.Refusal{Reason: job.Busy, Detail: "the node remembers as many submissions as it can", RetryAfter: time.Minute}
	}
	return nil
}

func (d *Desk) remember(r *record) {
	d.known[r.job.ID()] = r
	if r.nonce != nil {
		d.nonces.add(r.nonce)
	}
}

// follow takes the job through its stages. It returns at once. The caller holds
// the lock.
func (d *Desk) follow(r *record, place *ticket) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	r.cancel = cancel
	d.jobs.Go(func() {
		defer cancel(nil)
		defer place.leave()
		if err := place.wait(ctx); err != nil {
			if !errors.Is(err, errStopping) { // else the next start runs it
				d.end(r, Report{}, err)
			}
			return
		}
		report, err := d.work(ctx, r)
		if err != nil && errors.Is(context.Cause(ctx), errStopping) {
			return // the next start states it
		}
		d.end(r, report, err)
	})
}

// work runs a job that has its turn.
func (d *Desk) work(ctx context.Context, r *record) (Report, error) {
	if err := d.beginJob(r); err != nil {
		return Report{}, err
	}
	t := r.task()
	t.enter = func(s job.Stage) { d.change(r, func() { r.stage = s }) }
	report, err := d.cfg.Node.perform(ctx, t)
	if cause := context.Cause(ctx); errors.Is(cause, errCancelled) && (err != nil || report.Result.State == job.InfraError) {
		return Report{}, cause // what the sandbox says about its end is our doing
	}
	d.cfg.Node.tally.note(report.Result, err)
	return report, err
}

// beginJob writes down that r leaves the queue. What is in the journal and what
// is in memory change together under the lock, or compacting would mix them.
func (d *Desk) beginJob(r *record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := r.job.ID()
	r.begun = true
	return d.journal.add(entry{Begin: &id})
}

// change changes a record and tells those who watch it.
func (d *Desk) change(r *record, how func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	how()
	close(r.changed)
	r.changed = make(chan struct{})
}

// end writes down how a job ended, and only then tells it: first in the
// journal, then in the log of receipts. A crash between the two leaves the log
// one receipt short, which the next start adds.
func (d *Desk) end(r *record, report Report, err error) {
	if errors.Is(err, errCancelled) {
		err = &job.Refusal{Reason: job.Cancelled, Detail: errCancelled.Error()}
	}
	e := d.ending(r, report, err)
	d.change(r, func() {
		if lost := d.journal.add(entry{End: e}); lost != nil {
			d.cfg.Log.Error("end of a job not written down", "job", r.job.ID(), "err", lost)
		}
		d.logReceipt(e)
		r.close(e)
		d.keep(r)
		d.trim()
	})
}

func (d *Desk) logReceipt(e *endEntry) {
	if d.cfg.Receipts == nil || len(e.Receipt) == 0 {
		return
	}
	if err := d.cfg.Receipts.Add(e.Receipt); err != nil {
		d.cfg.Log.Error("receipt not logged", "job", e.ID, "err", err)
	}
}

// ending is what is kept of the end.
func (d *Desk) ending(r *record, report Report, err error) *endEntry {
	e := &endEntry{ID: r.job.ID(), Receipt: report.Receipt}
	e.End.EndedAt = d.cfg.Node.cfg.Now()
	e.End.Stdout, _ = d.keepOutput(nil, false)
	e.End.Stderr = e.End.Stdout
	if err != nil {
		e.End.State, e.End.Failure = job.Refused, job.FailureOf(err)
		e.End.Detail = e.End.Failure.Text
		if r.stage == job.Running && e.End.Failure.Reason == job.Internal {
			e.End.State = job.InfraError
		}
		d.cfg.Log.Info("job ended without a receipt", "job", e.ID, "err", err)
		return e
	}
	if r.replica != nil {
		e.Secret = newSecret()
	}
	res := report.Result
	e.End.State, e.End.Detail, e.End.Receipt = res.State, res.Detail, true
	if res.State == job.Exited {
		e.End.ExitCode = int64(uint32(res.ExitCode))
	}
	e.End.Stdout, e.Stdout = d.keepOutput(res.Stdout, res.StdoutTruncated)
	e.End.Stderr, e.Stderr = d.keepOutput(res.Stderr, res.StderrTruncated)
	return e
}

// keepOutput puts a large output into the store; a small one stays with the job.
func (d *Desk) keepOutput(b []byte, truncated bool) (job.Output, []byte) {
	out := job.Output{Digest: blob.Of(b), Size: int64(len(b)), Truncated: truncated}
	if len(b) <= smallOutput || d.cfg.Outputs == nil {
		return out, b
	}
	if err := d.cfg.Outputs.Put(out.Digest, out.Size, bytes.NewReader(b)); err != nil {
		d.cfg.Log.Error("output not kept", "digest", out.Digest, "err", err)
	}
	return out, nil
}

// keep counts r, which has ended, among what is remembered. The caller holds the lock.
func (d *Desk) keep(r *record) {
	d.ended = append(d.ended, r)
	d.kept += r.size()
	r.keptAs = r.who()
	d.keptOf[r.keptAs] += r.size()
}

// trim forgets ended jobs: the oldest of the submitter of whom most is kept, so that nobody
// pushes out what others wait for. The caller holds the lock.
func (d *Desk) trim() {
	for len(d.ended) > d.cfg.KeepJobs || d.kept > d.cfg.KeepBytes && len(d.ended) > 1 {
		id := d.oldestOf(d.largest()).job.ID()
		d.forget(id)
		if err := d.journal.add(entry{Forget: &id}); err != nil {
			d.cfg.Log.Warn("journal", "err", err)
		}
	}
	if d.journal.length() > journalSlack+2*max(d.kept, d.journal.least()) {
		if err := d.journal.compact(d.entries()); err != nil {
			d.cfg.Log.Error("journal not compacted", "err", err)
		}
	}
}

// largest is the submitter of whom most is kept.
func (d *Desk) largest() (who string) {
	for other, bytes := range d.keptOf {
		if bytes > d.keptOf[who] {
			who = other
		}
	}
	return who
}

// oldestOf is the ended job of who that is remembered for the longest time.
func (d *Desk) oldestOf(who string) *record {
	i := slices.IndexFunc(d.ended, func(r *record) bool { return r.keptAs == who })
	return d.ended[max(i, 0)]
}

// journalSlack is how long a journal may be, in bytes, beyond twice what it has to hold.
const journalSlack = 8 << 20

// entries are what a compacted journal says, oldest job first.
func (d *Desk) entries() (list []entry) {
	now := d.cfg.Node.cfg.Now()
	for _, e := range d.nonces.next {
		if now.Before(e.Expires) {
			list = append(list, entry{Nonce: e})
		}
	}
	for _, r := range d.sorted() {
		id := r.job.ID()
		list = append(list, entry{Accept: r.acceptEntry()})
		if r.begun {
			list = append(list, entry{Begin: &id})
		}
		if r.ending != nil {
			list = append(list, entry{End: r.ending})
		}
		if !r.shown.IsZero() {
			list = append(list, entry{Reveal: &revealEntry{id, r.shown}})
		}
	}
	return list
}

// sorted are the known jobs: the ended ones in the order of their ends, then
// the others in the order of their coming.
func (d *Desk) sorted() []*record {
	list := slices.Clone(d.ended)
	var live []*record
	for _, r := range d.known {
		if r.ending == nil {
			live = append(live, r)
		}
	}
	slices.SortFunc(live, func(a, b *record) int { return a.accepted.Compare(b.accepted) })
	return append(list, live...)
}
