package manifest

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

type wireRootFile struct {
	Signed     strictjson.Raw      `json:"signed"`
	Signatures []wireRootSignature `json:"signatures"`
}

type wireRootSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // hexadecimal, as TUF has it
}

type wireRoot struct {
	Type               string               `json:"_type"`
	SpecVersion        string               `json:"spec_version"`
	Version            int64                `json:"version"`
	Expires            wireTime             `json:"expires"`
	ConsistentSnapshot bool                 `json:"consistent_snapshot"`
	Keys               map[string]wireKey   `json:"keys"`
	Roles              map[Role]wireRole    `json:"roles"`
	Channels           map[string]wireRole  `json:"x-phase-channels,omitempty"`
	Floors             map[string]wireFloor `json:"x-phase-floors,omitempty"`
	Extra              strictjson.Raw       `json:",embed"`
}

type wireKey struct {
	KeyType string         `json:"keytype"`
	Scheme  string         `json:"scheme"`
	KeyVal  wireKeyVal     `json:"keyval"`
	Extra   strictjson.Raw `json:",embed"`
}

type wireKeyVal struct {
	Public string         `json:"public"`
	Extra  strictjson.Raw `json:",embed"`
}

type wireRole struct {
	KeyIDs    []string       `json:"keyids"`
	Threshold int            `json:"threshold"`
	Extra     strictjson.Raw `json:",embed"`
}

type wireFloor struct {
	Root    int64          `json:"root"`
	Version int64          `json:"version"`
	Extra   strictjson.Raw `json:",embed"`
}

var (
	specPattern    = regexp.MustCompile(`^1\.[0-9]{1,4}(\.[0-9]{1,4})?$`)
	channelPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
)

// rootFile is a root's outer form. Nothing in it was verified.
type rootFile struct {
	signed     []byte            // canonical, exactly what signatures cover
	signatures map[string][]byte // by key id
}

// openRootFile parses the outer form of raw. Signatures cover the canonical
// form of everything in "signed", known or not (TUF 1.0.34, section 4.2.1);
// from here on only that form is read.
func openRootFile(raw []byte) (rootFile, error) {
	if len(raw) > MaxRootBytes {
		return rootFile{}, refuse("root", RuleSize, "%d bytes, at most %d are allowed", len(raw), MaxRootBytes)
	}
	var wire wireRootFile
	strict := rootLimits
	strict.RejectUnknown = true
	if err := strictjson.Unmarshal(raw, &wire, strict); err != nil {
		return rootFile{}, &Error{Rule: RuleMalformed, Object: "root", Err: err}
	}
	signed, err := strictjson.CanonicalizeOLPC(wire.Signed, rootLimits)
	if err != nil {
		return rootFile{}, &Error{Rule: RuleMalformed, Object: "root", Err: err}
	}
	file := rootFile{signed, make(map[string][]byte, len(wire.Signatures))}
	for _, s := range wire.Signatures {
		sig, err := hex.DecodeString(s.Sig)
		if err != nil || hex.EncodeToString(sig) != s.Sig {
			return rootFile{}, refuse("root", RuleMalformed, "signature of %.64q is not lower-case hexadecimal", s.KeyID)
		}
		if _, twice := file.signatures[s.KeyID]; twice {
			return rootFile{}, refuse("root", RuleMalformed, "two signatures name the key %.64q", s.KeyID)
		}
		file.signatures[s.KeyID] = sig
	}
	return file, nil
}

var rootLimits = strictjson.Limits{Bytes: MaxRootBytes, Depth: 16, RejectNull: true}

// count returns how many distinct keys of a role signed the file. TUF signs the
// canonical bytes as they are, without DSSE; they start with a brace, so they
// can never be taken for a DSSE encoding.
func (f rootFile) count(role RoleKeys) int {
	valid := make(map[string]bool, len(role.Keys))
	for _, key := range role.Keys {
		id := dsse.KeyID(key)
		if sig, ok := f.signatures[id]; ok && ed25519.Verify(key, f.signed, sig) {
			valid[id] = true
		}
	}
	return len(valid)
}

// marshal encodes the file with its signatures in the order of their key ids,
// so that it is the same in whichever order people signed.
func (f rootFile) marshal() ([]byte, error) {
	list := make([]wireRootSignature, 0, len(f.signatures))
	for _, id := range slices.Sorted(maps.Keys(f.signatures)) {
		list = append(list, wireRootSignature{id, hex.EncodeToString(f.signatures[id])})
	}
	signatures, err := strictjson.MarshalCanonical(list)
	if err != nil {
		return nil, err
	}
	// Put together by hand, so that the signed bytes stay exactly as they are.
	return fmt.Appendf(nil, `{"signatures":%s,"signed":%s}`, signatures, f.signed), nil
}

// readRoot reads everything about a root but checks no signature.
func readRoot(raw []byte) (*Root, rootFile, error) {
	file, err := openRootFile(raw)
	if err != nil {
		return nil, rootFile{}, err
	}
	root, err := decodeRoot(file.signed)
	return root, file, err
}

func decodeRoot(signed []byte) (*Root, error) {
	var w wireRoot
	if err := strictjson.Unmarshal(signed, &w, rootLimits); err != nil {
		return nil, &Error{Rule: RuleMalformed, Object: "root", Err: err}
	}
	return w.root()
}

