package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
)

// Why is what a Failure comes down to.
type Why int

const (
	NobodyFound  Why = iota + 1 // no node was found
	NobodyTakes                 // nodes were found, and none takes the job, or not enough
	EverybodyOut                // the nodes that got the job have all failed
	NoQuorum                    // results came, but not enough that agree
	Interrupted                 // whoever wanted the job left, or their time was over
)

// Failure says that a job has no answer, and what happened at each node.
type Failure struct {
	Why      Why
	Attempts []Attempt
	// Quorum is the signed statement about a round without a quorum, if there was
	// one: it proves what the nodes said.
	Quorum []byte
	Frauds []Fraud // proofs that came out by the way
	Err    error   // more about it, or nil
}

func (f *Failure) Error() string {
	text := map[Why]string{
		NobodyFound: "no node was found", NobodyTakes: "none of the nodes that were found takes the job, or too few",
		EverybodyOut: "no node came to an answer", NoQuorum: "there is no quorum for a result", Interrupted: "interrupted",
	}[f.Why]
	if f.Err != nil {
		text += ": " + f.Err.Error()
	}
	var b strings.Builder
	b.WriteString(text)
	for _, a := range f.Attempts {
		fmt.Fprintf(&b, "\n  %s: %s", a.Node, a.Outcome)
		if a.Text != "" {
			fmt.Fprintf(&b, ": %s", a.Text)
		}
	}
	return b.String()
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Code is NODE-075 to NODE-079, by the reason.
func (f *Failure) Code() string {
	switch f.Why {
	case NobodyFound:
		return "NODE-075"
	case NobodyTakes:
		return "NODE-076"
	case EverybodyOut:
		return "NODE-077"
	case NoQuorum:
		return "NODE-078"
	}
	return "NODE-079"
}

// Hint says what to do next.
func (f *Failure) Hint() string {
	switch f.Why {
	case NobodyFound:
		return "Check with phase job nodes --network that this node knows others; it needs bootstrap_peers in its configuration."
	case NobodyTakes:
		return "Ask the owners of nodes to put the submitter's key among their submitters, or lower the job's limits."
	case EverybodyOut:
		return "Look at what each node said; if it is the same everywhere, the job is at fault."
	case NoQuorum:
		return "Read the statement, which names who said what; ask more nodes with --max-nodes, or nodes that are known to be honest."
	}
	return "Submit the job again if its result is still wanted."
}

// failure says why there is no answer.
func (r *run) failure(ctx context.Context) *Failure {
	f := &Failure{Why: EverybodyOut, Attempts: r.attempts, Err: r.searched}
	tried := false
	for _, a := range r.attempts {
		tried = tried || a.Round > 0
	}
	switch {
	case ctx.Err() != nil:
		f.Why, f.Err = Interrupted, context.Cause(ctx)
	case tried:
		f.Err = nil
	case len(r.attempts) > 0:
		f.Why = NobodyTakes
	default:
		f.Why = NobodyFound
	}
	return f
}

// errTime is the cause of an error that came because a node's time was over.
var errTime = errors.New("no answer within its time")

// timed says of an error whether it is there because time ran out.
func timed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w (%w)", errTime, err)
	}
	return err
}

// attemptOf says what an error means for the node that gave it. ctx is that of
// the whole run.
func attemptOf(ctx context.Context, c *candidate, round int, err error) Attempt {
	a := Attempt{Node: c.name(), Round: round, Outcome: Unreachable, Text: err.Error()}
	var coded interface{ Code() string }
	if errors.As(err, &coded) && coded.Code() != (&job.Refusal{}).Code() {
		a.Code = coded.Code()
	}
	var refusal *job.Refusal
	var between *jobpeer.Error
	var infra *infraError
	switch {
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		a.Outcome = Stopped
	case errors.As(err, new(*invalidError)):
		a.Outcome = Invalid
	case errors.As(err, &infra):
		a.Outcome, a.Receipt = Failed, infra.answer.Receipt
	case errors.As(err, &refusal), saysNo(err):
		a.Outcome = Refused
	case errors.Is(err, errTime), errors.Is(err, context.DeadlineExceeded):
		a.Outcome = TimedOut
	case errors.As(err, &between) && between.Kind == jobpeer.Silent:
		a.Outcome = TimedOut
	case errors.As(err, &between) && between.Kind == jobpeer.Lying:
		a.Outcome = Invalid
	}
	return a
}

// saysNo reports whether err is one of the plain answers of a node that has the
// question and not the thing.
func saysNo(err error) bool {
	for _, no := range []error{job.ErrUnknown, job.ErrNotEnded, job.ErrNoReceipt, job.ErrGone, job.ErrWithheld, job.ErrNoReplica, job.ErrOtherSet, job.ErrSet} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
