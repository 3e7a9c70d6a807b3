package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/receipt"
)

// single gives the job to one node after the other until one answers.
func (r *run) single(ctx context.Context) (*Answer, error) {
	for tried := 0; tried < r.o.MaxNodes; {
		c := r.next(ctx)
		if c == nil {
			break
		}
		a, err := r.try(ctx, c)
		if err == nil {
			r.note(Attempt{Node: c.name(), Round: 1, Outcome: Answered, Receipt: a.Receipt})
			a.Attempts, a.Agreed = r.attempts, 1
			return a, nil
		}
		if !r.later(c, err) {
			tried++
		}
		r.note(attemptOf(ctx, c, 1, err))
	}
	return nil, r.failure(ctx)
}

// next takes the first node that may be asked now; if all others are busy it waits
// for the one that is so for the shortest time. It is nil when there is none.
func (r *run) next(ctx context.Context) *candidate {
	for ctx.Err() == nil && len(r.able) > 0 {
		now := time.Now()
		i := slices.IndexFunc(r.able, func(c *candidate) bool { return !c.after.After(now) })
		if i >= 0 {
			c := r.able[i]
			r.able = slices.Delete(r.able, i, i+1)
			return c
		}
		first := slices.MinFunc(r.able, func(a, b *candidate) int { return a.after.Compare(b.after) })
		r.tell(Event{Node: first.name(), What: "waits until it is less busy"})
		wait := time.NewTimer(first.after.Sub(now))
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
	return nil
}

// maxRetryAfter bounds what a busy node can make others wait.
const maxRetryAfter = 30 * time.Second

// later puts a node that is busy back, behind the others, a few times.
func (r *run) later(c *candidate, err error) bool {
	var refusal *job.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != job.Busy || c.busy >= busyTries {
		return false
	}
	c.busy++
	c.after = time.Now().Add(min(max(refusal.RetryAfter, 100*time.Millisecond), maxRetryAfter))
	r.able = append(r.able, c)
	return true
}

// allowed is the time that a node has for the job. For each MiB of inputs it gets a
// second, as they may have to be brought to it.
func (r *run) allowed() time.Duration {
	return r.job.Job.Limits().Deadline() + r.o.Grace + time.Duration(r.job.Job.InputBytes()>>20)*time.Second
}

// try gives the job to one node and verifies its answer.
func (r *run) try(ctx context.Context, c *candidate) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.allowed())
	defer cancel()
	envelope, err := job.SignSubmission(r.job.Job, c.peer.Key, time.Now().Add(r.o.Valid), r.job.Key)
	if err != nil {
		return nil, err
	}
	tell := r.teller(c, 1)
	answer, err := withModule(ctx, r, c, envelope, func() (jobpeer.Answer, error) {
		return r.peers.Submit(ctx, c.peer, envelope, tell)
	})
	r.evidence.keep(c.peer.Key, signed{receipts: [][]byte{answer.Receipt}})
	if broken(err) && ctx.Err() == nil {
		// The node may have the job; then only the conversation is lost.
		if again, failed := r.peers.Await(ctx, c.peer, r.job.Job.ID(), tell); failed == nil || mayHave(failed) {
			answer, err = again, failed
			r.evidence.keep(c.peer.Key, signed{receipts: [][]byte{answer.Receipt}})
		}
	}
	if err != nil {
		if mayHave(err) {
			r.abandon(ctx, c)
		}
		return nil, timed(ctx, err)
	}
	return r.verify(c, answer)
}

// withModule asks, after giving the node the inputs that it lacks, and asks again after
// giving it the module, if it lacks that. Of a missing input one would hear too late, at
// the end of the job.
func withModule[T any](ctx context.Context, r *run, c *candidate, envelope []byte, ask func() (T, error)) (answer T, err error) {
	if err := r.bring(ctx, c, envelope); err != nil {
		return answer, err
	}
	answer, err = ask()
	var refusal *job.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != job.Unavailable {
		return answer, err
	}
	r.tell(Event{Node: c.name(), What: "gets the module"})
	if err := r.peers.Push(ctx, c.peer, envelope, r.job.Job.Module(), int64(len(r.job.Module)), bytes.NewReader(r.job.Module)); err != nil {
		return answer, fmt.Errorf("giving it the module: %w", err)
	}
	return ask()
}

