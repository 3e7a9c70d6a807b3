package manifest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
// return is for people to read before they sign. The bytes that are signed never change
// after the Draft was made. A Draft is not safe for concurrent use.
type Draft struct {
	form       form
	signed     []byte
	signatures map[string][]byte         // by key id, 64 bytes each
	mirrored   map[string]strictjson.Raw // readable copies in the envelope
	manifest   Manifest
	pointer    Pointer
	root       *Root
}

// form is how documents of a kind are signed and written.
type form struct {
	object        string
	maxBytes      int
	maxSignatures int
	message       func(signed []byte) []byte // what Ed25519 signs
	marshal       func(d *Draft) ([]byte, error)
}

func enveloped(k kind) form {
	return form{k.object, k.maxBytes, dsse.MaxSignatures,
		func(signed []byte) []byte { return dsse.PAE(k.payloadType, signed) },
		(*Draft).marshalEnvelope}
}

// A root has as many signatures as old and new root roles have keys.
var formRoot = form{"root", MaxRootBytes, 256,
	func(signed []byte) []byte { return signed },
	(*Draft).marshalRoot}

// Causes of errors of a signer, not of a document; match them with errors.Is.
var (
	ErrNoKeys     = errors.New("no signing key was given")
	ErrPrivateKey = errors.New("not an Ed25519 private key, or its halves do not belong together")
	ErrOtherDraft = errors.New("the two files are about different documents")
)

// DraftManifest makes an unsigned manifest. Times are cut to whole seconds; the
// result depends on m only. Errors wrap an *Error if m breaks a rule.
func DraftManifest(m Manifest) (*Draft, error) {
	payload, err := strictjson.MarshalCanonical(wireOf(m))
	if err != nil {
		return nil, fmt.Errorf("draft manifest: %w", err)
	}
	d, err := manifestDraft(envelope{payload: payload})
	if err != nil {
		return nil, fmt.Errorf("draft manifest: %w", err)
	}
	return d, nil
}

// DraftPointer makes an unsigned pointer as DraftManifest does a manifest. Its
// file holds at most 2 KiB, which is what bounds the number of URLs in practice.
func DraftPointer(p Pointer) (*Draft, error) {
	payload, err := strictjson.MarshalCanonical(wirePointerOf(p))
	if err != nil {
		return nil, fmt.Errorf("draft pointer: %w", err)
	}
	d, err := pointerDraft(envelope{payload: payload})
	if err != nil {
		return nil, fmt.Errorf("draft pointer: %w", err)
	}
	return d, nil
}

// DraftRoot makes an unsigned root. Channels must be ones that exist.
func DraftRoot(spec RootSpec) (*Draft, error) {
	d, err := draftRoot(spec)
	if err != nil {
		return nil, fmt.Errorf("draft root: %w", err)
	}
	return d, nil
}

func draftRoot(spec RootSpec) (*Draft, error) {
	for _, name := range slices.Concat(slices.Collect(maps.Keys(spec.Channels)), slices.Collect(maps.Keys(spec.Floors))) {
		if err := CheckChannel(name); err != nil {
			return nil, err
		}
	}
	text, err := strictjson.MarshalCanonical(wireRootOf(spec))
	if err != nil {
		return nil, err
	}
	signed, err := strictjson.CanonicalizeOLPC(text, rootLimits)
	if err != nil {
		return nil, err
	}
	root, err := decodeRoot(signed)
	if err != nil {
		return nil, err
	}
	return &Draft{form: formRoot, signed: signed, signatures: map[string][]byte{}, root: root}, nil
}

// OpenManifestDraft reads a manifest file, signed by anybody, somebody or
// nobody. It applies every rule that depends on the file alone; errors are
// *Error. Whose the signatures are, and whether they are valid, is not judged.
func OpenManifestDraft(raw []byte) (*Draft, error) {
	env, err := openEnvelope(raw, kindManifest)
	if err != nil {
		return nil, err
	}
	return manifestDraft(env)
}

// OpenPointerDraft is OpenManifestDraft for pointers.
func OpenPointerDraft(raw []byte) (*Draft, error) {
	env, err := openEnvelope(raw, kindPointer)
	if err != nil {
		return nil, err
	}
	return pointerDraft(env)
}

// OpenRootDraft is OpenManifestDraft for roots. Members that this program does
// not know are kept.
func OpenRootDraft(raw []byte) (*Draft, error) {
	root, file, err := readRoot(raw)
	if err != nil {
		return nil, err
	}
	if n := len(file.signatures); n > formRoot.maxSignatures {
		return nil, refuse("root", RuleMalformed, "%d signatures, at most %d are allowed", n, formRoot.maxSignatures)
	}
	for id, sig := range file.signatures {
		if !hexID(id) || len(sig) != ed25519.SignatureSize {
			return nil, refuse("root", RuleMalformed, "signature of %.64q has no proper key id, or not %d bytes", id, ed25519.SignatureSize)
		}
	}
	return &Draft{form: formRoot, signed: file.signed, signatures: file.signatures, root: root}, nil
}

func manifestDraft(env envelope) (*Draft, error) {
	m, wire, members, err := decodeManifest(env.payload)
	if err != nil {
		return nil, err
	}
	if err := env.checkMirrored(kindManifest, members); err != nil {
		return nil, err
	}
	if err := wire.checkProduct(); err != nil {
		return nil, err
	}
	if err := m.checkPolicy(); err != nil {
		return nil, &Error{Rule: RulePolicy, Object: kindManifest.object, Err: err}
	}
	d := env.draft(kindManifest)
	d.manifest = m
	return d, nil
}

