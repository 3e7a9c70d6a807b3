// Package quorum makes one claim out of the receipts of several nodes: these
// keys ran this job and came to the same result, and none of them could know
// another's result before it had bound itself to its own.
//
// A round goes like this. The submitter lays down a Plan: the job, the nodes
// that may be asked, how many shall run it, how many have to agree. Each node
// that is asked runs the job and answers a commitment, which hides its receipt
// and is bound to its key. The submitter signs the set of all commitments; only
// to that set does a node open its commitment and hand out its receipt. Where
// the results are split, more nodes are asked, in further waves. What came of
// it all is a statement that carries the evidence: Verify trusts nothing in it
// that it has not checked, and needs nothing beside it but the keys of the
// nodes that the verifier believes in.
//
// What this proves, and what not, is in docs/quorum.md. In short: it counts
// keys, not machines; who was silent or stalled is the submitter's word; and
// nodes, or a submitter, who conspire can agree on anything. No clock is read
// here, and nothing is fetched.
package quorum

import (
	"fmt"

	"github.com/phasebased/phase/receipt"
)

// Identifiers on the wire.
const (
	CommitmentType = "application/vnd.phase.quorum-commitment+json"
	SetType        = "application/vnd.phase.quorum-set+json"
	OpeningType    = "application/vnd.phase.quorum-opening+json"
	// StatementPayload, StatementType and PredicateType are those of the statement,
	// an in-toto Statement v1 like a receipt.
	StatementPayload = receipt.PayloadType
	StatementType    = receipt.StatementType
	PredicateType    = "https://phasebased.dev/quorum/v0.1"
	// FraudType names the form of a proof of fraud.
	FraudType = "https://phasebased.dev/fraud/v0.1"
)

// Version is the only version of commitments, sets and openings that this
// package understands.
const Version = 1

// Bounds, checked before anything else is looked at.
const (
	MaxCandidates      = 128 // nodes of a plan
	MaxNodes           = 64  // that are asked in one round, all waves together
	MaxBeaconBytes     = 64
	MinNonceBytes      = 16
	MaxNonceBytes      = 128
	MaxOperatorBytes   = 64
	MaxWhyBytes        = 200       // why a node was silent
	MaxCommitmentBytes = 4 << 10   // envelope
	MaxOpeningBytes    = 4 << 10   // envelope
	MaxSetBytes        = 128 << 10 // envelope
	MaxStatementBytes  = 8 << 20   // envelope
	MaxFraudBytes      = 512 << 10 // proof
)

// Reasons for which a document is refused; match them with errors.Is. Each has
// a Code for docs/codes.md and a Hint.
var (
	ErrMalformed error = &reason{"malformed document of a quorum", "VFY-050", "Ask whoever made the document for it again; if it stays so, do not use it."}
	ErrSignature error = &reason{"not signed by the one it names", "VFY-051", "Do not use the document: whoever passed it on has changed it, or made it up."}
	ErrRound     error = &reason{"of another round", "VFY-052", "Do not use the document: it was made for another job, plan or set."}
	ErrSet       error = &reason{"the set of commitments is not a right one", "VFY-053", "Ask the submitter for the set of the round; two commitments of a node, or one of a stranger, are never right."}
	ErrOutcome   error = &reason{"the statement claims another outcome than its evidence gives", "VFY-054", "Do not use the statement, and do not trust the submitter who signed it."}
	ErrUndecided error = &reason{"the nodes did not agree", "VFY-055", "Use none of the results; submit the job again, to other nodes or to more of them."}
	ErrTooFew    error = &reason{"too few of the nodes that agree are known here", "VFY-056", "Name the keys of more nodes that you believe in, or do not rely on the result."}
	ErrPlan      error = &reason{"the plan cannot make a quorum", "VFY-057", "Ask for more than half of the replicas as the quorum, and name enough nodes."}
	ErrNoFraud   error = &reason{"the evidence proves no fraud", "VFY-058", "Blame nobody for it: results may differ between jobs, cost tables and ends by the clock."}
	ErrExpected  error = &reason{"another job or submitter than expected", "VFY-059", "Check which statement was asked for; do not use this one for it."}
)

type reason struct{ text, code, hint string }

func (r *reason) Error() string { return r.text }
func (r *reason) Code() string  { return r.code }
func (r *reason) Hint() string  { return r.hint }

func fail(why error, format string, args ...any) error {
	return fmt.Errorf("%w: %w", why, fmt.Errorf(format, args...))
}
