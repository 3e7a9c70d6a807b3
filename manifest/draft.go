package manifest

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// Draft is a document on its way to its signatures. People who sign together
// carry it from one machine to the next as an ordinary file; to a verifier that
// file is a document with too few signatures, until it has enough.
//
// A Draft holds to the rules for content, because nobody should sign what every
// verifier refuses, but it is not trusted: what Manifest, Pointer and Spec
// return is for people to read before they sign. The bytes that are signed never
// change after the Draft was made. A Draft is not safe for concurrent use.
type Draft struct {
	kind       kind
	signed     []byte
	signatures map[string][]byte         // by key id, 64 bytes each
	mirrored   map[string]strictjson.Raw // readable copies in the envelope
	manifest   Manifest
	pointer    Pointer
	root       *Root
	unknown    []string
}

// Causes of errors of a signer, not of a document; match them with errors.Is.
var (
	ErrNoKeys     = errors.New("no signing key was given")
	ErrPrivateKey = errors.New("not an Ed25519 private key, or its halves do not belong together")
	ErrOtherDraft = errors.New("the two files are about different documents")
)

// Object returns "manifest", "pointer" or "root".
func (d *Draft) Object() string { return d.kind.object }

// Digest returns the digest of the bytes that are signed. People who sign
// together compare it by voice. Of a manifest it is also Verified.Digest.
func (d *Draft) Digest() blob.Digest { return blob.Of(d.signed) }

// Manifest returns the UNVERIFIED content of a manifest, else the zero value.
func (d *Draft) Manifest() Manifest { return d.manifest.clone() }

// Pointer returns the UNVERIFIED content of a pointer, else the zero value.
func (d *Draft) Pointer() Pointer { return d.pointer.clone() }

// Spec returns the UNVERIFIED content of a root, as far as this program knows
// it, else the zero value.
func (d *Draft) Spec() RootSpec {
	if d.root == nil {
		return RootSpec{}
	}
	return d.root.spec()
}

// Unknown names the members that this program does not know, quoted. Whoever
// signs vouches for them all the same, so people should see them.
func (d *Draft) Unknown() []string { return slices.Clone(d.unknown) }

// KeyIDs returns the ids of the keys that the signatures claim, in order.
func (d *Draft) KeyIDs() []string { return slices.Sorted(maps.Keys(d.signatures)) }

// Signed reports whether pub made one of the signatures.
func (d *Draft) Signed(pub ed25519.PublicKey) bool {
	sig, ok := d.signatures[dsse.KeyID(pub)]
	return ok && dsse.CheckKey(pub) == nil && ed25519.Verify(pub, d.message(), sig)
}

// Sign adds the signature of key and drops an earlier one of the same key. It
// refuses a key that a verifier would refuse, and one whose public half is not
// that of its seed: signing with such a pair gives the secret away.
func (d *Draft) Sign(key ed25519.PrivateKey) error {
	if len(key) != ed25519.PrivateKeySize || !ed25519.NewKeyFromSeed(key.Seed()).Equal(key) {
		return fmt.Errorf("sign %s: %w", d.kind.object, ErrPrivateKey)
	}
	pub := key.Public().(ed25519.PublicKey)
	if err := dsse.CheckKey(pub); err != nil {
		return fmt.Errorf("sign %s: %w", d.kind.object, err)
	}
	return d.add(map[string][]byte{dsse.KeyID(pub): ed25519.Sign(key, d.message())})
}

// Merge takes over the signatures of other, which must be about exactly the
// same bytes (else ErrOtherDraft). Two different signatures in the name of one
// key are an error: at least one of them is not that key's. If it fails, d is
// as it was.
func (d *Draft) Merge(other *Draft) error {
	if other == nil {
		return fmt.Errorf("merge: %w: there is no second one", ErrOtherDraft)
	}
	if d.kind.object != other.kind.object || !bytes.Equal(d.signed, other.signed) {
		return fmt.Errorf("merge: %w: %s %s and %s %s", ErrOtherDraft, d.kind.object, d.Digest(), other.kind.object, other.Digest())
	}
	for id, sig := range other.signatures {
		if own, ok := d.signatures[id]; ok && !bytes.Equal(own, sig) {
			return fmt.Errorf("merge %s: the files carry different signatures of key %s", d.kind.object, id)
		}
	}
	return d.add(other.signatures)
}

// add takes signatures over, all or none.
func (d *Draft) add(signatures map[string][]byte) error {
	with := make(map[string][]byte, len(d.signatures)+len(signatures))
	maps.Copy(with, d.signatures)
	maps.Copy(with, signatures)
	if len(with) > d.kind.maxSignatures {
		return fmt.Errorf("sign %s: %d signatures, at most %d are allowed", d.kind.object, len(with), d.kind.maxSignatures)
	}
	d.signatures = with
	return nil
}

// Bytes returns the file. It depends on the document and on who signed, not on
// the order in which they did.
func (d *Draft) Bytes() ([]byte, error) {
	raw, err := d.marshal()
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", d.kind.object, err)
	}
	if len(raw) > d.kind.maxBytes {
		return nil, fmt.Errorf("write %s: %d bytes, at most %d are allowed", d.kind.object, len(raw), d.kind.maxBytes)
	}
	return raw, nil
}

// message is what Ed25519 signs. A zero Draft has a message as well, but takes
// no signature.
func (d *Draft) message() []byte {
	if d.root != nil {
		return d.signed
	}
	return dsse.PAE(d.kind.payloadType, d.signed)
}

func (d *Draft) marshal() ([]byte, error) {
	if d.root != nil {
		return rootFile{d.signed, d.signatures}.marshal()
	}
	list := make([]wireSignature, 0, len(d.signatures))
	for _, id := range d.KeyIDs() {
		list = append(list, wireSignature{id, d.signatures[id]})
	}
	members := map[string]any{"signed": wireSigned{d.signed}, "signatures": list}
	for name, value := range d.mirrored {
		members[name] = value
	}
	return strictjson.MarshalCanonical(members)
}
