package dispatch

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/quorum"
)

// round is one job on its way to a quorum.
type round struct {
	*run
	plan    quorum.Plan
	digest  blob.Digest
	asked   int // nodes that got the job, all waves together
	last    *quorum.Set
	waves   []quorum.Wave
	outcome *quorum.Outcome    // of waves, nil without any
	said    map[string]*Answer // by node: answers that verify
	amiss   map[string]error   // and what was wrong with others
}

// replica is a node that has committed itself.
type replica struct {
	*candidate
	commitment []byte
}

// quorum has waves of nodes run the job until enough agree.
func (r *run) quorum(ctx context.Context) (*Answer, error) {
	q, err := r.newRound()
	if err != nil {
		f := r.failure(ctx)
		if len(r.able) > 0 && ctx.Err() == nil {
			f.Why, f.Err = NobodyTakes, err
		}
		return nil, f
	}
	for wave, want := 1, q.plan.Replicas; want > 0 && ctx.Err() == nil; wave++ {
		if err := q.wave(ctx, wave, min(want, q.plan.Replicas)); err != nil {
			return nil, err
		}
		if q.outcome == nil {
			break // nobody committed themselves
		}
		want = q.outcome.More
	}
	return q.finish(ctx)
}

// newRound lays down the plan: from here on neither nodes nor rule change.
func (r *run) newRound() (*round, error) {
	if len(r.able) < r.o.Quorum {
		return nil, fmt.Errorf("%d would take it, a quorum of %d needs more", len(r.able), r.o.Quorum)
	}
	q := &round{run: r, said: map[string]*Answer{}, amiss: map[string]error{}}
	q.plan = quorum.Plan{
		JobID: r.job.Job.ID(), Submitter: r.job.Key.Public().(ed25519.PublicKey), Replicas: r.o.Replicas, Quorum: r.o.Quorum,
		MaxNodes: r.o.MaxNodes, CostTable: fuel.CostTable, Beacon: r.o.Beacon, Nonce: rand.Text(),
	}
	r.able = r.able[:min(len(r.able), quorum.MaxCandidates)]
	for _, c := range r.able {
		q.plan.Nodes = append(q.plan.Nodes, r.voter(c))
	}
	var err error
	q.digest, err = q.plan.Digest()
	return q, err
}

// wave has want nodes commit themselves, signs the set of their commitments, shows
// it to them, and counts anew.
func (q *round) wave(ctx context.Context, number, want int) error {
	committed, silent := q.commitments(ctx, number, want)
	if ctx.Err() != nil {
		return q.interrupted(ctx, number, committed)
	}
	w := quorum.Wave{Silent: silent}
	if len(committed) == 0 && number == 1 {
		return nil
	}
	if len(committed) > 0 {
		var err error
		if w.Set, err = q.sign(committed); err != nil {
			return err
		}
		w.Reveals = q.reveals(ctx, committed, w.Set)
	}
	q.waves = append(q.waves, w)
	var err error
	q.outcome, err = quorum.Tally(q.plan, q.waves)
	return err
}

// interrupted tells of the nodes whose commitments nobody waits for.
func (q *round) interrupted(ctx context.Context, wave int, committed []replica) error {
	for _, c := range committed {
		q.note(Attempt{Node: c.name(), Round: wave, Outcome: Stopped, Text: "it was not shown the set"})
	}
	return q.failure(ctx)
}

// sign makes the set of a wave.
func (q *round) sign(committed []replica) ([]byte, error) {
	var envelopes [][]byte
	for _, c := range committed {
		envelopes = append(envelopes, c.commitment)
	}
	raw, err := quorum.SignSet(q.plan, q.last, envelopes, q.job.Key)
	if err == nil {
		q.last, err = quorum.OpenSet(raw, q.plan.Submitter)
	}
	return raw, err
}

// commitments has nodes run the job, and others in place of those that fail.
func (q *round) commitments(ctx context.Context, wave, want int) (committed []replica, silent []quorum.Silence) {
	var slots sync.WaitGroup
	var mu sync.Mutex
	for range want {
		slots.Go(func() {
			for {
				c := q.take(ctx)
				if c == nil {
					return
				}
				commitment, err := q.commit(ctx, c, wave)
				mu.Lock()
				if err == nil {
					committed = append(committed, replica{c, commitment})
					mu.Unlock()
					q.tell(Event{Node: c.name(), Round: wave, What: "has committed itself", Stage: job.Committed})
					return
				}
				a := attemptOf(ctx, c, wave, err)
				silent = append(silent, quorum.Silence{Node: c.peer.Key, Why: excerpt(string(a.Outcome) + ": " + a.Text)})
				mu.Unlock()
				q.note(a)
			}
		})
	}
	slots.Wait()
	return committed, silent
}

// take is the next node of the plan's order, nil if there is none or enough were
// asked.
func (q *round) take(ctx context.Context) *candidate {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ctx.Err() != nil || len(q.able) == 0 || q.asked == q.plan.MaxNodes {
		return nil
	}
	c := q.able[0]
	q.able = q.able[1:]
	q.asked++
	return c
}

// commit has one node run the job, and checks its commitment.
func (q *round) commit(ctx context.Context, c *candidate, wave int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, q.allowed())
	defer cancel()
	envelope, err := job.SignReplica(q.job.Job, q.digest, c.peer.Key, time.Now().Add(q.o.Valid), q.job.Key)
	if err != nil {
		return nil, err
	}
	raw, err := patiently(ctx, func() ([]byte, error) {
		return withModule(ctx, q.run, c, envelope, func() ([]byte, error) {
			return q.committed(ctx, c, envelope, wave)
		})
	})
	if err != nil {
		if mayHave(err) {
			q.abandon(ctx, c)
		}
		return nil, timed(ctx, err)
	}
	commitment, err := quorum.OpenCommitment(raw, c.peer.Key)
	want := quorum.Ticket{JobID: q.plan.JobID, Plan: q.digest, Submission: blob.Of(envelope)}
	if err == nil && commitment.Ticket != want {
		err = quorum.ErrRound
	}
	if err != nil {
		return nil, &invalidError{err}
	}
	q.evidence.keep(c.peer.Key, signed{commitments: [][]byte{raw}})
	return raw, nil
}

