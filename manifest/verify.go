package manifest

import (
	"fmt"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
)

// MaxSkew is how far a document's creation may lie after the clock: clocks of
// honest machines differ a little.
const MaxSkew = 10 * time.Minute

// Verified is a manifest that VerifyManifest accepted. There is no other way
// to make one: the zero value is not valid and describes nothing.
type Verified struct {
	valid    bool
	manifest Manifest
	digest   blob.Digest
	keyIDs   []string
}

// Valid reports whether v came out of VerifyManifest. It is false for nil.
func (v *Verified) Valid() bool { return v != nil && v.valid }

// Manifest returns a copy of the manifest; of an invalid v, the zero Manifest.
func (v *Verified) Manifest() Manifest {
	if !v.Valid() {
		return Manifest{}
	}
	return v.manifest.clone()
}

// Digest returns the digest of the signed payload: the manifest's identity in
// floors and receipts. It is not that of the file, which a pointer names.
func (v *Verified) Digest() blob.Digest {
	if !v.Valid() {
		return blob.Digest{}
	}
	return v.digest
}

// KeyIDs returns the ids of the role's keys that signed.
func (v *Verified) KeyIDs() []string {
	if !v.Valid() {
		return nil
	}
	return slices.Clone(v.keyIDs)
}

// Floor returns what to remember once the manifest was booted: not earlier
// than its artifacts were fetched, hashed and loaded.
func (v *Verified) Floor() Floor {
	if !v.Valid() {
		return Floor{}
	}
	return Floor{v.manifest.ManifestVersion, v.digest}
}

// VerifiedPointer is a pointer that VerifyPointer accepted, as Verified is for
// manifests.
type VerifiedPointer struct {
	valid   bool
	pointer Pointer
	keyIDs  []string
}

// Valid reports whether p came out of VerifyPointer. It is false for nil.
func (p *VerifiedPointer) Valid() bool { return p != nil && p.valid }

// Pointer returns a copy of the pointer; of an invalid p, the zero Pointer.
func (p *VerifiedPointer) Pointer() Pointer {
	if !p.Valid() {
		return Pointer{}
	}
	return p.pointer.clone()
}

// KeyIDs returns the ids of the role's keys that signed.
func (p *VerifiedPointer) KeyIDs() []string {
	if !p.Valid() {
		return nil
	}
	return slices.Clone(p.keyIDs)
}

// VerifyManifest accepts raw, a manifest file, or says with an *Error which
// rule it broke first. The order is: size, strict envelope, signatures of the
// root's targets role over the exact payload bytes, strict and canonical
// payload, mirrored members, product, channel and architecture, floor, pointer,
// time (the root's expiry included), policy. Nothing of the payload is
// interpreted before the signatures.
//
// ptr may be nil, if nobody vouched for raw being current (a cache, a file that
// a person names); a ptr that is not Valid is refused. raw is not retained.
func VerifyManifest(raw []byte, root *Root, want Want, floor Floor, ptr *VerifiedPointer, now time.Time) (*Verified, error) {
	k := kindManifest
	env, err := openEnvelope(raw, k)
	if err != nil {
		return nil, err
	}
	keyIDs, err := env.authenticate(k, root)
	if err != nil {
		return nil, err
	}
	m, wire, members, err := decodeManifest(env.payload)
	if err != nil {
		return nil, err
	}
	if err := env.checkMirrored(k, members); err != nil {
		return nil, err
	}
	if wire.Product != "" && wire.Product != Product {
		return nil, refuse(k.object, RuleProduct, "signed for %.40q, not for %q", wire.Product, Product)
	}
	if err := want.check(k, m.Channel, m.Arch); err != nil {
		return nil, err
	}
	digest := blob.Of(env.payload)
	if err := floor.check(k, m.ManifestVersion, digest); err != nil {
		return nil, err
	}
	if err := matchPointer(k, ptr, raw, m); err != nil {
		return nil, err
	}
	if err := checkTime(k, root, m.CreatedAt, m.ExpiresAt, now); err != nil {
		return nil, err
	}
	if err := m.checkPolicy(); err != nil {
		return nil, &Error{Rule: RulePolicy, Object: k.object, Err: err}
	}
	return &Verified{valid: true, manifest: m, digest: digest, keyIDs: keyIDs}, nil
}

