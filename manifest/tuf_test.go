package manifest

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// go-tuf is the oracle for roots: a program by other people that reads and
// follows the same documents. It is used in tests only, as it panics on some
// malformed roots and signs and checks a new encoding of what it read instead
// of the bytes.
//
// The claim under test: a step from one root to the next that this package
// takes, go-tuf takes as well, without exception. The other way round this
// package is stricter, and stricterThanTUF lists in what.

// tufTrust reads a trusted root.
func tufTrust(raw []byte) (trusted *trustedmetadata.TrustedMetadata, err error) {
	defer refusePanic(&err)
	return trustedmetadata.New(raw)
}

// tufStep updates a copy of trusted.
func tufStep(trusted *trustedmetadata.TrustedMetadata, raw []byte) (next *trustedmetadata.TrustedMetadata, err error) {
	defer refusePanic(&err)
	again := *trusted // UpdateRoot replaces the root and changes nothing in it
	_, err = again.UpdateRoot(raw)
	return &again, err
}

func refusePanic(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}

// stricterThanTUF is everything for which this package refuses roots that
// go-tuf accepts: a rule, a part of its message, and why we are stricter.
// Whose signatures count, how many are enough and the order of versions are not
// among it.
var stricterThanTUF = []struct {
	rule   Rule
	detail string
	why    string
}{
	{RuleSize, "", "128 KiB hold hundreds of keys"},
	{RuleMalformed, "duplicate object member name", "readers disagree on which one counts"},
	{RuleMalformed, "invalid UTF-8", "readers repair it in different ways"},
	{RuleMalformed, "surrogate", "the same"},
	{RuleMalformed, "not a plain integer", "readers round 2^53+1 and refuse 1.0 in different ways"},
	{RuleMalformed, "null is not allowed", "readers take it for absent, zero or an error"},
	{RuleMalformed, "nested too deeply", "nothing real is deeper than 16 levels"},
	{RuleMalformed, "control character", "the canonical form would not be JSON any more"},
	{RuleMalformed, "value does not fit", "unsigned members beside the signed ones; times with fractions or zones; values of another type"},
	{RuleMalformed, "unknown member", "readers that do not mind case take some names for others; other odd names are refused with them"},
	{RuleMalformed, "consistent_snapshot is missing", "go-tuf signs and checks a default in its place, instead of what is there"},
	{RuleMalformed, "expires is missing", "the same, or it reads a member in another case"},
	{RuleMalformed, "version is 0", "it reads a member in another case"},
	{RuleMalformed, "a signature lacks", "readers take an absent member for an empty one, or not"},
	{RuleMalformed, "signature of", "hexadecimal in upper case is a second form of the same signature"},
	{RuleMalformed, "lacks keyids", "go-tuf signs and checks null in their place, instead of what is there"},
	{RuleMalformed, "role ", "a missing role, a key that is not in the table, or a threshold that nobody can reach would stop the chain later"},
	{RuleMalformed, "channel ", "our members are read as strictly as roles"},
	{RuleMalformed, "x-phase-", "our members are read as strictly as roles"},
	{RuleKey, "only ed25519 is supported", "one kind of key"},
	{RuleKey, "is not lower-case hexadecimal", "a second form of the same key"},
	{RuleKey, "unusable Ed25519 public key", "weak keys make forgeries easy"},
	{RuleKey, "carries an id that is not its hash", "a key under two ids could be counted twice"},
	{RuleKey, "or one of them twice", "roles share no keys, so that stealing one does not give another"},
	{RuleSchema, "spec_version", "another major version may mean something else"},
}

// stricter returns the index in stricterThanTUF of what err is about, or -1.
func stricter(err error) int {
	var refused *Error
	if !errors.As(err, &refused) {
		return -1
	}
	for i, s := range stricterThanTUF {
		if refused.Rule == s.rule && strings.Contains(err.Error(), s.detail) {
			return i
		}
	}
	return -1
}

