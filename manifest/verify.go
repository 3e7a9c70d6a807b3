package manifest

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/logproof"
)

// MaxSkew is how far a document's creation may lie after the clock: clocks of
// honest machines differ a little.
const MaxSkew = 10 * time.Minute

// Any in a Want accepts every channel or architecture. It is for tools that
// examine a file a person handed them; a machine that boots asks for its own.
const Any = "*"

// Want is what the caller asked for. An empty field matches nothing.
type Want struct{ Channel, Arch string }

// Verifier is what a verdict rests on besides the document and the time. It is
// a plain value and safe for concurrent use; one without a Root, or without a
// Want, accepts nothing.
type Verifier struct {
	Root        *Root
	Log         *logproof.Policy // nil: manifests need not be logged
	Want        Want
	Floor       Floor  // as stored; what it is worth is up to the Root
	ClockSource string // where the time comes from ("machine clock"), for messages; may be empty
}

// Manifest accepts raw, a manifest file, or says with an *Error which rule it
// broke first. The order is: size, strict envelope, signatures of a role of the
// root over the exact payload bytes, strict and canonical payload, whether that
// role is the one responsible for the channel, mirrored members, product,
// channel and architecture, effective floor, pointer, time (the root's expiry
// included, which now and the manifest's creation must precede), policy, log. Nothing of the payload is interpreted before the
// signatures.
//
// proof is the C2SP log proof that lies beside the manifest; it may be nil if
// v.Log is, and is not looked at then. ptr may be nil, if nobody vouched for
// raw being current (a file that a person names); a ptr that is not Valid is
// refused. raw and proof are not retained.
func (v Verifier) Manifest(raw, proof []byte, ptr *VerifiedPointer, now time.Time) (*Verified, error) {
	m, err := v.open(raw)
	if err != nil {
		return nil, err
	}
	floor := v.Root.EffectiveFloor(m.Channel, v.Floor)
	if err := floor.check(m.ManifestVersion, m.digest); err != nil {
		return nil, err
	}
	if err := matchPointer(ptr, raw, m.Manifest); err != nil {
		return nil, err
	}
	if err := v.checkExpiry(m.object, m.CreatedAt, m.ExpiresAt, now); err != nil {
		return nil, err
	}
	return v.accept(m, floor, staleness{}, proof, now)
}

// LastGood accepts raw, the file of a release that this machine booted before
// and kept, for a start without a network. It is Manifest without a pointer and
// with two allowances: the manifest and the root may have expired, which Stale
// then tells (a root that is gone may have vouched for what was made after the
// end of v.Root), and the version may be below the stored floor, but not below the
// highest security floor that was accepted nor below a floor that the root
// sets.
func (v Verifier) LastGood(raw, proof []byte, now time.Time) (*Verified, error) {
	m, err := v.open(raw)
	if err != nil {
		return nil, err
	}
	floor := v.Root.EffectiveFloor(m.Channel, v.Floor)
	if err := floor.checkLastGood(v.Root, m.Channel, m.ManifestVersion, m.digest); err != nil {
		return nil, err
	}
	object, since := expiredFirst(v.Root, m.object, m.ExpiresAt, now)
	return v.accept(m, floor, staleness{object, since}, proof, now)
}

// Pointer accepts raw, a pointer file signed by the root's timestamp role, or
// says with an *Error which rule it broke first. The order is that of Manifest;
// after channel and architecture follows whether the pointer was made under a
// newer root than v.Root (RuleRootVersion): then what it names may be signed by
// keys that v.Root does not know, or no longer by those it knows, so the newer
// roots come first. The floor is Manifest's affair. raw is not retained.
func (v Verifier) Pointer(raw []byte, now time.Time) (*VerifiedPointer, error) {
	k := kindPointer
	env, err := openEnvelope(raw, k)
	if err != nil {
		return nil, err
	}
	signers, err := env.authenticate(k, v.Root)
	if err != nil {
		return nil, err
	}
	p, _, err := env.pointer()
	if err != nil {
		return nil, err
	}
	if err := v.Want.check(k.object, p.Channel, p.Arch); err != nil {
		return nil, err
	}
	if p.RootVersion > v.Root.version {
		return nil, refuse(k.object, RuleRootVersion, "the pointer was made under root version %d, this machine has version %d",
			p.RootVersion, v.Root.version)
	}
	if err := v.checkExpiry(k.object, p.CreatedAt, p.ExpiresAt, now); err != nil {
		return nil, err
	}
	if err := v.checkFuture(k.object, p.CreatedAt, now); err != nil {
		return nil, err
	}
	if err := p.checkPolicy(); err != nil {
		return nil, &Error{Rule: RulePolicy, Object: k.object, Err: err}
	}
	return &VerifiedPointer{valid: true, pointer: p, keyIDs: signers[signerTimestamp]}, nil
}

// InspectPointer parses a pointer file as strictly as Verifier.Pointer but
// checks NO SIGNATURE and no time: anybody may have written what it returns. It
// is for those who sort or forward pointers without acting on them, such as the
// validators of a DHT that has no root at hand.
func InspectPointer(raw []byte) (Pointer, error) {
	env, err := openEnvelope(raw, kindPointer)
	if err != nil {
		return Pointer{}, err
	}
	p, _, err := env.pointer()
	if err != nil {
		return Pointer{}, err
	}
	if err := p.checkPolicy(); err != nil {
		return Pointer{}, &Error{Rule: RulePolicy, Object: kindPointer.object, Err: err}
	}
	return p, nil
}

