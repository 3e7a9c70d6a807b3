package manifest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/strictjson"
)

// addVectors seeds a fuzz target with the vectors of a kind, beside the corpus
// in testdata/fuzz.
func addVectors(f *testing.F, kind string) *generator {
	g := newGenerator(f)
	for _, v := range vectors {
		if strings.HasPrefix(v.name, kind+"-") {
			f.Add(v.make(g))
		}
	}
	return g
}

// FuzzParseRoot: an accepted root signs a canonical text that stays the same
// when it is made canonical again, and parses the same from there.
func FuzzParseRoot(f *testing.F) {
	addVectors(f, "root")
	f.Fuzz(func(t *testing.T, raw []byte) {
		root, err := ParseRoot(raw)
		if err != nil {
			return
		}
		var file wireRootFile
		if err := strictjson.Unmarshal(raw, &file, strictjson.Limits{}); err != nil {
			t.Fatal(err)
		}
		if file.Signed, err = strictjson.CanonicalizeOLPC(file.Signed, strictjson.Limits{}); err != nil {
			t.Fatal(err)
		}
		again, err := strictjson.MarshalCanonical(file)
		if err != nil {
			t.Fatal(err)
		}
		second, err := ParseRoot(again)
		if err != nil || second.version != root.version || len(second.roles) != len(root.roles) {
			t.Fatalf("accepted, but not in canonical form: %v\n%s", err, again)
		}
	})
}

// FuzzVerifyManifest: whatever is accepted carries the one payload that the
// keys signed. The keys are not in the fuzzer's hands, so anything else that is
// accepted is a forgery.
func FuzzVerifyManifest(f *testing.F) {
	g := addVectors(f, "manifest")
	root := testRoot(f)
	signed := map[string]bool{}
	for _, v := range vectors {
		if strings.HasPrefix(v.name, "manifest-") {
			if env, err := openEnvelope(v.make(g), kindManifest); err == nil {
				signed[string(env.payload)] = true
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := verifyManifest(raw, root, Want{Any, Any}, Floor{}, nil, now)
		if (err == nil) != v.Valid() {
			t.Fatalf("valid is %v with %v", v.Valid(), err)
		}
		if err != nil {
			return
		}
		env, err := openEnvelope(raw, kindManifest)
		if err != nil || !signed[string(env.payload)] {
			t.Fatalf("forged: %v %s", err, env.payload)
		}
	})
}

// FuzzVerifyPointer is FuzzVerifyManifest for pointers.
func FuzzVerifyPointer(f *testing.F) {
	g := addVectors(f, "pointer")
	root := testRoot(f)
	signed := map[string]bool{}
	for _, v := range vectors {
		if strings.HasPrefix(v.name, "pointer-") {
			if env, err := openEnvelope(v.make(g), kindPointer); err == nil {
				signed[string(env.payload)] = true
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := verifyPointer(raw, root, Want{Any, Any}, now)
		if (err == nil) != p.Valid() {
			t.Fatalf("valid is %v with %v", p.Valid(), err)
		}
		if _, inspectErr := InspectPointer(raw); err == nil && inspectErr != nil {
			t.Fatalf("verified, but not well-formed: %v", inspectErr)
		}
		if err != nil {
			return
		}
		env, err := openEnvelope(raw, kindPointer)
		if err != nil || !signed[string(env.payload)] {
			t.Fatalf("forged: %v %s", err, env.payload)
		}
	})
}

// FuzzPayloads works behind the signatures, which the fuzzer cannot forge:
// decoding and encoding again gives the same bytes, also by way of the public
// types if no unknown members are involved.
func FuzzPayloads(f *testing.F) {
	g := newGenerator(f)
	for _, v := range vectors {
		for _, k := range []kind{kindManifest, kindPointer} {
			if env, err := openEnvelope(v.make(g), k); err == nil {
				f.Add(env.payload)
			}
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if m, wire, _, err := decodeManifest(payload); err == nil {
			checkIdentity(t, payload, wire)
			if _, err := strictjson.MarshalCanonical(wireOf(m)); err != nil {
				t.Fatalf("accepted manifest cannot be written: %v", err)
			}
			_ = m.checkPolicy()
		}
		if p, wire, _, err := decodePointer(payload); err == nil {
			checkIdentity(t, payload, wire)
			if _, err := strictjson.MarshalCanonical(wirePointerOf(p)); err != nil {
				t.Fatalf("accepted pointer cannot be written: %v", err)
			}
			_ = p.checkPolicy()
		}
	})
}

func checkIdentity(t *testing.T, payload []byte, wire any) {
	t.Helper()
	again, err := strictjson.MarshalCanonical(wire)
	if err != nil || !bytes.Equal(again, payload) {
		t.Fatalf("%v\n in %q\nout %q", err, payload, again)
	}
}

// FuzzCmdline: what passes has no forbidden parameter in any way of splitting.
func FuzzCmdline(f *testing.F) {
	for _, seed := range []string{"quiet", `"init=/bin/sh"`, "a\u00a0init=x", "module.sig-enforce=0", "x=init=y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkCmdline(s) != nil {
			return
		}
		for _, word := range strings.FieldsFunc(s, func(c rune) bool { return c <= ' ' || c == 0xa0 || c == '"' }) {
			word = strings.ReplaceAll(word, "-", "_")
			for _, bad := range forbiddenParams {
				if strings.HasPrefix(word, bad) && !strings.Contains(s, `"`) {
					t.Fatalf("%q passes in %q", bad, s)
				}
			}
		}
	})
}