// commitTries is how often a node is given the same submission, if the conversation
// breaks: it runs the job once, and whoever brings the same again gets the commitment.
// commitPause is before the second, and grows.
const (
	commitTries = 3
	commitPause = time.Second
)

// committed gets a commitment, also over a conversation that breaks.
func (q *round) committed(ctx context.Context, c *candidate, envelope []byte, wave int) (raw []byte, err error) {
	for try := range commitTries {
		if try > 0 {
			q.tell(Event{Node: c.name(), Round: wave, What: "is asked again"})
			pause(ctx, time.Duration(try)*commitPause)
		}
		now, failed := q.peers.Commit(ctx, c.peer, envelope, q.teller(c, wave))
		if try > 0 && mayNotBeThere(failed) {
			continue // it may be starting again; what is known is that it had the job
		}
		raw, err = now, failed
		if !broken(err) || ctx.Err() != nil {
			break
		}
	}
	return raw, err
}

// mayNotBeThere reports whether a node could not be reached.
func mayNotBeThere(err error) bool {
	var between *jobpeer.Error
	return errors.As(err, &between) && between.Kind == jobpeer.Unreachable
}

func pause(ctx context.Context, d time.Duration) {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	}
}

// patiently asks a node that is busy a few times more.
func patiently[T any](ctx context.Context, ask func() (T, error)) (answer T, err error) {
	for range busyTries {
		answer, err = ask()
		var refusal *job.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != job.Busy {
			return answer, err
		}
		pause(ctx, min(max(refusal.RetryAfter, 100*time.Millisecond), maxRetryAfter))
	}
	return answer, err
}

// reveals shows the set to all who are in it.
func (q *round) reveals(ctx context.Context, committed []replica, set []byte) (out []quorum.Reveal) {
	var asks sync.WaitGroup
	var mu sync.Mutex
	for _, c := range committed {
		asks.Go(func() {
			answer, err := q.reveal(ctx, c, set)
			shown := quorum.Reveal{Node: c.peer.Key, Receipt: answer.Receipt, Opening: answer.Opening}
			if err == nil {
				err = q.last.Check(shown)
			}
			var said *Answer
			usable := err == nil
			if usable {
				said, err = q.verify(c.candidate, answer)
			}
			mu.Lock()
			defer mu.Unlock()
			if usable {
				out = append(out, shown)
			}
			if err != nil {
				q.amiss[c.name()] = err
				return
			}
			q.said[c.name()] = said
		})
	}
	asks.Wait()
	return out
}

// revealTries is how often a node is shown the set: it may have been started anew
// meanwhile, and gives the same answer.
const revealTries = 3

// reveal gets a node's answer to the set.
func (q *round) reveal(ctx context.Context, c replica, set []byte) (answer jobpeer.Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, q.o.Grace)
	defer cancel()
	for range revealTries {
		answer, err = q.peers.Reveal(ctx, c.peer, q.plan.JobID, set)
		q.evidence.keep(c.peer.Key, signed{receipts: [][]byte{answer.Receipt}, openings: [][]byte{answer.Opening}})
		if !broken(err) || ctx.Err() != nil {
			break
		}
	}
	return answer, timed(ctx, err)
}

// finish says what came of the round.
func (q *round) finish(ctx context.Context) (*Answer, error) {
	if q.outcome == nil {
		return nil, q.failure(ctx)
	}
	for _, s := range q.outcome.Nodes {
		if s.Fate != quorum.Silent { // those are told of already
			q.note(q.stood(s))
		}
	}
	statement, err := quorum.Sign(q.plan, q.waves, q.job.Key)
	if err != nil {
		return nil, err
	}
	f := &Failure{Why: NoQuorum, Attempts: q.attempts, Quorum: statement}
	if !q.outcome.Decided() {
		f.Err = fmt.Errorf("%d results from %d nodes, at most %d agree, %d have to", q.outcome.Cast, len(q.outcome.Nodes), q.outcome.Votes, q.plan.Quorum)
		return nil, f
	}
	for _, s := range q.outcome.Nodes {
		if said := q.said[job.FormatKey(s.Node)]; s.Fate == quorum.Agreed && said != nil {
			said.Quorum, said.Agreed, said.Attempts = statement, q.outcome.Votes, q.attempts
			return said, nil
		}
	}
	f.Err = errors.New("those who agree did not hand out the outputs that they agree on")
	return nil, f
}

// stood is what became of a node that committed itself.
func (q *round) stood(s quorum.Standing) Attempt {
	a := Attempt{Node: job.FormatKey(s.Node), Round: s.Wave, Outcome: Outcome(s.Fate), Text: s.Why}
	if said := q.said[a.Node]; said != nil {
		a.Receipt = said.Receipt
	}
	if err := q.amiss[a.Node]; err != nil && a.Text == "" {
		a.Text = err.Error()
	}
	return a
}

// excerpt is a text as a statement has room for it.
func excerpt(text string) string {
	var b bytes.Buffer
	for _, r := range text {
		if b.Len()+4 > quorum.MaxWhyBytes {
			break
		}
		if !unicode.IsPrint(r) { // a statement has room for nothing else
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}
