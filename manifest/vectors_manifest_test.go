package manifest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

var manifestVectors = []vector{
	// Accepted.
	{name: "manifest-ok", item: 0, make: fileWith("manifest", "", "")},
	{name: "manifest-ok-white-space-around-envelope", item: 0, make: fileWith("manifest", " \n", "\n")},
	{name: "manifest-ok-all-keys", item: 0, make: manifestSigned("targets-1", "targets-2", "targets-3")},
	{name: "manifest-ok-strangers-signature-beside", item: 17, make: manifestSigned("stranger", "targets-3", "targets-1")},
	{name: "manifest-ok-unknown-member", item: 16, make: manifestEdit(`"version":"0.1"`, `"version":"0.2","zone":{"A":[1]}`)},
	{name: "manifest-ok-unknown-member-of-artifact", item: 16, make: manifestEdit(`"hash":"`+kernelHash, `"also":[1,2],"hash":"`+kernelHash)},
	{name: "manifest-ok-no-product", item: 0, make: manifestEdit(`"product":"phase-boot",`, ``)},
	{name: "manifest-ok-no-rootfs", item: 0, make: manifestPayload(func(p string) string {
		i := strings.Index(p, `,"rootfs":`)
		j := i + strings.Index(p[i:], `]}`) + len(`]}`)
		return p[:i] + p[j:]
	})},
	{name: "manifest-ok-newer-than-floor", item: 23, make: fileWith("manifest", "", ""), floor: older},
	{name: "manifest-ok-floor-without-digest", item: 23, make: fileWith("manifest", "", ""), floor: Floor{ManifestVersion: 7}},
	{name: "manifest-ok-named-by-pointer", item: 23, make: fileWith("manifest", "", ""), ptr: true},
	{name: "manifest-ok-mirrored", item: 1, make: fileEdit("manifest", `{"signatures"`, `{ "arch" : "x86\u005f64" , "manifest_version":7,"signatures"`)},
	{name: "manifest-ok-last-second", item: 27, make: fileWith("manifest", "", ""), at: now.AddDate(0, 3, 0).Add(-time.Second)},
	{name: "manifest-ok-clock-a-little-behind", item: 27, make: fileWith("manifest", "", ""), at: now.AddDate(0, 0, -1).Add(-MaxSkew)},
	{name: "manifest-ok-any-product-line", item: 0, make: fileWith("manifest", "", ""), want: Want{Any, Any}},
	{name: "manifest-duplicate-escaped", item: 2, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7,"manifest_\u0076ersion":8`)},
	{name: "manifest-case-replaced", item: 3, rule: RuleMalformed, make: manifestEdit(`"manifest_version"`, `"MANIFEST_VERSION"`)},
	{name: "manifest-case-beside", item: 3, rule: RuleMalformed, make: manifestPayload(func(p string) string { return `{"MANIFEST_VERSION":9,` + p[1:] })},
	{name: "manifest-long-s", item: 3, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7,"manife`+"\u017f"+`t_version":8`)},
	{name: "manifest-case-in-artifact", item: 3, rule: RuleMalformed, make: manifestEdit(`"hash":"`+kernelHash, `"Size":1,"hash":"`+kernelHash)},
	{name: "manifest-unknown-beside-data", item: 3, rule: RuleMalformed, make: fileEdit("manifest", `"}}`, `","also":1}}`)},
	{name: "manifest-unknown-in-signature", item: 3, rule: RuleMalformed, make: fileEdit("manifest", `{"keyid"`, `{"cert":1,"keyid"`)},

	// Numbers.
	{name: "manifest-version-0", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":0`)},
	{name: "manifest-version-negative", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":-1`)},
	{name: "manifest-version-fraction", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7.0`)},
	{name: "manifest-version-exponent", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7e0`)},
	{name: "manifest-version-2-53", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":9007199254740992`)},
	{name: "manifest-version-2-64", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":18446744073709551623`)},
	{name: "manifest-version-string", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":"7"`)},
	{name: "manifest-version-null", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":null`)},
	{name: "manifest-version-missing", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7,`, ``)},
	{name: "manifest-version-leading-zero", item: 4, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":07`)},
	{name: "manifest-mirrored-fraction", item: 4, rule: RuleMalformed, make: fileEdit("manifest", `{"signatures"`, `{"manifest_version":7.0,"signatures"`)},

	// Text.
	{name: "manifest-invalid-utf8", item: 5, rule: RuleMalformed, make: withCmdline("\"a\xff\"")},
	{name: "manifest-invalid-utf8-in-envelope", item: 5, rule: RuleMalformed, make: fileEdit("manifest", `{"signatures"`, "{\"arch\":\"x86_64\xff\",\"signatures\"")},
	{name: "manifest-lone-surrogate", item: 5, rule: RuleMalformed, make: withCmdline(`"\ud800"`)},
	{name: "manifest-escaped-nul", item: 5, rule: RulePolicy, make: withCmdline(`"a\u0000b"`)},
	{name: "manifest-byte-order-mark", item: 6, rule: RuleMalformed, make: fileWith("manifest", "\ufeff", "")},
	{name: "manifest-byte-order-mark-in-payload", item: 6, rule: RuleMalformed, make: manifestPayload(func(p string) string { return "\ufeff" + p })},
	{name: "manifest-trailing-bytes", item: 6, rule: RuleMalformed, make: fileWith("manifest", "", "x")},
	{name: "manifest-trailing-nul", item: 6, rule: RuleMalformed, make: fileWith("manifest", "", "\x00")},
	{name: "manifest-two-documents", item: 6, rule: RuleMalformed, make: func(g *generator) []byte { return append(bytes.Clone(g.good["manifest"]), g.good["manifest"]...) }},
	{name: "manifest-two-payloads", item: 6, rule: RuleMalformed, make: manifestPayload(func(p string) string { return p + p })},
	{name: "manifest-truncated", item: 6, rule: RuleMalformed, make: func(g *generator) []byte { return g.good["manifest"][:len(g.good["manifest"])-1] }},
	{name: "manifest-payload-not-json", item: 6, rule: RuleMalformed, make: manifestPayload(func(string) string { return "hello" })},
	{name: "manifest-payload-empty", item: 6, rule: RuleMalformed, make: manifestPayload(func(string) string { return "" })},
	{name: "manifest-payload-null", item: 6, rule: RuleMalformed, make: manifestPayload(func(string) string { return "null" })},
	{name: "manifest-payload-array", item: 6, rule: RuleMalformed, make: manifestPayload(func(p string) string { return "[" + p + "]" })},
	{name: "manifest-empty-file", item: 6, rule: RuleMalformed, make: func(*generator) []byte { return nil }},
	{name: "manifest-is-a-web-page", item: 6, rule: RuleMalformed, make: func(*generator) []byte { return []byte("<!DOCTYPE html><title>Log in</title>\n") }},

	// Size, depth, counts.
	{name: "manifest-deep", item: 7, rule: RuleMalformed, make: manifestEdit(`"version":"0.1"`, `"version":"0.1","x":`+strings.Repeat("[", 10_001)+strings.Repeat("]", 10_001))},
	{name: "manifest-deep-envelope", item: 7, rule: RuleMalformed, make: fileEdit("manifest", `{"signatures"`, `{"x":`+strings.Repeat("[", 10_001)+strings.Repeat("]", 10_001)+`,"signatures"`)},
	{name: "manifest-17-urls", item: 7, rule: RulePolicy, make: manifestEdit(theURL, urls(17))},
	{name: "manifest-17-signatures", item: 7, rule: RuleMalformed, make: func(g *generator) []byte {
		names := []string{"targets-1", "targets-2"}
		for i := range 15 {
			names = append(names, fmt.Sprint("stranger ", i))
		}
		var list []wireSignature
		for _, key := range private(names...) {
			s := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), key)
			list = append(list, wireSignature{s.KeyID, s.Sig})
		}
		raw, err := strictjson.MarshalCanonical(map[string]any{"signed": wireSigned{[]byte(g.payload["manifest"])}, "signatures": list})
		if err != nil {
			g.t.Fatal(err)
		}
		return raw
	}},

	// Base64.
	{name: "manifest-base64-newline", item: 8, rule: RuleMalformed, make: fileEdit("manifest", `"data":"eyJh`, `"data":"eyJh\n`)},
	{name: "manifest-base64-no-padding", item: 8, rule: RuleMalformed, make: fileEdit("manifest", `=="}`, `"}`)},
	{name: "manifest-base64-stray-bits", item: 8, rule: RuleMalformed, make: func(g *generator) []byte {
		// The last quantum of a 64-byte signature holds one byte, "xx==": the
		// four lowest bits of its second letter are unused and must be zero.
		i := bytes.Index(g.good["manifest"], []byte(`=="`))
		raw := bytes.Clone(g.good["manifest"])
		raw[i-1]++
		return raw
	}},
	{name: "manifest-base64-url-alphabet", item: 8, rule: RuleMalformed, make: func(g *generator) []byte {
		sig := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), testKey("targets-1")).Sig
		text := base64.StdEncoding.EncodeToString(sig)
		return []byte(g.replace(string(g.good["manifest"]), text, base64.URLEncoding.EncodeToString(sig)))
	}},
	{name: "manifest-data-not-string", item: 8, rule: RuleMalformed, make: func(g *generator) []byte {
		return []byte(`{"signatures":[],"signed":{"data":` + g.payload["manifest"] + `}}`)
	}},

	// Signed, but not in the one form.
	{name: "manifest-not-canonical-space", item: 9, rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version": 7`)},
	{name: "manifest-not-canonical-order", item: 9, rule: RuleMalformed, make: manifestPayload(func(p string) string { return `{"version":"0.1",` + strings.Replace(p[1:], `,"version":"0.1"`, "", 1) })},
	{name: "manifest-not-canonical-escape", item: 9, rule: RuleMalformed, make: withCmdline(`"\u0061"`)},
	{name: "manifest-not-canonical-empty-member", item: 9, rule: RuleMalformed, make: withCmdline(`""`)},
	{name: "manifest-not-canonical-newline", item: 9, rule: RuleMalformed, make: manifestPayload(func(p string) string { return p + "\n" })},

	// Hashes, sizes, times.
	{name: "manifest-hash-upper-case", item: 11, rule: RuleMalformed, make: manifestEdit(kernelHash, "sha256:"+strings.ToUpper(kernelHash[7:]))},
	{name: "manifest-hash-other-algorithm", item: 11, rule: RuleMalformed, make: manifestEdit(kernelHash, "sha512:"+kernelHash[7:])},
	{name: "manifest-hash-63-digits", item: 11, rule: RuleMalformed, make: manifestEdit(kernelHash, kernelHash[:70])},
	{name: "manifest-hash-bare", item: 11, rule: RuleMalformed, make: manifestEdit(kernelHash, kernelHash[7:])},
	{name: "manifest-hash-zeros", item: 11, rule: RuleMalformed, make: manifestEdit(kernelHash, "sha256:"+strings.Repeat("0", 64))},
	{name: "manifest-hash-missing", item: 11, rule: RuleMalformed, make: manifestEdit(`"hash":"`+kernelHash+`",`, "")},
	{name: "manifest-kernel-missing", item: 11, rule: RuleMalformed, make: manifestEdit(`"kernel":{`, `"kernels":{`)},
	{name: "manifest-artifacts-missing", item: 11, rule: RuleMalformed, make: manifestEdit(`"artifacts":{`, `"artefacts":{`)},
	{name: "manifest-urls-missing", item: 11, rule: RuleMalformed, make: manifestEdit(`,"urls":[`+theURL+`]`, "")},
	{name: "manifest-size-0", item: 12, rule: RulePolicy, make: manifestEdit(`"size":6`, `"size":0`)},
	{name: "manifest-size-negative", item: 12, rule: RulePolicy, make: manifestEdit(`"size":6`, `"size":-6`)},
	{name: "manifest-kernel-too-large", item: 12, rule: RulePolicy, make: manifestEdit(`"size":6,"urls":[`+theURL, `"size":536870913,"urls":[`+theURL)},
	{name: "manifest-initramfs-too-large", item: 12, rule: RulePolicy, make: manifestEdit(`"size":9`, `"size":536870913`)},
	{name: "manifest-rootfs-too-large", item: 12, rule: RulePolicy, make: manifestEdit(`"size":6,"urls":[]`, `"size":8589934593,"urls":[]`)},
	{name: "manifest-size-overflow", item: 12, rule: RulePolicy, make: manifestEdit(`"size":6,"urls":[]`, `"size":9007199254740991,"urls":[]`)},
	{name: "manifest-dtb-too-large", item: 12, rule: RulePolicy, make: manifestEdit(`"size":3`, `"size":16777217`)},
	{name: "manifest-created-after-expires", item: 13, rule: RulePolicy, make: manifestEdit(`"created_at":"2026-02-28T12:00`, `"created_at":"2026-06-01T12:05`), at: now.AddDate(0, 3, 0).Add(-time.Minute)},
	{name: "manifest-year-0", item: 13, rule: RuleMalformed, make: manifestEdit(`"created_at":"2026`, `"created_at":"0000`)},
	{name: "manifest-year-9999", item: 13, rule: RuleMalformed, make: manifestEdit(`"expires_at":"2026`, `"expires_at":"9999`)},
	{name: "manifest-time-zone", item: 13, rule: RuleMalformed, make: manifestEdit(`T12:00:00Z","expires_at"`, `T12:00:00+00:00","expires_at"`)},
	{name: "manifest-time-fraction", item: 13, rule: RuleMalformed, make: manifestEdit(`T12:00:00Z","expires_at"`, `T12:00:00.5Z","expires_at"`)},
	{name: "manifest-time-february-30", item: 13, rule: RuleMalformed, make: manifestEdit(`"created_at":"2026-02-28`, `"created_at":"2026-02-30`)},
	{name: "manifest-expiry-missing", item: 13, rule: RuleMalformed, make: manifestEdit(`"expires_at":"2026-06-01T12:00:00Z",`, "")},

	// What may be asked for.
	{name: "manifest-channel-composed", item: 10, rule: RuleChannel, make: manifestEdit(`"channel":"stable"`, "\"channel\":\"st\u00e1ble\"")},
	{name: "manifest-channel-decomposed", item: 10, rule: RuleChannel, make: manifestEdit(`"channel":"stable"`, "\"channel\":\"sta\u0301ble\"")},
	{name: "manifest-channel-unknown", item: 10, rule: RulePolicy, make: manifestEdit(`"channel":"stable"`, `"channel":"beta"`), want: Want{Any, Any}},
	{name: "manifest-channel-any", item: 10, rule: RulePolicy, make: manifestEdit(`"channel":"stable"`, `"channel":"*"`), want: Want{Any, Any}},
	{name: "manifest-arch-alias", item: 10, rule: RulePolicy, make: manifestEdit(`"arch":"x86_64"`, `"arch":"amd64"`), want: Want{Any, Any}},
	{name: "manifest-cmdline-newline", item: 14, rule: RulePolicy, make: withCmdline(`"a\nb"`)},
	{name: "manifest-cmdline-nbsp", item: 14, rule: RulePolicy, make: withCmdline("\"quiet\u00a0init=/bin/sh\"")},
	{name: "manifest-cmdline-2049-bytes", item: 14, rule: RulePolicy, make: withCmdline(`"` + strings.Repeat("a", 2049) + `"`)},
	{name: "manifest-cmdline-init", item: 14, rule: RulePolicy, make: withCmdline(`"quiet init=/bin/sh"`)},
	{name: "manifest-cmdline-rdinit", item: 14, rule: RulePolicy, make: withCmdline(`"rdinit=/bin/sh"`)},
	{name: "manifest-cmdline-lockdown", item: 14, rule: RulePolicy, make: withCmdline(`"lockdown=none"`)},
	{name: "manifest-cmdline-sig-enforce", item: 14, rule: RulePolicy, make: withCmdline(`"module.sig_enforce=0"`)},
	{name: "manifest-cmdline-sig-enforce-dash", item: 14, rule: RulePolicy, make: withCmdline(`"module.sig-enforce=0"`)},
	{name: "manifest-cmdline-quoted", item: 14, rule: RulePolicy, make: withCmdline(`"\"init=/bin/sh -c x\""`)},
	{name: "manifest-dtb-name", item: 15, rule: RulePolicy, make: manifestEdit(`"board.dtb"`, `"../../x"`)},
	{name: "manifest-dtb-name-hidden", item: 15, rule: RulePolicy, make: manifestEdit(`"board.dtb"`, `".dtb"`)},
	{name: "manifest-dtb-name-long", item: 15, rule: RulePolicy, make: manifestEdit(`"board.dtb"`, `"`+strings.Repeat("a", 129)+`"`)},
	{name: "manifest-url-file", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"file:///etc/passwd"`)},
	{name: "manifest-url-relative", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"kernel"`)},
	{name: "manifest-url-no-host", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http:///kernel"`)},
	{name: "manifest-url-opaque", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http:a.example"`)},
	{name: "manifest-url-user", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http://u:p@a.example/"`)},
	{name: "manifest-url-fragment", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/#x"`)},
	{name: "manifest-url-empty-fragment", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/#"`)},
	{name: "manifest-url-space", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/a b"`)},
	{name: "manifest-url-newline", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/\r\nX: y"`)},
	{name: "manifest-url-2049-bytes", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/`+strings.Repeat("a", 2049-17)+`"`)},
	{name: "manifest-url-bad-escape", item: 14, rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/%zz"`)},
	{name: "manifest-ipfs-path", item: 15, rule: RulePolicy, make: manifestEdit(`"ipfs":"bafy`, `"ipfs":"../bafy`)},
	{name: "manifest-major-1", item: 16, rule: RuleSchema, make: manifestEdit(`"version":"0.1"`, `"version":"1.0"`)},
	{name: "manifest-major-1-other-shape", item: 16, rule: RuleSchema, make: manifestPayload(func(string) string { return `{"version":"1.0"}` })},
	{name: "manifest-major-empty", item: 16, rule: RuleSchema, make: manifestEdit(`"version":"0.1"`, `"version":""`)},
	{name: "manifest-major-number", item: 16, rule: RuleMalformed, make: manifestEdit(`"version":"0.1"`, `"version":0`)},

	// Signatures.
	{name: "manifest-unsigned", item: 17, rule: RuleSignature, make: func(g *generator) []byte {
		raw := string(g.good["manifest"])
		return []byte(`{"signatures":[],` + raw[strings.Index(raw, `"signed"`):])
	}},
	{name: "manifest-signatures-missing", item: 6, rule: RuleMalformed, make: func(g *generator) []byte {
		raw := string(g.good["manifest"])
		return []byte(`{` + raw[strings.Index(raw, `"signed"`):])
	}},
	{name: "manifest-signed-missing", item: 6, rule: RuleMalformed, make: fileEdit("manifest", `"signed":{`, `"sealed":{`)},
	{name: "manifest-below-threshold", item: 17, rule: RuleSignature, make: manifestSigned("targets-1")},
	{name: "manifest-one-signature-twice", item: 17, rule: RuleMalformed, make: func(g *generator) []byte {
		raw := string(g.seal(kindManifest, g.payload["manifest"], "targets-1"))
		i, j := strings.Index(raw, `{"keyid"`), strings.Index(raw, `}]`)
		return []byte(raw[:j+1] + "," + raw[i:j+1] + raw[j+1:])
	}},
	{name: "manifest-one-signature-two-ids", item: 17, rule: RuleSignature, make: func(g *generator) []byte {
		raw := string(g.seal(kindManifest, g.payload["manifest"], "targets-1"))
		i, j := strings.Index(raw, `{"keyid"`), strings.Index(raw, `}]`)
		again := g.replace(raw[i:j+1], keyID("targets-1"), keyID("targets-2"))
		return []byte(raw[:j+1] + "," + again + raw[j+1:])
	}},
	{name: "manifest-key-id-upper-case", item: 17, rule: RuleMalformed, make: func(g *generator) []byte {
		return []byte(g.replace(string(g.good["manifest"]), keyID("targets-1"), strings.ToUpper(keyID("targets-1"))))
	}},
	{name: "manifest-signature-63-bytes", item: 18, rule: RuleMalformed, make: func(g *generator) []byte {
		sig := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), testKey("targets-1")).Sig
		return []byte(g.replace(string(g.good["manifest"]), base64.StdEncoding.EncodeToString(sig), base64.StdEncoding.EncodeToString(sig[:63])))
	}},
	{name: "manifest-signature-malleated", item: 18, rule: RuleSignature, make: func(g *generator) []byte {
		sig := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), testKey("targets-1")).Sig
		return []byte(g.replace(string(g.good["manifest"]), base64.StdEncoding.EncodeToString(sig), base64.StdEncoding.EncodeToString(addOrder(sig))))
	}},
	{name: "manifest-payload-changed", item: 17, rule: RuleSignature, make: func(g *generator) []byte {
		changed := g.replace(g.payload["manifest"], `"manifest_version":7`, `"manifest_version":8`)
		return []byte(g.replace(string(g.good["manifest"]), base64.StdEncoding.EncodeToString([]byte(g.payload["manifest"])), base64.StdEncoding.EncodeToString([]byte(changed))))
	}},
	{name: "manifest-by-stranger", item: 17, rule: RuleSignature, make: manifestSigned("stranger", "other stranger")},
	{name: "manifest-by-timestamp", item: 21, rule: RuleSignature, make: manifestSigned("timestamp", "targets-1")},
	{name: "manifest-by-root", item: 21, rule: RuleSignature, make: manifestSigned("root-1", "root-2")},
	{name: "manifest-signed-as-pointer", item: 21, rule: RuleSignature, make: func(g *generator) []byte {
		return g.seal(kind{"manifest", PointerPayloadType, 1 << 20, 16}, g.payload["manifest"], "targets-1", "targets-2")
	}},
	{name: "manifest-signed-without-encoding", item: 17, rule: RuleSignature, make: func(g *generator) []byte {
		raw := string(g.good["manifest"])
		for _, key := range private("targets-1", "targets-2") {
			proper := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), key).Sig
			plain := ed25519.Sign(key, []byte(g.payload["manifest"]))
			raw = g.replace(raw, base64.StdEncoding.EncodeToString(proper), base64.StdEncoding.EncodeToString(plain))
		}
		return []byte(raw)
	}},

	// For somebody else, or from another time.
	{name: "manifest-other-product", item: 22, rule: RuleProduct, make: manifestEdit(`"phase-boot"`, `"phase-toaster"`)},
	{name: "manifest-other-channel", item: 22, rule: RuleChannel, make: manifestEdit(`"channel":"stable"`, `"channel":"nightly"`)},
	{name: "manifest-other-arch", item: 22, rule: RuleArch, make: manifestEdit(`"arch":"x86_64"`, `"arch":"arm64"`)},
	{name: "manifest-nothing-wanted", item: 22, rule: RuleChannel, make: fileWith("manifest", "", ""), want: Want{Channel: "none"}},
	{name: "manifest-older", item: 23, rule: RuleRollback, make: fileWith("manifest", "", ""), floor: newer},
	{name: "manifest-same-version-other-digest", item: 23, rule: RuleSameVersion, make: fileWith("manifest", "", ""), floor: sameOther},
	{name: "manifest-not-the-pointers-version", item: 23, rule: RulePointer, make: manifestEdit(`"manifest_version":7`, `"manifest_version":8`), ptr: true},
	{name: "manifest-not-the-pointers-file", item: 23, rule: RulePointer, make: fileWith("manifest", "", "\n"), ptr: true},
	{name: "manifest-not-the-pointers-arch", item: 22, rule: RulePointer, make: manifestEdit(`"arch":"x86_64"`, `"arch":"arm64"`), want: Want{Any, Any}, ptr: true},
	{name: "manifest-expired", item: 27, rule: RuleExpired, make: fileWith("manifest", "", ""), at: now.AddDate(0, 3, 0)},
	{name: "manifest-from-the-future", item: 27, rule: RuleFuture, make: fileWith("manifest", "", ""), at: now.AddDate(0, 0, -1).Add(-MaxSkew - time.Second)},
	{name: "manifest-clock-at-1970", item: 27, rule: RuleFuture, make: fileWith("manifest", "", ""), at: time.Unix(0, 0)},
	{name: "manifest-root-expired", item: 20, rule: RuleExpired, object: "root", make: fileWith("manifest", "", ""), root: "root-ok-expires-soon", at: now.AddDate(0, 0, 1)},
	{name: "manifest-made-after-the-root", item: 20, rule: RuleExpired, object: "root", make: manifestEdit(`"created_at":"2026-02-28`, `"created_at":"2026-03-02`), root: "root-ok-expires-soon"},
	{name: "manifest-ok-made-in-the-last-second-of-the-root", item: 20, make: manifestEdit(`"created_at":"2026-02-28T12:00:00`, `"created_at":"2026-03-02T11:59:59`), root: "root-ok-expires-soon", at: now.AddDate(0, 0, 1).Add(-time.Second)},
	{name: "manifest-clock-after-2038", item: 27, rule: RuleExpired, make: fileWith("manifest", "", ""), at: time.Unix(1<<31, 0)},

	// Lives, and sums of sizes.
	{name: "manifest-ok-life-180-days", item: 13, make: manifestEdit(`"expires_at":"2026-06-01`, `"expires_at":"2026-08-27`)},
	{name: "manifest-life-180-days-and-a-second", item: 13, rule: RulePolicy, make: manifestEdit(`"expires_at":"2026-06-01T12:00:00Z`, `"expires_at":"2026-08-27T12:00:01Z`)},
	{name: "manifest-life-ten-years", item: 13, rule: RulePolicy, make: manifestEdit(`"expires_at":"2026`, `"expires_at":"2036`)},
	{name: "manifest-ok-dtbs-64-mib", item: 12, make: dtbs(4)},
	{name: "manifest-dtbs-together-too-large", item: 12, rule: RulePolicy, make: dtbs(5)},
	{name: "manifest-ok-largest", item: 12, make: manifestPayload(func(p string) string {
		for _, edit := range [][2]string{{`"size":3`, `"size":16777216`}, {`"size":9`, `"size":536870912`}, {`"size":6,"urls":[` + theURL, `"size":536870912,"urls":[` + theURL}, {`"size":6`, `"size":8589934592`}} {
			p = strings.Replace(p, edit[0], edit[1], 1)
		}
		return p
	})},
	{name: "manifest-65537-bytes", item: 7, rule: RuleSize, make: func(g *generator) []byte {
		return append(bytes.Clone(g.good["manifest"]), bytes.Repeat([]byte(" "), MaxManifestBytes+1-len(g.good["manifest"]))...)
	}},
	{name: "manifest-2000-urls", item: 7, rule: RulePolicy, make: manifestEdit(theURL, urls(2000))},

	// Channels with keys of their own: root-ok-channels lists such for testing.
	{name: "manifest-ok-testing-by-own-keys", item: 21, make: channelManifest("testing", "testing-1", "testing-2"), root: "root-ok-channels", want: testingWanted},
	{name: "manifest-ok-testing-by-both", item: 21, make: channelManifest("testing", "targets-1", "targets-2", "testing-1", "testing-3"), root: "root-ok-channels", want: testingWanted},
	{name: "manifest-ok-stable-beside-channel-keys", item: 21, make: channelManifest("stable", "targets-1", "targets-2"), root: "root-ok-channels"},
	{name: "manifest-stable-by-testing-keys", item: 21, rule: RuleSignature, make: channelManifest("stable", "testing-1", "testing-2"), root: "root-ok-channels"},
	{name: "manifest-testing-by-targets", item: 21, rule: RuleSignature, make: channelManifest("testing", "targets-1", "targets-2"), root: "root-ok-channels", want: testingWanted},
	{name: "manifest-testing-below-threshold", item: 17, rule: RuleSignature, make: channelManifest("testing", "testing-1"), root: "root-ok-channels", want: testingWanted},
	{name: "manifest-testing-by-one-of-each", item: 17, rule: RuleSignature, make: channelManifest("testing", "testing-1", "targets-1"), root: "root-ok-channels", want: testingWanted},
	{name: "manifest-testing-for-stable", item: 22, rule: RuleChannel, make: channelManifest("testing", "testing-1", "testing-2"), root: "root-ok-channels"},

	// Keys of another purpose, and keys that a newer root took away.
	{name: "manifest-signed-as-receipt", item: 21, rule: RuleSignature, make: func(g *generator) []byte {
		return g.seal(kind{"manifest", "application/vnd.in-toto+json", 1 << 20, 16}, g.payload["manifest"], "targets-1", "targets-2")
	}},
	{name: "manifest-by-receipt-keys", item: 21, rule: RuleSignature, make: manifestSigned("receipt-1", "receipt-2")},
	{name: "manifest-by-revoked-keys", item: 21, rule: RuleSignature, make: fileWith("manifest", "", ""), root: "chain-ok-targets-replaced/2.root"},
	{name: "manifest-by-one-revoked-key", item: 21, rule: RuleSignature, make: manifestSigned("targets-1", "targets-4"), root: "chain-ok-targets-replaced/2.root"},
	{name: "manifest-ok-by-new-keys", item: 21, make: manifestSigned("targets-4", "targets-5"), root: "chain-ok-targets-replaced/2.root"},
	{name: "manifest-ok-after-expired-root", item: 20, make: fileWith("manifest", "", ""), root: "chain-ok-expired-first/2.root"},
	{name: "manifest-under-expired-root", item: 20, rule: RuleExpired, object: "root", make: fileWith("manifest", "", ""), root: "chain-ok-expired-first/1.root"},

	// A stolen key signed an enormous version; the next root sets the floor anew.
	{name: "manifest-after-fast-forward", item: 24, rule: RuleRollback, make: fileWith("manifest", "", ""), floor: fastForward},
	{name: "manifest-ok-after-floor-reset", item: 24, make: fileWith("manifest", "", ""), floor: fastForward, root: "root-ok-floor-reset"},
	{name: "manifest-ok-floor-reset-forgets-the-digest", item: 24, make: fileWith("manifest", "", ""), floor: Floor{ManifestVersion: 7, Digest: blob.Of([]byte("another seven")), RootVersion: 2}, root: "root-ok-floor-reset"},
	{name: "manifest-floor-of-the-resetting-root", item: 24, rule: RuleRollback, make: fileWith("manifest", "", ""), floor: Floor{ManifestVersion: 8, RootVersion: 3}, root: "root-ok-floor-reset"},
	{name: "manifest-floor-reset-of-another-channel", item: 24, rule: RuleRollback, make: fileWith("manifest", "", ""), floor: fastForward, root: "root-ok-floor-reset-of-testing"},
	{name: "manifest-below-the-reset-floor", item: 24, rule: RuleRollback, make: fileWith("manifest", "", ""), floor: fastForward, root: "root-ok-floor-reset-to-8"},
	{name: "manifest-below-the-reset-floor-of-a-new-machine", item: 24, rule: RuleRollback, make: fileWith("manifest", "", ""), root: "root-ok-floor-reset-to-8"},

	// The security floor in the manifest.
	{name: "manifest-ok-security-floor", item: 23, make: securityFloor("7")},
	{name: "manifest-below-the-security-floor", item: 23, rule: RuleRollback, make: fileWith("manifest", "", ""), floor: Floor{ManifestVersion: 6, SecurityFloor: 8}},
	{name: "manifest-security-floor-0", item: 4, rule: RuleMalformed, make: securityFloor("0")},
	{name: "manifest-security-floor-negative", item: 4, rule: RuleMalformed, make: securityFloor("-1")},
	{name: "manifest-security-floor-above-own-version", item: 4, rule: RuleMalformed, make: securityFloor("8")},
	{name: "manifest-security-floor-text", item: 4, rule: RuleMalformed, make: securityFloor(`"5"`)},

	// The medium asks for a log proof.
	{name: "manifest-ok-logged", item: 0, make: fileWith("manifest", "", ""), proof: proofOf("log", "stable", "x86_64", 7)},
	{name: "manifest-not-logged", item: 0, rule: RuleLog, make: fileWith("manifest", "", ""), proof: noProof},
	{name: "manifest-logged-by-a-stranger", item: 0, rule: RuleLog, make: fileWith("manifest", "", ""), proof: proofOf("other log", "stable", "x86_64", 7)},
	{name: "manifest-logged-as-another-version", item: 0, rule: RuleLog, make: fileWith("manifest", "", ""), proof: proofOf("log", "stable", "x86_64", 8)},
	{name: "manifest-logged-as-another-arch", item: 0, rule: RuleLog, make: fileWith("manifest", "", ""), proof: proofOf("log", "stable", "arm64", 7)},
	{name: "manifest-log-proof-malformed", item: 0, rule: RuleLog, make: fileWith("manifest", "", ""), proof: func(*generator) []byte { return []byte("<!DOCTYPE html>\n") }},

	// A release that the machine kept, started without a network.
	{name: "manifest-last-good-ok", item: 23, make: fileWith("manifest", "", "")},
	{name: "manifest-last-good-ok-below-the-floor", item: 23, make: fileWith("manifest", "", ""), floor: Floor{ManifestVersion: 8, Digest: blob.Of([]byte("eight")), SecurityFloor: 7}},
	{name: "manifest-last-good-ok-expired", item: 23, make: fileWith("manifest", "", ""), at: now.AddDate(0, 4, 0), stale: "manifest"},
	{name: "manifest-last-good-ok-root-expired", item: 20, make: fileWith("manifest", "", ""), at: now.AddDate(0, 0, 1), root: "root-ok-expires-soon", stale: "root"},
	{name: "manifest-last-good-ok-made-after-the-root", item: 20, make: manifestEdit(`"created_at":"2026-02-28`, `"created_at":"2026-03-02`), at: now.AddDate(0, 0, 2), root: "root-ok-expires-soon", stale: "root"},
	{name: "manifest-last-good-below-the-security-floor", item: 23, rule: RuleRollback, make: fileWith("manifest", "", ""), floor: Floor{ManifestVersion: 9, Digest: blob.Of([]byte("nine")), SecurityFloor: 8}},
	{name: "manifest-last-good-same-version-other-digest", item: 23, rule: RuleSameVersion, make: fileWith("manifest", "", ""), floor: sameOther},
	{name: "manifest-last-good-ok-after-fast-forward", item: 24, make: fileWith("manifest", "", ""), floor: Floor{ManifestVersion: 1<<53 - 1, SecurityFloor: 1<<53 - 1, RootVersion: 1}, root: "root-ok-floor-reset"},
	{name: "manifest-last-good-below-the-reset-floor", item: 24, rule: RuleRollback, make: fileWith("manifest", "", ""), root: "root-ok-floor-reset-to-8"},
	{name: "manifest-last-good-from-the-future", item: 27, rule: RuleFuture, make: fileWith("manifest", "", ""), at: time.Unix(0, 0)},
	{name: "manifest-last-good-unsigned", item: 17, rule: RuleSignature, make: manifestSigned("targets-1")},
	{name: "manifest-last-good-other-arch", item: 22, rule: RuleArch, make: manifestEdit(`"arch":"x86_64"`, `"arch":"arm64"`)},
	{name: "manifest-last-good-by-revoked-keys", item: 21, rule: RuleSignature, make: fileWith("manifest", "", ""), root: "chain-ok-targets-replaced/2.root"},
	{name: "manifest-last-good-not-logged", item: 0, rule: RuleLog, make: fileWith("manifest", "", ""), proof: noProof},
}
