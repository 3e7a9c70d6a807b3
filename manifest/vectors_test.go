package manifest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// The files in testdata are documents with one fault each (those named "ok-…"
// have none). They are written by this file, from keys with fixed seeds:
//
//	go test ./manifest -run TestVectors -update
//
// Every vector is verified against testdata/root.json at the time now, wanting
// stable/x86_64, unless its row says otherwise.
var update = flag.Bool("update", false, "write the vectors in testdata anew")

type vector struct {
	name  string // of the file, without .json; its first word is the kind
	rule  Rule   // that refuses it; empty for acceptance
	make  func(g *generator) []byte
	want  Want      // default wantTest
	floor Floor     // manifests only
	ptr   bool      // verify against the pointer to the good manifest
	at    time.Time // default now

	object string // that the refusal names; default the kind
}

func (v vector) path() string { return filepath.Join("testdata", v.name+".json") }

// generator makes documents by editing good ones, and signs them.
type generator struct {
	t       testing.TB
	payload map[string]string // of the good documents, by kind
	good    map[string][]byte // the good files, by kind
}

func newGenerator(t testing.TB) *generator {
	t.Helper()
	g := &generator{t: t, payload: map[string]string{}, good: map[string][]byte{}}
	var err error
	if g.good["manifest"], err = SignManifest(testManifest(), private("targets-1", "targets-2")...); err != nil {
		t.Fatal(err)
	}
	if g.good["pointer"], err = SignPointer(testPointer(g.good["manifest"]), testKey("timestamp")); err != nil {
		t.Fatal(err)
	}
	if g.good["root"], err = NewRoot(testRootSpec(), private("root-1", "root-2")...); err != nil {
		t.Fatal(err)
	}
	for _, k := range []kind{kindManifest, kindPointer} {
		env, err := openEnvelope(g.good[k.object], k)
		if err != nil {
			t.Fatal(err)
		}
		g.payload[k.object] = string(env.payload)
	}
	var file wireRootFile
	if err := strictjson.Unmarshal(g.good["root"], &file, strictjson.Limits{}); err != nil {
		t.Fatal(err)
	}
	g.payload["root"] = string(file.Signed)
	return g
}

// replace fails the test if old is not there: a vector without its fault would
// prove nothing.
func (g *generator) replace(s, old, new string) string {
	g.t.Helper()
	if !strings.Contains(s, old) {
		g.t.Fatalf("%q is not part of %s", old, s)
	}
	return strings.Replace(s, old, new, 1)
}

// seal signs payload as it is, whatever it says.
func (g *generator) seal(k kind, payload string, names ...string) []byte {
	g.t.Helper()
	k.maxBytes = 1 << 20
	raw, err := envelope{payload: []byte(payload)}.draft(k).signAll(private(names...))
	if err != nil {
		g.t.Fatal(err)
	}
	return raw
}

// manifest returns a maker that edits the payload before it is signed.
func manifestEdit(old, new string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return g.seal(kindManifest, g.replace(g.payload["manifest"], old, new), "targets-1", "targets-2")
	}
}

func manifestPayload(make func(payload string) string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return g.seal(kindManifest, make(g.payload["manifest"]), "targets-1", "targets-2")
	}
}

func manifestSigned(names ...string) func(*generator) []byte {
	return func(g *generator) []byte { return g.seal(kindManifest, g.payload["manifest"], names...) }
}

func pointerEdit(old, new string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return g.seal(kindPointer, g.replace(g.payload["pointer"], old, new), "timestamp")
	}
}

// fileEdit edits a good file after it was signed.
func fileEdit(kind, old, new string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		return []byte(g.replace(string(g.good[kind]), old, new))
	}
}

func fileWith(kind, before, after string) func(*generator) []byte {
	return func(g *generator) []byte { return []byte(before + string(g.good[kind]) + after) }
}

// rootEdit edits a root and signs the result with two root keys.
func rootEdit(edits ...string) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		signed := g.payload["root"]
		for i := 0; i < len(edits); i += 2 {
			signed = g.replace(signed, edits[i], edits[i+1])
		}
		return g.signRoot(signed, "root-1", "root-2")
	}
}

// rootSpec makes a root from an edited description, past the checks of NewRoot.
func rootSpec(edit func(*RootSpec)) func(*generator) []byte {
	return func(g *generator) []byte {
		g.t.Helper()
		spec := testRootSpec()
		edit(&spec)
		signed, err := strictjson.MarshalCanonical(wireRootOf(spec))
		if err != nil {
			g.t.Fatal(err)
		}
		return g.signRoot(string(signed), "root-1", "root-2")
	}
}

// signRoot signs the text as it is, and leaves it as it is in the file.
func (g *generator) signRoot(signed string, names ...string) []byte {
	g.t.Helper()
	var signatures []string
	message := []byte(signed)
	if canonical, err := strictjson.CanonicalizeOLPC(message, strictjson.Limits{Bytes: 1 << 20, Depth: 20000}); err == nil {
		message = canonical
	}
	for _, key := range private(names...) {
		signatures = append(signatures, fmt.Sprintf(`{"keyid":%q,"sig":"%x"}`,
			dsse.KeyID(key.Public().(ed25519.PublicKey)), ed25519.Sign(key, message)))
	}
	return []byte(`{"signatures":[` + strings.Join(signatures, ",") + `],"signed":` + signed + `}`)
}

func point(digits string) ed25519.PublicKey {
	key, _ := hex.DecodeString(digits)
	return key
}

func keyID(name string) string { return dsse.KeyID(public(name)[0]) }

