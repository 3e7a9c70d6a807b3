package receipt

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// Verdict is what a verifier says about a receipt.
type Verdict string

// The verdicts. Unverifiable is not a mild Reject: nothing speaks against the
// receipt and nothing for it, because this verifier lacks the key or does not
// know this kind of receipt.
const (
	Accept       Verdict = "ACCEPT"
	Reject       Verdict = "REJECT"
	Unverifiable Verdict = "UNVERIFIABLE"
)

// What a receipt can be compared with beyond its signature. Match with errors.Is.
var (
	ErrOtherJob error = &reason{"receipt is of another job", "VFY-035", "Ask the node for the receipt of the job that was submitted; do not use the result otherwise."}
	ErrOutput   error = &reason{"receipt is of another output", "VFY-036", "Do not use the output: it is not what the node signed for."}
	ErrFuture   error = &reason{"receipt is of a job that started in the future", "VFY-037", "Check this machine's clock; if it is right, the node's is wrong, or the receipt was made up."}
	ErrUnknown  error = &reason{"receipt of a kind that this verifier does not know", "VFY-038", "Verify it with a newer version."}
	ErrNoKey    error = &reason{"no key to expect", "VFY-039", "Ask the node's owner for its public key: a receipt cannot vouch for the key it names."}
)

// MaxAhead is how far a node's clock may be ahead of the verifier's.
const MaxAhead = 5 * time.Minute

// Expectation is what a verifier knows without the receipt. Only NodeKey is
// needed; what is nil or zero is not compared.
type Expectation struct {
	NodeKey ed25519.PublicKey
	JobID   blob.Digest // the job that was submitted
	Stdout  blob.Digest // of what was received as the job's output
	Stderr  blob.Digest
	Now     time.Time
}

// Judge verifies raw and compares it with what is expected. The Statement is
// only there for Accept; the error says why it is another verdict.
func Judge(raw []byte, want Expectation) (Verdict, Statement, error) {
	if want.NodeKey == nil {
		return Unverifiable, Statement{}, ErrNoKey
	}
	s, err := Verify(raw, want.NodeKey)
	switch {
	case errors.Is(err, ErrKey):
		return Unverifiable, Statement{}, err
	case errors.Is(err, ErrMalformed):
		if kind := otherKind(raw, want.NodeKey); kind != "" {
			return Unverifiable, Statement{}, fmt.Errorf("%w: %.80q", ErrUnknown, kind)
		}
		return Reject, Statement{}, err
	case err != nil:
		return Reject, Statement{}, err
	}
	if err := s.compare(want); err != nil {
		return Reject, Statement{}, err
	}
	return Accept, s, nil
}

func (s Statement) compare(want Expectation) error {
	r := s.Result
	switch {
	case !want.JobID.IsZero() && r.JobID != want.JobID:
		return fmt.Errorf("%w: %s, expected %s", ErrOtherJob, r.JobID, want.JobID)
	case !want.Stdout.IsZero() && want.Stdout != r.Stdout.Digest:
		return fmt.Errorf("%w: it says %s on stdout, not %s", ErrOutput, r.Stdout.Digest, want.Stdout)
	case !want.Stderr.IsZero() && want.Stderr != r.Stderr.Digest:
		return fmt.Errorf("%w: it says %s on stderr, not %s", ErrOutput, r.Stderr.Digest, want.Stderr)
	case !want.Now.IsZero() && s.Observation.Timings.StartedAt.After(want.Now.Add(MaxAhead)):
		return fmt.Errorf("%w: %s", ErrFuture, s.Observation.Timings.StartedAt.Format(time.RFC3339))
	}
	return nil
}

// otherKind is the predicate type of a receipt that key signed, if it is not
// the one that this package knows. Who has signed is checked first, so that a
// stranger cannot turn a REJECT into anything else.
func otherKind(raw []byte, key ed25519.PublicKey) string {
	payload, err := dsse.Open(raw, PayloadType, MaxBytes, []ed25519.PublicKey{key}, 1)
	if err != nil {
		return ""
	}
	var head struct {
		PredicateType string `json:"predicateType"`
	}
	family, _, _ := strings.Cut(PredicateType, "/v")
	if strictjson.Unmarshal(payload, &head, strictjson.Limits{Bytes: MaxBytes}) != nil || head.PredicateType == PredicateType ||
		!strings.HasPrefix(head.PredicateType, family+"/v") {
		return ""
	}
	return head.PredicateType
}
