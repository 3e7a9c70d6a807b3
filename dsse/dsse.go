// Package dsse signs byte strings with Ed25519 under the pre-authentication
// encoding of DSSE v1 (https://github.com/secure-systems-lab/dsse, protocol.md
// and envelope.md), and opens such envelopes.
//
// The encoding binds a payload type to the exact payload bytes, so that a
// signature made for one kind of document is worthless for another, and so
// that nothing is re-encoded between signing and verifying. Who may sign is
// the caller's to say: Open trusts the keys it is given and nothing inside the
// envelope. It fails closed.
package dsse

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/phasebased/phase/internal/strictjson"
)

// MaxSignatures bounds the signatures in one envelope, so that nobody makes a
// verifier check a million of them.
const MaxSignatures = 16

// Reasons for which Open refuses; match them with errors.Is.
var (
	ErrMalformed   = errors.New("malformed envelope")
	ErrPayloadType = errors.New("envelope carries another payload type")
	ErrThreshold   = errors.New("not enough valid signatures")
)

// Signature is one Ed25519 signature. KeyID is a hint that says which key to
// try; it is not covered by anything and proves nothing.
type Signature struct {
	KeyID string
	Sig   []byte
}

// Envelope is the standard JSON envelope of DSSE.
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signatures  []Signature
}

// PAE returns the pre-authentication encoding, the bytes that are signed:
// "DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len("DSSEv1")+len(payloadType)+len(payload)+44)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// Sign signs payload as payloadType. It panics, like ed25519.Sign, if key has
// the wrong length.
func Sign(payloadType string, payload []byte, key ed25519.PrivateKey) Signature {
	pub := key.Public().(ed25519.PublicKey)
	return Signature{KeyID: KeyID(pub), Sig: ed25519.Sign(key, PAE(payloadType, payload))}
}

// KeyID returns the name of a key: the hexadecimal SHA-256 of the key's TUF
// canonical JSON (TUF 1.0 specification, section 4.2), so that a key has the
// same name in a root.json and in an envelope.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(
		`{"keytype":"ed25519","keyval":{"public":"` + hex.EncodeToString(pub) + `"},"scheme":"ed25519"}`))
	return hex.EncodeToString(sum[:])
}

type wireEnvelope struct {
	Payload     strictjson.Base64 `json:"payload"`
	PayloadType string            `json:"payloadType"`
	Signatures  []wireSignature   `json:"signatures"`
}

type wireSignature struct {
	KeyID string            `json:"keyid,omitempty"`
	Sig   strictjson.Base64 `json:"sig"`
}

// Marshal encodes the envelope as canonical JSON.
func (e Envelope) Marshal() ([]byte, error) {
	wire := wireEnvelope{Payload: e.Payload, PayloadType: e.PayloadType}
	for _, s := range e.Signatures {
		wire.Signatures = append(wire.Signatures, wireSignature{s.KeyID, s.Sig})
	}
	return strictjson.MarshalCanonical(wire)
}

// Open parses the envelope raw, at most maxBytes long, and returns its payload
// if at least threshold distinct keys of keys signed exactly these payload
// bytes as payloadType. Signatures by other keys are ignored. Weak keys, a
// threshold below one and a key list that cannot reach the threshold fail.
func Open(raw []byte, payloadType string, maxBytes int, keys []ed25519.PublicKey, threshold int) ([]byte, error) {
	payload, _, err := OpenSigned(raw, payloadType, maxBytes, keys, threshold)
	return payload, err
}

// OpenSigned is Open for who has to know which of keys signed: it returns their
// ids as well, as Verify does.
func OpenSigned(raw []byte, payloadType string, maxBytes int, keys []ed25519.PublicKey, threshold int) (payload []byte, signers []string, err error) {
	var wire wireEnvelope
	err = strictjson.Unmarshal(raw, &wire,
		strictjson.Limits{Bytes: maxBytes, Depth: 4, RejectUnknown: true, RejectNull: true})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if wire.PayloadType != payloadType {
		return nil, nil, fmt.Errorf("%w: %.100q, want %q", ErrPayloadType, wire.PayloadType, payloadType)
	}
	sigs := make([]Signature, 0, min(len(wire.Signatures), MaxSignatures))
	for _, s := range wire.Signatures {
		sigs = append(sigs, Signature{s.KeyID, s.Sig})
	}
	if signers, err = Verify(payloadType, wire.Payload, sigs, keys, threshold); err != nil {
		return nil, nil, err
	}
	return wire.Payload, signers, nil
}

// Verify returns the ids of the distinct keys of keys that signed payload as
// payloadType, in the order of keys, if they are at least threshold many. It
// is the core of Open for documents with an envelope of their own.
func Verify(payloadType string, payload []byte, sigs []Signature, keys []ed25519.PublicKey, threshold int) ([]string, error) {
	if threshold < 1 {
		return nil, fmt.Errorf("%w: threshold %d is below one", ErrThreshold, threshold)
	}
	if len(sigs) > MaxSignatures {
		return nil, fmt.Errorf("%w: %d signatures, at most %d are allowed", ErrMalformed, len(sigs), MaxSignatures)
	}
	message := PAE(payloadType, payload)
	seen := make(map[string]bool, len(keys))
	var signers []string
	for _, key := range keys {
		if err := checkEncoding(key); err != nil {
			return nil, err
		}
		id := KeyID(key)
		if seen[id] {
			continue // a key listed twice is one key
		}
		seen[id] = true
		if signedBy(message, sigs, key, id) {
			signers = append(signers, id)
		}
	}
	if len(signers) < threshold {
		return nil, fmt.Errorf("%w: %d of the %d required", ErrThreshold, len(signers), threshold)
	}
	return signers, nil
}

// signedBy reports whether one of sigs is key's over message. A signature that
// names another key is not tried.
func signedBy(message []byte, sigs []Signature, key ed25519.PublicKey, id string) bool {
	for _, s := range sigs {
		if s.KeyID != "" && s.KeyID != id {
			continue
		}
		if ed25519.Verify(key, message, s.Sig) {
			return true
		}
	}
	return false
}
