package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/strictjson"
)

// wirePublic is the key object of TUF 1.0 (section 4.2) with its id.
type wirePublic struct {
	KeyID   string     `json:"keyid,omitempty"`
	KeyType string     `json:"keytype"`
	KeyVal  wireKeyVal `json:"keyval"`
	Scheme  string     `json:"scheme"`
}

type wireKeyVal struct {
	Public string `json:"public"` // lower-case hexadecimal
}

// WritePublic makes the file path with pub in it: one line of JSON, to be given
// away. A file that is there already is left alone (ErrExists).
func WritePublic(path string, pub ed25519.PublicKey) error {
	if err := dsse.CheckKey(pub); err != nil {
		return &Error{Object: path, Reason: ErrWeak, Err: err}
	}
	line, err := strictjson.MarshalCanonical(wirePublic{
		KeyID: dsse.KeyID(pub), KeyType: "ed25519", Scheme: "ed25519",
		KeyVal: wireKeyVal{hex.EncodeToString(pub)},
	})
	if err != nil {
		return fmt.Errorf("write public key: %w", err)
	}
	return create(path, append(line, '\n'), 0o644)
}

// ReadPublic returns the public key of the file path: the JSON of WritePublic
// (the keyid may be missing, but not wrong), 64 hexadecimal digits, standard
// base64, or 32 raw bytes. Weak keys are refused, and so is what is no regular
// file: a folder of keys may come from anybody. Errors are *Error, or say why the
// file cannot be read.
func ReadPublic(path string) (ed25519.PublicKey, error) {
	data, err := durable.ReadSmall(path, maxFileBytes, durable.FollowLinks)
	defer clear(data) // it may be a private key, named by mistake
	if errors.Is(err, durable.ErrTooLarge) {
		return nil, &Error{Object: path, Reason: ErrNotPublic, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	pub, err := parsePublic(data)
	if err != nil {
		return nil, &Error{Object: path, Reason: err}
	}
	if err := dsse.CheckKey(pub); err != nil {
		return nil, &Error{Object: path, Reason: ErrWeak, Err: err}
	}
	return pub, nil
}

// parsePublic tells the forms apart. Raw bytes come first, as any bytes may be
// a key; no other form has that length. Its errors are reasons.
func parsePublic(data []byte) (ed25519.PublicKey, error) {
	if len(data) == ed25519.PublicKeySize {
		return bytes.Clone(data), nil
	}
	text := bytes.TrimSpace(data)
	switch formOf(text) {
	case formAge, formBare, formOtherPEM:
		return nil, ErrPrivateKey
	case formPublic:
		return parseObject(text)
	case formPublicPEM:
		return nil, ErrNotPublic
	}
	if len(text) == hex.EncodedLen(ed25519.PublicKeySize) {
		if pub, err := hex.DecodeString(string(text)); err == nil {
			return pub, nil
		}
	}
	var pub strictjson.Base64
	if err := pub.UnmarshalText(text); err != nil || len(pub) != ed25519.PublicKeySize {
		return nil, ErrNotPublic
	}
	return ed25519.PublicKey(pub), nil
}

func parseObject(text []byte) (ed25519.PublicKey, error) {
	var wire wirePublic
	lim := strictjson.Limits{Bytes: maxFileBytes, Depth: 4, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(text, &wire, lim); err != nil {
		return nil, ErrNotPublic
	}
	pub, err := hex.DecodeString(wire.KeyVal.Public)
	if err != nil || len(pub) != ed25519.PublicKeySize || hex.EncodeToString(pub) != wire.KeyVal.Public ||
		wire.KeyType != "ed25519" || wire.Scheme != "ed25519" {
		return nil, ErrNotPublic
	}
	if wire.KeyID != "" && wire.KeyID != dsse.KeyID(pub) {
		return nil, ErrKeyID
	}
	return pub, nil
}
