package logproof

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// The files in testdata/proofs and testdata/policies have one fault each; the
// first word of a file's name is the verdict on it. Proofs are judged under
// testdata/log-policy and are about the entry in testdata/entry.json. They are
// written by this file, from keys with fixed seeds:
//
//	go test ./logproof -run TestVectors -update
var update = flag.Bool("update", false, "write the vectors in testdata anew")

// verdicts are the first words of file names.
var verdicts = map[string]error{
	"ok": nil, "malformed": ErrMalformed, "logkey": ErrLogKey, "signature": ErrSignature,
	"inclusion": ErrInclusion, "quorum": ErrQuorum, "refused": ErrPolicy,
}

func verdict(t *testing.T, name string) error {
	t.Helper()
	word, _, _ := strings.Cut(name, "-")
	want, known := verdicts[word]
	if !known {
		t.Fatalf("%s: no verdict is called %q", name, word)
	}
	return want
}

// proofVectors edit a good proof, or replace its text.
var proofVectors = map[string]func(p *parts) string{
	"ok-two-of-three":   nil,
	"ok-all-witnesses":  func(p *parts) string { p.signers = append(p.signers, witnessSigner("w2.example")); return "" },
	"ok-extra":          func(p *parts) string { p.extra = "extra aGVsbG8="; return "" },
	"ok-extension-line": func(p *parts) string { p.text += "an extension that nobody reads\n"; return "" },
	"ok-rotated-log-key": func(p *parts) string {
		p.signers[0] = newSigner(testOrigin, LogKey, testKey("rotated"))
		return ""
	},
	"ok-repeated-signature-lines": func(p *parts) string {
		p.signers = append(p.signers, p.signers...)
		return ""
	},
	"ok-unknown-signatures": func(p *parts) string {
		p.signers = append(p.signers, logSigner("stranger.example"), witnessSigner("stranger.example"))
		p.more = sigLine("w2.example", 0x01020304, make([]byte, 8+2420)) // as long as ML-DSA-44
		p.more += sigLine(testOrigin, 0x01020304, make([]byte, 64))      // name alone is no key
		return ""
	},
	"ok-only-entry": func(p *parts) string {
		p.index, p.hashes = "0", nil
		p.text = checkpointText(testOrigin, "1", merkleRoot([]string{testEntry}))
		return ""
	},

	"malformed-empty":              func(p *parts) string { return "\n" },
	"malformed-too-large":          func(p *parts) string { return p.String() + strings.Repeat("\n", MaxProofSize) },
	"malformed-other-version":      func(p *parts) string { p.header = "c2sp.org/tlog-proof@v2"; return "" },
	"malformed-no-header":          func(p *parts) string { return strings.TrimPrefix(p.String(), proofHeader+"\n") },
	"malformed-space-after-header": func(p *parts) string { p.header += " "; return "" },
	"malformed-carriage-returns":   func(p *parts) string { return strings.ReplaceAll(p.String(), "\n", "\r\n") },
	"malformed-no-checkpoint":      func(p *parts) string { head, _, _ := strings.Cut(p.String(), "\n\n"); return head + "\n" },
	"malformed-extra-empty":        func(p *parts) string { p.extra = "extra "; return "" },
	"malformed-extra-not-base64":   func(p *parts) string { p.extra = "extra hello"; return "" },
	"malformed-extra-twice":        func(p *parts) string { p.extra = "extra aGVsbG8=\nextra aGVsbG8="; return "" },
	"malformed-extra-after-index":  func(p *parts) string { p.index += "\nextra aGVsbG8="; return "" },
	"malformed-no-index": func(p *parts) string {
		return strings.Replace(p.String(), fmt.Sprintf("index %d\n", testIndex), "", 1)
	},
	"malformed-index-leading-zero":     func(p *parts) string { p.index = "05"; return "" },
	"malformed-index-sign":             func(p *parts) string { p.index = "+5"; return "" },
	"malformed-index-negative":         func(p *parts) string { p.index = "-1"; return "" },
	"malformed-index-minus-zero":       func(p *parts) string { p.index = "-0"; return "" },
	"malformed-index-hexadecimal":      func(p *parts) string { p.index = "0x5"; return "" },
	"malformed-index-empty":            func(p *parts) string { p.index = ""; return "" },
	"malformed-index-beyond-63-bits":   func(p *parts) string { p.index = "9223372036854775808"; return "" },
	"malformed-index-beyond-the-limit": func(p *parts) string { p.index = "4611686018427387905"; return "" },
	"malformed-hash-short":             func(p *parts) string { p.hashes[1] = p.hashes[1][:40]; return "" },
	"malformed-hash-no-padding":        func(p *parts) string { p.hashes[1] = strings.TrimSuffix(p.hashes[1], "="); return "" },
	"malformed-hash-space":             func(p *parts) string { p.hashes[1] += " "; return "" },
	"malformed-hash-stray-bits": func(p *parts) string {
		p.hashes[0] = strayBits(p.hashes[0])
		return ""
	},
	"malformed-63-hashes": func(p *parts) string {
		p.hashes = slices.Repeat(p.hashes[:1], maxPath+1)
		return ""
	},
	"malformed-size-leading-zero": func(p *parts) string {
		p.text = checkpointText(testOrigin, "011", merkleRoot(testEntries()))
		return ""
	},
	// A tree of this size sends the arithmetic of tlog into an endless loop.
	"malformed-size-beyond-the-limit": func(p *parts) string {
		p.text = checkpointText(testOrigin, "4611686018427387905", merkleRoot(testEntries()))
		return ""
	},
	"malformed-size-largest": func(p *parts) string {
		p.text = checkpointText(testOrigin, fmt.Sprint(math.MaxInt64), merkleRoot(testEntries()))
		return ""
	},
	"malformed-root-stray-bits": func(p *parts) string {
		lines := strings.Split(p.text, "\n")
		lines[2] = strayBits(lines[2])
		p.text = strings.Join(lines, "\n")
		return ""
	},
	"malformed-root-missing":         func(p *parts) string { p.text = testOrigin + "\n11\n"; return "" },
	"malformed-empty-extension-line": func(p *parts) string { p.text += "\nx\n"; return "" },
	"malformed-control-character":    func(p *parts) string { p.text += "a\x07\n"; return "" },
	"malformed-not-utf8":             func(p *parts) string { p.text += "\xff\n"; return "" },
	"malformed-no-signature":         func(p *parts) string { p.signers = nil; return "" },
	"malformed-last-newline-missing": func(p *parts) string { return strings.TrimSuffix(p.String(), "\n") },
	"malformed-text-after-the-end":   func(p *parts) string { p.more = "the end\n"; return "" },
	"malformed-signature-without-key-hash": func(p *parts) string {
		p.more = "— w2.example AAAA\n"
		return ""
	},
	"malformed-101-signatures": func(p *parts) string {
		p.more = strings.Repeat(sigLine("x", 1, []byte{0}), 99)
		return ""
	},

	"logkey-witnesses-only": func(p *parts) string { p.signers = p.signers[1:]; return "" },
	"logkey-strangers-only": func(p *parts) string {
		p.signers = []note.Signer{logSigner("stranger.example")}
		return ""
	},
	"logkey-stranger-under-this-name": func(p *parts) string {
		p.signers[0] = newSigner(testOrigin, LogKey, testKey("stranger"))
		return ""
	},
	// Signed by a log of the policy, which may only speak under its own name.
	"logkey-other-log-for-this-origin": func(p *parts) string { p.signers[0] = logSigner("other.example"); return "" },
	"logkey-origin-unknown": func(p *parts) string {
		p.text = checkpointText("log.example/boot2", fmt.Sprint(testSize), merkleRoot(testEntries()))
		return ""
	},
	// The log's own key, used as a witness's: another type, another hash.
	"logkey-cosigned-by-the-log": func(p *parts) string {
		p.signers[0] = newSigner(testOrigin, WitnessKey, testKey(testOrigin))
		return ""
	},

	"signature-of-the-log-flipped":   func(p *parts) string { return flip(p, testOrigin) },
	"signature-of-a-witness-flipped": func(p *parts) string { return flip(p, "w3.example") },
	"signature-of-a-witness-beyond-the-quorum-flipped": func(p *parts) string {
		p.signers = append(p.signers, witnessSigner("w2.example"))
		return flip(p, "w2.example")
	},
	"signature-of-another-checkpoint": func(p *parts) string {
		return strings.Replace(p.String(), "\n11\n", "\n12\n", 1)
	},
	"signature-without-the-extension": func(p *parts) string {
		return strings.Replace(p.String(), "\n\n— ", "\nextension\n\n— ", 1)
	},
	"signature-of-a-witness-without-time": func(p *parts) string {
		w := witnessSigner("w2.example")
		plain, _ := newSigner("w2.example", LogKey, testKey("w2.example")).Sign([]byte(p.text))
		p.more = sigLine(w.Name(), w.KeyHash(), plain)
		return ""
	},
	"signature-of-a-witness-with-another-time": func(p *parts) string {
		w := witnessSigner("w2.example")
		sig, _ := w.Sign([]byte(p.text))
		sig[7]++
		p.more = sigLine(w.Name(), w.KeyHash(), sig)
		return ""
	},
	"signature-dated-1970":           func(p *parts) string { p.signers = append(p.signers, dated(0)); return "" },
	"signature-dated-10000":          func(p *parts) string { p.signers = append(p.signers, dated(maxCosigned+1)); return "" },
	"signature-dated-beyond-63-bits": func(p *parts) string { p.signers = append(p.signers, dated(1<<63)); return "" },

	"inclusion-other-index":       func(p *parts) string { p.index = "4"; return "" },
	"inclusion-index-is-the-size": func(p *parts) string { p.index = "11"; return "" },
	"inclusion-index-largest":     func(p *parts) string { p.index = "4611686018427387904"; return "" },
	"inclusion-hash-missing":      func(p *parts) string { p.hashes = p.hashes[:3]; return "" },
	"inclusion-no-hashes":         func(p *parts) string { p.hashes = nil; return "" },
	"inclusion-hash-too-many":     func(p *parts) string { p.hashes = append(p.hashes, p.hashes[0]); return "" },
	"inclusion-hashes-swapped": func(p *parts) string {
		p.hashes[0], p.hashes[1] = p.hashes[1], p.hashes[0]
		return ""
	},
	"inclusion-hash-changed": func(p *parts) string { p.hashes[2] = "A" + p.hashes[2][1:]; return "" },
	"inclusion-other-entry": func(p *parts) string {
		entries := testEntries()
		entries[testIndex] += " "
		p.text = checkpointText(testOrigin, fmt.Sprint(testSize), merkleRoot(entries))
		return ""
	},
	"inclusion-empty-log": func(p *parts) string {
		p.index, p.hashes = "0", nil
		p.text = checkpointText(testOrigin, "0", merkleRoot(nil))
		return ""
	},
	"inclusion-size-largest": func(p *parts) string {
		p.text = checkpointText(testOrigin, fmt.Sprint(MaxTreeSize), merkleRoot(testEntries()))
		return ""
	},

	"quorum-nobody":       func(p *parts) string { p.signers = p.signers[:1]; return "" },
	"quorum-one-of-three": func(p *parts) string { p.signers = p.signers[:2]; return "" },
	"quorum-one-twice": func(p *parts) string {
		again := witnessSigner("w1.example")
		again.at++
		p.signers[2] = again
		return ""
	},
	"quorum-one-under-two-names": func(p *parts) string {
		p.signers[2] = newSigner("w2.example", WitnessKey, testKey("w1.example"))
		return ""
	},
	"quorum-strangers": func(p *parts) string {
		p.signers[1] = newSigner("w1.example", WitnessKey, testKey("stranger"))
		p.signers[2] = witnessSigner("stranger.example")
		return ""
	},
	"quorum-plain-signatures-by-witnesses": func(p *parts) string {
		p.signers[1], p.signers[2] = logSigner("w1.example"), logSigner("w3.example")
		return ""
	},
}

