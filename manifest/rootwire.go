package manifest

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

type wireRoot struct {
	Type               string               `json:"_type"`
	SpecVersion        string               `json:"spec_version"`
	Version            int64                `json:"version"`
	Expires            wireTime             `json:"expires"`
	ConsistentSnapshot *bool                `json:"consistent_snapshot"`
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
	specPattern = regexp.MustCompile(`^1\.[0-9]{1,4}(\.[0-9]{1,4})?$`)
	channelForm = form{"a-z", "a-z0-9-", 32}
)

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
	}
	var err error
	if root.foreign, err = w.foreign(); err != nil {
		return nil, err
	}
	table := keyTable{make(map[string]ed25519.PublicKey, len(w.Keys)), map[string]signer{}}
	for _, id := range slices.Sorted(maps.Keys(w.Keys)) {
		if table.keys[id], err = w.Keys[id].parse(id); err != nil {
			return nil, err
		}
	}
	if err := w.resolve(root, table); err != nil {
		return nil, err
	}
	return root, nil
}

// resolve fills in root what stands on the key table, and the floors.
func (w wireRoot) resolve(root *Root, table keyTable) (err error) {
	for _, name := range slices.Sorted(maps.Keys(w.Roles)) {
		if root.roles[name], err = table.resolve(signer("role "+name), w.Roles[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Channels)) {
		if root.channels[name], err = table.resolveChannel(name, w.Channels[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Floors)) {
		if root.floors[name], err = w.Floors[name].reset(name, w.Version); err != nil {
			return err
		}
	}
	return nil
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
	case w.ConsistentSnapshot == nil: // TUF clients that encode what they read would add it
		return refuse("root", RuleMalformed, "consistent_snapshot is missing")
	}
	for _, name := range []Role{RoleRoot, RoleTargets, RoleTimestamp, RoleSnapshot} {
		if _, ok := w.Roles[name]; !ok {
			return refuse("root", RuleMalformed, "role %s is missing", name)
		}
	}
	return nil
}

// extras lists every object of a root that may have unknown members. Ours may
// not.
func (w wireRoot) extras() []extra {
	list := []extra{{"", w.Extra}}
	for _, id := range slices.Sorted(maps.Keys(w.Keys)) {
		list = append(list,
			extra{"keys." + id + ".", w.Keys[id].Extra},
			extra{"keys." + id + ".keyval.", w.Keys[id].KeyVal.Extra})
	}
	for _, name := range slices.Sorted(maps.Keys(w.Roles)) {
		list = append(list, extra{"roles." + string(name) + ".", w.Roles[name].Extra})
	}
	return list
}

// foreign names what a successor made from Spec would lack. It refuses names
// that another reader could take for one that this program knows.
func (w wireRoot) foreign() ([]string, error) {
	list, err := unknownMembers(w.extras(), &rootMemberForm)
	if err != nil {
		return nil, &Error{Rule: RuleMalformed, Object: "root", Err: err}
	}
	if *w.ConsistentSnapshot {
		list = append(list, `"consistent_snapshot"`)
	}
	return list, nil
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

// resolve looks up the keys of a role. A key has one owner only. The list of
// keys is there even if it is empty, for the same reason as consistent_snapshot.
func (t keyTable) resolve(name signer, role wireRole) (RoleKeys, error) {
	if role.KeyIDs == nil {
		return RoleKeys{}, refuse("root", RuleMalformed, "%.60q lacks keyids", name)
	}
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
	if !channelForm.fits(name) || len(role.Extra) > 0 {
		return RoleKeys{}, refuse("root", RuleMalformed, "x-phase-channels: %.40q is not a channel with keyids and threshold", name)
	}
	return t.resolve(channelSigner(name), role)
}

// reset checks one entry of x-phase-floors in the root with the given version.
func (f wireFloor) reset(channel string, version int64) (FloorReset, error) {
	if !channelForm.fits(channel) || len(f.Extra) > 0 {
		return FloorReset{}, refuse("root", RuleMalformed, "x-phase-floors: %.40q is not a channel with root and version", channel)
	}
	if f.Root < 1 || f.Root > version || f.Version < 1 {
		return FloorReset{}, refuse("root", RuleMalformed,
			"x-phase-floors: %s names root %d and version %d; allowed are roots 1 to %d and versions from 1", channel, f.Root, f.Version, version)
	}
	return FloorReset{f.Root, f.Version}, nil
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

		ConsistentSnapshot: new(false),
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
