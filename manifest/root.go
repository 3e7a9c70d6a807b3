package manifest

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// Role names who may sign what.
type Role string

// The roles of TUF 1.0. Snapshot exists because the format asks for it; it
// signs nothing here and may have no keys.
const (
	RoleRoot      Role = "root"      // roots
	RoleTargets   Role = "targets"   // manifests
	RoleTimestamp Role = "timestamp" // pointers
	RoleSnapshot  Role = "snapshot"  // nothing
)

// RoleKeys is the keys of a role and how many of them must sign.
type RoleKeys struct {
	Keys      []ed25519.PublicKey
	Threshold int
}

// Root is a set of roles that signed itself. That makes it consistent, not
// trusted: trust comes from where it was read, inside the medium. The zero Root
// has no roles and verifies nothing. A Root does not change after it was made.
type Root struct {
	version int64
	expires time.Time // zero: never, only for a bare key
	roles   map[Role]RoleKeys
}

// Version returns the root's version, at least 1; 0 for a bare key.
func (r *Root) Version() int64 { return r.version }

// Expires returns the end of the root's life; the zero time for a bare key.
func (r *Root) Expires() time.Time { return r.expires }

func (r *Root) usable() bool { return r != nil && len(r.roles) > 0 }

// KeyRoot returns a root whose targets role is the one key pub with threshold
// 1, for people who were given a key instead of a root. It has no other role
// and no expiry.
func KeyRoot(pub ed25519.PublicKey) (*Root, error) {
	if err := dsse.CheckKey(pub); err != nil {
		return nil, &Error{Rule: RuleKey, Object: "root", Err: err}
	}
	return &Root{roles: map[Role]RoleKeys{RoleTargets: {[]ed25519.PublicKey{pub}, 1}}}, nil
}

type wireRootFile struct {
	Signed     strictjson.Raw      `json:"signed"`
	Signatures []wireRootSignature `json:"signatures"`
}

type wireRootSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // hexadecimal, as TUF has it
}

type wireRoot struct {
	Type               string             `json:"_type"`
	SpecVersion        string             `json:"spec_version"`
	Version            int64              `json:"version"`
	Expires            wireTime           `json:"expires"`
	ConsistentSnapshot bool               `json:"consistent_snapshot"`
	Keys               map[string]wireKey `json:"keys"`
	Roles              map[Role]wireRole  `json:"roles"`
}

type wireKey struct {
	KeyType string     `json:"keytype"`
	Scheme  string     `json:"scheme"`
	KeyVal  wireKeyVal `json:"keyval"`
}

type wireKeyVal struct {
	Public string `json:"public"`
}

type wireRole struct {
	KeyIDs    []string `json:"keyids"`
	Threshold int      `json:"threshold"`
}

var specPattern = regexp.MustCompile(`^1\.[0-9]{1,4}(\.[0-9]{1,4})?$`)

// ParseRoot reads TUF 1.0 root metadata (specification, section 4.3) with
// Ed25519 keys and checks that its own root role signed it. It is stricter than
// TUF: a key id must be the hash of its key, no key may serve two roles, and a
// threshold must be reachable (only snapshot may have no keys at all). Members
// that it does not know are signed but ignored. Expiry is not judged here. Errors are *Error.
func ParseRoot(raw []byte) (*Root, error) {
	if len(raw) > MaxRootBytes {
		return nil, refuse("root", RuleSize, "%d bytes, at most %d are allowed", len(raw), MaxRootBytes)
	}
	lim := strictjson.Limits{Bytes: MaxRootBytes, Depth: 16, RejectNull: true}
	malformed := func(err error) (*Root, error) {
		return nil, &Error{Rule: RuleMalformed, Object: "root", Err: err}
	}
	var file wireRootFile
	strict := lim
	strict.RejectUnknown = true
	if err := strictjson.Unmarshal(raw, &file, strict); err != nil {
		return malformed(err)
	}
	// Signatures cover the canonical form of everything in "signed", known or
	// not; from here on only that form is read.
	signed, err := strictjson.CanonicalizeOLPC(file.Signed, lim)
	if err != nil {
		return malformed(err)
	}
	var w wireRoot
	if err := strictjson.Unmarshal(signed, &w, lim); err != nil {
		return malformed(err)
	}
	root, err := w.root()
	if err != nil {
		return nil, err
	}
	if err := root.checkSelfSigned(signed, file.Signatures); err != nil {
		return nil, err
	}
	return root, nil
}