// strayBits changes the unused bits of the last base64 digit before one "=".
func strayBits(s string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := len(s) - 2
	return s[:i] + string(digits[strings.IndexByte(digits, s[i])|1]) + "="
}

// flip changes the last bit of name's signature.
func flip(p *parts, name string) string {
	lines := strings.Split(p.String(), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "— "+name+" ") {
			c := map[bool]string{true: "B", false: "A"}[line[len(line)-6] == 'A']
			lines[i] = line[:len(line)-6] + c + line[len(line)-5:]
		}
	}
	return strings.Join(lines, "\n")
}

func dated(at uint64) testSigner {
	w := witnessSigner("w2.example")
	w.at = at
	return w
}

func (p *parts) edit(f func(*parts) string) string {
	if f != nil {
		if text := f(p); text != "" {
			return strings.TrimPrefix(text, "\n")
		}
	}
	return p.String()
}

func TestVectors(t *testing.T) {
	if *update {
		for _, dir := range []string{"proofs", "policies"} {
			if err := os.RemoveAll(filepath.Join("testdata", dir)); err != nil {
				t.Fatal(err)
			}
		}
		write(t, "testdata/entry.json", testEntry)
		write(t, "testdata/log-policy", testPolicy())
		for name, f := range proofVectors {
			write(t, proofPath(name), testParts().edit(f))
		}
		for name, text := range policyVectors() {
			write(t, policyPath(name), text)
		}
	}
	entry, policy := read(t, "testdata/entry.json"), mustPolicy(t, string(read(t, "testdata/log-policy")))
	for name, f := range proofVectors {
		raw := read(t, proofPath(name))
		if string(raw) != testParts().edit(f) {
			t.Errorf("%s: the file is not what this test would write", name)
		}
		logged, err := policy.Verify(raw, entry)
		judge(t, name, err)
		if (err == nil) != (logged.Origin != "") {
			t.Errorf("%s: %+v with %v", name, logged, err)
		}
	}
	for name, text := range policyVectors() {
		raw := read(t, policyPath(name))
		if string(raw) != text {
			t.Errorf("%s: the file is not what this test would write", name)
		}
		p, err := ParsePolicy(raw)
		judge(t, name, err)
		if (err == nil) != (p != nil) {
			t.Errorf("%s: policy %v with %v", name, p, err)
		}
	}
	countFiles(t, "testdata/proofs", len(proofVectors))
	countFiles(t, "testdata/policies", len(policyVectors()))
}

