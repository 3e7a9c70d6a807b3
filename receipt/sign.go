package receipt

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// Reasons for which Verify refuses; match them with errors.Is. Each has a Code
// for docs/codes.md and a Hint, to be had with errors.As.
var (
	ErrSize      error = &reason{"receipt is too large", "VFY-030", "Ask the node for the receipt again."}
	ErrMalformed error = &reason{"malformed receipt", "VFY-031", "Ask the node for the receipt again; if it stays so, do not use its result."}
	ErrSignature error = &reason{"receipt is not signed by the expected node", "VFY-032", "Check that the key is that of the node which ran the job; do not use the result otherwise."}
	ErrNodeKey   error = &reason{"receipt names another node than the one that signed it", "VFY-033", "Do not use the result: the node passes on receipts that are not its own."}
	ErrKey       error = &reason{"expected node key is unusable", "VFY-034", "Ask the node's owner for its public key."}
)

type reason struct{ text, code, hint string }

func (r *reason) Error() string { return r.text }
func (r *reason) Code() string  { return r.code }
func (r *reason) Hint() string  { return r.hint }

// Sign encodes s, names key's public half as the node's, signs it and returns
// the receipt file. It refuses a statement that Verify would refuse, such as
// one without digests or with arguments that are not UTF-8, and one that would
// not fit into MaxBytes.
func Sign(s Statement, key ed25519.PrivateKey) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("sign receipt: not an Ed25519 private key")
	}
	s.Observation.NodeKey = key.Public().(ed25519.PublicKey)
	w, err := wireOf(s)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, fmt.Errorf("sign receipt: %w", err)
	}
	payload, err := strictjson.MarshalCanonical(w)
	if err != nil {
		return nil, fmt.Errorf("sign receipt: %w", err)
	}
	raw, err := dsse.Envelope{
		PayloadType: PayloadType,
		Payload:     payload,
		Signatures:  []dsse.Signature{dsse.Sign(PayloadType, payload, key)},
	}.Marshal()
	if err != nil {
		return nil, fmt.Errorf("sign receipt: %w", err)
	}
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("sign receipt: %w: %d bytes, at most %d are allowed", ErrSize, len(raw), MaxBytes)
	}
	return raw, nil
}

// Verify accepts raw if the holder of expected signed exactly these bytes and
// they are a well-formed receipt in that node's name. Whether it is the receipt
// of the job that was submitted is for the caller to compare: at least
// Result.JobID, and the digest of the output that was received with it.
func Verify(raw []byte, expected ed25519.PublicKey) (Statement, error) {
	if len(raw) > MaxBytes {
		return Statement{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrSize, len(raw), MaxBytes)
	}
	if err := dsse.CheckKey(expected); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	payload, err := dsse.Open(raw, PayloadType, MaxBytes, []ed25519.PublicKey{expected}, 1)
	switch {
	case errors.Is(err, dsse.ErrThreshold):
		return Statement{}, fmt.Errorf("%w (key %s)", ErrSignature, dsse.KeyID(expected))
	case err != nil:
		return Statement{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	s, err := decode(payload)
	if err != nil {
		return Statement{}, err
	}
	if !expected.Equal(s.Observation.NodeKey) {
		return Statement{}, ErrNodeKey
	}
	return s, nil
}

// decode reads a payload whose signature was checked. The payload must be the
// one encoding of its statement: that also proves that the derived members
// (subjects, arguments' digest) are right.
func decode(payload []byte) (Statement, error) {
	var w wireStatement
	err := strictjson.Unmarshal(payload, &w, strictjson.Limits{Bytes: MaxBytes, Depth: 8, RejectUnknown: true})
	if err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if w.Type != StatementType || w.PredicateType != PredicateType {
		return Statement{}, fmt.Errorf("%w: statement %.80q with predicate %.80q", ErrMalformed, w.Type, w.PredicateType)
	}
	s := w.statement()
	if err := s.check(); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := wireOf(s)
	if err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	canonical, err := strictjson.MarshalCanonical(again)
	if err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(canonical, payload) {
		return Statement{}, fmt.Errorf("%w: not the canonical form, or its members contradict each other", ErrMalformed)
	}
	return s, nil
}
