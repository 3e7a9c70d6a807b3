package manifest

import (
	"crypto/ed25519"
	"fmt"

	"github.com/phasebased/phase/dsse"
)

// SignManifest drafts m, signs it with every key and returns the manifest file.
// Whether the keys are those that a root asks for is for the verifier to find
// out. The result depends on the arguments only.
func SignManifest(m Manifest, keys ...ed25519.PrivateKey) ([]byte, error) {
	d, err := DraftManifest(m)
	if err != nil {
		return nil, err
	}
	return d.signAll(keys)
}

// SignPointer drafts p, signs it with a timestamp key and returns the pointer
// file.
func SignPointer(p Pointer, key ed25519.PrivateKey) ([]byte, error) {
	d, err := DraftPointer(p)
	if err != nil {
		return nil, err
	}
	return d.signAll([]ed25519.PrivateKey{key})
}

// NewRoot drafts spec, signs it with keys, which must meet the threshold of
// spec's own root role, and returns the file. A successor is also signed by the
// keys of the root before it.
func NewRoot(spec RootSpec, keys ...ed25519.PrivateKey) ([]byte, error) {
	d, err := DraftRoot(spec)
	if err != nil {
		return nil, err
	}
	raw, err := d.signAll(keys)
	if err != nil {
		return nil, err
	}
	if _, err := ParseRoot(raw); err != nil {
		return nil, fmt.Errorf("sign root: %w", err)
	}
	return raw, nil
}

// signAll signs d with every key, each of which may be given once.
func (d *Draft) signAll(keys []ed25519.PrivateKey) ([]byte, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("sign %s: %w", d.kind.object, ErrNoKeys)
	}
	for _, key := range keys {
		before := len(d.signatures)
		if err := d.Sign(key); err != nil {
			return nil, err
		}
		if len(d.signatures) == before {
			return nil, fmt.Errorf("sign %s: key %s was given twice", d.kind.object, dsse.KeyID(key.Public().(ed25519.PublicKey)))
		}
	}
	return d.Bytes()
}