// differ compares the two on one step and returns what they disagree about, if
// that is against the claim. used collects the reasons for being stricter.
func differ(root *Root, oracle *trustedmetadata.TrustedMetadata, raw []byte, used map[int]bool) error {
	next, ours := root.Update(raw)
	_, theirs := tufStep(oracle, raw)
	switch {
	case ours == nil && next.Version() != root.Version()+1:
		return fmt.Errorf("accepted version %d after %d", next.Version(), root.Version())
	case (ours == nil) == (theirs == nil):
		return nil
	case ours == nil:
		return fmt.Errorf("accepted, but go-tuf refuses: %w", theirs)
	}
	reason := stricter(ours)
	if reason < 0 {
		return fmt.Errorf("go-tuf accepts, but refused for a reason that is not listed: %w", ours)
	}
	if used != nil {
		used[reason] = true
	}
	return nil
}

// TestTUFReadsOurRoots: every vector of a good root is one for go-tuf, our own
// members included, and every good chain leads it to the same root.
func TestTUFReadsOurRoots(t *testing.T) {
	paths, err := filepath.Glob("testdata/root-ok*.json")
	if err != nil || len(paths) < 5 {
		t.Fatalf("%d roots, %v", len(paths), err)
	}
	for _, path := range append(paths, "testdata/root.json") {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := ParseRoot(raw)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := tufTrust(raw)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if signed := theirs.Root.Signed; signed.Version != ours.Version() || !signed.Expires.Equal(ours.Expires()) {
			t.Errorf("%s: version %d until %s, go-tuf reads %d until %s", path, ours.Version(), ours.Expires(), signed.Version, signed.Expires)
		}
		for role, keys := range theirs.Root.Signed.Roles {
			own, _ := ours.Keys(Role(role))
			if own.Threshold != keys.Threshold || len(own.Keys) != len(keys.KeyIDs) {
				t.Errorf("%s: role %s differs", path, role)
			}
		}
	}
}

// TestTUFFollowsOurChains walks every chain among the vectors with both.
func TestTUFFollowsOurChains(t *testing.T) {
	chains, err := filepath.Glob("testdata/chain-*")
	if err != nil || len(chains) < 15 {
		t.Fatalf("%d chains, %v", len(chains), err)
	}
	used := map[int]bool{}
	for _, chain := range chains {
		steps, err := filepath.Glob(filepath.Join(chain, "*.root.json"))
		if err != nil || len(steps) < 2 {
			t.Fatalf("%s: %v, %v", chain, steps, err)
		}
		slices.Sort(steps)
		var ours *Root
		var theirs *trustedmetadata.TrustedMetadata
		for i, step := range steps {
			raw, err := os.ReadFile(step)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				if ours, err = ParseRoot(raw); err != nil {
					t.Fatal(err)
				}
				if theirs, err = tufTrust(raw); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := differ(ours, theirs, raw, used); err != nil {
				t.Errorf("%s: %v", step, err)
			}
			next, err := ours.Update(raw)
			if good := strings.HasPrefix(filepath.Base(chain), "chain-ok"); err != nil {
				if good {
					t.Errorf("%s: %v", step, err)
				}
				break
			}
			if theirs, err = tufStep(theirs, raw); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			if ours = next; ours.Version() != theirs.Root.Signed.Version {
				t.Errorf("%s: version %d, go-tuf has %d", step, ours.Version(), theirs.Root.Signed.Version)
			}
		}
	}
}

// tufKeys is a role of a root made by go-tuf.
func tufAdd(t *testing.T, root *metadata.Metadata[metadata.RootType], role string, threshold int, names ...string) {
	t.Helper()
	for _, pub := range public(names...) {
		key, err := metadata.KeyFromPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		if err := root.Signed.AddKey(key, role); err != nil {
			t.Fatal(err)
		}
	}
	root.Signed.Roles[role].Threshold = threshold
}

