package manifest

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/dsse"
)

// open opens a draft of any kind.
func openDraft(object string, raw []byte) (*Draft, error) {
	switch object {
	case "manifest":
		return OpenManifestDraft(raw)
	case "pointer":
		return OpenPointerDraft(raw)
	}
	return OpenRootDraft(raw)
}

func draftBytes(t testing.TB, d *Draft) []byte {
	t.Helper()
	raw, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestSigningTogether: three people, each with one key and a file. Until the
// threshold is met nobody accepts the file, and afterwards it is the same
// whoever put it together.
func TestSigningTogether(t *testing.T) {
	root := testRoot(t)
	draft, err := DraftManifest(testManifest())
	if err != nil {
		t.Fatal(err)
	}
	unsigned := draftBytes(t, draft)
	_, err = verifyManifest(unsigned, root, wantTest, Floor{}, nil, now)
	checkRule(t, "unsigned", err, RuleSignature)
	var signed []*Draft
	for _, key := range private("targets-1", "targets-2", "targets-3") {
		d, err := OpenManifestDraft(unsigned)
		if err != nil {
			t.Fatal(err)
		}
		if d.Digest() != draft.Digest() || !reflect.DeepEqual(d.Manifest(), draft.Manifest()) {
			t.Error("the file says something else than the draft")
		}
		if err := d.Sign(key); err != nil {
			t.Fatal(err)
		}
		_, err = verifyManifest(draftBytes(t, d), root, wantTest, Floor{}, nil, now)
		checkRule(t, "signed by one", err, RuleSignature)
		signed = append(signed, d)
	}
	var files [][]byte
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2, 1}} {
		d, err := OpenManifestDraft(unsigned)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range order {
			if err := d.Merge(signed[i]); err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, draftBytes(t, d))
	}
	if !bytes.Equal(files[0], files[1]) || !bytes.Equal(files[0], files[2]) {
		t.Error("the file depends on the order of merging")
	}
	v, err := verifyManifest(files[0], root, wantTest, Floor{}, nil, now)
	if err != nil || v.Digest() != draft.Digest() || len(v.KeyIDs()) != 3 {
		t.Errorf("%v, %v", v.KeyIDs(), err)
	}
}

