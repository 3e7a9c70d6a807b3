package quorum

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/receipt"
)

// Kind is what a proof of fraud proves.
type Kind string

// The kinds. The documents of each contradict each other, and one key has signed
// them all: nothing else is needed to believe it.
const (
	// TwoResults: two receipts of a node for one job, with results on which honest
	// runs cannot differ.
	TwoResults Kind = "two_results"
	// WrongOpening: a node's commitment, and the node's opening of it, which does
	// not fit.
	WrongOpening Kind = "wrong_opening"
	// TwoSets: two sets of a submitter for one wave of one plan.
	TwoSets Kind = "two_sets"
)

// Fraud is a proof that the holder of a key has signed what contradicts itself,
// or that somebody who has the key did.
type Fraud struct {
	Kind     Kind
	Key      ed25519.PublicKey // whose
	JobID    blob.Digest
	Evidence [2][]byte // the documents
}

type wireFraud struct {
	Type     string           `json:"type"`
	Kind     Kind             `json:"kind"`
	Key      wireKey          `json:"key"`
	Evidence []strictjson.Raw `json:"evidence"`
}

// ProveFraud makes the portable proof of what two documents of key's holder
// show. It refuses, with ErrNoFraud, what proves nothing.
func ProveFraud(kind Kind, key ed25519.PublicKey, a, b []byte) ([]byte, error) {
	if _, err := judgeFraud(kind, key, a, b); err != nil {
		return nil, fmt.Errorf("prove fraud: %w", err)
	}
	raw, err := strictjson.MarshalCanonical(wireFraud{FraudType, kind, wireKey(key), []strictjson.Raw{a, b}})
	if err != nil {
		return nil, fmt.Errorf("prove fraud: %w", err)
	}
	return raw, nil
}

// VerifyFraud checks a proof. It needs nothing else: the key that it names has
// signed both documents. Whose key that is, is for the caller to know.
func VerifyFraud(raw []byte) (*Fraud, error) {
	f, err := verifyFraud(raw)
	if err != nil {
		return nil, fmt.Errorf("proof of fraud: %w", err)
	}
	return f, nil
}

func verifyFraud(raw []byte) (*Fraud, error) {
	if err := canonical(raw, MaxFraudBytes, depth); err != nil {
		return nil, err
	}
	var w wireFraud
	err := read(raw, &w, MaxFraudBytes)
	switch {
	case err != nil:
		return nil, fail(ErrMalformed, "%w", err)
	case w.Type != FraudType || len(w.Evidence) != 2:
		return nil, fail(ErrMalformed, "%.80q with %d documents", w.Type, len(w.Evidence))
	}
	key := ed25519.PublicKey(w.Key)
	jobID, err := judgeFraud(w.Kind, key, w.Evidence[0], w.Evidence[1])
	if err != nil {
		return nil, err
	}
	return &Fraud{Kind: w.Kind, Key: key, JobID: jobID, Evidence: [2][]byte{w.Evidence[0], w.Evidence[1]}}, nil
}

// judgeFraud returns the job about which the two documents contradict each other.
func judgeFraud(kind Kind, key ed25519.PublicKey, a, b []byte) (blob.Digest, error) {
	switch kind {
	case TwoResults:
		return twoResults(key, a, b)
	case WrongOpening:
		return wrongOpening(key, a, b)
	case TwoSets:
		return twoSets(key, a, b)
	}
	return blob.Digest{}, fail(ErrMalformed, "kind %.40q is unknown", string(kind))
}

func twoResults(key ed25519.PublicKey, a, b []byte) (blob.Digest, error) {
	if err := errors.Join(canonical(a, receipt.MaxBytes, envelopeDepth), canonical(b, receipt.MaxBytes, envelopeDepth)); err != nil {
		return blob.Digest{}, err
	}
	one, err := receipt.Verify(a, key)
	if err != nil {
		return blob.Digest{}, err
	}
	two, err := receipt.Verify(b, key)
	if err != nil {
		return blob.Digest{}, err
	}
	if why := excuse(one, two); why != "" {
		return blob.Digest{}, fail(ErrNoFraud, "%s", why)
	}
	return one.Result.JobID, nil
}

// excuse says why two receipts of one node do not contradict each other; "" if
// they do.
func excuse(one, two receipt.Statement) string {
	a, b := one.Result, two.Result
	switch {
	case a.JobID != b.JobID:
		return "they are of two jobs"
	case a.Fuel.CostTable != b.Fuel.CostTable:
		return "they count fuel by two cost tables"
	case incomparable(a) != "":
		return "one was " + incomparable(a)
	case incomparable(b) != "":
		return "one was " + incomparable(b)
	}
	if one.Observation.Engine != two.Observation.Engine {
		a.Trap, b.Trap = "", "" // engines name faults in words of their own
		if a.EndState == receipt.Trapped {
			a.Trap = "any"
		}
		if b.EndState == receipt.Trapped {
			b.Trap = "any"
		}
	}
	first, err := a.Digest()
	second, err2 := b.Digest()
	switch {
	case err != nil || err2 != nil:
		return "one has no result" // cannot happen: both were verified
	case first == second:
		return "they have the same result"
	}
	return ""
}

func wrongOpening(key ed25519.PublicKey, commitment, opening []byte) (blob.Digest, error) {
	c, err := OpenCommitment(commitment, key)
	if err != nil {
		return blob.Digest{}, err
	}
	o, err := ReadOpening(opening, key)
	switch {
	case err != nil:
		return blob.Digest{}, err
	case o.Commitment != c.digest || o.Plan != c.Plan:
		return blob.Digest{}, fail(ErrNoFraud, "the opening is of another commitment")
	case o.opens(c):
		return blob.Digest{}, fail(ErrNoFraud, "the opening fits")
	}
	return c.JobID, nil
}

func twoSets(key ed25519.PublicKey, a, b []byte) (blob.Digest, error) {
	if err := errors.Join(canonical(a, MaxSetBytes, envelopeDepth), canonical(b, MaxSetBytes, envelopeDepth)); err != nil {
		return blob.Digest{}, err
	}
	one, err := OpenSet(a, key)
	if err != nil {
		return blob.Digest{}, err
	}
	two, err := OpenSet(b, key)
	switch {
	case err != nil:
		return blob.Digest{}, err
	case one.plan != two.plan || one.Wave != two.Wave:
		return blob.Digest{}, fail(ErrNoFraud, "they are of two waves")
	case one.digest == two.digest:
		return blob.Digest{}, fail(ErrNoFraud, "they are one set")
	}
	return one.Plan.JobID, nil
}