func withCmdline(s string) func(*generator) []byte {
	return manifestEdit(`"cmdline":"console=ttyS0 quiet"`, `"cmdline":`+s)
}

func urls(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"http://a.example/%d"`, i)
	}
	return strings.Join(list, ",")
}

var (
	kernelHash = blob.Of([]byte("kernel")).String()
	theURL     = `"https://mirror.example/kernel"`
	older      = Floor{ManifestVersion: 6, Digest: blob.Of([]byte("six"))}
	newer      = Floor{ManifestVersion: 8, Digest: blob.Of([]byte("eight"))}
	sameOther  = Floor{ManifestVersion: 7, Digest: blob.Of([]byte("another seven"))}
)

var vectors = []vector{
	// Accepted.
	{name: "manifest-ok", make: fileWith("manifest", "", "")},
	{name: "manifest-ok-white-space-around-envelope", make: fileWith("manifest", " \n", "\n")},
	{name: "manifest-ok-all-keys", make: manifestSigned("targets-1", "targets-2", "targets-3")},
	{name: "manifest-ok-strangers-signature-beside", make: manifestSigned("stranger", "targets-3", "targets-1")},
	{name: "manifest-ok-unknown-member", make: manifestEdit(`"version":"0.1"`, `"version":"0.2","zone":{"A":[1]}`)},
	{name: "manifest-ok-unknown-member-of-artifact", make: manifestEdit(`"hash":"`+kernelHash, `"chunks":[1,2],"hash":"`+kernelHash)},
	{name: "manifest-ok-no-product", make: manifestEdit(`"product":"phase-boot",`, ``)},
	{name: "manifest-ok-no-rootfs", make: manifestPayload(func(p string) string {
		i := strings.Index(p, `,"rootfs":`)
		j := i + strings.Index(p[i:], `]}`) + len(`]}`)
		return p[:i] + p[j:]
	})},
	{name: "manifest-ok-newer-than-floor", make: fileWith("manifest", "", ""), floor: older},
	{name: "manifest-ok-floor-without-digest", make: fileWith("manifest", "", ""), floor: Floor{ManifestVersion: 7}},
	{name: "manifest-ok-named-by-pointer", make: fileWith("manifest", "", ""), ptr: true},
	{name: "manifest-ok-mirrored", make: fileEdit("manifest", `{"signatures"`, `{ "arch" : "x86\u005f64" , "manifest_version":7,"signatures"`)},
	{name: "manifest-ok-last-second", make: fileWith("manifest", "", ""), at: now.AddDate(0, 3, 0).Add(-time.Second)},
	{name: "manifest-ok-clock-a-little-behind", make: fileWith("manifest", "", ""), at: now.AddDate(0, 0, -1).Add(-MaxSkew)},
	{name: "manifest-ok-any-product-line", make: fileWith("manifest", "", ""), want: Want{Any, Any}},
	{name: "pointer-ok", make: fileWith("pointer", "", "")},
	{name: "pointer-ok-unknown-member", make: pointerEdit(`"version":"0.1"`, `"version":"0.9","witness":"x"`)},
	{name: "root-ok", make: fileWith("root", "", "")},
	{name: "root-ok-indented", make: func(g *generator) []byte {
		var out bytes.Buffer
		if err := json.Indent(&out, g.good["root"], "", " "); err != nil {
			g.t.Fatal(err)
		}
		return out.Bytes()
	}},
	{name: "root-ok-unknown-members", make: rootEdit(`"version":1`, `"version":1,"x-note":{"b":"\u00e9","a":[true,"\"\\"]}`)},
	{name: "root-ok-snapshot-key", make: rootSpec(func(s *RootSpec) { s.Roles[RoleSnapshot] = RoleKeys{public("snapshot"), 1} })},
	{name: "root-ok-unused-key", make: rootEdit(`"keys":{`, `"keys":{"`+keyID("unused")+`":{"keytype":"ed25519","keyval":{"public":"`+hex.EncodeToString(public("unused")[0])+`"},"scheme":"ed25519"},`)},

	// Mirrored fields.
	{name: "manifest-mirrored-differs", rule: RuleMirrored, make: fileEdit("manifest", `{"signatures"`, `{"manifest_version":8,"signatures"`)},
	{name: "manifest-mirrored-nested-differs", rule: RuleMirrored, make: fileEdit("manifest", `{"signatures"`, `{"artifacts":{},"signatures"`)},
	{name: "manifest-mirrored-not-signed", rule: RuleMirrored, make: fileEdit("manifest", `{"signatures"`, `{"comment":"hello","signatures"`)},
	{name: "manifest-mirrored-other-case", rule: RuleMirrored, make: fileEdit("manifest", `{"signatures"`, `{"MANIFEST_VERSION":7,"signatures"`)},
	{name: "pointer-mirrored-differs", rule: RuleMirrored, make: fileEdit("pointer", `{"signatures"`, `{"manifest_version":8,"signatures"`)},

	// Duplicate and look-alike names.
	{name: "manifest-duplicate-in-envelope", rule: RuleMalformed, make: fileEdit("manifest", `{"signatures":`, `{"signatures":[],"signatures":`)},
	{name: "manifest-duplicate-signed", rule: RuleMalformed, make: fileEdit("manifest", `"signed":{`, `"signed":{"data":"e30=",`)},
	{name: "manifest-duplicate-in-payload", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7,"manifest_version":8`)},
	{name: "manifest-duplicate-escaped", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7,"manifest_\u0076ersion":8`)},
	{name: "manifest-case-replaced", rule: RuleMalformed, make: manifestEdit(`"manifest_version"`, `"MANIFEST_VERSION"`)},
	{name: "manifest-case-beside", rule: RuleMalformed, make: manifestPayload(func(p string) string { return `{"MANIFEST_VERSION":9,` + p[1:] })},
	{name: "manifest-long-s", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7,"manife`+"\u017f"+`t_version":8`)},
	{name: "manifest-case-in-artifact", rule: RuleMalformed, make: manifestEdit(`"hash":"`+kernelHash, `"Size":1,"hash":"`+kernelHash)},
	{name: "manifest-unknown-beside-data", rule: RuleMalformed, make: fileEdit("manifest", `"}}`, `","also":1}}`)},
	{name: "manifest-unknown-in-signature", rule: RuleMalformed, make: fileEdit("manifest", `{"keyid"`, `{"cert":1,"keyid"`)},

	// Numbers.
	{name: "manifest-version-0", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":0`)},
	{name: "manifest-version-negative", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":-1`)},
	{name: "manifest-version-fraction", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7.0`)},
	{name: "manifest-version-exponent", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":7e0`)},
	{name: "manifest-version-2-53", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":9007199254740992`)},
	{name: "manifest-version-2-64", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":18446744073709551623`)},
	{name: "manifest-version-string", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":"7"`)},
	{name: "manifest-version-null", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":null`)},
	{name: "manifest-version-missing", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7,`, ``)},
	{name: "manifest-version-leading-zero", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version":07`)},
	{name: "manifest-mirrored-fraction", rule: RuleMalformed, make: fileEdit("manifest", `{"signatures"`, `{"manifest_version":7.0,"signatures"`)},

	// Text.
	{name: "manifest-invalid-utf8", rule: RuleMalformed, make: withCmdline("\"a\xff\"")},
	{name: "manifest-invalid-utf8-in-envelope", rule: RuleMalformed, make: fileEdit("manifest", `{"signatures"`, "{\"arch\":\"x86_64\xff\",\"signatures\"")},
	{name: "manifest-lone-surrogate", rule: RuleMalformed, make: withCmdline(`"\ud800"`)},
	{name: "manifest-escaped-nul", rule: RulePolicy, make: withCmdline(`"a\u0000b"`)},
	{name: "manifest-byte-order-mark", rule: RuleMalformed, make: fileWith("manifest", "\ufeff", "")},
	{name: "manifest-byte-order-mark-in-payload", rule: RuleMalformed, make: manifestPayload(func(p string) string { return "\ufeff" + p })},
	{name: "manifest-trailing-bytes", rule: RuleMalformed, make: fileWith("manifest", "", "x")},
	{name: "manifest-trailing-nul", rule: RuleMalformed, make: fileWith("manifest", "", "\x00")},
	{name: "manifest-two-documents", rule: RuleMalformed, make: func(g *generator) []byte { return append(bytes.Clone(g.good["manifest"]), g.good["manifest"]...) }},
	{name: "manifest-two-payloads", rule: RuleMalformed, make: manifestPayload(func(p string) string { return p + p })},
	{name: "manifest-truncated", rule: RuleMalformed, make: func(g *generator) []byte { return g.good["manifest"][:len(g.good["manifest"])-1] }},
	{name: "manifest-payload-not-json", rule: RuleMalformed, make: manifestPayload(func(string) string { return "hello" })},
	{name: "manifest-payload-empty", rule: RuleMalformed, make: manifestPayload(func(string) string { return "" })},
	{name: "manifest-payload-null", rule: RuleMalformed, make: manifestPayload(func(string) string { return "null" })},
	{name: "manifest-payload-array", rule: RuleMalformed, make: manifestPayload(func(p string) string { return "[" + p + "]" })},
	{name: "manifest-empty-file", rule: RuleMalformed, make: func(*generator) []byte { return nil }},
	{name: "manifest-is-a-web-page", rule: RuleMalformed, make: func(*generator) []byte { return []byte("<!DOCTYPE html><title>Log in</title>\n") }},

	// Size, depth, counts.
	{name: "manifest-deep", rule: RuleMalformed, make: manifestEdit(`"version":"0.1"`, `"version":"0.1","x":`+strings.Repeat("[", 10_001)+strings.Repeat("]", 10_001))},
	{name: "manifest-deep-envelope", rule: RuleMalformed, make: fileEdit("manifest", `{"signatures"`, `{"x":`+strings.Repeat("[", 10_001)+strings.Repeat("]", 10_001)+`,"signatures"`)},
	{name: "manifest-17-urls", rule: RulePolicy, make: manifestEdit(theURL, urls(17))},
	{name: "manifest-17-signatures", rule: RuleMalformed, make: func(g *generator) []byte {
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
	{name: "manifest-base64-newline", rule: RuleMalformed, make: fileEdit("manifest", `"data":"eyJh`, `"data":"eyJh\n`)},
	{name: "manifest-base64-no-padding", rule: RuleMalformed, make: fileEdit("manifest", `=="}`, `"}`)},
	{name: "manifest-base64-stray-bits", rule: RuleMalformed, make: func(g *generator) []byte {
		// The last quantum of a 64-byte signature holds one byte, "xx==": the
		// four lowest bits of its second letter are unused and must be zero.
		i := bytes.Index(g.good["manifest"], []byte(`=="`))
		raw := bytes.Clone(g.good["manifest"])
		raw[i-1]++
		return raw
	}},
	{name: "manifest-base64-url-alphabet", rule: RuleMalformed, make: func(g *generator) []byte {
		sig := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), testKey("targets-1")).Sig
		text := base64.StdEncoding.EncodeToString(sig)
		return []byte(g.replace(string(g.good["manifest"]), text, base64.URLEncoding.EncodeToString(sig)))
	}},
	{name: "manifest-data-not-string", rule: RuleMalformed, make: func(g *generator) []byte {
		return []byte(`{"signatures":[],"signed":{"data":` + g.payload["manifest"] + `}}`)
	}},

	// Signed, but not in the one form.
	{name: "manifest-not-canonical-space", rule: RuleMalformed, make: manifestEdit(`"manifest_version":7`, `"manifest_version": 7`)},
	{name: "manifest-not-canonical-order", rule: RuleMalformed, make: manifestPayload(func(p string) string { return `{"version":"0.1",` + strings.Replace(p[1:], `,"version":"0.1"`, "", 1) })},
	{name: "manifest-not-canonical-escape", rule: RuleMalformed, make: withCmdline(`"\u0061"`)},
	{name: "manifest-not-canonical-empty-member", rule: RuleMalformed, make: withCmdline(`""`)},
	{name: "manifest-not-canonical-newline", rule: RuleMalformed, make: manifestPayload(func(p string) string { return p + "\n" })},

	// Hashes, sizes, times.
	{name: "manifest-hash-upper-case", rule: RuleMalformed, make: manifestEdit(kernelHash, "sha256:"+strings.ToUpper(kernelHash[7:]))},
	{name: "manifest-hash-other-algorithm", rule: RuleMalformed, make: manifestEdit(kernelHash, "sha512:"+kernelHash[7:])},
	{name: "manifest-hash-63-digits", rule: RuleMalformed, make: manifestEdit(kernelHash, kernelHash[:70])},
	{name: "manifest-hash-bare", rule: RuleMalformed, make: manifestEdit(kernelHash, kernelHash[7:])},
	{name: "manifest-hash-zeros", rule: RuleMalformed, make: manifestEdit(kernelHash, "sha256:"+strings.Repeat("0", 64))},
	{name: "manifest-hash-missing", rule: RuleMalformed, make: manifestEdit(`"hash":"`+kernelHash+`",`, "")},
	{name: "manifest-kernel-missing", rule: RuleMalformed, make: manifestEdit(`"kernel":{`, `"kernels":{`)},
	{name: "manifest-artifacts-missing", rule: RuleMalformed, make: manifestEdit(`"artifacts":{`, `"artefacts":{`)},
	{name: "manifest-urls-missing", rule: RuleMalformed, make: manifestEdit(`,"urls":[`+theURL+`]`, "")},
	{name: "manifest-size-0", rule: RulePolicy, make: manifestEdit(`"size":6`, `"size":0`)},
	{name: "manifest-size-negative", rule: RulePolicy, make: manifestEdit(`"size":6`, `"size":-6`)},
	{name: "manifest-kernel-too-large", rule: RulePolicy, make: manifestEdit(`"size":6,"urls":[`+theURL, `"size":536870913,"urls":[`+theURL)},
	{name: "manifest-initramfs-too-large", rule: RulePolicy, make: manifestEdit(`"size":9`, `"size":536870913`)},
	{name: "manifest-rootfs-too-large", rule: RulePolicy, make: manifestEdit(`"size":6,"urls":[]`, `"size":8589934593,"urls":[]`)},
	{name: "manifest-size-overflow", rule: RulePolicy, make: manifestEdit(`"size":6,"urls":[]`, `"size":9007199254740991,"urls":[]`)},
	{name: "manifest-dtb-too-large", rule: RulePolicy, make: manifestEdit(`"size":3`, `"size":16777217`)},
	{name: "manifest-created-after-expires", rule: RulePolicy, make: manifestEdit(`"created_at":"2026-02-28T12:00`, `"created_at":"2026-06-01T12:05`), at: now.AddDate(0, 3, 0).Add(-time.Minute)},
	{name: "manifest-year-0", rule: RuleMalformed, make: manifestEdit(`"created_at":"2026`, `"created_at":"0000`)},
	{name: "manifest-year-9999", rule: RuleMalformed, make: manifestEdit(`"expires_at":"2026`, `"expires_at":"9999`)},
	{name: "manifest-time-zone", rule: RuleMalformed, make: manifestEdit(`T12:00:00Z","expires_at"`, `T12:00:00+00:00","expires_at"`)},
	{name: "manifest-time-fraction", rule: RuleMalformed, make: manifestEdit(`T12:00:00Z","expires_at"`, `T12:00:00.5Z","expires_at"`)},
	{name: "manifest-time-february-30", rule: RuleMalformed, make: manifestEdit(`"created_at":"2026-02-28`, `"created_at":"2026-02-30`)},
	{name: "manifest-expiry-missing", rule: RuleMalformed, make: manifestEdit(`"expires_at":"2026-06-01T12:00:00Z",`, "")},

	// What may be asked for.
	{name: "manifest-channel-composed", rule: RuleChannel, make: manifestEdit(`"channel":"stable"`, "\"channel\":\"st\u00e1ble\"")},
	{name: "manifest-channel-decomposed", rule: RuleChannel, make: manifestEdit(`"channel":"stable"`, "\"channel\":\"sta\u0301ble\"")},
	{name: "manifest-channel-unknown", rule: RulePolicy, make: manifestEdit(`"channel":"stable"`, `"channel":"beta"`), want: Want{Any, Any}},
	{name: "manifest-channel-any", rule: RulePolicy, make: manifestEdit(`"channel":"stable"`, `"channel":"*"`), want: Want{Any, Any}},
	{name: "manifest-arch-alias", rule: RulePolicy, make: manifestEdit(`"arch":"x86_64"`, `"arch":"amd64"`), want: Want{Any, Any}},
	{name: "manifest-cmdline-newline", rule: RulePolicy, make: withCmdline(`"a\nb"`)},
	{name: "manifest-cmdline-nbsp", rule: RulePolicy, make: withCmdline("\"quiet\u00a0init=/bin/sh\"")},
	{name: "manifest-cmdline-2049-bytes", rule: RulePolicy, make: withCmdline(`"` + strings.Repeat("a", 2049) + `"`)},
	{name: "manifest-cmdline-init", rule: RulePolicy, make: withCmdline(`"quiet init=/bin/sh"`)},
	{name: "manifest-cmdline-rdinit", rule: RulePolicy, make: withCmdline(`"rdinit=/bin/sh"`)},
	{name: "manifest-cmdline-lockdown", rule: RulePolicy, make: withCmdline(`"lockdown=none"`)},
	{name: "manifest-cmdline-sig-enforce", rule: RulePolicy, make: withCmdline(`"module.sig_enforce=0"`)},
	{name: "manifest-cmdline-sig-enforce-dash", rule: RulePolicy, make: withCmdline(`"module.sig-enforce=0"`)},
	{name: "manifest-cmdline-quoted", rule: RulePolicy, make: withCmdline(`"\"init=/bin/sh -c x\""`)},
	{name: "manifest-dtb-name", rule: RulePolicy, make: manifestEdit(`"board.dtb"`, `"../../x"`)},
	{name: "manifest-dtb-name-hidden", rule: RulePolicy, make: manifestEdit(`"board.dtb"`, `".dtb"`)},
	{name: "manifest-dtb-name-long", rule: RulePolicy, make: manifestEdit(`"board.dtb"`, `"`+strings.Repeat("a", 129)+`"`)},
	{name: "manifest-url-file", rule: RulePolicy, make: manifestEdit(theURL, `"file:///etc/passwd"`)},
	{name: "manifest-url-relative", rule: RulePolicy, make: manifestEdit(theURL, `"kernel"`)},
	{name: "manifest-url-no-host", rule: RulePolicy, make: manifestEdit(theURL, `"http:///kernel"`)},
	{name: "manifest-url-opaque", rule: RulePolicy, make: manifestEdit(theURL, `"http:a.example"`)},
	{name: "manifest-url-user", rule: RulePolicy, make: manifestEdit(theURL, `"http://u:p@a.example/"`)},
	{name: "manifest-url-fragment", rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/#x"`)},
	{name: "manifest-url-empty-fragment", rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/#"`)},
	{name: "manifest-url-space", rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/a b"`)},
	{name: "manifest-url-newline", rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/\r\nX: y"`)},
	{name: "manifest-url-2049-bytes", rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/`+strings.Repeat("a", 2049-17)+`"`)},
	{name: "manifest-url-bad-escape", rule: RulePolicy, make: manifestEdit(theURL, `"http://a.example/%zz"`)},
	{name: "manifest-ipfs-path", rule: RulePolicy, make: manifestEdit(`"ipfs":"bafy`, `"ipfs":"../bafy`)},
	{name: "manifest-major-1", rule: RuleSchema, make: manifestEdit(`"version":"0.1"`, `"version":"1.0"`)},
	{name: "manifest-major-1-other-shape", rule: RuleSchema, make: manifestPayload(func(string) string { return `{"version":"1.0"}` })},
	{name: "manifest-major-empty", rule: RuleSchema, make: manifestEdit(`"version":"0.1"`, `"version":""`)},
	{name: "manifest-major-number", rule: RuleMalformed, make: manifestEdit(`"version":"0.1"`, `"version":0`)},

	// Signatures.
	{name: "manifest-unsigned", rule: RuleSignature, make: func(g *generator) []byte {
		raw := string(g.good["manifest"])
		return []byte(`{"signatures":[],` + raw[strings.Index(raw, `"signed"`):])
	}},
	{name: "manifest-signatures-missing", rule: RuleMalformed, make: func(g *generator) []byte {
		raw := string(g.good["manifest"])
		return []byte(`{` + raw[strings.Index(raw, `"signed"`):])
	}},
	{name: "manifest-signed-missing", rule: RuleMalformed, make: fileEdit("manifest", `"signed":{`, `"sealed":{`)},
	{name: "manifest-below-threshold", rule: RuleSignature, make: manifestSigned("targets-1")},
	{name: "manifest-one-signature-twice", rule: RuleMalformed, make: func(g *generator) []byte {
		raw := string(g.seal(kindManifest, g.payload["manifest"], "targets-1"))
		i, j := strings.Index(raw, `{"keyid"`), strings.Index(raw, `}]`)
		return []byte(raw[:j+1] + "," + raw[i:j+1] + raw[j+1:])
	}},
	{name: "manifest-one-signature-two-ids", rule: RuleSignature, make: func(g *generator) []byte {
		raw := string(g.seal(kindManifest, g.payload["manifest"], "targets-1"))
		i, j := strings.Index(raw, `{"keyid"`), strings.Index(raw, `}]`)
		again := g.replace(raw[i:j+1], keyID("targets-1"), keyID("targets-2"))
		return []byte(raw[:j+1] + "," + again + raw[j+1:])
	}},
	{name: "manifest-key-id-upper-case", rule: RuleMalformed, make: func(g *generator) []byte {
		return []byte(g.replace(string(g.good["manifest"]), keyID("targets-1"), strings.ToUpper(keyID("targets-1"))))
	}},
	{name: "manifest-signature-63-bytes", rule: RuleMalformed, make: func(g *generator) []byte {
		sig := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), testKey("targets-1")).Sig
		return []byte(g.replace(string(g.good["manifest"]), base64.StdEncoding.EncodeToString(sig), base64.StdEncoding.EncodeToString(sig[:63])))
	}},
	{name: "manifest-signature-malleated", rule: RuleSignature, make: func(g *generator) []byte {
		sig := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), testKey("targets-1")).Sig
		return []byte(g.replace(string(g.good["manifest"]), base64.StdEncoding.EncodeToString(sig), base64.StdEncoding.EncodeToString(addOrder(sig))))
	}},
	{name: "manifest-payload-changed", rule: RuleSignature, make: func(g *generator) []byte {
		changed := g.replace(g.payload["manifest"], `"manifest_version":7`, `"manifest_version":8`)
		return []byte(g.replace(string(g.good["manifest"]), base64.StdEncoding.EncodeToString([]byte(g.payload["manifest"])), base64.StdEncoding.EncodeToString([]byte(changed))))
	}},
	{name: "manifest-by-stranger", rule: RuleSignature, make: manifestSigned("stranger", "other stranger")},
	{name: "manifest-by-timestamp", rule: RuleSignature, make: manifestSigned("timestamp", "targets-1")},
	{name: "manifest-by-root", rule: RuleSignature, make: manifestSigned("root-1", "root-2")},
	{name: "manifest-signed-as-pointer", rule: RuleSignature, make: func(g *generator) []byte {
		return g.seal(kind{"manifest", PointerPayloadType, 1 << 20}, g.payload["manifest"], "targets-1", "targets-2")
	}},
	{name: "manifest-signed-without-encoding", rule: RuleSignature, make: func(g *generator) []byte {
		raw := string(g.good["manifest"])
		for _, key := range private("targets-1", "targets-2") {
			proper := dsse.Sign(ManifestPayloadType, []byte(g.payload["manifest"]), key).Sig
			plain := ed25519.Sign(key, []byte(g.payload["manifest"]))
			raw = g.replace(raw, base64.StdEncoding.EncodeToString(proper), base64.StdEncoding.EncodeToString(plain))
		}
		return []byte(raw)
	}},

	// For somebody else, or from another time.
	{name: "manifest-other-product", rule: RuleProduct, make: manifestEdit(`"phase-boot"`, `"phase-toaster"`)},
	{name: "manifest-other-channel", rule: RuleChannel, make: manifestEdit(`"channel":"stable"`, `"channel":"nightly"`)},
	{name: "manifest-other-arch", rule: RuleArch, make: manifestEdit(`"arch":"x86_64"`, `"arch":"arm64"`)},
	{name: "manifest-nothing-wanted", rule: RuleChannel, make: fileWith("manifest", "", ""), want: Want{Channel: "none"}},
	{name: "manifest-older", rule: RuleRollback, make: fileWith("manifest", "", ""), floor: newer},
	{name: "manifest-same-version-other-digest", rule: RuleSameVersion, make: fileWith("manifest", "", ""), floor: sameOther},
	{name: "manifest-not-the-pointers-version", rule: RulePointer, make: manifestEdit(`"manifest_version":7`, `"manifest_version":8`), ptr: true},
	{name: "manifest-not-the-pointers-file", rule: RulePointer, make: fileWith("manifest", "", "\n"), ptr: true},
	{name: "manifest-not-the-pointers-arch", rule: RulePointer, make: manifestEdit(`"arch":"x86_64"`, `"arch":"arm64"`), want: Want{Any, Any}, ptr: true},
	{name: "manifest-expired", rule: RuleExpired, make: fileWith("manifest", "", ""), at: now.AddDate(0, 3, 0)},
	{name: "manifest-from-the-future", rule: RuleFuture, make: fileWith("manifest", "", ""), at: now.AddDate(0, 0, -1).Add(-MaxSkew - time.Second)},
	{name: "manifest-clock-at-1970", rule: RuleFuture, make: fileWith("manifest", "", ""), at: time.Unix(0, 0)},
	{name: "manifest-root-expired", rule: RuleExpired, object: "root", make: manifestEdit(`"expires_at":"2026`, `"expires_at":"2028`), at: now.AddDate(1, 0, 0)},
	{name: "manifest-clock-after-2038", rule: RuleExpired, make: fileWith("manifest", "", ""), at: time.Unix(1<<31, 0)},

	// Pointers.
	{name: "pointer-unsigned", rule: RuleSignature, make: func(g *generator) []byte {
		raw := string(g.good["pointer"])
		return []byte(`{"signatures":[],` + raw[strings.Index(raw, `"signed"`):])
	}},
	{name: "pointer-by-targets", rule: RuleSignature, make: func(g *generator) []byte {
		return g.seal(kindPointer, g.payload["pointer"], "targets-1", "targets-2")
	}},
	{name: "pointer-is-a-manifest", rule: RuleSignature, make: func(g *generator) []byte {
		return g.seal(kindManifest, g.payload["manifest"], "timestamp")
	}},
	{name: "pointer-other-product", rule: RuleProduct, make: pointerEdit(`"phase-boot"`, `"phase-toaster"`)},
	{name: "pointer-no-product", rule: RuleMalformed, make: pointerEdit(`"product":"phase-boot",`, ``)},
	{name: "pointer-other-channel", rule: RuleChannel, make: pointerEdit(`"channel":"stable"`, `"channel":"testing"`)},
	{name: "pointer-other-arch", rule: RuleArch, make: pointerEdit(`"arch":"x86_64"`, `"arch":"arm64"`)},
	{name: "pointer-expired", rule: RuleExpired, make: fileWith("pointer", "", ""), at: now.AddDate(0, 0, 7)},
	{name: "pointer-from-the-future", rule: RuleFuture, make: fileWith("pointer", "", ""), at: now.AddDate(0, 0, -1)},
	{name: "pointer-version-0", rule: RuleMalformed, make: pointerEdit(`"manifest_version":7`, `"manifest_version":0`)},
	{name: "pointer-root-version-0", rule: RuleMalformed, make: pointerEdit(`"root_version":1`, `"root_version":0`)},
	{name: "pointer-size-0", rule: RulePolicy, make: func(g *generator) []byte {
		return pointerEdit(fmt.Sprintf(`"manifest_size":%d`, len(g.good["manifest"])), `"manifest_size":0`)(g)
	}},
	{name: "pointer-size-above-cap", rule: RulePolicy, make: func(g *generator) []byte {
		return pointerEdit(fmt.Sprintf(`"manifest_size":%d`, len(g.good["manifest"])), `"manifest_size":65537`)(g)
	}},
	{name: "pointer-hash-missing", rule: RuleMalformed, make: pointerEdit(`"manifest_hash"`, `"manifest_hush"`)},
	{name: "pointer-url-file", rule: RulePolicy, make: pointerEdit(`"http://10.0.2.2:8080`, `"file://10.0.2.2:8080`)},
	{name: "pointer-duplicate", rule: RuleMalformed, make: pointerEdit(`"root_version":1`, `"root_version":1,"root_version":2`)},
	{name: "pointer-not-canonical", rule: RuleMalformed, make: pointerEdit(`"root_version":1`, `"root_version": 1`)},
	{name: "pointer-major-1", rule: RuleSchema, make: pointerEdit(`"version":"0.1"`, `"version":"1.0"`)},
	{name: "pointer-created-after-expires", rule: RulePolicy, make: pointerEdit(`"created_at":"2026-03-01T11:00`, `"created_at":"2026-03-08T12:05`), at: now.AddDate(0, 0, 7).Add(-time.Minute)},

	// Roots.
	{name: "root-below-own-threshold", rule: RuleSignature, make: func(g *generator) []byte { return g.signRoot(g.payload["root"], "root-1") }},
	{name: "root-by-targets", rule: RuleSignature, make: func(g *generator) []byte { return g.signRoot(g.payload["root"], "targets-1", "targets-2") }},
	{name: "root-unsigned", rule: RuleSignature, make: func(g *generator) []byte { return g.signRoot(g.payload["root"]) }},
	{name: "root-one-signature-twice", rule: RuleMalformed, make: func(g *generator) []byte { return g.signRoot(g.payload["root"], "root-1", "root-1") }},
	{name: "root-changed", rule: RuleSignature, make: fileEdit("root", `"version":1`, `"version":2`)},
	{name: "root-unknown-member-changed", rule: RuleSignature, make: fileEdit("root", `"version":1`, `"version":1,"x":1`)},
	{name: "root-threshold-0", rule: RuleMalformed, make: rootEdit(`"threshold":2`, `"threshold":0`)},
	{name: "root-threshold-negative", rule: RuleMalformed, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{public("timestamp"), -1} })},
	{name: "root-threshold-unreachable", rule: RuleMalformed, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{public("timestamp"), 2} })},
	{name: "root-role-without-keys", rule: RuleMalformed, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{nil, 1} })},
	{name: "root-snapshot-unreachable", rule: RuleMalformed, make: rootSpec(func(s *RootSpec) { s.Roles[RoleSnapshot] = RoleKeys{public("snapshot"), 2} })},
	{name: "root-key-in-two-roles", rule: RuleKey, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{public("targets-1"), 1} })},
	{name: "root-snapshot-shares-a-key", rule: RuleKey, make: rootSpec(func(s *RootSpec) { s.Roles[RoleSnapshot] = RoleKeys{public("timestamp"), 1} })},
	{name: "root-key-twice-in-role", rule: RuleKey, make: rootSpec(func(s *RootSpec) { s.Roles[RoleTimestamp] = RoleKeys{public("timestamp", "timestamp"), 2} })},
	{name: "root-key-under-two-ids", rule: RuleKey, make: rootEdit(`"keys":{`, `"keys":{"`+strings.Repeat("0", 64)+`":{"keytype":"ed25519","keyval":{"public":"`+hex.EncodeToString(public("root-1")[0])+`"},"scheme":"ed25519"},`)},
	{name: "root-key-unknown", rule: RuleMalformed, make: rootEdit(`"keyids":[`, `"keyids":["`+strings.Repeat("0", 64)+`",`)},
	{name: "root-key-identity-point", rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{point("01" + strings.Repeat("00", 31))}, 1}
	})},
	{name: "root-key-order-8", rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{point("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85")}, 1}
	})},
	{name: "root-key-not-canonical", rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{point("f0" + strings.Repeat("ff", 30) + "7f")}, 1}
	})},
	{name: "root-key-not-a-point", rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{point("02" + strings.Repeat("00", 31))}, 1}
	})},
	{name: "root-key-short", rule: RuleKey, make: rootSpec(func(s *RootSpec) {
		s.Roles[RoleTimestamp] = RoleKeys{[]ed25519.PublicKey{public("timestamp")[0][:31]}, 1}
	})},
	{name: "root-key-type-rsa", rule: RuleKey, make: rootEdit(`"keytype":"ed25519"`, `"keytype":"rsa"`)},
	{name: "root-key-upper-case", rule: RuleKey, make: func(g *generator) []byte {
		digits := hex.EncodeToString(public("timestamp")[0])
		return rootEdit(digits, strings.ToUpper(digits))(g)
	}},
	{name: "root-version-0", rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":0`)},
	{name: "root-version-fraction", rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1.0`)},
	{name: "root-spec-2", rule: RuleSchema, make: rootEdit(`"spec_version":"1.0.34"`, `"spec_version":"2.0.0"`)},
	{name: "root-is-targets", rule: RuleMalformed, make: rootEdit(`"_type":"root"`, `"_type":"targets"`)},
	{name: "root-expires-missing", rule: RuleMalformed, make: rootEdit(`"expires":"2027-03-01T12:00:00Z",`, ``)},
	{name: "root-expires-year-9999", rule: RuleMalformed, make: rootEdit(`"expires":"2027`, `"expires":"9999`)},
	{name: "root-role-missing", rule: RuleMalformed, make: rootEdit(`"timestamp":{"keyids"`, `"timestomp":{"keyids"`)},
	{name: "root-duplicate", rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"version":2`)},
	{name: "root-control-character", rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"x":"\n"`)},
	{name: "root-null", rule: RuleMalformed, make: rootEdit(`"consistent_snapshot":false`, `"consistent_snapshot":null`)},
	{name: "root-trailing-bytes", rule: RuleMalformed, make: fileWith("root", "", "x")},
	{name: "root-unknown-beside-signed", rule: RuleMalformed, make: fileEdit("root", `{"signatures"`, `{"also":1,"signatures"`)},
	{name: "root-signature-upper-case", rule: RuleMalformed, make: func(g *generator) []byte {
		sig := hex.EncodeToString(ed25519.Sign(testKey("root-1"), []byte(g.payload["root"])))
		return []byte(g.replace(string(g.good["root"]), sig, strings.ToUpper(sig)))
	}},
	{name: "root-deep", rule: RuleMalformed, make: rootEdit(`"version":1`, `"version":1,"x":`+strings.Repeat("[", 200)+strings.Repeat("]", 200))},
}

// addOrder adds the group order to S, which gives a second signature that a
// careless verifier accepts.
func addOrder(sig []byte) []byte {
	order := point("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010") // little-endian
	out := bytes.Clone(sig)
	carry := 0
	for i, b := range order {
		sum := int(out[32+i]) + int(b) + carry
		out[32+i], carry = byte(sum), sum>>8
	}
	return out
}

func (v vector) verify(g *generator, root *Root, raw []byte) error {
	want, at := v.want, v.at
	if want == (Want{}) {
		want = wantTest
	}
	if at.IsZero() {
		at = now
	}
	var err error
	switch kind, _, _ := strings.Cut(v.name, "-"); kind {
	case "manifest":
		var ptr *VerifiedPointer
		if v.ptr {
			if ptr, err = verifyPointer(g.good["pointer"], root, wantTest, now); err != nil {
				g.t.Fatal(err)
			}
		}
		var got *Verified
		got, err = verifyManifest(raw, root, want, v.floor, ptr, at)
		if (err == nil) != got.Valid() || (err != nil && got != nil) {
			g.t.Errorf("%s: result %v with error %v", v.name, got, err)
		}
	case "pointer":
		var got *VerifiedPointer
		got, err = verifyPointer(raw, root, want, at)
		if (err == nil) != got.Valid() || (err != nil && got != nil) {
			g.t.Errorf("%s: result %v with error %v", v.name, got, err)
		}
	case "root":
		_, err = ParseRoot(raw)
	default:
		g.t.Fatalf("%s: unknown kind", v.name)
	}
	return err
}

func TestVectors(t *testing.T) {
	g := newGenerator(t)
	if *update {
		writeVectors(t, g)
	}
	root := testRoot(t)
	seen := map[string]bool{}
	for _, v := range vectors {
		raw, err := os.ReadFile(v.path())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, v.make(g)) {
			t.Errorf("%s: file is not what the generator makes; run with -update and look at the difference", v.name)
		}
		seen[filepath.Base(v.path())] = true
		err = v.verify(g, root, raw)
		var refused *Error
		switch {
		case v.rule == "" && err != nil:
			t.Errorf("%s: %v", v.name, err)
		case v.rule != "" && err == nil:
			t.Errorf("%s: accepted", v.name)
		case v.rule != "" && (!errors.As(err, &refused) || refused.Rule != v.rule):
			t.Errorf("%s: refused by another rule than %s: %v", v.name, v.rule, err)
		case v.rule != "":
			checkMessage(t, v, refused)
		}
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() && !seen[e.Name()] && e.Name() != "root.json" {
			t.Errorf("testdata/%s belongs to no vector", e.Name())
		}
	}
}

// checkMessage: what people and scripts rely on is in every refusal.
func checkMessage(t *testing.T, v vector, e *Error) {
	t.Helper()
	object, _, _ := strings.Cut(v.name, "-")
	if v.object != "" {
		object = v.object
	}
	text := e.Error()
	if e.Object != object || !strings.Contains(strings.ToLower(text), object) {
		t.Errorf("%s: message does not name the object: %s", v.name, text)
	}
	if !strings.HasPrefix(e.Code(), "VFY-0") || e.Code() == "VFY-000" || e.Hint() == "" {
		t.Errorf("%s: code %s, hint %q", v.name, e.Code(), e.Hint())
	}
	if len(text) > 1000 || strings.ContainsAny(text, "\n\r\x00\x1b") {
		t.Errorf("%s: message is not fit for a console: %q", v.name, text)
	}
}

func writeVectors(t *testing.T, g *generator) {
	t.Helper()
	old, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"testdata/root.json": g.good["root"]}
	for _, v := range vectors {
		if files[v.path()] != nil {
			t.Fatalf("two vectors are called %s", v.name)
		}
		files[v.path()] = v.make(g)
	}
	for path, raw := range files {
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
