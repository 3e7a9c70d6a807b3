package manifest

import (
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/logproof"
)

// Verified is a manifest that a Verifier accepted. There is no other way to
// make one: the zero value is not valid and describes nothing.
type Verified struct {
	valid    bool
	manifest Manifest
	digest   blob.Digest
	keyIDs   []string
	floor    Floor
	stale    staleness
	logged   *logproof.Logged
}

// staleness says what of a last good release was over when it was accepted.
type staleness struct {
	object string // "manifest" or "root"; empty: nothing
	since  time.Time
}

// Valid reports whether v came out of a Verifier. It is false for nil.
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

// KeyIDs returns the ids of the responsible role's keys that signed.
func (v *Verified) KeyIDs() []string {
	if !v.Valid() {
		return nil
	}
	return slices.Clone(v.keyIDs)
}

// Floor returns what to remember once the manifest was booted: not earlier
// than its artifacts were fetched, hashed and loaded. It is never below the
// effective floor that the Verifier had.
func (v *Verified) Floor() Floor {
	if !v.Valid() {
		return Floor{}
	}
	return v.floor
}

// Stale reports whether the manifest or the root under which it was accepted
// ("manifest", "root") had expired, and when; of two, it names the one that
// expired first. Only LastGood accepts such a manifest, and whoever boots it
// warns the person in front of the machine.
func (v *Verified) Stale() (object string, since time.Time, stale bool) {
	if !v.Valid() || v.stale.object == "" {
		return "", time.Time{}, false
	}
	return v.stale.object, v.stale.since, true
}

// Logged returns where the manifest stands in the log that the Verifier asked
// for; false if it asked for none.
func (v *Verified) Logged() (logproof.Logged, bool) {
	if !v.Valid() || v.logged == nil {
		return logproof.Logged{}, false
	}
	logged := *v.logged
	logged.Witnesses = slices.Clone(logged.Witnesses)
	return logged, true
}

// VerifiedPointer is a pointer that a Verifier accepted, as Verified is for
// manifests.
type VerifiedPointer struct {
	valid   bool
	pointer Pointer
	keyIDs  []string
}

// Valid reports whether p came out of a Verifier. It is false for nil.
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