// InspectSignedPointer is InspectPointer of a pointer that key has signed. Whether key may
// sign for anybody it does not say, nor whether others had to sign as well.
func InspectSignedPointer(raw []byte, key ed25519.PublicKey) (Pointer, error) {
	k := kindPointer
	env, err := openEnvelope(raw, k)
	if err != nil {
		return Pointer{}, err
	}
	if _, err := dsse.Verify(k.payloadType, env.payload, env.signatures, []ed25519.PublicKey{key}, 1); err != nil {
		return Pointer{}, refuse(k.object, RuleSignature, "by this key: %v", err)
	}
	return InspectPointer(raw)
}

// opened is a manifest whose signatures are right, made for the one who asks.
// Its age and its wishes were not judged yet.
type opened struct {
	Manifest
	object string
	digest blob.Digest
	keyIDs []string
}

// open takes the steps that depend on neither the time nor the past.
func (v Verifier) open(raw []byte) (opened, error) {
	k := kindManifest
	env, err := openEnvelope(raw, k)
	if err != nil {
		return opened{}, err
	}
	signers, err := env.authenticate(k, v.Root)
	if err != nil {
		return opened{}, err
	}
	m, wire, members, err := decodeManifest(env.payload)
	if err != nil {
		return opened{}, err
	}
	keyIDs, err := signers.responsible(v.Root, m.Channel)
	if err != nil {
		return opened{}, err
	}
	if err := env.checkMirrored(k, members); err != nil {
		return opened{}, err
	}
	if err := wire.checkProduct(); err != nil {
		return opened{}, err
	}
	if err := v.Want.check(k.object, m.Channel, m.Arch); err != nil {
		return opened{}, err
	}
	return opened{m, k.object, blob.Of(env.payload), keyIDs}, nil
}

// accept takes the last steps, which are the same for every manifest.
func (v Verifier) accept(m opened, floor Floor, stale staleness, proof []byte, now time.Time) (*Verified, error) {
	if err := v.checkFuture(m.object, m.CreatedAt, now); err != nil {
		return nil, err
	}
	if err := m.checkPolicy(); err != nil {
		return nil, &Error{Rule: RulePolicy, Object: m.object, Err: err}
	}
	logged, err := v.checkLog(m, proof)
	if err != nil {
		return nil, err
	}
	return &Verified{
		valid:    true,
		manifest: m.Manifest,
		digest:   m.digest,
		keyIDs:   m.keyIDs,
		floor:    floor.raise(m.Manifest, m.digest, v.Root),
		stale:    stale,
		logged:   logged,
	}, nil
}

func (w Want) check(object, channel, arch string) error {
	if w.Channel != Any && w.Channel != channel {
		return refuse(object, RuleChannel, "made for channel %.40q, wanted is %q", channel, w.Channel)
	}
	if w.Arch != Any && w.Arch != arch {
		return refuse(object, RuleArch, "made for architecture %.40q, wanted is %q", arch, w.Arch)
	}
	return nil
}

func matchPointer(ptr *VerifiedPointer, raw []byte, m Manifest) error {
	object := kindManifest.object
	if ptr == nil {
		return nil
	}
	if !ptr.Valid() {
		return refuse(object, RulePointer, "the pointer was never verified")
	}
	p := ptr.pointer
	switch {
	case p.Channel != m.Channel || p.Arch != m.Arch:
		return refuse(object, RulePointer, "the pointer is for %s/%s, the manifest for %s/%s", p.Channel, p.Arch, m.Channel, m.Arch)
	case p.ManifestVersion != m.ManifestVersion:
		return refuse(object, RulePointer, "it has version %d, the pointer names version %d", m.ManifestVersion, p.ManifestVersion)
	case p.ManifestSize != int64(len(raw)) || p.ManifestHash != blob.Of(raw):
		return refuse(object, RulePointer, "the file is not the one that the pointer names (%s, %d bytes)", p.ManifestHash, p.ManifestSize)
	}
	return nil
}

// expiredFirst returns what is over at now, the document or its root; of both,
// what expired first. A document is expired at the second it names.
func expiredFirst(root *Root, object string, expires, now time.Time) (string, time.Time) {
	if r := root.expires; !r.IsZero() && !now.Before(r) && r.Before(expires) {
		return "root", r
	}
	if !now.Before(expires) {
		return object, expires
	}
	return "", time.Time{}
}

// checkExpiry refuses what is over at now, and what was made when its root was
// over: no time will make that valid. RuleFuture would offer it as evidence of
// the time, and a thief of the one timestamp key could move a clock that has
// nothing better beyond the end of every document.
func (v Verifier) checkExpiry(object string, created, expires, now time.Time) error {
	if over, at := expiredFirst(v.Root, object, expires, now); over != "" {
		return v.expired(over, at, now, fmt.Sprintf("it expired at %s", stamp(at)))
	}
	if end := v.Root.expires; !end.IsZero() && !created.Before(end) {
		return v.expired("root", end, now, fmt.Sprintf("it ends at %s, the %s was made at %s", stamp(end), object, stamp(created)))
	}
	return nil
}

func (v Verifier) expired(object string, at, now time.Time, why string) error {
	return &Error{Rule: RuleExpired, Object: object, At: at, Now: now, Clock: v.ClockSource,
		Detail: why + ", " + v.clockSays(now)}
}

func (v Verifier) checkFuture(object string, created, now time.Time) error {
	if !created.After(now.Add(MaxSkew)) {
		return nil
	}
	return &Error{Rule: RuleFuture, Object: object, At: created, Now: now, Clock: v.ClockSource,
		Detail: fmt.Sprintf("it was made at %s, but %s", stamp(created), v.clockSays(now))}
}

func (v Verifier) clockSays(now time.Time) string {
	if v.ClockSource == "" {
		return "the clock says " + stamp(now)
	}
	return fmt.Sprintf("the clock says %s (%s)", stamp(now), v.ClockSource)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
