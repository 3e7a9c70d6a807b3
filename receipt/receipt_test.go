package receipt

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func pub(name string) ed25519.PublicKey { return testKey(name).Public().(ed25519.PublicKey) }

func testStatement() Statement {
	return Statement{
		Result: Result{
			JobID:    blob.Of([]byte("job")),
			Module:   blob.Of([]byte("module")),
			Args:     []string{"Hello, World", "zwei", ""},
			Stdin:    blob.Of(nil),
			Stdout:   OutputOf([]byte("dlroW ,olleH\n"), false),
			Stderr:   OutputOf(nil, true),
			EndState: Exited,
			ExitCode: 3,
			Limits:   Limits{MemoryBytes: 1 << 27, DeadlineMS: 10_000, StdoutBytes: 1 << 16, StderrBytes: 1 << 16, Fuel: 1000},
			Fuel:     Fuel{Used: 17, CostTable: 1}, Determinism: Strict,
		},
		Observation: Observation{
			Engine: "wazero 1.12.0",
			Walls:  []string{"wasm", "process"},
			Timings: Timings{
				StartedAt: time.Date(2026, 3, 1, 12, 0, 0, 5_000_000, time.UTC),
				Queue:     1, Fetch: 2 * time.Millisecond, Compile: 3 * time.Millisecond, Run: 4 * time.Millisecond,
			},
			Booted:    &Booted{ManifestVersion: 7, ManifestDigest: blob.Of([]byte("manifest")), Channel: "stable", Arch: "x86_64"},
			NodeKey:   pub("node"),
			Submitter: pub("submitter"),
		},
	}
}

