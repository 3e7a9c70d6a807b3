package job

import (
	"crypto/ed25519"
	"errors"
	"time"

	"github.com/phasebased/phase/blob"
)

// Stage is how far an accepted job is.
type Stage string

const (
	Queued   Stage = "queued"   // waits for a free slot
	Fetching Stage = "fetching" // its module is looked for
	Running  Stage = "running"  // in the sandbox, compiling included
	Ended    Stage = "ended"    // End says how

	// Committed is a replica of a quorum that has ended, but nobody is told how
	// before the node is shown the set of all commitments: then it is Ended.
	Committed Stage = "committed"
)

// Status is what a node tells about a job that it accepted.
type Status struct {
	ID         blob.Digest `json:"id"`
	Stage      Stage       `json:"stage"`
	Submitter  string      `json:"submitter"` // the key that signed, or "local:" and a user id
	Module     blob.Digest `json:"module_hash"`
	AcceptedAt time.Time   `json:"accepted_at"`
	End        *End        `json:"end,omitempty"` // with Ended only
}

// End is how an accepted job ended: with a receipt, or with a stated failure.
type End struct {
	State    State     `json:"state"`
	ExitCode int64     `json:"exit_code"` // of Exited
	Detail   string    `json:"detail"`
	EndedAt  time.Time `json:"ended_at"`
	Stdout   Output    `json:"stdout"`
	Stderr   Output    `json:"stderr"`
	Receipt  bool      `json:"receipt"`           // there is a receipt to be had
	Failure  *Failure  `json:"failure,omitempty"` // there is none, and why
}

// Output says what is kept of one stream.
type Output struct {
	Digest    blob.Digest `json:"digest"`
	Size      int64       `json:"size"`
	Truncated bool        `json:"truncated"`
}

// Failure is an error as documents carry it.
type Failure struct {
	Reason       Reason `json:"reason"`
	Code         string `json:"code"` // of docs/codes.md
	Text         string `json:"text"`
	Hint         string `json:"hint"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"` // of Busy
}

// More reasons, of jobs that were accepted and of the node's own failures.
const (
	Cancelled Reason = "cancelled" // somebody who may has ended it
	Internal  Reason = "internal"  // the node failed; another one may not
)

// FailureOf describes err; what is no *Refusal is the node's own failure.
func FailureOf(err error) *Failure {
	var r *Refusal
	var w *withheld
	switch {
	case errors.As(err, &r):
	case errors.As(err, &w):
		return &Failure{Reason: Internal, Code: w.code, Text: err.Error(), Hint: w.hint}
	default:
		r = &Refusal{Reason: Internal, Detail: "the node could not do it", Err: err}
	}
	return &Failure{Reason: r.Reason, Code: r.Code(), Text: r.Error(), Hint: r.Hint(), RetryAfterMS: r.RetryAfter.Milliseconds()}
}

// Caller is who hands a job in at this machine, or asks about one.
type Caller struct {
	Name  string // such as "local:1000"
	Admin bool   // may see and cancel everybody's jobs
	// Key is that of another node or program that brings something over the network,
	// proven by its connection; nil for who stands at the machine.
	Key ed25519.PublicKey
}

// What a node says about a job that it does not, or not yet, know all about.
var (
	ErrUnknown   = errors.New("this node knows no such job")
	ErrNotEnded  = errors.New("the job has not ended")
	ErrNoReceipt = errors.New("the job has no receipt: it ended with a stated failure")
	ErrGone      = errors.New("the output is not kept any longer")
	// ErrWithheld is about a replica of a quorum, ErrNoReplica about any other job.
	ErrWithheld  error = &withheld{"the result is withheld until the node is shown the quorum's set of commitments", "NODE-070", "Show the node the set that the job's submitter has signed."}
	ErrNoReplica error = &withheld{"the job is no replica of a quorum: it has no commitment", "NODE-071", "Ask for its receipt."}
	// ErrOtherSet is what a node says to a second set of one round.
	ErrOtherSet error = &withheld{"this node has opened its commitment to another set", "NODE-072", "Show the node the set that it has seen already; a round has one set per wave."}
	// ErrSet is what it says to a set that does not hold what it has to.
	ErrSet error = &withheld{"the set is not one to which this node opens its commitment", "NODE-073", "Show the node the set that the job's submitter has signed, with this node's own commitment in it."}
)

// withheld is an error with a code.
type withheld struct{ text, code, hint string }

func (w *withheld) Error() string { return w.text }

// Code is the number in docs/codes.md.
func (w *withheld) Code() string { return w.code }

// Hint says what to do next.
func (w *withheld) Hint() string { return w.hint }
