package manifest

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

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
		if err != nil || !reflect.DeepEqual(second, root) {
			t.Fatalf("accepted, but not in canonical form: %v\n%s", err, again)
		}
		checkSpec(t, root)
	})
}

// checkSpec: what a tool reads from a root it can write again, and reads the
// same. Only a channel that does not exist yet is refused.
func checkSpec(t *testing.T, root *Root) {
	t.Helper()
	spec, err := root.Spec()
	if err != nil {
		return
	}
	for name := range spec.Channels {
		if CheckChannel(name) != nil {
			return
		}
	}
	for name := range spec.Floors {
		if CheckChannel(name) != nil {
			return
		}
	}
	d, err := DraftRoot(spec)
	if err != nil {
		t.Fatalf("an accepted root cannot be drafted: %v", err)
	}
	if again := d.Spec(); !reflect.DeepEqual(again, spec) {
		t.Fatalf("drafted is another root:\n in %+v\nout %+v", spec, again)
	}
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

// fuzzSigners are the keys that a fuzzer may use, a bit for each.
var fuzzSigners = []string{"targets-1", "targets-2", "targets-3", "targets-4", "targets-5", "testing-1", "testing-2",
	"testing-3", "timestamp", "root-1", "root-2", "root-4", "root-5", "receipt-1", "stranger", "other stranger"}

func chosen(mask uint16) []string {
	var names []string
	for i, name := range fuzzSigners {
		if mask>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return names
}

// fuzzRoots are the roots that a fuzzer may choose from.
var fuzzRoots = []string{"", "root-ok-channels", "root-ok-floor-reset", "root-ok-floor-reset-to-8", "root-ok-expires-soon",
	"chain-ok-targets-replaced/2.root"}

// FuzzVerifier gives the fuzzer keys, so that it gets behind the signatures:
// whatever a Verifier accepts, as new or as kept, the oracle must accept, and a
// Draft of it must open.
func FuzzVerifier(f *testing.F) {
	g := newGenerator(f)
	f.Add([]byte(g.payload["manifest"]), uint16(3), uint8(0), int64(0), int64(0), int64(0), int32(0))
	for _, v := range slices.Concat(manifestVectors, partVectors, verityVectors) {
		if env, err := openEnvelope(v.make(g), kindManifest); err == nil {
			root := slices.Index(fuzzRoots, v.root)
			hours := int32(v.defaults().at.Sub(now).Hours())
			f.Add(env.payload, uint16(3), uint8(max(root, 0)), v.floor.ManifestVersion, v.floor.SecurityFloor, v.floor.RootVersion, hours)
		}
	}
	roots, oracles := make([]*Root, len(fuzzRoots)), make([]oracle, len(fuzzRoots))
	for i, name := range fuzzRoots {
		roots[i], oracles[i] = g.root(name), g.oracle(name)
	}
	f.Fuzz(func(t *testing.T, payload []byte, signers uint16, root uint8, version, security, underRoot int64, hours int32) {
		if canonical, err := strictjson.Canonicalize(payload, strictjson.Limits{}); err == nil {
			payload = canonical
		}
		k := kindManifest
		k.maxBytes = 1 << 20
		d := envelope{payload: payload}.draft(k)
		for _, key := range private(chosen(signers)...) {
			if err := d.Sign(key); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := d.Bytes()
		if err != nil {
			t.Skip()
		}
		which := int(root) % len(fuzzRoots)
		floor := Floor{ManifestVersion: version, SecurityFloor: security, RootVersion: underRoot}
		verifier := Verifier{Root: roots[which], Want: Want{Any, ArchX8664}, Floor: floor}
		at := now.Add(time.Duration(hours) * time.Hour)
		v, err := verifier.Manifest(raw, nil, nil, at)
		if err == nil {
			checkAccepted(t, v, raw, oracles[which].manifest(raw, verifier.Want, floor, at, false))
		}
		if v, err = verifier.LastGood(raw, nil, at); err == nil {
			checkAccepted(t, v, raw, oracles[which].manifest(raw, verifier.Want, floor, at, true))
		}
	})
}

func checkAccepted(t *testing.T, v *Verified, raw []byte, oracle error) {
	t.Helper()
	if !v.Valid() || oracle != nil {
		t.Fatalf("valid is %v, the oracle says %v:\n%s", v.Valid(), oracle, raw)
	}
	d, err := OpenManifestDraft(raw)
	if err != nil || d.Digest() != v.Digest() || !reflect.DeepEqual(d.Manifest(), v.Manifest()) {
		t.Fatalf("a draft of it says something else: %v", err)
	}
	if f := v.Floor(); f.ManifestVersion < v.Manifest().ManifestVersion {
		t.Fatalf("floor %+v is below the manifest", f)
	}
}

// FuzzRootUpdate: without a key (signers 0) nothing but the roots that were
// signed for the seeds is accepted; with keys, only what the oracle accepts.
func FuzzRootUpdate(f *testing.F) {
	g := newGenerator(f)
	signed := map[string]bool{}
	for _, c := range chainVectors {
		files := c.make(g)
		for name, raw := range files {
			file, err := openRootFile(raw)
			if name == "1.root.json" || err != nil {
				continue
			}
			signed[string(file.signed)] = true
			f.Add(raw, uint16(0))
			f.Add(file.signed, uint16(1<<9|1<<10|1<<11|1<<12)) // root-1, -2, -4, -5
		}
	}
	f.Add([]byte(g.payload["root"]), uint16(1<<9))
	root, oracle := g.root(""), g.oracle("")
	f.Fuzz(func(t *testing.T, raw []byte, signers uint16) {
		if signers != 0 {
			if canonical, err := strictjson.CanonicalizeOLPC(raw, rootLimits); err == nil {
				raw = canonical
			}
			if _, err := strictjson.Canonicalize(raw, rootLimits); err != nil {
				return // the signer needs JSON to put a signature beside it
			}
			raw = signedRoot(string(raw), chosen(signers)...)
		}
		next, err := root.Update(raw)
		if err != nil {
			if next != nil {
				t.Fatal("a root beside an error")
			}
			return
		}
		if refused := oracle.update(raw); refused != nil {
			t.Fatalf("the oracle says %v:\n%s", refused, raw)
		}
		if alone, err := ParseRoot(raw); err != nil || !reflect.DeepEqual(alone, next) {
			t.Fatalf("accepted as a successor, but not by itself: %v", err)
		}
		if file, err := openRootFile(raw); err != nil || signers == 0 && !signed[string(file.signed)] {
			t.Fatalf("forged: %v\n%s", err, raw)
		}
		checkSpec(t, next)
	})
}

// FuzzDraft: opening and writing is the identity from the first writing on, and
// never touches what is signed; what a Verifier accepts can be opened.
func FuzzDraft(f *testing.F) {
	g := newGenerator(f)
	for _, v := range vectors {
		if len(v.make(g)) < 16<<10 {
			f.Add(v.make(g))
		}
	}
	root := g.root("")
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, object := range []string{"manifest", "pointer", "root"} {
			d, err := openDraft(object, raw)
			if err != nil {
				continue
			}
			first, err := d.Bytes()
			if err != nil {
				continue // escapes may take more room than the cap allows
			}
			again, err := openDraft(object, first)
			if err != nil || again.Digest() != d.Digest() || !slices.Equal(again.KeyIDs(), d.KeyIDs()) {
				t.Fatalf("%s: written, but not read back: %v\n%s", object, err, first)
			}
			if second := draftBytes(t, again); !bytes.Equal(first, second) {
				t.Fatalf("%s changed:\n in %s\nout %s", object, first, second)
			}
			if err := d.Merge(again); err != nil {
				t.Fatalf("%s: cannot be merged with itself: %v", object, err)
			}
		}
		if _, err := (Verifier{Root: root, Want: wantTest}).Manifest(raw, nil, nil, now); err == nil {
			if _, err := OpenManifestDraft(raw); err != nil {
				t.Fatalf("verified, but cannot be opened: %v", err)
			}
		}
	})
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