func TestSignVerify(t *testing.T) {
	bare := testStatement()
	bare.Observation = Observation{Engine: "e", Walls: []string{}, NodeKey: pub("node")}
	bare.Result.Args = []string{}
	trapped := testStatement()
	trapped.Result.EndState, trapped.Result.ExitCode, trapped.Result.Trap = Trapped, 0, "unreachable"
	bare.Observation.Timings.StartedAt = time.Unix(0, 0).UTC()
	given := testStatement()
	given.Result.Inputs = map[string]Input{"b.txt": {blob.Of([]byte("file")), 4}, "A": {blob.Of(nil), 0}}
	for name, s := range map[string]Statement{"full": testStatement(), "bare": bare, "trapped": trapped, "given": given} {
		raw, err := Sign(s, testKey("node"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := Verify(raw, pub("node"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Errorf("%s changed:\n got %+v\nwant %+v", name, got, s)
		}
	}
}

func TestSignNamesItsOwnKey(t *testing.T) {
	s := testStatement()
	s.Observation.NodeKey = pub("somebody else")
	raw, err := Sign(s, testKey("node"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(raw, pub("node"))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Observation.NodeKey.Equal(pub("node")) {
		t.Error("receipt names a key that did not sign it")
	}
}

func TestSignRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Statement){
		"no job id":            func(s *Statement) { s.Result.JobID = blob.Digest{} },
		"no module":            func(s *Statement) { s.Result.Module = blob.Digest{} },
		"no stdin":             func(s *Statement) { s.Result.Stdin = blob.Digest{} },
		"no stdout":            func(s *Statement) { s.Result.Stdout = Output{} },
		"unknown end":          func(s *Statement) { s.Result.EndState = "fine" },
		"code without exit":    func(s *Statement) { s.Result.EndState = Deadline },
		"trap without trapped": func(s *Statement) { s.Result.Trap = "unreachable" },
		"trapped without trap": func(s *Statement) { s.Result.EndState, s.Result.ExitCode = Trapped, 0 },
		"negative code":        func(s *Statement) { s.Result.ExitCode = -1 },
		"wide code":            func(s *Statement) { s.Result.ExitCode = 1 << 32 },
		"negative size":        func(s *Statement) { s.Result.Stderr.Size = -1 },
		"negative limit":       func(s *Statement) { s.Result.Limits.DeadlineMS = -1 },
		"negative fuel":        func(s *Statement) { s.Result.Fuel.Used = -1 },
		"more fuel than given": func(s *Statement) { s.Result.Fuel.Used = 1001 },
		"fuel left, yet out":   func(s *Statement) { s.Result.EndState, s.Result.ExitCode = OutOfFuel, 0 },
		"no cost table":        func(s *Statement) { s.Result.Fuel.CostTable = 0 },
		"no determinism":       func(s *Statement) { s.Result.Determinism = "" },
		"negative time":        func(s *Statement) { s.Observation.Timings.Run = -1 },
		"args not UTF-8":       func(s *Statement) { s.Result.Args = []string{"\xff"} },
		"args too long":        func(s *Statement) { s.Result.Args = []string{strings.Repeat("a", MaxBytes)} },
		"manifest version 0":   func(s *Statement) { s.Observation.Booted.ManifestVersion = 0 },
		"input of no name":     func(s *Statement) { s.Result.Inputs = map[string]Input{"": {blob.Of(nil), 0}} },
		"input with a path":    func(s *Statement) { s.Result.Inputs = map[string]Input{"a/b": {blob.Of(nil), 0}} },
		"hidden input":         func(s *Statement) { s.Result.Inputs = map[string]Input{".a": {blob.Of(nil), 0}} },
		"input's long name":    func(s *Statement) { s.Result.Inputs = map[string]Input{strings.Repeat("a", 65): {blob.Of(nil), 0}} },
		"input of no digest":   func(s *Statement) { s.Result.Inputs = map[string]Input{"a": {}} },
		"negative input":       func(s *Statement) { s.Result.Inputs = map[string]Input{"a": {blob.Of(nil), -1}} },
		"huge input":           func(s *Statement) { s.Result.Inputs = map[string]Input{"a": {blob.Of(nil), 1<<40 + 1}} },
		"many inputs": func(s *Statement) {
			s.Result.Inputs = map[string]Input{}
			for i := range MaxInputs + 1 {
				s.Result.Inputs[strings.Repeat("a", 1+i)] = Input{blob.Of(nil), 0}
			}
		},
		"no manifest digest": func(s *Statement) { s.Observation.Booted.ManifestDigest = blob.Digest{} },
	} {
		s := testStatement()
		spoil(&s)
		if _, err := Sign(s, testKey("node")); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := Sign(testStatement(), testKey("node")[:31]); err == nil {
		t.Error("signed with half a key")
	}
}

// resign signs a payload as it is, to get past the signature.
func resign(t *testing.T, payloadType string, payload []byte, key ed25519.PrivateKey) []byte {
	t.Helper()
	raw, err := dsse.Envelope{PayloadType: payloadType, Payload: payload,
		Signatures: []dsse.Signature{dsse.Sign(payloadType, payload, key)}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestVerifyRefuses(t *testing.T) {
	good, err := Sign(testStatement(), testKey("node"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := dsse.Open(good, PayloadType, MaxBytes, []ed25519.PublicKey{pub("node")}, 1)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) []byte {
		edited := bytes.Replace(payload, []byte(old), []byte(new), 1)
		if bytes.Equal(edited, payload) {
			t.Fatalf("payload has no %s", old)
		}
		return edited
	}
	stdout, other := blob.Of([]byte("dlroW ,olleH\n")), blob.Of([]byte("other"))
	swapped := bytes.Replace(good, []byte(strictBase64(t, payload)), []byte(strictBase64(t, edit(stdout.String(), other.String()))), 1)
	node := testKey("node")
	tests := []struct {
		name     string
		raw      []byte
		expected ed25519.PublicKey
		want     error
	}{
		{"another node's receipt", good, pub("other node"), ErrSignature},
		{"no expected key", good, nil, ErrKey},
		{"weak expected key", good, make(ed25519.PublicKey, 32), ErrKey},
		{"output swapped without the key", swapped, pub("node"), ErrSignature},
		{"output swapped, subject kept", resign(t, PayloadType, edit(`"stdout":{"digest":"`+stdout.String(), `"stdout":{"digest":"`+other.String()), node), pub("node"), ErrMalformed},
		{"arguments swapped, digest kept", resign(t, PayloadType, edit("Hello, World", "Hello, there"), node), pub("node"), ErrMalformed},
		{"signed by us in another's name", resign(t, PayloadType, edit(textOf(t, pub("node")), textOf(t, pub("other node"))), node), pub("node"), ErrNodeKey},
		{"another payload type", resign(t, "application/vnd.phase.boot-pointer.v0.1+json", payload, node), pub("node"), ErrMalformed},
		{"another predicate", resign(t, PayloadType, edit("receipt/v0.2", "receipt/v0.3"), node), pub("node"), ErrMalformed},
		{"another statement type", resign(t, PayloadType, edit("Statement/v1", "Statement/v0"), node), pub("node"), ErrMalformed},
		{"unknown member", resign(t, PayloadType, edit(`"engine":`, `"also":1,"engine":`), node), pub("node"), ErrMalformed},
		{"unknown end state", resign(t, PayloadType, edit(`"exited"`, `"great"`), node), pub("node"), ErrMalformed},
		{"white space", resign(t, PayloadType, edit(`"engine":`, `"engine": `), node), pub("node"), ErrMalformed},
		{"duplicate member", resign(t, PayloadType, edit(`"engine":`, `"engine":"x","engine":`), node), pub("node"), ErrMalformed},
		{"null args", resign(t, PayloadType, edit(`["Hello, World","zwei",""]`, `null`), node), pub("node"), ErrMalformed},
		{"fraction", resign(t, PayloadType, edit(`"exit_code":3`, `"exit_code":3.0`), node), pub("node"), ErrMalformed},
		{"no submitter but empty", resign(t, PayloadType, edit(textOf(t, pub("submitter")), ""), node), pub("node"), ErrMalformed},
		{"truncated", good[:len(good)-1], pub("node"), ErrMalformed},
		{"empty", nil, pub("node"), ErrMalformed},
		{"trailing bytes", append(bytes.Clone(good), '1'), pub("node"), ErrMalformed},
		{"too large", append(bytes.Clone(good), bytes.Repeat([]byte(" "), MaxBytes)...), pub("node"), ErrSize},
	}
	for _, tt := range tests {
		if _, err := Verify(tt.raw, tt.expected); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		var coded interface {
			Code() string
			Hint() string
		}
		if !errors.As(tt.want, &coded) || !strings.HasPrefix(coded.Code(), "VFY-") || coded.Hint() == "" {
			t.Errorf("%s: %v has no code or hint", tt.name, tt.want)
		}
	}
}

func strictBase64(t *testing.T, b []byte) string {
	t.Helper()
	text, err := strictjson.Base64(b).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func textOf(t *testing.T, key ed25519.PublicKey) string {
	t.Helper()
	text, err := wireKey(key).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDigestIsTheVote: two nodes that saw the same have the same digest, and
// every field of the result changes it.
func TestDigestIsTheVote(t *testing.T) {
	digest := func(r Result) blob.Digest {
		d, err := r.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	want := digest(testStatement().Result)
	if again := digest(testStatement().Result); again != want {
		t.Fatal("digest is not deterministic")
	}
	other := blob.Of([]byte("other"))
	for name, change := range map[string]func(*Result){
		"job":        func(r *Result) { r.JobID = other },
		"module":     func(r *Result) { r.Module = other },
		"args":       func(r *Result) { r.Args = []string{"Hello,", "World", "zwei", ""} },
		"stdin":      func(r *Result) { r.Stdin = other },
		"stdout":     func(r *Result) { r.Stdout.Digest = other },
		"size":       func(r *Result) { r.Stdout.Size++ },
		"truncated":  func(r *Result) { r.Stdout.Truncated = true },
		"stderr":     func(r *Result) { r.Stderr.Digest = other },
		"end":        func(r *Result) { r.EndState = Deadline },
		"code":       func(r *Result) { r.ExitCode++ },
		"trap":       func(r *Result) { r.Trap = "x" },
		"limits":     func(r *Result) { r.Limits.MemoryBytes++ },
		"fuel":       func(r *Result) { r.Fuel.Used++ },
		"costs":      func(r *Result) { r.Fuel.CostTable++ },
		"strictness": func(r *Result) { r.Determinism = Relaxed },
	} {
		r := testStatement().Result
		change(&r)
		if digest(r) == want {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	good, err := Sign(testStatement(), testKey("node"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := Verify(raw, pub("node"))
		if err != nil {
			return
		}
		again, err := Sign(s, testKey("node"))
		if err != nil {
			t.Fatalf("accepted but cannot be signed: %v", err)
		}
		if _, err := Verify(again, pub("node")); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecode works behind the signature, which the fuzzer cannot forge.
func FuzzDecode(f *testing.F) {
	w, err := wireOf(testStatement())
	if err != nil {
		f.Fatal(err)
	}
	payload, err := strictjson.MarshalCanonical(w)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := decode(payload)
		if err != nil {
			return
		}
		w, err := wireOf(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := strictjson.MarshalCanonical(w)
		if err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("decode then encode: %v\n in %s\nout %s", err, payload, again)
		}
	})
}
