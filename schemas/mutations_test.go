package schemas_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/manifest"
)

var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase schema test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(name string) ed25519.PublicKey { return key(name).Public().(ed25519.PublicKey) }

// fullManifest has every member that there is.
func fullManifest() manifest.Manifest {
	rootfs := manifest.Artifact{
		Hash: blob.Of([]byte("rootfs")), Size: 12288, Chunks: blob.Of([]byte("chunk list")),
		Deltas: []manifest.Delta{
			{From: blob.Of([]byte("rootfs 5")), Hash: blob.Of([]byte("from 5")), Size: 2},
			{From: blob.Of([]byte("rootfs 4")), Hash: blob.Of([]byte("from 4")), Size: 3},
		},
		Verity: &manifest.Verity{Root: blob.Of([]byte("tree")), Salt: []byte("salt"), DataSize: 8192},
	}
	return manifest.Manifest{
		ManifestVersion: 7, SecurityFloor: 3,
		Channel: manifest.ChannelStable, Arch: manifest.ArchX8664,
		CreatedAt: clock, ExpiresAt: clock.AddDate(0, 3, 0),
		Kernel:    manifest.Artifact{Hash: blob.Of([]byte("kernel")), Size: 6, URLs: []string{"https://mirror.example:8443/a%20b/kernel?x=1", "http://[2001:db8::1]:80/k"}},
		Initramfs: manifest.Artifact{Hash: blob.Of([]byte("initramfs")), Size: 9, IPFS: "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"},
		Rootfs:    &rootfs,
		DTBs:      map[string]manifest.Artifact{"board.dtb": {Hash: blob.Of([]byte("dtb")), Size: 3}},
		Cmdline:   "console=ttyS0 quiet",
	}
}

func fullPointer() manifest.Pointer {
	return manifest.Pointer{
		Channel: manifest.ChannelStable, Arch: manifest.ArchARM64, ManifestVersion: 7, RootVersion: 2,
		ManifestHash: blob.Of([]byte("manifest")), ManifestSize: 900,
		CreatedAt: clock, ExpiresAt: clock.AddDate(0, 0, 7), URLs: []string{"http://10.0.2.2:8080/manifest.json"},
	}
}

