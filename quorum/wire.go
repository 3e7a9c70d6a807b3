package quorum

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// wireKey is a public key as all documents write it: "ed25519:" and 64
// lower-case hexadecimal digits.
type wireKey ed25519.PublicKey

const keyPrefix = "ed25519:"

func formatKey(key ed25519.PublicKey) string { return keyPrefix + hex.EncodeToString(key) }

// MarshalText implements encoding.TextMarshaler.
func (k wireKey) MarshalText() ([]byte, error) {
	if err := dsse.CheckKey(ed25519.PublicKey(k)); err != nil {
		return nil, err
	}
	return []byte(formatKey(ed25519.PublicKey(k))), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *wireKey) UnmarshalText(text []byte) error {
	digits, ok := strings.CutPrefix(string(text), keyPrefix)
	key, err := hex.DecodeString(digits)
	if !ok || err != nil || hex.EncodeToString(key) != digits {
		return fmt.Errorf("key %.80q is not of the form %s<64 lower-case hexadecimal digits>", text, keyPrefix)
	}
	if err := dsse.CheckKey(key); err != nil {
		return err
	}
	*k = key
	return nil
}

// raw32 is the digest as bytes.
func raw32(d blob.Digest) (sum [32]byte) {
	_, _ = hex.Decode(sum[:], []byte(d.Hex()))
	return sum
}

// depth is how deep a document may be nested: a statement holds a set, which
// holds commitments, which are envelopes.
const depth = 16

func read(data []byte, v any, most int) error {
	return strictjson.Unmarshal(data, v, strictjson.Limits{Bytes: most, Depth: depth, RejectUnknown: true})
}

// seal signs the canonical form of v.
func seal(kind string, v any, key ed25519.PrivateKey, most int) ([]byte, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("not an Ed25519 private key")
	}
	payload, err := strictjson.MarshalCanonical(v)
	if err != nil {
		return nil, err
	}
	raw, err := dsse.Envelope{
		PayloadType: kind, Payload: payload, Signatures: []dsse.Signature{dsse.Sign(kind, payload, key)},
	}.Marshal()
	if err == nil && len(raw) > most {
		err = fmt.Errorf("%d bytes, at most %d are allowed", len(raw), most)
	}
	return raw, err
}

// unseal opens an envelope that signer has signed and nobody else, reads its
// payload into v and makes sure that it is the one encoding of v. It returns
// the payload's digest, which names the document: the envelope around it can be
// written in several ways.
func unseal(raw []byte, kind string, v any, signer ed25519.PublicKey, most int) (blob.Digest, error) {
	payload, err := dsse.Open(raw, kind, most, []ed25519.PublicKey{signer}, 1)
	switch {
	case errors.Is(err, dsse.ErrThreshold), errors.Is(err, dsse.ErrWeakKey):
		return blob.Digest{}, fail(ErrSignature, "%w", err)
	case err != nil:
		return blob.Digest{}, fail(ErrMalformed, "%w", err)
	}
	if err := read(payload, v, most); err != nil {
		return blob.Digest{}, fail(ErrMalformed, "%w", err)
	}
	again, err := strictjson.MarshalCanonical(v)
	if err != nil {
		return blob.Digest{}, fail(ErrMalformed, "%w", err)
	}
	if !bytes.Equal(again, payload) {
		return blob.Digest{}, fail(ErrMalformed, "not the canonical form")
	}
	return blob.Of(payload), nil
}

// peek reads a payload before anybody's signature over it was checked: only to
// learn whose key to check it with.
func peek(raw []byte, v any, most int) error {
	var envelope struct {
		Payload     strictjson.Base64 `json:"payload"`
		PayloadType string            `json:"payloadType"`
		Signatures  strictjson.Raw    `json:"signatures"`
	}
	if err := read(raw, &envelope, most); err != nil {
		return fail(ErrMalformed, "%w", err)
	}
	if err := read(envelope.Payload, v, most); err != nil {
		return fail(ErrMalformed, "%w", err)
	}
	return nil
}

// envelopeDepth is how deep an envelope is nested: what a node sends must not make
// the statement around it too deep.
const envelopeDepth = 4

// canonical refuses a file that is not its own canonical form, so that it can
// stand inside another document without changing.
func canonical(raw []byte, most, deep int) error {
	again, err := strictjson.Canonicalize(raw, strictjson.Limits{Bytes: most, Depth: deep})
	if err != nil {
		return fail(ErrMalformed, "%w", err)
	}
	if !bytes.Equal(again, raw) {
		return fail(ErrMalformed, "not the canonical form")
	}
	return nil
}
