package manifest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"strings"
)

var rootVectors = []vector{
	// Accepted.
	{name: "root-ok", item: 0, make: fileWith("root", "", "")},
	{name: "root-ok-indented", item: 0, make: func(g *generator) []byte {
		var out bytes.Buffer
		if err := json.Indent(&out, g.good["root"], "", " "); err != nil {
			g.t.Fatal(err)
		}
		return out.Bytes()
	}},
	{name: "root-ok-unknown-members", item: 16, make: rootEdit(`"version":1`, `"version":1,"x-note":{"b":"\u00e9","a":[true,"\"\\"]}`)},
	{name: "root-ok-snapshot-key", item: 0, make: rootSpec(func(s *RootSpec) { s.Roles[RoleSnapshot] = RoleKeys{public("snapshot"), 1} })},
	{name: "root-ok-unused-key", item: 0, make: rootEdit(`"keys":{`, `"keys":{"`+keyID("unused")+`":{"keytype":"ed25519","keyval":{"public":"`+hex.EncodeToString(public("unused")[0])+`"},"scheme":"ed25519"},`)},

	// Mirrored fields.
	{name: "manifest-mirrored-differs", item: 1, rule: RuleMirrored, make: fileEdit("manifest", `{"signatures"`, `{"manifest_version":8,"signatures"`)},
	{name: "manifest-mirrored-nested-differs", item: 1, rule: RuleMirrored, make: fileEdit("manifest", `{"signatures"`, `{"artifacts":{},"signatures"`)},
	{name: "manifest-mirrored-not-signed", item: 1, rule: RuleMirrored, make: fileEdit("manifest", `{"signatures"`, `{"comment":"hello","signatures"`)},
	{name: "manifest-mirrored-other-case", item: 3, rule: RuleMirrored, make: fileEdit("manifest", `{"signatures"`, `{"MANIFEST_VERSION":7,"signatures"`)},
	{name: "pointer-mirrored-differs", item: 1, rule: RuleMirrored, make: fileEdit("pointer", `{"signatures"`, `{"manifest_version":8,"signatures"`)},

	// Duplicate and look-alike names.
	{name: "manifest-duplicate-in-envelope", item: 2, rule: RuleMalformed, make: fileEdit("manifest", `{"signatures":`, `{"signatures":[],"signatures":`)},
	{name: "manifest-duplicate-signed", item: 2, rule: RuleMalformed, make: fileEdit("manifest", `"signed":{`, `"signed":{"data":"e30=",`)},
	{name: "manifest-duplicate-in-payload", item: 2, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7,"manifest_version":8`)},

	// Roots.
	{name: "root-below-own-threshold", item: 17, rule: RuleSignature, make: func(g *generator) []byte { return g.signRoot(g.payload["root"], "root-1") }},
	{name: "root-by-targets", item: 17, rule: RuleSignature, make: func(g *generator) []byte { return g.signRoot(g.payload["root"], "targets-1", "targets-2") }},
	{name: "root-unsigned", item: 17, rule: RuleSignature, make: func(g *generator) []byte { return g.signRoot(g.payload["root"]) }},
	{name: "root-one-signature-twice", item: 17, rule: RuleMalformed, make: func(g *generator) []byte { return g.signRoot(g.payload["root"], "root-1", "root-1") }},
	{name: "root-changed", item: 17, rule: RuleSignature, make: fileEdit("root", `"version":1`, `"version":2`)},
	{name: "root-unknown-member-changed", item: 17, rule: RuleSignature, make: fileEdit("root", `"version":1`, `"version":1,"x":1`)},
	{name: "root-threshold-0", item: 17, rule: RuleMalformed, make: rootEdit(`"threshold":2`, `"threshold":0`)},
	{name: "root-threshold-negative", item: 17, rule: RuleMalformed, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{public("timestamp"), -1} })},
	{name: "root-threshold-unreachable", item: 17, rule: RuleMalformed, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{public("timestamp"), 2} })},
	{name: "root-role-without-keys", item: 17, rule: RuleMalformed, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{nil, 1} })},
	{name: "root-snapshot-unreachable", item: 17, rule: RuleMalformed, make: rootSpec(func(s *RootSpec) { s.Roles[RoleSnapshot] = RoleKeys{public("snapshot"), 2} })},
	{name: "root-key-in-two-roles", item: 17, rule: RuleKey, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{public("targets-1"), 1} })},
	{name: "root-snapshot-shares-a-key", item: 17, rule: RuleKey, make: rootSpec(func(s *RootSpec) { s.Roles[RoleSnapshot] = RoleKeys{public("timestamp"), 1} })},
	{name: "root-key-twice-in-role", item: 17, rule: RuleKey, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{public("timestamp", "timestamp"), 2} })},
	{name: "root-key-under-two-ids", item: 17, rule: RuleKey, make: rootEdit(`"keys":{`, `"keys":{"`+strings.Repeat("0", 64)+`":{"keytype":"ed25519","keyval":{"public":"`+hex.EncodeToString(public("root-1")[0])+`"},"scheme":"ed25519"},`)},
	{name: "root-key-unknown", item: 17, rule: RuleMalformed, make: rootEdit(`"keyids":[`, `"keyids":["`+strings.Repeat("0", 64)+`",`)},
	{name: "root-key-identity-point", item: 18, rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{point("01" + strings.Repeat("00", 31))}, 1}
	})},
	{name: "root-key-order-8", item: 18, rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{point("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85")}, 1}
	})},
	{name: "root-key-not-canonical", item: 18, rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{point("f0" + strings.Repeat("ff", 30) + "7f")}, 1}
	})},
	{name: "root-key-not-a-point", item: 18, rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{point("02" + strings.Repeat("00", 31))}, 1}
	})},
	{name: "root-key-short", item: 18, rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{public("timestamp")[0][:31]}, 1}
	})},
	{name: "root-key-type-rsa", item: 17, rule: RuleKey, make: rootEdit(`"keytype":"ed25519"`, `"keytype":"rsa"`)},
	{name: "root-key-upper-case", item: 3, rule: RuleKey, make: func(g *generator) []byte {
		digits := hex.EncodeToString(public("timestamp")[0])
		return rootEdit(digits, strings.ToUpper(digits))(g)
	}},
	{name: "root-version-0", item: 4, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":0`)},
	{name: "root-version-fraction", item: 4, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1.0`)},
	{name: "root-spec-2", item: 16, rule: RuleSchema, make: rootEdit(`"spec_version":"1.0.34"`, `"spec_version":"2.0.0"`)},
	{name: "root-is-targets", item: 6, rule: RuleMalformed, make: rootEdit(`"_type":"root"`, `"_type":"targets"`)},
	{name: "root-expires-missing", item: 6, rule: RuleMalformed, make: rootEdit(`"expires":"2027-03-01T12:00:00Z",`, ``)},
	{name: "root-expires-year-9999", item: 13, rule: RuleMalformed, make: rootEdit(`"expires":"2027`, `"expires":"9999`)},
	{name: "root-role-missing", item: 6, rule: RuleMalformed, make: rootEdit(`"timestamp":{"keyids"`, `"timestomp":{"keyids"`)},
	{name: "root-duplicate", item: 2, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"version":2`)},
	{name: "root-control-character", item: 5, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"x":"\n"`)},
	{name: "root-null", item: 6, rule: RuleMalformed, make: rootEdit(`"consistent_snapshot":false`, `"consistent_snapshot":null`)},
	{name: "root-trailing-bytes", item: 6, rule: RuleMalformed, make: fileWith("root", "", "x")},
	{name: "root-unknown-beside-signed", item: 3, rule: RuleMalformed, make: fileEdit("root", `{"signatures"`, `{"also":1,"signatures"`)},
	{name: "root-signature-upper-case", item: 3, rule: RuleMalformed, make: func(g *generator) []byte {
		sig := hex.EncodeToString(ed25519.Sign(testKey("root-1"), []byte(g.payload["root"])))
		return []byte(g.replace(string(g.good["root"]), sig, strings.ToUpper(sig)))
	}},
	{name: "root-case-beside", item: 3, rule: RuleMalformed, make: rootEdit(`"version":1`, `"VERSION":9,"version":1`)},
	{name: "root-case-beside-keyids", item: 3, rule: RuleMalformed, make: rootEdit(`"keyids":[`, `"KeyIDs":[],"keyids":[`)},
	{name: "root-case-beside-keyval", item: 3, rule: RuleMalformed, make: rootEdit(`"keyval":{`, `"KEYVAL":{},"keyval":{`)},
	{name: "root-case-beside-public", item: 3, rule: RuleMalformed, make: rootEdit(`"keyval":{`, `"keyval":{"Public":"",`)},
	{name: "root-case-of-our-member", item: 3, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"X-Phase-Floors":{}`)},
	{name: "root-long-s", item: 3, rule: RuleMalformed, make: rootEdit(`"version":1`, `"ver`+"\u017f"+`ion":9,"version":1`)},
	{name: "root-kelvin-sign", item: 3, rule: RuleMalformed, make: rootEdit(`"keys":{`, `"keys":{"`+keyID("unused")+`":{"keytype":"ed25519","keyval":{"public":"`+hex.EncodeToString(public("unused")[0])+`"},"scheme":"ed25519","`+"\u212a"+`eytype":"rsa"},`)},
	{name: "root-ok-unknown-member-of-others", item: 16, make: rootEdit(`"keyids":[`, `"x-tuf-on-ci-expiry-period":365,"_note.1":{"A":1},"keyids":[`)},
	{name: "root-unknown-member-65-letters", item: 16, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"`+strings.Repeat("x", 65)+`":1`)},
	{name: "root-consistent-snapshot-missing", item: 3, rule: RuleMalformed, make: rootEdit(`"consistent_snapshot":false,`, ``)},
	{name: "root-keyids-missing", item: 3, rule: RuleMalformed, make: rootEdit(`"snapshot":{"keyids":[],`, `"snapshot":{`)},
	{name: "root-signature-without-keyid", item: 3, rule: RuleMalformed, make: fileEdit("root", `{"keyid":"`, `{"sig":"00"},{"keyid":"`)},
	{name: "root-signature-without-sig", item: 3, rule: RuleMalformed, make: fileEdit("root", `{"keyid":"`, `{"keyid":"`+keyID("stranger")+`"},{"keyid":"`)},
	{name: "root-deep", item: 7, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"x":`+strings.Repeat("[", 200)+strings.Repeat("]", 200))},

	// Channels with keys of their own.
	{name: "root-ok-channels", item: 21, make: goodRoot(testChannels)},
	{name: "root-ok-channels-empty", item: 21, make: rootEdit(`"version":1`, `"version":1,"x-phase-channels":{},"x-phase-floors":{}`)},
	{name: "root-ok-channel-of-the-future", item: 16, make: rootSpec(func(s *RootSpec) {
		s.Channels = map[string]RoleKeys{"lts-2": {public("testing-1"), 1}}
	})},
	{name: "root-channel-shares-a-key-with-targets", item: 17, rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Channels = map[string]RoleKeys{ChannelTesting: {public("targets-1"), 1}}
	})},
	{name: "root-channel-shares-a-key-with-root", item: 17, rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Channels = map[string]RoleKeys{ChannelTesting: {public("root-1"), 1}}
	})},
	{name: "root-two-channels-share-a-key", item: 17, rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Channels = map[string]RoleKeys{ChannelTesting: {public("testing-1"), 1}, ChannelNightly: {public("testing-1"), 1}}
	})},
	{name: "root-channel-threshold-0", item: 17, rule: RuleMalformed, make: rootSpec(func(s *RootSpec) {
		s.Channels = map[string]RoleKeys{ChannelTesting: {public("testing-1"), 0}}
	})},
	{name: "root-channel-threshold-unreachable", item: 17, rule: RuleMalformed, make: rootSpec(func(s *RootSpec) {
		s.Channels = map[string]RoleKeys{ChannelTesting: {public("testing-1"), 2}}
	})},
	{name: "root-channel-without-keys", item: 17, rule: RuleMalformed, make: rootSpec(func(s *RootSpec) {
		s.Channels = map[string]RoleKeys{ChannelTesting: {nil, 1}}
	})},
	{name: "root-channel-key-unknown", item: 17, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"x-phase-channels":{"testing":{"keyids":["`+strings.Repeat("0", 64)+`"],"threshold":1}}`)},
	{name: "root-channel-name-upper-case", item: 3, rule: RuleMalformed, make: rootSpec(func(s *RootSpec) {
		s.Channels = map[string]RoleKeys{"Testing": {public("testing-1"), 1}}
	})},
	{name: "root-channel-unknown-member", item: 16, rule: RuleMalformed, make: func(g *generator) []byte {
		g.t.Helper()
		text := g.rootText(testChannels)
		return g.signRoot(g.replace(text, `"x-phase-channels":{"testing":{`, `"x-phase-channels":{"testing":{"arch":"arm64",`), "root-1", "root-2")
	}},

	// Floors that a root sets anew.
	{name: "root-ok-floor-reset", item: 24, make: goodRoot(resetFloor(ChannelStable, 3, 7))},
	{name: "root-ok-floor-reset-to-8", item: 24, make: goodRoot(resetFloor(ChannelStable, 3, 8))},
	{name: "root-ok-floor-reset-of-testing", item: 24, make: goodRoot(resetFloor(ChannelTesting, 3, 7))},
	{name: "root-floor-reset-by-a-later-root", item: 24, rule: RuleMalformed, make: rootSpec(resetFloor(ChannelStable, 4, 7))},
	{name: "root-floor-reset-by-root-0", item: 24, rule: RuleMalformed, make: rootSpec(resetFloor(ChannelStable, 0, 7))},
	{name: "root-floor-reset-to-0", item: 24, rule: RuleMalformed, make: rootSpec(resetFloor(ChannelStable, 3, 0))},
	{name: "root-floor-reset-without-version", item: 24, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"x-phase-floors":{"stable":{"root":1}}`)},
	{name: "root-floor-reset-unknown-member", item: 16, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"x-phase-floors":{"stable":{"arch":"arm64","root":1,"version":7}}`)},
	{name: "root-floor-reset-fraction", item: 4, rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"x-phase-floors":{"stable":{"root":1,"version":7.0}}`)},

	// Others' needs.
	{name: "root-ok-expires-soon", item: 20, make: goodRoot(func(s *RootSpec) { s.Expires = now.AddDate(0, 0, 1) })},
	{name: "root-ok-expired", item: 20, make: goodRoot(func(s *RootSpec) { s.Expires = now.AddDate(0, 0, -1) })},
	{name: "root-131073-bytes", item: 7, rule: RuleSize, make: func(g *generator) []byte {
		return append(bytes.Clone(g.good["root"]), bytes.Repeat([]byte(" "), MaxRootBytes+1-len(g.good["root"]))...)
	}},
}