// VerifyPointer accepts raw, a pointer file signed by the root's timestamp
// role, or says with an *Error which rule it broke first. The order is that of
// VerifyManifest. Whether the manifest it names is older than one seen before
// is decided there. raw is not retained.
func VerifyPointer(raw []byte, root *Root, want Want, now time.Time) (*VerifiedPointer, error) {
	k := kindPointer
	env, err := openEnvelope(raw, k)
	if err != nil {
		return nil, err
	}
	keyIDs, err := env.authenticate(k, root)
	if err != nil {
		return nil, err
	}
	p, err := env.pointer()
	if err != nil {
		return nil, err
	}
	if err := want.check(k, p.Channel, p.Arch); err != nil {
		return nil, err
	}
	if err := checkTime(k, root, p.CreatedAt, p.ExpiresAt, now); err != nil {
		return nil, err
	}
	if err := p.checkPolicy(); err != nil {
		return nil, &Error{Rule: RulePolicy, Object: k.object, Err: err}
	}
	return &VerifiedPointer{valid: true, pointer: p, keyIDs: keyIDs}, nil
}

// InspectPointer parses a pointer file as strictly as VerifyPointer but checks
// NO SIGNATURE and no time: anybody may have written what it returns. It is for
// those who sort or forward pointers without acting on them, such as the
// validators of a DHT that has no root at hand.
func InspectPointer(raw []byte) (Pointer, error) {
	env, err := openEnvelope(raw, kindPointer)
	if err != nil {
		return Pointer{}, err
	}
	p, err := env.pointer()
	if err != nil {
		return Pointer{}, err
	}
	if err := p.checkPolicy(); err != nil {
		return Pointer{}, &Error{Rule: RulePolicy, Object: kindPointer.object, Err: err}
	}
	return p, nil
}

// pointer decodes the payload of a pointer and applies the checks that need
// nothing but the file.
func (e envelope) pointer() (Pointer, error) {
	p, wire, members, err := decodePointer(e.payload)
	if err != nil {
		return Pointer{}, err
	}
	if err := e.checkMirrored(kindPointer, members); err != nil {
		return Pointer{}, err
	}
	if wire.Product != Product {
		return Pointer{}, refuse(kindPointer.object, RuleProduct, "signed for %.40q, not for %q", wire.Product, Product)
	}
	return p, nil
}

func (w Want) check(k kind, channel, arch string) error {
	if w.Channel != Any && w.Channel != channel {
		return refuse(k.object, RuleChannel, "made for channel %.40q, wanted is %q", channel, w.Channel)
	}
	if w.Arch != Any && w.Arch != arch {
		return refuse(k.object, RuleArch, "made for architecture %.40q, wanted is %q", arch, w.Arch)
	}
	return nil
}

func (f Floor) check(k kind, version int64, digest blob.Digest) error {
	switch {
	case version < f.ManifestVersion:
		return refuse(k.object, RuleRollback, "it has version %d, but version %d was accepted before", version, f.ManifestVersion)
	case version == f.ManifestVersion && !f.Digest.IsZero() && digest != f.Digest:
		return refuse(k.object, RuleSameVersion, "another manifest with version %d was accepted before (%s, this is %s)",
			version, f.Digest, digest)
	}
	return nil
}

func matchPointer(k kind, ptr *VerifiedPointer, raw []byte, m Manifest) error {
	if ptr == nil {
		return nil
	}
	if !ptr.Valid() {
		return refuse(k.object, RulePointer, "the pointer was never verified")
	}
	p := ptr.pointer
	switch {
	case p.Channel != m.Channel || p.Arch != m.Arch:
		return refuse(k.object, RulePointer, "the pointer is for %s/%s, the manifest for %s/%s", p.Channel, p.Arch, m.Channel, m.Arch)
	case p.ManifestVersion != m.ManifestVersion:
		return refuse(k.object, RulePointer, "it has version %d, the pointer names version %d", m.ManifestVersion, p.ManifestVersion)
	case p.ManifestSize != int64(len(raw)) || p.ManifestHash != blob.Of(raw):
		return refuse(k.object, RulePointer, "the file is not the one that the pointer names (%s, %d bytes)", p.ManifestHash, p.ManifestSize)
	}
	return nil
}

// checkTime applies the document's life and its root's. A document is expired
// at the second it names.
func checkTime(k kind, root *Root, created, expires, now time.Time) error {
	if !now.Before(expires) {
		return expired(k.object, expires, now)
	}
	if !root.expires.IsZero() && !now.Before(root.expires) {
		return expired("root", root.expires, now)
	}
	if created.After(now.Add(MaxSkew)) {
		return &Error{Rule: RuleFuture, Object: k.object, At: created, Now: now,
			Detail: fmt.Sprintf("it was made at %s, but the clock says %s", stamp(created), stamp(now))}
	}
	return nil
}

func expired(object string, at, now time.Time) error {
	return &Error{Rule: RuleExpired, Object: object, At: at, Now: now,
		Detail: fmt.Sprintf("it expired at %s, the clock says %s", stamp(at), stamp(now))}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