// bring gives the node the job's inputs, as far as it lacks them.
func (r *run) bring(ctx context.Context, c *candidate, envelope []byte) error {
	brought := map[blob.Digest]bool{}
	inputs := r.job.Job.Inputs()
	for _, name := range job.InputNames(inputs) {
		in := inputs[name]
		if in.Size == 0 || brought[in.Digest] {
			continue
		}
		r.tell(Event{Node: c.name(), What: "gets input " + name})
		body := io.NewSectionReader(r.job.Inputs[in.Digest], 0, in.Size)
		if err := r.peers.Push(ctx, c.peer, envelope, in.Digest, in.Size, body); err != nil {
			return fmt.Errorf("giving it input %s: %w", name, err)
		}
		brought[in.Digest] = true
	}
	return nil
}

// broken reports whether a conversation ended before its answer.
func broken(err error) bool {
	var between *jobpeer.Error
	return errors.As(err, &between) && (between.Kind == jobpeer.Broken || between.Kind == jobpeer.Silent)
}

// mayHave reports whether a node may have taken the job in before the error came.
func mayHave(err error) bool {
	var between *jobpeer.Error
	switch {
	case errors.As(err, new(*job.Refusal)), errors.Is(err, job.ErrUnknown):
		return false
	case errors.As(err, &between):
		return between.Kind != jobpeer.Unreachable
	}
	return true
}

// abandonTime is for telling a node that nobody waits for its answer.
const abandonTime = 5 * time.Second

// abandon tells a node that its job is not wanted any longer. It need not hear.
func (r *run) abandon(ctx context.Context, c *candidate) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	_ = r.peers.Cancel(ctx, c.peer, r.job.Job.ID())
}

func (r *run) teller(c *candidate, round int) func(job.Status) {
	return func(s job.Status) {
		r.tell(Event{Node: c.name(), Round: round, What: string(s.Stage), Stage: s.Stage})
	}
}

// invalidError says that what a node answered does not verify.
type invalidError struct{ err error }

func (e *invalidError) Error() string { return "its answer does not verify: " + e.err.Error() }
func (e *invalidError) Unwrap() error { return e.err }

// infraError is a receipt by which the node failed, not the job.
type infraError struct {
	answer *Answer
}

func (e *infraError) Error() string { return "its receipt says that the node failed" }

// verify holds an answer to what was asked.
func (r *run) verify(c *candidate, raw jobpeer.Answer) (*Answer, error) {
	_, s, err := receipt.Judge(raw.Receipt, receipt.Expectation{
		NodeKey: c.peer.Key, JobID: r.job.Job.ID(), Stdout: blob.Of(raw.Stdout), Stderr: blob.Of(raw.Stderr), Now: time.Now(),
	})
	if err == nil {
		err = r.sameJob(s.Result)
	}
	if err != nil {
		return nil, &invalidError{err}
	}
	a := &Answer{Statement: s, Receipt: raw.Receipt, Stdout: raw.Stdout, Stderr: raw.Stderr}
	if s.Result.EndState == receipt.InfraError || s.Result.EndState == receipt.Refused {
		return nil, &infraError{a}
	}
	return a, nil
}

// sameJob makes sure that a receipt does not only name the job but describes it.
func (r *run) sameJob(got receipt.Result) error {
	spec := r.job.Job.Spec()
	limits := receipt.Limits{
		MemoryBytes: spec.Limits.MemoryBytes, DeadlineMS: spec.Limits.DeadlineMS, StdoutBytes: spec.Limits.StdoutBytes,
		StderrBytes: spec.Limits.StderrBytes, Fuel: spec.Limits.Fuel,
	}
	switch {
	case got.Module != spec.Module:
		return errors.New("the receipt is of another module")
	case !slices.Equal(got.Args, spec.Args):
		return errors.New("the receipt is of other arguments")
	case got.Stdin != blob.Of(spec.Stdin):
		return errors.New("the receipt is of other input")
	case !maps.EqualFunc(got.Inputs, spec.Inputs, func(a receipt.Input, b job.Input) bool { return a == receipt.Input(b) }):
		return errors.New("the receipt is of other inputs")
	case got.Limits != limits:
		return errors.New("the receipt is of other limits")
	case got.Determinism != string(spec.Determinism):
		return errors.New("the receipt is of other determinism")
	}
	return nil
}