// judge compares an error with the verdict in a vector's name, and with no
// other verdict.
func judge(t *testing.T, name string, err error) {
	t.Helper()
	want := verdict(t, name)
	for _, v := range verdicts {
		if v != nil && errors.Is(err, v) != (v == want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
			return
		}
	}
	if want == nil && err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func proofPath(name string) string  { return filepath.Join("testdata", "proofs", name+".tlog-proof") }
func policyPath(name string) string { return filepath.Join("testdata", "policies", name+".txt") }

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// countFiles finds vectors that no row stands for.
func countFiles(t *testing.T, dir string, want int) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != want {
		t.Errorf("%s: %d files, want %d", dir, len(files), want)
	}
}

// TestLogged: what a good proof says.
func TestLogged(t *testing.T) {
	policy := mustPolicy(t, testPolicy())
	p := testParts()
	late := witnessSigner("w2.example")
	late.at = testTime + 60
	p.signers = append(p.signers, late)
	got, err := policy.Verify([]byte(p.String()), []byte(testEntry))
	if err != nil {
		t.Fatal(err)
	}
	if got.Origin != testOrigin || got.Index != testIndex || got.Size != testSize {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(got.Witnesses, []string{"w1", "w2", "w3"}) {
		t.Errorf("witnesses %q", got.Witnesses)
	}
	if want := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC); got.At != want {
		t.Errorf("cosigned at %v, want %v", got.At, want)
	}

	// Without a quorum to reach, the log alone is believed.
	alone := mustPolicy(t, "log "+logSigner(testOrigin).String()+"\nquorum none\n")
	p.signers = p.signers[:1]
	got, err = alone.Verify([]byte(p.String()), []byte(testEntry))
	if err != nil || got.Witnesses != nil || !got.At.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestOtherEntries: a proof is of one entry.
func TestOtherEntries(t *testing.T) {
	policy := mustPolicy(t, testPolicy())
	proof := []byte(testParts().String())
	for _, entry := range []string{"", testEntry + "\n", testEntry[1:], "\x00" + testEntry, "entry 4"} {
		if _, err := policy.Verify(proof, []byte(entry)); !errors.Is(err, ErrInclusion) {
			t.Errorf("%q: %v", entry, err)
		}
	}
}

// TestNodeIsNoEntry: the bytes that an inner node hashes are not a leaf.
func TestNodeIsNoEntry(t *testing.T) {
	policy := mustPolicy(t, testPolicy())
	entries := testEntries()[:2]
	left, right := merkleRoot(entries[:1]), merkleRoot(entries[1:])
	for _, prefix := range []string{"", "\x01"} {
		node := prefix + string(left[:]) + string(right[:])
		p := testParts()
		p.index, p.hashes = "0", nil
		p.text = checkpointText(testOrigin, "1", merkleRoot(entries))
		if _, err := policy.Verify([]byte(p.String()), []byte(node)); !errors.Is(err, ErrInclusion) {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

// TestNoPolicy: what was never set up accepts nothing.
func TestNoPolicy(t *testing.T) {
	proof := []byte(testParts().String())
	var none *Policy
	if _, err := none.Verify(proof, []byte(testEntry)); !errors.Is(err, ErrPolicy) {
		t.Errorf("nil policy: %v", err)
	}
	if _, err := new(Policy).Verify(proof, []byte(testEntry)); !errors.Is(err, ErrLogKey) {
		t.Errorf("zero policy: %v", err)
	}
}

// TestEveryIndex: all entries of trees of many sizes are proved.
func TestEveryIndex(t *testing.T) {
	policy := mustPolicy(t, "log "+logSigner(testOrigin).String()+"\nquorum none\n")
	var entries []string
	for size := 1; size <= 70; size++ {
		entries = append(entries, fmt.Sprintf("entry %d", size-1))
		text := checkpointText(testOrigin, fmt.Sprint(size), merkleRoot(entries))
		for i := range entries {
			p := &parts{header: proofHeader, index: fmt.Sprint(i), text: text, signers: []note.Signer{logSigner(testOrigin)}}
			for _, h := range merklePath(i, entries) {
				p.hashes = append(p.hashes, hashLine(h))
			}
			if _, err := policy.Verify([]byte(p.String()), []byte(entries[i])); err != nil {
				t.Fatalf("entry %d of %d: %v", i, size, err)
			}
			other := entries[(i+1)%size]
			if _, err := policy.Verify([]byte(p.String()), []byte(other)); size > 1 && !errors.Is(err, ErrInclusion) {
				t.Fatalf("entry %d of %d stands for its neighbour: %v", i, size, err)
			}
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	policy := mustPolicy(b, testPolicy())
	proof := []byte(testParts().String())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policy.Verify(proof, []byte(testEntry)); err != nil {
			b.Fatal(err)
		}
	}
}