// root checks everything about w that does not need the signatures.
func (w wireRoot) root() (*Root, error) {
	switch {
	case w.Type != string(RoleRoot):
		return nil, refuse("root", RuleMalformed, "_type is %.40q, not root", w.Type)
	case !specPattern.MatchString(w.SpecVersion):
		return nil, refuse("root", RuleSchema, "spec_version is %.40q, this program reads TUF 1.x", w.SpecVersion)
	case w.Version < 1:
		return nil, refuse("root", RuleMalformed, "version is %d, must be at least 1", w.Version)
	case w.Expires.at.IsZero():
		return nil, refuse("root", RuleMalformed, "expires is missing")
	}
	keys := make(map[string]ed25519.PublicKey, len(w.Keys))
	for id, key := range w.Keys {
		pub, err := key.parse(id)
		if err != nil {
			return nil, err
		}
		keys[id] = pub
	}
	root := &Root{version: w.Version, expires: w.Expires.at, roles: make(map[Role]RoleKeys, len(w.Roles))}
	for _, name := range []Role{RoleRoot, RoleTargets, RoleTimestamp, RoleSnapshot} {
		if _, ok := w.Roles[name]; !ok {
			return nil, refuse("root", RuleMalformed, "role %s is missing", name)
		}
	}
	owner := make(map[string]Role)
	for name, role := range w.Roles {
		resolved, err := role.resolve(name, keys, owner)
		if err != nil {
			return nil, err
		}
		root.roles[name] = resolved
	}
	return root, nil
}

// parse checks one entry of the key table. The id is compared with the key's
// own hash, so that one key cannot appear, and be counted, under two ids.
func (k wireKey) parse(id string) (ed25519.PublicKey, error) {
	if k.KeyType != "ed25519" || k.Scheme != "ed25519" {
		return nil, refuse("root", RuleKey, "key %.64q is of type %.20q/%.20q, only ed25519 is supported", id, k.KeyType, k.Scheme)
	}
	pub, err := hex.DecodeString(k.KeyVal.Public)
	if err != nil || hex.EncodeToString(pub) != k.KeyVal.Public {
		return nil, refuse("root", RuleKey, "key %.64q is not lower-case hexadecimal", id)
	}
	if err := dsse.CheckKey(pub); err != nil {
		return nil, &Error{Rule: RuleKey, Object: "root", Detail: fmt.Sprintf("key %.64q", id), Err: err}
	}
	if dsse.KeyID(pub) != id {
		return nil, refuse("root", RuleKey, "key %.64q carries an id that is not its hash", id)
	}
	return pub, nil
}

// resolve looks up the keys of a role and records in owner who owns them.
func (r wireRole) resolve(name Role, keys map[string]ed25519.PublicKey, owner map[string]Role) (RoleKeys, error) {
	resolved := RoleKeys{Threshold: r.Threshold}
	for _, id := range r.KeyIDs {
		pub, ok := keys[id]
		if !ok {
			return RoleKeys{}, refuse("root", RuleMalformed, "role %.40q names the unknown key %.64q", name, id)
		}
		if other, taken := owner[id]; taken {
			return RoleKeys{}, refuse("root", RuleKey, "key %s serves roles %.40q and %.40q, or one of them twice", id, other, name)
		}
		owner[id] = name
		resolved.Keys = append(resolved.Keys, pub)
	}
	if r.Threshold < 1 {
		return RoleKeys{}, refuse("root", RuleMalformed, "role %.40q has threshold %d, must be at least 1", name, r.Threshold)
	}
	if r.Threshold > len(r.KeyIDs) && !(name == RoleSnapshot && len(r.KeyIDs) == 0) {
		return RoleKeys{}, refuse("root", RuleMalformed, "role %.40q has threshold %d but %d keys", name, r.Threshold, len(r.KeyIDs))
	}
	return resolved, nil
}