// tufRoot makes and signs a root with go-tuf.
func tufRoot(t *testing.T, version int64, pretty bool, rootKeys, signers []string) []byte {
	t.Helper()
	root := metadata.Root(now.AddDate(1, 0, 0))
	root.Signed.Version = version
	tufAdd(t, root, metadata.ROOT, 2, rootKeys...)
	tufAdd(t, root, metadata.TARGETS, 2, "targets-1", "targets-2", "targets-3")
	tufAdd(t, root, metadata.TIMESTAMP, 1, "timestamp")
	tufAdd(t, root, metadata.SNAPSHOT, 1, "snapshot")
	for _, key := range private(signers...) {
		signer, err := signature.LoadSigner(key, crypto.Hash(0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := root.Sign(signer); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := root.ToBytes(pretty)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestWeReadTUFRoots: roots made and signed by go-tuf are roots here, verify
// manifests and pointers, and follow one another.
func TestWeReadTUFRoots(t *testing.T) {
	g := newGenerator(t)
	for _, pretty := range []bool{false, true} {
		old := []string{"root-1", "root-2", "root-3"}
		first, err := ParseRoot(tufRoot(t, 1, pretty, old, old[:2]))
		if err != nil {
			t.Fatal(err)
		}
		fresh := []string{"root-4", "root-5", "root-6"}
		second, err := first.Update(tufRoot(t, 2, pretty, fresh, []string{"root-1", "root-3", "root-5", "root-6"}))
		if err != nil {
			t.Fatal(err)
		}
		for _, root := range []*Root{first, second} {
			v := Verifier{Root: root, Want: wantTest}
			ptr, err := v.Pointer(g.good["pointer"], now)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Manifest(g.good["manifest"], nil, ptr, now); err != nil {
				t.Error(err)
			}
		}
		if root, err := first.Update(tufRoot(t, 2, pretty, fresh, fresh)); err == nil {
			t.Errorf("accepted root %d, which the old keys did not sign", root.Version())
		}
		if id, want := keyID("root-4"), tufKeyID(t, "root-4"); id != want {
			t.Errorf("key id %s, go-tuf has %s", id, want)
		}
	}
}

func tufKeyID(t *testing.T, name string) string {
	t.Helper()
	key, err := metadata.KeyFromPublicKey(public(name)[0])
	if err != nil {
		t.Fatal(err)
	}
	id, err := key.ID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// stepSigners are the keys with which a changed root is signed, in the order of
// the bits of the fuzz target's argument.
var stepSigners = []string{"root-1", "root-2", "root-3", "root-4", "root-5", "root-6", "targets-1", "timestamp"}

// tampering is what is done to a file after it was signed, bit by bit.
const (
	tamperRepeat   = 1 << iota // the first signature stands there twice
	tamperSwap                 // the first two signatures change names
	tamperUpper                // the first signature is in upper case
	tamperShort                // the first signature lacks its last byte
	tamperReencode             // signed is go-tuf's encoding instead of the text's
	tamperStranger             // somebody else's signature comes first
	tamperIndent               // white space all over the file
	tamperBeside               // an unsigned member beside the signed ones
)

// signStep signs the text of a root with the keys of the bits in signers.
// Without any, the text is taken for the whole file.
func signStep(text []byte, signers, tamper uint8) []byte {
	if signers == 0 {
		return text
	}
	message, err := strictjson.CanonicalizeOLPC(text, rootLimits)
	if err != nil {
		message = text
	}
	if tamper&tamperReencode != 0 {
		message = tufEncoding(text, message)
	}
	var list []wireRootSignature
	if tamper&tamperStranger != 0 {
		list = append(list, stepSignature("stranger", message))
	}
	for i, name := range stepSigners {
		if signers>>i&1 == 1 {
			list = append(list, stepSignature(name, message))
		}
	}
	if tamper&tamperSwap != 0 && len(list) > 1 {
		list[0].KeyID, list[1].KeyID = list[1].KeyID, list[0].KeyID
	}
	if tamper&tamperUpper != 0 {
		list[0].Sig = new(strings.ToUpper(*list[0].Sig))
	}
	if tamper&tamperShort != 0 {
		list[0].Sig = new((*list[0].Sig)[:126])
	}
	if tamper&tamperRepeat != 0 {
		list = append(list, list[0])
	}
	return stepFile(text, list, tamper)
}

func stepSignature(name string, message []byte) wireRootSignature {
	key := testKey(name)
	return wireRootSignature{new(dsse.KeyID(key.Public().(ed25519.PublicKey))), new(hex.EncodeToString(ed25519.Sign(key, message)))}
}

func stepFile(text []byte, list []wireRootSignature, tamper uint8) []byte {
	signatures, err := json.Marshal(list)
	if err != nil {
		return nil // cannot happen: strings only
	}
	beside := ""
	if tamper&tamperBeside != 0 {
		beside = `,"unsigned":1`
	}
	raw := fmt.Appendf(nil, `{"signed":%s,"signatures":%s%s}`, text, signatures, beside)
	var spaced bytes.Buffer
	if tamper&tamperIndent != 0 && json.Indent(&spaced, raw, " ", "\t") == nil {
		return spaced.Bytes()
	}
	return raw
}

// tufEncoding is what go-tuf takes text for, or fallback if it is no root.
func tufEncoding(text, fallback []byte) (encoded []byte) {
	defer func() {
		if recover() != nil {
			encoded = fallback
		}
	}()
	meta, err := metadata.Root().FromBytes(stepFile(text, nil, 0))
	if err != nil {
		return fallback
	}
	raw, err := cjson.EncodeCanonical(meta.Signed)
	if err != nil {
		return fallback
	}
	return raw
}

// stepTexts are roots that could follow the good one, and some that go-tuf takes
// for others than they are: it encodes what it read, by encoding/json, before it
// checks the signatures.
func stepTexts(g *generator) map[string]string {
	full := func(s *RootSpec) {
		s.Version = 2
		s.Roles[RoleRoot] = RoleKeys{public("root-1", "root-4", "root-5"), 2}
		s.Roles[RoleSnapshot] = RoleKeys{public("snapshot"), 1}
		testChannels(s)
		s.Floors = map[string]FloorReset{ChannelStable: {2, 40}}
	}
	return map[string]string{
		"same keys":    g.rootText(version(2)),
		"other keys":   g.rootText(newRootKeys(2)),
		"full":         g.rootText(full),
		"skipped":      g.rootText(version(3)),
		"same version": g.rootText(version(1)),
		"threshold 1": g.rootText(func(s *RootSpec) {
			s.Version = 2
			s.Roles[RoleRoot] = RoleKeys{public("root-1", "root-2"), 1}
		}),
		"threshold 3": g.rootText(func(s *RootSpec) {
			s.Version = 2
			s.Roles[RoleRoot] = RoleKeys{public("root-1", "root-2", "root-3"), 3}
		}),
		"expired": g.rootText(func(s *RootSpec) {
			s.Version, s.Expires = 2, now.AddDate(-3, 0, 0)
		}),
		"no consistent_snapshot": g.replace(g.rootText(version(2)), `"consistent_snapshot":false,`, ``),
		"no keyids":              g.replace(g.rootText(version(2)), `"snapshot":{"keyids":[],`, `"snapshot":{`),
		"two versions":           g.replace(g.rootText(version(2)), `"version":2`, `"version":2,"VERSION":9`),
		"unknown members":        g.replace(g.rootText(version(2)), `"spec_version"`, `"x-other":{"a":["\u2028<&>",true,-5]},"spec_version"`),
	}
}

// oracles returns the good root for both programs.
func oracles(t testing.TB, raw []byte) (*Root, *trustedmetadata.TrustedMetadata) {
	t.Helper()
	ours, err := ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tufTrust(raw)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// TestStepsAgainstTUF signs every successor with every set of keys, tampers
// with it in every way, and changes every member of a full one.
func TestStepsAgainstTUF(t *testing.T) {
	g := newGenerator(t)
	ours, theirs := oracles(t, g.good["root"])
	used := map[int]bool{}
	accepted, refused := 0, 0
	compare := func(what string, raw []byte) {
		if err := differ(ours, theirs, raw, used); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := ours.Update(raw); err == nil {
			accepted++
		} else {
			refused++
		}
	}
	for name, text := range stepTexts(g) {
		for signers := range 64 {
			if name != "same keys" && name != "other keys" && signers%9 != 0 && signers != 0x3f {
				continue // the sets of keys matter in the same way to all
			}
			compare(fmt.Sprintf("%s, signers %b", name, signers), signStep([]byte(text), uint8(signers), 0))
		}
		for tamper := range 256 {
			if name == "same keys" || tamper&(tamper-1) == 0 { // all ways together, else one at a time
				compare(fmt.Sprintf("%s, tampered %b", name, tamper), signStep([]byte(text), 0x3f, uint8(tamper)))
			}
		}
	}
	changeMembers(t, stepTexts(g)["full"], func(what string, text []byte) {
		raw := signStep(text, 0x3f, 0)
		compare(what, raw)
		if other := signStep(text, 0x3f, tamperReencode); !bytes.Equal(raw, other) {
			compare(what+", signed as go-tuf reads it", other)
		}
	})
	text := stepTexts(g)["same keys"]
	for what, edited := range map[string]string{
		"large":             g.replace(text, `{`, `{"x":"`+strings.Repeat("x", MaxRootBytes)+`",`),
		"invalid UTF-8":     g.replace(text, `{`, "{\"x\":\"\xff\","),
		"control character": g.replace(text, `{`, `{"x":"\u0001",`),
	} {
		compare(what, signStep([]byte(edited), 0x3f, tamperReencode))
	}
	whole := string(signStep([]byte(text), 0x3f, tamperStranger))
	for _, member := range []string{"keyid", "sig"} {
		compare("a signature without "+member, []byte(g.replace(whole, `"`+member+`":`, `"x`+member+`":`)))
		i := strings.Index(whole, `"`+member+`":"`)
		j := i + strings.IndexAny(whole[i:], ",}")
		compare("a signature without "+member, []byte(strings.Replace(strings.Replace(whole[:i]+whole[j:], `{,`, `{`, 1), `,}`, `}`, 1)))
	}
	t.Logf("%d steps accepted, %d refused", accepted, refused)
	if accepted < 100 || refused < 1000 {
		t.Error("too few to mean anything")
	}
	for i, s := range stricterThanTUF {
		if !used[i] {
			t.Errorf("%s %q is listed as stricter than TUF, but was not met", s.rule, s.detail)
		}
	}
}

// changes stand in for any value.
var changes = []string{`null`, `true`, `false`, `""`, `"x"`, `0`, `1`, `2`, `-1`, `2.0`, `2e0`, `9007199254740993`, `18446744073709551616`, `[]`, `{}`, `["x"]`, `{"x":1}`,
	`"root"`, `"rsa"`, `"1.0"`, `"2.0.0"`, `"2026-03-01T12:00:00Z"`, `"2026-03-01T12:00:00.5Z"`, `"2026-03-01T12:00:00+01:00"`, `"a\u0001b"`, `"a\ud800"`, `[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]`}

// changeMembers replaces, removes, doubles and renames every member and element
// of the JSON text, each by itself.
func changeMembers(t *testing.T, text string, use func(what string, text []byte)) {
	t.Helper()
	var at func(path, value string, put func(string) string)
	at = func(path, value string, put func(string) string) {
		for _, c := range changes {
			use(path+" = "+c, []byte(put(c)))
		}
		if s, err := unquoted(value); err == nil && s != "" {
			for _, other := range []string{strings.ToUpper(s), s + "x", s[1:], s + s} {
				use(path+" = "+other, []byte(put(fmt.Sprintf("%q", other))))
			}
		}
		var object map[string]json.RawMessage
		var array []json.RawMessage
		switch {
		case json.Unmarshal([]byte(value), &object) == nil:
			for _, name := range slices.Sorted(maps.Keys(object)) {
				member := string(object[name])
				others := maps.Clone(object)
				delete(others, name)
				with := func(pairs ...string) string { return put(objectText(others, pairs...)) }
				quoted := fmt.Sprintf("%q", name)
				use(path+" without "+name, []byte(with()))
				use(path+" with two "+name, []byte(with(quoted, member, quoted, "1")))
				use(path+" with "+strings.ToUpper(name), []byte(with(quoted, member, strings.ToUpper(quoted), "1")))
				use(path+" with "+strings.ToUpper(name)+" instead", []byte(with(strings.ToUpper(quoted), member)))
				for letter, other := range map[string]string{"s": "\u017f", "k": "\u212a"} { // they fold to it
					if strings.Contains(name, letter) {
						quotedOther := fmt.Sprintf("%q", strings.Replace(name, letter, other, 1))
						use(path+" with another "+letter+" in "+name, []byte(with(quoted, member, quotedOther, "1")))
						use(path+" with another "+letter+" in "+name+" of its kind", []byte(with(quoted, member, quotedOther, member)))
					}
				}
				use(path+" with the other "+name, []byte(with(quoted, member, `"x-`+name+`"`, `"\u00e9"`)))
				if path != "/keys" || name == slices.Min(slices.Collect(maps.Keys(object))) { // one key is like the other
					at(path+"/"+name, member, func(c string) string { return with(quoted, c) })
				}
			}
		case json.Unmarshal([]byte(value), &array) == nil:
			for i := range array {
				put := func(elements ...json.RawMessage) string {
					return put(arrayText(slices.Concat(array[:i], elements, array[i+1:])))
				}
				use(fmt.Sprintf("%s without %d", path, i), []byte(put()))
				use(fmt.Sprintf("%s with two %d", path, i), []byte(put(array[i], array[i])))
				at(fmt.Sprintf("%s/%d", path, i), string(array[i]), func(c string) string { return put(json.RawMessage(c)) })
			}
		}
	}
	at("", text, func(c string) string { return c })
}

func unquoted(text string) (s string, err error) {
	err = json.Unmarshal([]byte(text), &s)
	return s, err
}

// objectText writes members in order, then names and values that stand in pairs.
func objectText(members map[string]json.RawMessage, pairs ...string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		list = append(list, fmt.Sprintf("%q:%s", name, members[name]))
	}
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, pairs[i]+":"+pairs[i+1])
	}
	return "{" + strings.Join(list, ",") + "}"
}

func arrayText(elements []json.RawMessage) string {
	var list []string
	for _, e := range elements {
		list = append(list, string(e))
	}
	return "[" + strings.Join(list, ",") + "]"
}

// FuzzRootStepAgainstTUF: if we follow next from the good root, go-tuf does;
// what go-tuf follows and we do not is in stricterThanTUF. The target signs
// next with the keys in signers, because the fuzzer cannot, and tampers with
// the result; without signers next is the whole file.
func FuzzRootStepAgainstTUF(f *testing.F) {
	g := newGenerator(f)
	ours, theirs := oracles(f, g.good["root"])
	for _, text := range stepTexts(g) {
		f.Add([]byte(text), uint8(0x3f), uint8(0))
		f.Add([]byte(text), uint8(0x3f), uint8(tamperReencode))
		f.Add(signStep([]byte(text), 0x3f, 0), uint8(0), uint8(0))
	}
	f.Fuzz(func(t *testing.T, next []byte, signers, tamper uint8) {
		raw := signStep(next, signers, tamper)
		if err := differ(ours, theirs, raw, nil); err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
	})
}
