package manifest

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/dsse"
)

// Role names who may sign what.
type Role string

// The roles of TUF 1.0. Snapshot exists because the format asks for it; it
// signs nothing here and may have no keys.
const (
	RoleRoot      Role = "root"      // roots
	RoleTargets   Role = "targets"   // manifests of all channels without keys of their own
	RoleTimestamp Role = "timestamp" // pointers
	RoleSnapshot  Role = "snapshot"  // nothing
)

// RoleKeys is the keys of a role and how many of them must sign.
type RoleKeys struct {
	Keys      []ed25519.PublicKey
	Threshold int
}

func (k RoleKeys) clone() RoleKeys {
	k.Keys = slices.Clone(k.Keys)
	for i, key := range k.Keys {
		k.Keys[i] = slices.Clone(key)
	}
	return k
}

// Root is a set of roles that signed itself. That makes it consistent, not
// trusted: trust comes from where it was read, inside the medium, or from being
// the Update of a trusted root. The zero Root has no roles and verifies
// nothing. A Root does not change after it was made.
type Root struct {
	version  int64
	expires  time.Time // zero: never, only for a bare key
	roles    map[Role]RoleKeys
	channels map[string]RoleKeys   // who signs instead of targets
	floors   map[string]FloorReset // by channel
	foreign  []string              // what a successor made by this program would lack, quoted
}

// ParseRoot reads TUF 1.0 root metadata (specification, section 4.3) with
// Ed25519 keys and checks that its own root role signed it. It is stricter than
// TUF: a key id must be the hash of its key, no key may serve two roles, a
// threshold must be reachable (only snapshot may have no keys at all), and
// "consistent_snapshot" and the "keyids" of each role must be there. What it
// accepts go-tuf v2 accepts as well.
//
// Two members are ours, and other programs ignore them. "x-phase-channels"
// gives a channel keys of its own, which sign its manifests instead of targets:
// {"testing":{"keyids":[…],"threshold":1}}. "x-phase-floors" holds FloorResets:
// {"stable":{"root":3,"version":41}}, with root at most the root's own version.
// Members that ParseRoot does not know are signed but ignored; their names, in
// the root itself and in its keys and roles, are of the form
// [a-z_][a-z0-9_.-]{0,63}, so that no reader takes one for a member that it
// knows. Expiry is not judged here. Errors are *Error.
func ParseRoot(raw []byte) (*Root, error) {
	root, file, err := readRoot(raw)
	if err != nil {
		return nil, err
	}
	own := root.roles[RoleRoot]
	if valid := file.count(own); valid < own.Threshold {
		return nil, refuse("root", RuleSignature, "%d valid signatures of its own root role, %d are required", valid, own.Threshold)
	}
	return root, nil
}

// KeyRoot returns a root whose targets role is the one key pub with threshold
// 1, for people who were given a key instead of a root. It has no other role
// and no expiry, and no root can follow it.
func KeyRoot(pub ed25519.PublicKey) (*Root, error) {
	if err := dsse.CheckKey(pub); err != nil {
		return nil, &Error{Rule: RuleKey, Object: "root", Err: err}
	}
	keys := RoleKeys{[]ed25519.PublicKey{pub}, 1}
	return &Root{roles: map[Role]RoleKeys{RoleTargets: keys.clone()}}, nil
}

// Version returns the root's version, at least 1; 0 for a bare key.
func (r *Root) Version() int64 { return r.version }

// Expires returns the end of the root's life; the zero time for a bare key.
func (r *Root) Expires() time.Time { return r.expires }

// Keys returns the keys of a role, and whether there is such a role.
func (r *Root) Keys(role Role) (RoleKeys, bool) {
	keys, ok := r.roles[role]
	return keys.clone(), ok
}

// ManifestKeys returns the keys that sign manifests of channel, and whether
// they are the channel's own instead of those of targets.
func (r *Root) ManifestKeys(channel string) (keys RoleKeys, own bool) {
	if keys, own = r.channels[channel]; own {
		return keys.clone(), true
	}
	return r.roles[RoleTargets].clone(), false
}

// Spec returns the description of r from which a successor can be made. It
// fails if r is a bare key, or holds members that this program does not know
// and would drop. Keys that serve no role are dropped silently.
func (r *Root) Spec() (RootSpec, error) {
	if r.version == 0 {
		return RootSpec{}, fmt.Errorf("a bare key is no root that another can follow")
	}
	if len(r.foreign) > 0 {
		return RootSpec{}, fmt.Errorf("root version %d has what this program does not know and would lose: %s",
			r.version, strings.Join(r.foreign, ", "))
	}
	return r.spec(), nil
}

func (r *Root) spec() RootSpec {
	spec := RootSpec{
		Version:  r.version,
		Expires:  r.expires,
		Roles:    make(map[Role]RoleKeys, len(r.roles)),
		Channels: make(map[string]RoleKeys, len(r.channels)),
		Floors:   make(map[string]FloorReset, len(r.floors)),
	}
	for name, keys := range r.roles {
		spec.Roles[name] = keys.clone()
	}
	for name, keys := range r.channels {
		spec.Channels[name] = keys.clone()
	}
	maps.Copy(spec.Floors, r.floors)
	return spec
}

func (r *Root) usable() bool { return r != nil && len(r.roles) > 0 }

// signer names a set of keys in a root, in the words of messages: "role
// targets", "channel testing".
type signer string

const (
	signerTargets   = signer("role " + RoleTargets)
	signerTimestamp = signer("role " + RoleTimestamp)
)

func channelSigner(name string) signer { return signer("channel " + name) }

// signersOf lists who may sign documents of kind k.
func (r *Root) signersOf(k kind) []signer {
	if k.object == kindPointer.object {
		return []signer{signerTimestamp}
	}
	list := []signer{signerTargets}
	for _, name := range slices.Sorted(maps.Keys(r.channels)) {
		list = append(list, channelSigner(name))
	}
	return list
}

// signerOf returns who signs the manifests of channel.
func (r *Root) signerOf(channel string) signer {
	if _, own := r.channels[channel]; own {
		return channelSigner(channel)
	}
	return signerTargets
}

func (r *Root) keysOf(s signer) RoleKeys {
	if name, ok := strings.CutPrefix(string(s), "channel "); ok {
		return r.channels[name]
	}
	return r.roles[Role(strings.TrimPrefix(string(s), "role "))]
}
