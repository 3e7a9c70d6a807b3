package job

import (
	"fmt"
	"time"
)

// Reason says why a node does not run a job.
type Reason string

const (
	Malformed   Reason = "malformed"   // the specification or the module is not what it claims to be
	Unsupported Reason = "unsupported" // well-formed, but of a kind this node cannot run
	TooBig      Reason = "too_big"     // asks for more than the node gives
	Busy        Reason = "busy"        // try again after RetryAfter
	Unavailable Reason = "unavailable" // the module cannot be had under its digest

	Unauthorised Reason = "unauthorised" // nobody whose jobs this node runs has asked for it
	Expired      Reason = "expired"      // the submission came too late
	Replayed     Reason = "replayed"     // the submission, or the job, was here before
)

// Refusal is a node's answer to a job that it does not run. Refusals are not
// results: nothing was executed.
type Refusal struct {
	Reason     Reason
	Detail     string        // one sentence without a final stop
	RetryAfter time.Duration // Busy only: when it is worth asking again
	Directions string        // what the submitter can do, if there is more to say than the reason's own hint
	Err        error         // cause, or nil
}

func (r *Refusal) Error() string {
	if r.Err != nil {
		return fmt.Sprintf("%s: %v", r.Detail, r.Err)
	}
	return r.Detail
}

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Code is the number in docs/codes.md.
func (r *Refusal) Code() string {
	switch r.Reason {
	case Malformed:
		return "NODE-001"
	case Unsupported:
		return "NODE-002"
	case TooBig:
		return "NODE-003"
	case Busy:
		return "NODE-004"
	case Unavailable:
		return "NODE-005"
	case Unauthorised:
		return "NODE-006"
	case Expired:
		return "NODE-007"
	case Replayed:
		return "NODE-008"
	case Cancelled:
		return "NODE-012"
	case Internal:
		return "NODE-013"
	}
	return "NODE-000"
}

// Hint says what to do next.
func (r *Refusal) Hint() string {
	if r.Directions != "" {
		return r.Directions
	}
	switch r.Reason {
	case Malformed:
		return "Check the job file and the module; a module starts with the four bytes \\0asm."
	case Unsupported:
		return "Build the module for WASI preview 1 as a core module (GOOS=wasip1, wasm32-wasip1)."
	case TooBig:
		return "Lower the job's limits, or raise the node's in its configuration."
	case Busy:
		return fmt.Sprintf("Ask again in %s, or ask another node.", r.RetryAfter)
	case Unavailable:
		return "Check that a provider this node knows serves the module under its hash."
	case Unauthorised:
		return "Sign the job with a key that the node's owner has put among the submitters of its configuration, for this node."
	case Expired:
		return "Sign the job again with a later expiry, and check both clocks."
	case Replayed:
		return "Ask for the result of the first one, or submit the job with another nonce."
	case Cancelled:
		return "Submit the job again, with another nonce, if its result is still wanted."
	case Internal:
		return "Look at the node's log, and give the job to another node."
	}
	return ""
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}
