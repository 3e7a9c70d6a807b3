package logproof

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

// FuzzParsePolicy: an accepted policy has a log, keys that are all different,
// and a quorum that can be reached by all witnesses together.
func FuzzParsePolicy(f *testing.F) {
	for _, text := range policyVectors() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParsePolicy(raw)
		if err != nil {
			if p != nil {
				t.Fatal("a policy beside an error")
			}
			return
		}
		if len(raw) > MaxPolicySize || len(p.logs) == 0 {
			t.Fatal("accepted")
		}
		seen := map[string]bool{}
		everybody := make([]bool, len(p.witnesses))
		for i, w := range p.witnesses {
			everybody[i], seen[string(w.public)] = true, true
		}
		for _, k := range p.logs {
			seen[string(k.public)] = true
		}
		if len(seen) != len(p.logs)+len(p.witnesses) {
			t.Fatal("a key counts twice")
		}
		if p.quorum != nil && (!p.quorum.content(everybody) || p.quorum.content(make([]bool, len(everybody)))) {
			t.Fatal("the quorum is out of reach, or reached by nobody")
		}
		again, err := ParsePolicy(slices.Concat([]byte("# comment\n\n"), raw))
		if err == nil && len(again.logs) != len(p.logs) {
			t.Fatal("a comment changed the policy")
		}
	})
}

// FuzzVerify: the keys are not in the fuzzer's hands, so the trees that the
// vectors sign are all there are, and whatever else is accepted is a forgery.
func FuzzVerify(f *testing.F) {
	signed := map[int64][]string{1: {testEntry}, testSize: testEntries()}
	for _, edit := range proofVectors {
		f.Add([]byte(testParts().edit(edit)), []byte(testEntry))
	}
	policy := mustPolicy(f, testPolicy())
	f.Fuzz(func(t *testing.T, proof, entry []byte) {
		logged, err := policy.Verify(proof, entry)
		if err != nil {
			return
		}
		entries := signed[logged.Size]
		if logged.Origin != testOrigin || logged.Index < 0 || logged.Index >= int64(len(entries)) {
			t.Fatalf("accepted %+v", logged)
		}
		if entries[logged.Index] != string(entry) {
			t.Fatalf("accepted an entry that is not in the log: %q", entry)
		}
		if len(logged.Witnesses) < 2 {
			t.Fatalf("accepted without a quorum: %q", logged.Witnesses)
		}
	})
}

// FuzzParseCheckpoint: what is accepted is written the same.
func FuzzParseCheckpoint(f *testing.F) {
	for _, edit := range proofVectors {
		p := testParts()
		p.edit(edit)
		f.Add(p.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCheckpoint(text)
		if err != nil {
			return
		}
		if c.Text() != text {
			t.Fatalf("%q is written %q", text, c.Text())
		}
	})
}

// FuzzParseKey: what is accepted is written the same.
func FuzzParseKey(f *testing.F) {
	f.Add(logSigner("log.example").String())
	f.Add(witnessSigner("w.example").String())
	f.Fuzz(func(t *testing.T, vkey string) {
		k, err := ParseKey(vkey)
		if err != nil {
			return
		}
		if k.String() != vkey {
			t.Fatalf("%q is written %q", vkey, k.String())
		}
	})
}

// TestFuzzSeeds keeps the committed corpus equal to the best of the vectors.
func TestFuzzSeeds(t *testing.T) {
	quote := func(s string) string { return "[]byte(" + strconv.Quote(s) + ")\n" }
	seeds := map[string]string{
		"FuzzParsePolicy/nested":        quote(policyVectors()["ok-nested"]),
		"FuzzParsePolicy/names":         quote(policyVectors()["ok-names-are-bytes"]),
		"FuzzVerify/good":               quote(testParts().String()) + quote(testEntry),
		"FuzzVerify/only":               quote(testParts().edit(proofVectors["ok-only-entry"])) + quote(testEntry),
		"FuzzVerify/unknown":            quote(testParts().edit(proofVectors["ok-unknown-signatures"])) + quote("entry 4"),
		"FuzzParseCheckpoint/extension": "string(" + strconv.Quote(testParts().text+"x\n") + ")\n",
		"FuzzParseKey/log":              fmt.Sprintf("string(%q)\n", logSigner("log.example")),
		"FuzzParseKey/witness":          fmt.Sprintf("string(%q)\n", witnessSigner("w.example")),
	}
	for name, content := range seeds {
		path, content := "testdata/fuzz/"+name, "go test fuzz v1\n"+content
		if *update {
			write(t, path, content)
		}
		if string(read(t, path)) != content {
			t.Errorf("%s: not what this test would write", path)
		}
	}
}