// root checks everything about w that does not need the signatures.
func (w wireRoot) root() (*Root, error) {
	if err := w.checkHead(); err != nil {
		return nil, err
	}
	root := &Root{
		version:  w.Version,
		expires:  w.Expires.at,
		roles:    make(map[Role]RoleKeys, len(w.Roles)),
		channels: make(map[string]RoleKeys, len(w.Channels)),
		floors:   make(map[string]FloorReset, len(w.Floors)),
		foreign:  w.foreign(),
	}
	table := keyTable{make(map[string]ed25519.PublicKey, len(w.Keys)), map[string]signer{}}
	var err error
	for _, id := range slices.Sorted(maps.Keys(w.Keys)) {
		if table.keys[id], err = w.Keys[id].parse(id); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Roles)) {
		if root.roles[name], err = table.resolve(signer("role "+name), w.Roles[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Channels)) {
		if root.channels[name], err = table.resolveChannel(name, w.Channels[name]); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Floors)) {
		if root.floors[name], err = w.Floors[name].reset(name, w.Version); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func (w wireRoot) checkHead() error {
	switch {
	case w.Type != string(RoleRoot):
		return refuse("root", RuleMalformed, "_type is %.40q, not root", w.Type)
	case !specPattern.MatchString(w.SpecVersion):
		return refuse("root", RuleSchema, "spec_version is %.40q, this program reads TUF 1.x", w.SpecVersion)
	case w.Version < 1:
		return refuse("root", RuleMalformed, "version is %d, must be at least 1", w.Version)
	case w.Expires.at.IsZero():
		return refuse("root", RuleMalformed, "expires is missing")
	}
	for _, name := range []Role{RoleRoot, RoleTargets, RoleTimestamp, RoleSnapshot} {
		if _, ok := w.Roles[name]; !ok {
			return refuse("root", RuleMalformed, "role %s is missing", name)
		}
	}
	return nil
}

// foreign names the places that hold what a successor made from Spec would not.
func (w wireRoot) foreign() []string {
	var list []string
	note := func(place string, extra strictjson.Raw) {
		if len(extra) > 0 {
			list = append(list, fmt.Sprintf("%.80q", place))
		}
	}
	note("signed", w.Extra)
	if w.ConsistentSnapshot {
		list = append(list, `"consistent_snapshot"`)
	}
	for _, id := range slices.Sorted(maps.Keys(w.Keys)) {
		note("keys."+id, w.Keys[id].Extra)
		note("keys."+id+".keyval", w.Keys[id].KeyVal.Extra)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Roles)) {
		note("roles."+string(name), w.Roles[name].Extra)
	}
	return list
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

// keyTable is a root's keys and who owns each of them.
type keyTable struct {
	keys  map[string]ed25519.PublicKey
	owner map[string]signer
}

// resolve looks up the keys of a role. A key has one owner only.
func (t keyTable) resolve(name signer, role wireRole) (RoleKeys, error) {
	resolved := RoleKeys{Threshold: role.Threshold}
	for _, id := range role.KeyIDs {
		pub, ok := t.keys[id]
		if !ok {
			return RoleKeys{}, refuse("root", RuleMalformed, "%.60q names the unknown key %.64q", name, id)
		}
		if other, taken := t.owner[id]; taken {
			return RoleKeys{}, refuse("root", RuleKey, "key %s serves %.60q and %.60q, or one of them twice", id, other, name)
		}
		t.owner[id] = name
		resolved.Keys = append(resolved.Keys, pub)
	}
	if role.Threshold < 1 {
		return RoleKeys{}, refuse("root", RuleMalformed, "%.60q has threshold %d, must be at least 1", name, role.Threshold)
	}
	nobody := name == signer("role "+RoleSnapshot) && len(role.KeyIDs) == 0
	if role.Threshold > len(role.KeyIDs) && !nobody {
		return RoleKeys{}, refuse("root", RuleMalformed, "%.60q has threshold %d but %d keys", name, role.Threshold, len(role.KeyIDs))
	}
	return resolved, nil
}

// resolveChannel is resolve for our own member, in which nothing unknown is
// ignored: it might be what limits the keys.
func (t keyTable) resolveChannel(name string, role wireRole) (RoleKeys, error) {
	if !channelPattern.MatchString(name) || len(role.Extra) > 0 {
		return RoleKeys{}, refuse("root", RuleMalformed, "x-phase-channels: %.40q is not a channel with keyids and threshold", name)
	}
	return t.resolve(channelSigner(name), role)
}

// reset checks one entry of x-phase-floors in the root with the given version.
func (f wireFloor) reset(channel string, version int64) (FloorReset, error) {
	if !channelPattern.MatchString(channel) || len(f.Extra) > 0 {
		return FloorReset{}, refuse("root", RuleMalformed, "x-phase-floors: %.40q is not a channel with root and version", channel)
	}
	if f.Root < 1 || f.Root > version || f.Version < 1 {
		return FloorReset{}, refuse("root", RuleMalformed,
			"x-phase-floors: %s names root %d and version %d; allowed are roots 1 to %d and versions from 1", channel, f.Root, f.Version, version)
	}
	return FloorReset{f.Root, f.Version}, nil
}