// checkSelfSigned counts the distinct keys of the root role that signed the
// canonical bytes. TUF signs those bytes as they are, without DSSE; they start
// with a brace, so they can never be taken for a DSSE encoding.
func (r *Root) checkSelfSigned(signed []byte, signatures []wireRootSignature) error {
	byID := make(map[string][]byte, len(signatures))
	for _, s := range signatures {
		sig, err := hex.DecodeString(s.Sig)
		if err != nil || hex.EncodeToString(sig) != s.Sig {
			return refuse("root", RuleMalformed, "signature of %.64q is not lower-case hexadecimal", s.KeyID)
		}
		if _, twice := byID[s.KeyID]; twice {
			return refuse("root", RuleMalformed, "two signatures name the key %.64q", s.KeyID)
		}
		byID[s.KeyID] = sig
	}
	role, valid := r.roles[RoleRoot], 0
	for _, key := range role.Keys {
		if ed25519.Verify(key, signed, byID[dsse.KeyID(key)]) {
			valid++
		}
	}
	if valid < role.Threshold {
		return refuse("root", RuleSignature, "%d valid signatures of its own root role, %d are required", valid, role.Threshold)
	}
	return nil
}

// RootSpec describes a root to be made. A missing snapshot role is written
// without keys, so that nobody can act as it.
type RootSpec struct {
	Version int64
	Expires time.Time // cut to whole seconds
	Roles   map[Role]RoleKeys
}

// NewRoot encodes spec as TUF root metadata, signs it with keys, which must
// meet the threshold of spec's own root role, and returns the file.
func NewRoot(spec RootSpec, keys ...ed25519.PrivateKey) ([]byte, error) {
	signed, err := strictjson.MarshalCanonical(wireRootOf(spec))
	if err != nil {
		return nil, fmt.Errorf("sign root: %w", err)
	}
	file := wireRootFile{Signed: signed}
	for _, key := range keys {
		if len(key) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("sign root: %w", errKeyLen)
		}
		id := dsse.KeyID(key.Public().(ed25519.PublicKey))
		file.Signatures = append(file.Signatures, wireRootSignature{id, hex.EncodeToString(ed25519.Sign(key, signed))})
	}
	raw, err := strictjson.MarshalCanonical(file)
	if err != nil {
		return nil, fmt.Errorf("sign root: %w", err)
	}
	if _, err := ParseRoot(raw); err != nil {
		return nil, fmt.Errorf("sign root: %w", err)
	}
	return raw, nil
}

func wireRootOf(spec RootSpec) wireRoot {
	w := wireRoot{
		Type:        string(RoleRoot),
		SpecVersion: "1.0.34",
		Version:     spec.Version,
		Expires:     wireTime{spec.Expires},
		Keys:        map[string]wireKey{},
		Roles:       map[Role]wireRole{RoleSnapshot: {KeyIDs: []string{}, Threshold: 1}},
	}
	for name, role := range spec.Roles {
		out := wireRole{KeyIDs: []string{}, Threshold: role.Threshold}
		for _, pub := range role.Keys {
			id := dsse.KeyID(pub)
			w.Keys[id] = wireKey{"ed25519", "ed25519", wireKeyVal{hex.EncodeToString(pub)}}
			out.KeyIDs = append(out.KeyIDs, id)
		}
		w.Roles[name] = out
	}
	return w
}