func fullRoot(t *testing.T) []byte {
	t.Helper()
	role := func(threshold int, names ...string) manifest.RoleKeys {
		var keys []ed25519.PublicKey
		for _, name := range names {
			keys = append(keys, public(name))
		}
		return manifest.RoleKeys{Keys: keys, Threshold: threshold}
	}
	raw, err := manifest.NewRoot(manifest.RootSpec{
		Version: 3, Expires: clock.AddDate(1, 0, 0),
		Roles: map[manifest.Role]manifest.RoleKeys{
			manifest.RoleRoot: role(2, "root-1", "root-2"), manifest.RoleTargets: role(1, "targets"),
			manifest.RoleTimestamp: role(1, "timestamp"), manifest.RoleSnapshot: role(1, "snapshot"),
		},
		Channels: map[string]manifest.RoleKeys{"testing": role(1, "testing")},
		Floors:   map[string]manifest.FloorReset{"stable": {Root: 2, Version: 40}},
	}, key("root-1"), key("root-2"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// decode reads JSON as maps, slices, strings, numbers as written, and booleans.
func decode(t *testing.T, raw []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// encode writes the canonical form, or any form if there is none.
func encode(t *testing.T, doc any) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	if canonical, err := strictjson.Canonicalize(out.Bytes(), strictjson.Limits{Depth: 100}); err == nil {
		return canonical
	}
	return bytes.TrimSpace(out.Bytes())
}

// strangers stand in for any value.
var strangers = []any{
	nil, true, false, "", "x", number("0"), number("1"), number("-1"), number("7"), []any{}, map[string]any{},
	[]any{"x"}, []any{nil}, map[string]any{"a": number("1")}, map[string]any{"A": []any{}},
	number("7.0"), number("7e0"), number("-0"), number("0.5"), number("1e400"),
	number("9007199254740991"), number("9007199254740992"), number("-9007199254740991"), number("-9007199254740992"), number("18446744073709551616"),
	number("2048"), number("65536"), number("65537"), number("16777216"), number("16777217"), number("536870912"), number("536870913"),
	number("8589934592"), number("8589934593"), number("4096"), number("8192"), number("8193"),
}

func number(s string) json.Number { return json.Number(s) }

// texts stand in for any string: each is on one side of some boundary.
var texts = []string{
	"1999-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "2999-12-31T23:59:59Z", "3000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
	"2028-02-29T00:00:00Z", "2026-02-29T00:00:00Z", "2026-02-30T00:00:00Z", "2026-04-31T00:00:00Z", "2026-12-31T23:59:60Z", "2026-05-01T24:00:00Z",
	"2026-05-01T12:00:00+00:00", "2026-05-01T12:00:00.5Z", "2026-05-01t12:00:00z", "2026-5-01T12:00:00Z", "2026-05-01 12:00:00Z", "2026-05-01T12:00Z", "２026-05-01T12:00:00Z",
	"sha256:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("0", 63) + "1", "sha256:" + strings.Repeat("F", 64), "sha256:" + strings.Repeat("f", 63),
	"sha256:" + strings.Repeat("f", 65), "sha512:" + strings.Repeat("f", 64), strings.Repeat("f", 64), "SHA256:" + strings.Repeat("f", 64),
	"0.0", "0.1", "0.9999", "0.10000", "0.01", "0.", "1.0", "00.1", "0.1.0", "1.0.34", "1.9999.9999", "1.10000", "2.0.0", "1", "1.0.", "v1.0",
	"stable", "testing", "nightly", "Stable", "st\u00e4ble", "sta\u0308ble", "x86_64", "arm64", "amd64", "aarch64", "X86_64", "phase-boot", "phase-root", "root", "targets", "ed25519", "rsa",
	"init=/bin/sh", "quiet init=x", "rdinit=x", `""init=x`, `a"init=x`, "xinit=y", "lockdown=none", "module.sig_enforce=0", "module.sig-enforce=0", "module-sig_enforce=0", "modulexsig_enforce=0",
	"a\tinit=x", "a\nb", "a\u0000b", "a\u007fb", "a\u00a0b", "a  b", " ", "\u2028", "<&>", `\`, `"`, strings.Repeat("a", 2048), strings.Repeat("a", 2049),
	"http://h", "HTTP://h", "hTTps://h/", "http://h:", "http://h:80", "http://h:80x", "http://h:x", "http://h:80:80", "http://:80", "http:///p", "http:/h", "http:h", "//h/p", "/p", "ftp://h", "file:///etc",
	"http://u@h", "http://u:p@h/", "http://h/u@v", "http://h/#f", "http://h#", "http://h/?#", "http://h?q", "http://h/?q=%zz", "http://h/%zz", "http://h/%2", "http://h/%41", "http://%41/", "http://%c3%bc/", "http://h%25/", "http://h%/",
	"http://[::1]", "http://[::1]:8080/p?q", "http://[::1", "http://::1/", "http://[]/", "http://[::1]x/", "http://[::1%25eth0]/", "http://[::1%eth0]/", "http://[h]/", "http://[::g]/", "http://1.2.3.4/", "http://[1.2.3.4]/", "http://a[b]/",
	"http://h\\p", "http://h/\\p", "http://h|", "http://h/|", "http://h^/", "http://h_/", "http://h\"/", "http://h</", "http://h/[x]", "http://h/{x}", "http://h p", "http://h/ p", "http://h/\u00fc", "http://h/\x7f", "http://h/~!$&'()*+,;=:@.-_", "http://a,b;c=d/", "http://*/", "http://`/", "http://h/`", "http://{/",
	"http://h/" + strings.Repeat("a", 2048-9), "http://h/" + strings.Repeat("a", 2048-8),
	"Qm", "Q/m", "Qm=", strings.Repeat("Q", 128), strings.Repeat("Q", 129),
	"AA==", "AB==", "AAA=", "AAB=", "AAAA", "AA", "A", "AA=", "AA===", "AAA\n", "-_8=", "+/8=", "e30=",
	base64.StdEncoding.EncodeToString(make([]byte, 63)), base64.StdEncoding.EncodeToString(make([]byte, 64)), base64.StdEncoding.EncodeToString(make([]byte, 65)),
	strings.Repeat("00", 64), strings.Repeat("0", 127), "ab", "AB", "abc", "zz", "ab ", strings.Repeat("5a", 32), strings.Repeat("5a", 33), "01" + strings.Repeat("0", 62),
}

// names stand in for member names.
var names = []string{"zz_next", "z", "", "A", "Version", "a-b", "x-note", "1a", "_a", "_type", "é", "a\u0001", "a b", "a.dtb", ".dtb", "-a", "../x", "a/b",
	"stable", "nightly", "none", "Stable", strings.Repeat("a", 32), strings.Repeat("a", 33), strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("a", 128), strings.Repeat("a", 129),
	strings.Repeat("f", 64), "manife\u017ft_version", "urls", "signed", "signatures", "size"}

// foreign are values of members that the format does not know.
var foreign = []any{number("1"), "x", "a\u0001", []any{number("1"), "b", []any{}}, map[string]any{"A": true, "é": map[string]any{}}, map[string]any{"a\u0001": true},
	nil, number("1.5"), number("9007199254740992"), []any{nil}, map[string]any{"a": nil}, nest(11), nest(12), nest(13), nest(14), nest(15), nest(16)}

func nest(depth int) any {
	var v any = "x"
	for range depth {
		v = []any{v}
	}
	return v
}

// mutate calls use with every changed document. It edits doc in place and
// restores it, so use must not keep it.
func mutate(doc any, use func(what string)) {
	var at func(path string, get any, set func(any))
	at = func(path string, v any, set func(any)) {
		try := func(what string, replacement any) {
			set(replacement)
			use(path + " " + what)
			set(v)
		}
		for _, s := range strangers {
			try(fmt.Sprintf("= %T %.30v", s, s), s)
		}
		switch v := v.(type) {
		case string:
			for _, s := range texts {
				try(fmt.Sprintf("= %.60q", s), s)
			}
			for _, s := range []string{v + "x", "x" + v, v + " ", " " + v, v + "\n", v + "\u0000", strings.ToUpper(v), strings.ToLower(v), v[:max(0, len(v)-1)], v + v} {
				try(fmt.Sprintf("= %.60q", s), s)
			}
		case json.Number:
			if n, err := v.Int64(); err == nil {
				try("one less", number(fmt.Sprint(n-1)))
				try("one more", number(fmt.Sprint(n+1)))
			}
		case []any:
			mutateArray(v, try)
			for i := range v {
				at(fmt.Sprintf("%s/%d", path, i), v[i], func(x any) { v[i] = x })
			}
		case map[string]any:
			mutateObject(path, v, use)
			for _, name := range slices.Sorted(maps.Keys(v)) {
				at(path+"/"+name, v[name], func(x any) { v[name] = x })
			}
		}
	}
	root := doc.(map[string]any)
	mutateObject("", root, use)
	for _, name := range slices.Sorted(maps.Keys(root)) {
		at("/"+name, root[name], func(x any) { root[name] = x })
	}
}

func mutateArray(v []any, try func(string, any)) {
	for _, n := range []int{8, 9, 15, 16, 17} {
		if len(v) > 0 {
			try(fmt.Sprintf("of %d", n), slices.Repeat(v[:1], n))
			try(fmt.Sprintf("of %d unlike", n), unlike(v[0], n))
		}
	}
	for i := range v {
		try(fmt.Sprintf("without %d", i), slices.Delete(slices.Clone(v), i, i+1))
	}
	if len(v) > 1 {
		turned := slices.Clone(v)
		slices.Reverse(turned)
		try("turned round", turned)
	}
	for _, s := range []any{nil, number("1"), "x", map[string]any{}} {
		try(fmt.Sprintf("and %v", s), append(slices.Clone(v), s))
	}
}

// unlike is n copies of a value that differ in the file, if any, which they are
// from.
func unlike(v any, n int) []any {
	list := slices.Repeat([]any{v}, n)
	for i := range list {
		if object, ok := v.(map[string]any); ok && object["from"] != nil {
			object = maps.Clone(object)
			object["from"] = blob.Of(fmt.Appendf(nil, "origin %d", i)).String()
			list[i] = object
		}
	}
	return list
}

func mutateObject(path string, v map[string]any, use func(string)) {
	add := func(name string, value any) {
		if _, taken := v[name]; taken {
			return
		}
		v[name] = value
		use(fmt.Sprintf("%s with %.70q: %.40v", path, name, value))
		delete(v, name)
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		value := v[name]
		delete(v, name)
		use(path + " without " + name)
		for _, other := range []string{strings.ToUpper(name), strings.Replace(name, "s", "\u017f", 1), name + "x"} {
			add(other, value)
		}
		v[name] = value
		add(strings.ToUpper(name), value)
	}
	for _, name := range names {
		add(name, number("1"))
		if there := slices.Sorted(maps.Keys(v)); len(there) > 0 {
			add(name, v[there[0]]) // of the kind that belongs here
		}
	}
	for _, value := range foreign {
		add("zz_next", value)
	}
	mutateCount(path, v, use)
}

// mutateCount fills an object up to and beyond the bounds of the table of
// device trees.
func mutateCount(path string, v map[string]any, use func(string)) {
	some, ok := v["board.dtb"]
	if !ok {
		return
	}
	big := map[string]any{"hash": some.(map[string]any)["hash"], "size": number("16777216"), "urls": []any{}}
	for _, c := range []struct {
		n     int
		value any
	}{{63, some}, {64, some}, {4, big}, {3, big}} {
		for i := range c.n {
			v[fmt.Sprintf("%d.dtb", i)] = c.value
		}
		use(fmt.Sprintf("%s with %d more", path, c.n))
		for i := range c.n {
			delete(v, fmt.Sprintf("%d.dtb", i))
		}
	}
}

// tally counts what was compared and fails where nothing was.
type tally struct{ total, accepted int }

func (c tally) check(t *testing.T, total, accepted int) {
	t.Helper()
	t.Logf("%d changed documents, %d of them accepted by both", c.total, c.accepted)
	if c.total < total || c.accepted < accepted {
		t.Errorf("too few to mean anything: want %d and %d", total, accepted)
	}
}

// testPayloads changes every part of the signed bytes of a manifest and a
// pointer. What the parser accepts is signed and verified as well.
func (j judge) testPayloads(t *testing.T) {
	root := signers(t)
	for kind, made := range map[string]func() (*manifest.Draft, error){
		"manifest": func() (*manifest.Draft, error) { return manifest.DraftManifest(fullManifest()) },
		"pointer":  func() (*manifest.Draft, error) { return manifest.DraftPointer(fullPointer()) },
	} {
		draft, err := made()
		if err != nil {
			t.Fatal(err)
		}
		file, err := draft.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		doc := decode(t, payloadOf(t, file))
		var count tally
		mutate(doc, func(what string) {
			payload := encode(t, doc)
			both := j.compare(t, kind, kind+": "+what, enveloped(payload))
			count.total++
			if both {
				count.accepted++
			}
			if verified := verify(root, kind, payload); both != (verified == nil) {
				t.Errorf("%s: %s: form accepted by both is %v, but verified is %v", kind, what, both, verified)
			}
		})
		if !bytes.Equal(encode(t, doc), payloadOf(t, file)) {
			t.Fatal("the document was not restored")
		}
		count.check(t, 1500, 100)
	}
}

// testEnvelopes changes every part of the files around them.
func (j judge) testEnvelopes(t *testing.T) {
	draftM, err := manifest.DraftManifest(fullManifest())
	if err != nil {
		t.Fatal(err)
	}
	draftP, err := manifest.DraftPointer(fullPointer())
	if err != nil {
		t.Fatal(err)
	}
	for _, draft := range []*manifest.Draft{draftM, draftP} {
		if err := draft.Sign(key("a")); err != nil {
			t.Fatal(err)
		}
		if err := draft.Sign(key("b")); err != nil {
			t.Fatal(err)
		}
		file, err := draft.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		doc := decode(t, file)
		doc.(map[string]any)["channel"] = "stable" // a copy for people to read
		var count tally
		mutate(doc, func(what string) {
			count.total++
			if j.compare(t, draft.Object(), draft.Object()+" file: "+what, encode(t, doc)) {
				count.accepted++
			}
		})
		count.check(t, 1500, 10)
	}
}

// testRoots changes every part of a root. Nobody signs it again: that the
// signature is wrong is the last thing that the parser finds.
func (j judge) testRoots(t *testing.T) {
	doc := decode(t, fullRoot(t))
	var count tally
	mutate(doc, func(what string) {
		count.total++
		if j.compare(t, "root", "root: "+what, encode(t, doc)) {
			count.accepted++
		}
	})
	count.check(t, 8000, 1000)
}

func payloadOf(t *testing.T, file []byte) []byte {
	t.Helper()
	var envelope struct {
		Signed struct {
			Data []byte `json:"data"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(file, &envelope); err != nil {
		t.Fatal(err)
	}
	return envelope.Signed.Data
}

// signers is a root whose key "all" signs everything, in the name of two roles
// with a key each.
func signers(t *testing.T) *manifest.Root {
	t.Helper()
	one := func(name string) manifest.RoleKeys {
		return manifest.RoleKeys{Keys: []ed25519.PublicKey{public(name)}, Threshold: 1}
	}
	raw, err := manifest.NewRoot(manifest.RootSpec{Version: 1 << 40, Expires: time.Date(2999, 12, 31, 23, 59, 59, 0, time.UTC), Roles: map[manifest.Role]manifest.RoleKeys{
		manifest.RoleRoot: one("root"), manifest.RoleTargets: one("targets"), manifest.RoleTimestamp: one("timestamp"),
	}}, key("root"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// verify signs payload and asks the verifier, at a time within the document's
// life. Refusals for what a schema is not about are no refusals here.
func verify(root *manifest.Root, kind string, payload []byte) error {
	v := manifest.Verifier{Root: root, Want: manifest.Want{Channel: manifest.Any, Arch: manifest.Any}}
	var life struct {
		CreatedAt time.Time `json:"created_at"`
	}
	_ = json.Unmarshal(payload, &life)      // a payload that is not JSON is refused at any time
	now := life.CreatedAt.Add(-time.Second) // within the root's life, whatever the document's
	var err error
	if kind == "manifest" {
		_, err = v.Manifest(sealed(manifest.ManifestPayloadType, payload, key("targets")), nil, nil, now)
	} else {
		_, err = v.Pointer(sealed(manifest.PointerPayloadType, payload, key("timestamp")), now)
	}
	if refusedBy(err) == manifest.RuleRootVersion {
		return nil
	}
	return err
}

func sealed(payloadType string, payload []byte, key ed25519.PrivateKey) []byte {
	s := dsse.Sign(payloadType, payload, key)
	return fmt.Appendf(nil, `{"signatures":[{"keyid":%q,"sig":%q}],"signed":{"data":%q}}`,
		s.KeyID, base64.StdEncoding.EncodeToString(s.Sig), base64.StdEncoding.EncodeToString(payload))
}