// TestRotatingTogether: old and new owners sign a successor, file by file.
func TestRotatingTogether(t *testing.T) {
	old := testRoot(t)
	spec, err := old.Spec()
	if err != nil {
		t.Fatal(err)
	}
	spec.Version++
	spec.Roles[RoleRoot] = RoleKeys{public("root-4", "root-5"), 2}
	spec.Channels[ChannelNightly] = RoleKeys{public("nightly"), 1}
	spec.Floors[ChannelStable] = FloorReset{2, 40}
	d, err := DraftRoot(spec)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range private("root-1", "root-4", "root-3", "root-5") {
		if _, err := old.Update(draftBytes(t, d)); err == nil {
			t.Fatalf("accepted after %d signatures", i)
		}
		if d, err = OpenRootDraft(draftBytes(t, d)); err != nil {
			t.Fatal(err)
		}
		if err := d.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	next, err := old.Update(draftBytes(t, d))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := next.Spec(); err != nil || !reflect.DeepEqual(again, d.Spec()) || again.Floors[ChannelStable].Version != 40 {
		t.Errorf("%+v, %v", again, err)
	}
	if keys, own := next.ManifestKeys(ChannelNightly); !own || len(keys.Keys) != 1 || !keys.Keys[0].Equal(public("nightly")[0]) {
		t.Errorf("nightly is signed by %+v, %v", keys, own)
	}
	if keys, own := next.ManifestKeys(ChannelStable); own || len(keys.Keys) != 3 || keys.Threshold != 2 {
		t.Errorf("stable is signed by %+v, %v", keys, own)
	}
}

// TestDraftsHoldToTheRules: what no verifier accepts for its content cannot be
// opened, and everything else can, whoever signed it.
func TestDraftsHoldToTheRules(t *testing.T) {
	g := newGenerator(t)
	content := []Rule{RuleSize, RuleMalformed, RuleMirrored, RuleProduct, RuleSchema, RulePolicy, RuleKey}
	opened, refused := 0, 0
	for _, v := range vectors {
		switch v.name {
		case "pointer-is-a-manifest", // opened as the wrong kind
			"manifest-channel-composed", "manifest-channel-decomposed": // the wish comes first, then the policy
			continue
		}
		d, err := openDraft(v.document(), v.make(g))
		if !slices.Contains(content, v.rule) {
			if opened++; err != nil {
				t.Errorf("%s: %v", v.name, err)
			}
			continue
		}
		refused++
		checkRule(t, v.name, err, v.rule)
		if d != nil {
			t.Errorf("%s: a draft beside an error", v.name)
		}
	}
	if opened < 50 || refused < 100 {
		t.Errorf("%d opened, %d refused", opened, refused)
	}
}

// TestDraftsKeepBytes: opening and writing changes neither what is signed nor,
// for files that this package wrote, anything else.
func TestDraftsKeepBytes(t *testing.T) {
	g := newGenerator(t)
	for object, raw := range g.good {
		d, err := openDraft(object, raw)
		if err != nil {
			t.Fatal(err)
		}
		if string(d.signed) != g.payload[object] || d.Object() != object {
			t.Errorf("%s: signed bytes changed", object)
		}
		if again := draftBytes(t, d); !bytes.Equal(again, raw) {
			t.Errorf("%s changed:\n in %s\nout %s", object, raw, again)
		}
	}
	mirrored := fileEdit("manifest", `{"signatures"`, `{"arch":"x86_64","manifest_version":7,"signatures"`)(g)
	if d, err := OpenManifestDraft(mirrored); err != nil || !bytes.Equal(draftBytes(t, d), mirrored) {
		t.Errorf("readable copies: %v", err)
	}
	foreign := rootEdit(`"version":1`, `"version":1,"x-note":{"b":"\u00e9","a":[true,"\"\\"]}`)(g)
	d, err := OpenRootDraft(foreign)
	if err != nil {
		t.Fatal(err)
	}
	if root, err := ParseRoot(draftBytes(t, d)); err != nil || root.version != 1 {
		t.Errorf("a root with unknown members is not what it was: %v", err)
	}
	if got := d.Unknown(); len(got) != 1 || got[0] != `"x-note"` {
		t.Errorf("unknown: %v", got)
	}
}

func TestUnknownMembersAreShown(t *testing.T) {
	g := newGenerator(t)
	raw := manifestEdit(`"hash":"`+kernelHash, `"also":[1,2],"hash":"`+kernelHash)(g)
	d, err := OpenManifestDraft(raw)
	if err != nil || !slices.Equal(d.Unknown(), []string{`"artifacts.kernel.also"`}) {
		t.Errorf("%v, %v", d.Unknown(), err)
	}
	raw = rootEdit(`"keytype":"ed25519"`, `"hint":1,"keytype":"ed25519"`, `"consistent_snapshot":false`, `"consistent_snapshot":true`)(g)
	root, err := ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Spec(); err == nil || !strings.Contains(err.Error(), `.hint"`) || !strings.Contains(err.Error(), "consistent_snapshot") {
		t.Errorf("a successor would lose members: %v", err)
	}
	bare, err := KeyRoot(public("targets-1")[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bare.Spec(); err == nil {
		t.Error("a bare key has a description")
	}
}

func TestSign(t *testing.T) {
	g := newGenerator(t)
	d, err := OpenManifestDraft(g.good["manifest"])
	if err != nil {
		t.Fatal(err)
	}
	targets := public("targets-1")[0]
	if !d.Signed(targets) || d.Signed(public("targets-3")[0]) || d.Signed(make(ed25519.PublicKey, 32)) || d.Signed(nil) {
		t.Error("who signed is told wrongly")
	}
	id := dsse.KeyID(targets)
	d.signatures[id][0] ^= 1
	if d.Signed(targets) {
		t.Error("a broken signature counts")
	}
	if err := d.Sign(testKey("targets-1")); err != nil || !d.Signed(targets) || len(d.KeyIDs()) != 2 {
		t.Errorf("the broken signature was not replaced: %v", err)
	}
	swapped := append(slices.Clone(testKey("targets-3")[:32]), targets...)
	for name, key := range map[string]ed25519.PrivateKey{"nil": nil, "short": testKey("x")[:63], "halves of two keys": swapped} {
		if err := d.Sign(key); !errors.Is(err, ErrPrivateKey) || len(d.KeyIDs()) != 2 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := len(d.KeyIDs()); i < dsse.MaxSignatures; i++ {
		if err := d.Sign(testKey(strings.Repeat("x", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sign(testKey("one too many")); err == nil || len(d.KeyIDs()) != dsse.MaxSignatures {
		t.Errorf("%d signatures: %v", len(d.KeyIDs()), err)
	}
	if err := d.Sign(testKey("targets-1")); err != nil {
		t.Errorf("a full file cannot be signed again: %v", err)
	}
}

func TestMerge(t *testing.T) {
	g := newGenerator(t)
	open := func(raw []byte) *Draft {
		d, err := OpenManifestDraft(raw)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := open(g.good["manifest"])
	pointer, err := OpenPointerDraft(g.good["pointer"])
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]*Draft{
		"nil": nil, "zero": {}, "other bytes": open(manifestEdit(`"manifest_version":7`, `"manifest_version":8`)(g)), "pointer": pointer,
	} {
		if err := d.Merge(other); !errors.Is(err, ErrOtherDraft) {
			t.Errorf("%s: %v", name, err)
		}
	}
	spoilt := open(manifestSigned("targets-1", "targets-3")(g))
	spoilt.signatures[keyID("targets-1")][0] ^= 1
	if err := d.Merge(spoilt); err == nil || !strings.Contains(err.Error(), keyID("targets-1")) || len(d.KeyIDs()) != 2 {
		t.Errorf("two signatures in one name: %v", err)
	}
	var strangers []string
	for i := range 15 {
		strangers = append(strangers, strings.Repeat("s", i+1))
	}
	before := draftBytes(t, d)
	if err := d.Merge(open(manifestSigned(strangers...)(g))); err == nil || !bytes.Equal(draftBytes(t, d), before) {
		t.Errorf("17 signatures: %v", err)
	}
}

// TestZeroDraftIsUseless: it neither signs nor panics.
func TestZeroDraftIsUseless(t *testing.T) {
	var d Draft
	if err := d.Sign(testKey("a")); err == nil {
		t.Error("a zero Draft was signed")
	}
	if raw, err := d.Bytes(); err == nil {
		t.Errorf("a zero Draft has bytes: %s", raw)
	}
	if d.Signed(public("a")[0]) || len(d.KeyIDs()) != 0 || d.Spec().Version != 0 || d.Manifest().ManifestVersion != 0 || d.Pointer().RootVersion != 0 {
		t.Error("a zero Draft says something")
	}
}

// TestDraftsAreCopies: what a person is shown is what is signed, whatever the
// caller does with it or with the bytes of the file.
func TestDraftsAreCopies(t *testing.T) {
	g := newGenerator(t)
	for object, raw := range g.good {
		file := bytes.Clone(raw)
		d, err := openDraft(object, file)
		if err != nil {
			t.Fatal(err)
		}
		clear(file)
		if object == "manifest" {
			d.Manifest().Kernel.URLs[0] = "x"
			if d.Manifest().Kernel.URLs[0] == "x" {
				t.Error("the manifest changed")
			}
		}
		if object == "root" {
			clear(d.Spec().Roles[RoleRoot].Keys[0])
			if !d.Spec().Roles[RoleRoot].Keys[0].Equal(public("root-1")[0]) {
				t.Error("the root changed")
			}
		}
		if again := draftBytes(t, d); !bytes.Equal(again, raw) {
			t.Errorf("%s shares memory with the file", object)
		}
	}
	root := testRoot(t)
	keys, _ := root.Keys(RoleTargets)
	clear(keys.Keys[0])
	if _, err := verifyManifest(g.good["manifest"], root, wantTest, Floor{}, nil, now); err != nil {
		t.Errorf("the root's keys were changed from outside: %v", err)
	}
}

func TestDraftRootRefuses(t *testing.T) {
	for name, edit := range map[string]func(*RootSpec){
		"channel that does not exist":    func(s *RootSpec) { s.Channels = map[string]RoleKeys{"stabel": {public("x"), 1}} },
		"floor of a channel that is not": func(s *RootSpec) { s.Floors = map[string]FloorReset{"stabel": {1, 1}} },
		"floor by a later root":          func(s *RootSpec) { s.Floors = map[string]FloorReset{ChannelStable: {2, 1}} },
		"key shared with a channel":      func(s *RootSpec) { s.Channels = map[string]RoleKeys{ChannelTesting: {public("timestamp"), 1}} },
		"weak key": func(s *RootSpec) {
			s.Channels = map[string]RoleKeys{ChannelTesting: {[]ed25519.PublicKey{make([]byte, 32)}, 1}}
		},
		"no version":                          func(s *RootSpec) { s.Version = 0 },
		"no expiry":                           func(s *RootSpec) { s.Expires = s.Expires.AddDate(-3000, 0, 0) },
		"no timestamp role":                   func(s *RootSpec) { delete(s.Roles, RoleTimestamp) },
		"threshold that cannot be met":        func(s *RootSpec) { s.Roles[RoleTargets] = RoleKeys{public("targets-1"), 2} },
		"threshold of zero":                   func(s *RootSpec) { s.Roles[RoleTargets] = RoleKeys{public("targets-1"), 0} },
		"floor version that JSON cannot hold": func(s *RootSpec) { s.Floors = map[string]FloorReset{ChannelStable: {1, 1 << 53}} },
	} {
		spec := testRootSpec()
		edit(&spec)
		if d, err := DraftRoot(spec); err == nil || d != nil {
			t.Errorf("%s: drafted", name)
		}
	}
}
