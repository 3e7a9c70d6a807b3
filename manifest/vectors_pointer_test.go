package manifest

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

var pointerVectors = []vector{
	// Accepted.
	{name: "pointer-ok", item: 0, make: fileWith("pointer", "", "")},
	{name: "pointer-ok-unknown-member", item: 16, make: pointerEdit(`"version":"0.1"`, `"version":"0.9","witness":"x"`)},

	// Pointers.
	{name: "pointer-unsigned", item: 17, rule: RuleSignature, make: func(g *generator) []byte {
		raw := string(g.good["pointer"])
		return []byte(`{"signatures":[],` + raw[strings.Index(raw, `"signed"`):])
	}},
	{name: "pointer-by-targets", item: 21, rule: RuleSignature, make: func(g *generator) []byte {
		return g.seal(kindPointer, g.payload["pointer"], "targets-1", "targets-2")
	}},
	{name: "pointer-is-a-manifest", item: 21, rule: RuleSignature, make: func(g *generator) []byte {
		return g.seal(kindManifest, g.payload["manifest"], "timestamp")
	}},
	{name: "pointer-other-product", item: 22, rule: RuleProduct, make: pointerEdit(`"phase-boot"`, `"phase-toaster"`)},
	{name: "pointer-no-product", item: 22, rule: RuleMalformed, make: pointerEdit(`"product":"phase-boot",`, ``)},
	{name: "pointer-other-channel", item: 22, rule: RuleChannel, make: pointerEdit(`"channel":"stable"`, `"channel":"testing"`)},
	{name: "pointer-other-arch", item: 22, rule: RuleArch, make: pointerEdit(`"arch":"x86_64"`, `"arch":"arm64"`)},
	{name: "pointer-expired", item: 27, rule: RuleExpired, make: fileWith("pointer", "", ""), at: now.AddDate(0, 0, 7)},
	{name: "pointer-from-the-future", item: 27, rule: RuleFuture, make: fileWith("pointer", "", ""), at: now.AddDate(0, 0, -1)},
	{name: "pointer-version-0", item: 4, rule: RuleMalformed, make: pointerEdit(`"manifest_version":7`, `"manifest_version":0`)},
	{name: "pointer-root-version-0", item: 4, rule: RuleMalformed, make: pointerEdit(`"root_version":1`, `"root_version":0`)},
	{name: "pointer-size-0", item: 12, rule: RulePolicy, make: func(g *generator) []byte {
		return pointerEdit(fmt.Sprintf(`"manifest_size":%d`, len(g.good["manifest"])), `"manifest_size":0`)(g)
	}},
	{name: "pointer-size-above-cap", item: 12, rule: RulePolicy, make: func(g *generator) []byte {
		return pointerEdit(fmt.Sprintf(`"manifest_size":%d`, len(g.good["manifest"])), `"manifest_size":65537`)(g)
	}},
	{name: "pointer-hash-missing", item: 11, rule: RuleMalformed, make: pointerEdit(`"manifest_hash"`, `"manifest_hush"`)},
	{name: "pointer-url-file", item: 14, rule: RulePolicy, make: pointerEdit(`"http://10.0.2.2:8080`, `"file://10.0.2.2:8080`)},
	{name: "pointer-duplicate", item: 2, rule: RuleMalformed, make: pointerEdit(`"root_version":1`, `"root_version":1,"root_version":2`)},
	{name: "pointer-not-canonical", item: 9, rule: RuleMalformed, make: pointerEdit(`"root_version":1`, `"root_version": 1`)},
	{name: "pointer-major-1", item: 16, rule: RuleSchema, make: pointerEdit(`"version":"0.1"`, `"version":"1.0"`)},
	{name: "pointer-created-after-expires", item: 13, rule: RulePolicy, make: pointerEdit(`"created_at":"2026-03-01T11:00`, `"created_at":"2026-03-08T12:05`), at: now.AddDate(0, 0, 7).Add(-time.Minute)},

	// Lives, and the root they were made under.
	{name: "pointer-ok-life-14-days", item: 13, make: pointerEdit(`"expires_at":"2026-03-08T12`, `"expires_at":"2026-03-15T11`)},
	{name: "pointer-life-14-days-and-a-second", item: 13, rule: RulePolicy, make: pointerEdit(`"expires_at":"2026-03-08T12:00:00`, `"expires_at":"2026-03-15T11:00:01`)},
	{name: "pointer-expires-year-9999", item: 13, rule: RuleMalformed, make: pointerEdit(`"expires_at":"2026`, `"expires_at":"9999`)},
	{name: "pointer-root-version-ahead", item: 19, rule: RuleRootVersion, make: pointerEdit(`"root_version":1`, `"root_version":2`)},
	{name: "pointer-ok-older-root-version", item: 19, make: fileWith("pointer", "", ""), root: "root-ok-floor-reset"},
	{name: "pointer-under-expired-root", item: 20, rule: RuleExpired, object: "root", make: fileWith("pointer", "", ""), root: "root-ok-expires-soon", at: now.AddDate(0, 0, 1)},
	{name: "pointer-made-after-the-root", item: 20, rule: RuleExpired, object: "root", make: pointerEdit(`"created_at":"2026-03-01T11`, `"created_at":"2026-03-02T12`), root: "root-ok-expires-soon"},
	{name: "pointer-made-25-years-after-the-root", item: 20, rule: RuleExpired, object: "root", make: pointerEdit(`"created_at":"2026-03-01T11:00:00Z","expires_at":"2026`, `"created_at":"2051-03-01T11:00:00Z","expires_at":"2051`)},
	{name: "pointer-from-the-last-second-of-the-root", item: 27, rule: RuleFuture, make: pointerEdit(`"created_at":"2026-03-01T11:00:00`, `"created_at":"2026-03-02T11:59:59`), root: "root-ok-expires-soon"},
	{name: "pointer-2049-bytes", item: 7, rule: RuleSize, make: func(g *generator) []byte {
		return append(bytes.Clone(g.good["pointer"]), bytes.Repeat([]byte(" "), MaxPointerBytes+1-len(g.good["pointer"]))...)
	}},
	{name: "pointer-by-channel-keys", item: 21, rule: RuleSignature, make: func(g *generator) []byte {
		return g.seal(kindPointer, g.payload["pointer"], "testing-1", "testing-2")
	}, root: "root-ok-channels"},
}