func pointerDraft(env envelope) (*Draft, error) {
	p, err := env.pointer()
	if err != nil {
		return nil, err
	}
	if err := p.checkPolicy(); err != nil {
		return nil, &Error{Rule: RulePolicy, Object: kindPointer.object, Err: err}
	}
	d := env.draft(kindPointer)
	d.pointer = p
	return d, nil
}

func (e envelope) draft(k kind) *Draft {
	d := &Draft{form: enveloped(k), signed: e.payload, signatures: map[string][]byte{}, mirrored: e.mirrored}
	for _, s := range e.signatures {
		d.signatures[s.KeyID] = s.Sig
	}
	return d
}

// Object returns "manifest", "pointer" or "root".
func (d *Draft) Object() string { return d.form.object }

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

// KeyIDs returns the ids of the keys that the signatures claim, in order.
func (d *Draft) KeyIDs() []string { return slices.Sorted(maps.Keys(d.signatures)) }

// Signed reports whether pub made one of the signatures.
func (d *Draft) Signed(pub ed25519.PublicKey) bool {
	sig, ok := d.signatures[dsse.KeyID(pub)]
	return ok && dsse.CheckKey(pub) == nil && ed25519.Verify(pub, d.form.message(d.signed), sig)
}

// Sign adds the signature of key and drops an earlier one of the same key. It
// refuses a key that a verifier would refuse, and one whose public half is not
// that of its seed: signing with such a pair gives the secret away.
func (d *Draft) Sign(key ed25519.PrivateKey) error {
	if len(key) != ed25519.PrivateKeySize || !ed25519.NewKeyFromSeed(key.Seed()).Equal(key) {
		return fmt.Errorf("sign %s: %w", d.form.object, ErrPrivateKey)
	}
	pub := key.Public().(ed25519.PublicKey)
	if err := dsse.CheckKey(pub); err != nil {
		return fmt.Errorf("sign %s: %w", d.form.object, err)
	}
	return d.add(map[string][]byte{dsse.KeyID(pub): ed25519.Sign(key, d.form.message(d.signed))})
}

// Merge takes over the signatures of other, which must be about exactly the
// same bytes (else ErrOtherDraft). Two different signatures in the name of one
// key are an error: at least one of them is not that key's. If it fails, d is
// as it was.
func (d *Draft) Merge(other *Draft) error {
	if d.form.object != other.form.object || !bytes.Equal(d.signed, other.signed) {
		return fmt.Errorf("merge: %w: %s %s and %s %s", ErrOtherDraft, d.form.object, d.Digest(), other.form.object, other.Digest())
	}
	for id, sig := range other.signatures {
		if own, ok := d.signatures[id]; ok && !bytes.Equal(own, sig) {
			return fmt.Errorf("merge %s: the files carry different signatures of key %s", d.form.object, id)
		}
	}
	return d.add(other.signatures)
}

// add takes signatures over, all or none.
func (d *Draft) add(signatures map[string][]byte) error {
	with := maps.Clone(d.signatures)
	maps.Copy(with, signatures)
	if len(with) > d.form.maxSignatures {
		return fmt.Errorf("sign %s: %d signatures, at most %d are allowed", d.form.object, len(with), d.form.maxSignatures)
	}
	d.signatures = with
	return nil
}

// Bytes returns the file. It depends on the document and on who signed, not on
// the order in which they did.
func (d *Draft) Bytes() ([]byte, error) {
	raw, err := d.form.marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", d.form.object, err)
	}
	if len(raw) > d.form.maxBytes {
		return nil, fmt.Errorf("write %s: %d bytes, at most %d are allowed", d.form.object, len(raw), d.form.maxBytes)
	}
	return raw, nil
}

func (d *Draft) marshalEnvelope() ([]byte, error) {
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

func (d *Draft) marshalRoot() ([]byte, error) {
	return rootFile{d.signed, d.signatures}.marshal()
}

// RootSpec describes a root to be made. A missing snapshot role is written
// without keys, so that nobody can act as it.
type RootSpec struct {
	Version  int64
	Expires  time.Time // cut to whole seconds
	Roles    map[Role]RoleKeys
	Channels map[string]RoleKeys   // who signs a channel's manifests instead of targets; may be nil
	Floors   map[string]FloorReset // by channel; keep them in later roots; may be nil
}

func wireRootOf(spec RootSpec) wireRoot {
	w := wireRoot{
		Type:        string(RoleRoot),
		SpecVersion: "1.0.34",
		Version:     spec.Version,
		Expires:     wireTime{spec.Expires},
		Keys:        map[string]wireKey{},
		Roles:       map[Role]wireRole{RoleSnapshot: {KeyIDs: []string{}, Threshold: 1}},
		Channels:    map[string]wireRole{},
		Floors:      map[string]wireFloor{},
	}
	for name, role := range spec.Roles {
		w.Roles[name] = w.addRole(role)
	}
	for name, role := range spec.Channels {
		w.Channels[name] = w.addRole(role)
	}
	for name, reset := range spec.Floors {
		w.Floors[name] = wireFloor{Root: reset.Root, Version: reset.Version}
	}
	return w
}

// addRole enters the keys of a role in the key table.
func (w wireRoot) addRole(role RoleKeys) wireRole {
	out := wireRole{KeyIDs: []string{}, Threshold: role.Threshold}
	for _, pub := range role.Keys {
		id := dsse.KeyID(pub)
		w.Keys[id] = wireKey{KeyType: "ed25519", Scheme: "ed25519", KeyVal: wireKeyVal{Public: hex.EncodeToString(pub)}}
		out.KeyIDs = append(out.KeyIDs, id)
	}
	return out
}
