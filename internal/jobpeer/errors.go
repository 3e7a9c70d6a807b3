package jobpeer

import (
	"fmt"

	"github.com/phasebased/phase/internal/job"
)

// Kind is what went wrong between two nodes.
type Kind int

const (
	Unreachable Kind = iota + 1 // no stream came about
	Silent                      // the peer said nothing for too long
	Broken                      // the connection ended before the answer did
	Lying                       // the peer broke the rules of the conversation, or contradicts itself
)

// Error says that no answer came of a conversation with a node. The node may have
// taken the job in: Await asks again, and another node can be asked as well.
type Error struct {
	Peer string // its ID or key
	Kind Kind
	Err  error
}

func (e *Error) Error() string {
	switch e.Kind {
	case Unreachable:
		return fmt.Sprintf("node %s cannot be reached: %v", e.Peer, e.Err)
	case Silent:
		return fmt.Sprintf("node %s went silent: %v", e.Peer, e.Err)
	case Lying:
		return fmt.Sprintf("node %s broke the rules: %v", e.Peer, e.Err)
	}
	return fmt.Sprintf("node %s broke off: %v", e.Peer, e.Err)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code is NODE-060 to NODE-063, by the kind.
func (e *Error) Code() string {
	switch e.Kind {
	case Unreachable:
		return "NODE-060"
	case Silent:
		return "NODE-061"
	case Lying:
		return "NODE-063"
	}
	return "NODE-062"
}

// Hint says what to do next.
func (e *Error) Hint() string {
	switch e.Kind {
	case Unreachable:
		return "Check that the node runs, takes jobs of others, and that its port is open."
	case Lying:
		return "Give the job to another node, and tell the owner of this one."
	}
	return "Ask again for the job, or give it to another node."
}

// EndedError says that a node took a job in, and that it ended without a receipt.
type EndedError struct {
	Status  job.Status
	Refusal *job.Refusal
}

func (e *EndedError) Error() string { return "the job ended without a receipt: " + e.Refusal.Error() }

// Unwrap gives the refusal.
func (e *EndedError) Unwrap() error { return e.Refusal }
