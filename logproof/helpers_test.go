package logproof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// testKey has a fixed seed, so that vectors can be written anew.
func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase log test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// testSigner is a note.Signer of either type.
type testSigner struct {
	*Key
	private ed25519.PrivateKey
	at      uint64 // of cosignatures
}

const testTime = 1767225600 // 2026-01-01T00:00:00Z

func newSigner(name string, kind KeyType, private ed25519.PrivateKey) testSigner {
	k, err := NewKey(name, kind, private.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return testSigner{k, private, testTime}
}

func logSigner(name string) testSigner     { return newSigner(name, LogKey, testKey(name)) }
func witnessSigner(name string) testSigner { return newSigner(name, WitnessKey, testKey(name)) }

func (s testSigner) Sign(text []byte) ([]byte, error) {
	if s.Type() == LogKey {
		return ed25519.Sign(s.private, text), nil
	}
	message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", s.at, text)
	return append(binary.BigEndian.AppendUint64(nil, s.at), ed25519.Sign(s.private, message)...), nil
}

// sign makes a signed note with one line for each signer.
func sign(text string, signers ...note.Signer) string {
	signed := text + "\n"
	for _, s := range signers {
		sig, err := s.Sign([]byte(text))
		if err != nil {
			panic(err)
		}
		signed += sigLine(s.Name(), s.KeyHash(), sig)
	}
	return signed
}

func sigLine(name string, hash uint32, sig []byte) string {
	raw := append(binary.BigEndian.AppendUint32(nil, hash), sig...)
	return "— " + name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

// merkleRoot and merklePath follow RFC 6962, section 2.1, to the letter and
// share nothing with package tlog.
func merkleRoot(entries []string) [32]byte {
	switch n := len(entries); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256([]byte("\x00" + entries[0]))
	default:
		k := split(n)
		left, right := merkleRoot(entries[:k]), merkleRoot(entries[k:])
		return sha256.Sum256([]byte("\x01" + string(left[:]) + string(right[:])))
	}
}

func merklePath(m int, entries []string) [][32]byte {
	n := len(entries)
	if n <= 1 {
		return nil
	}
	k := split(n)
	if m < k {
		return append(merklePath(m, entries[:k]), merkleRoot(entries[k:]))
	}
	return append(merklePath(m-k, entries[k:]), merkleRoot(entries[:k]))
}

// split is the largest power of two below n.
func split(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

const (
	testOrigin = "log.example/boot"
	testIndex  = 5
	testSize   = 11
	testEntry  = `{"arch":"x86_64","channel":"stable","manifest_hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","manifest_version":42,"product":"phase-boot"}`
)

// testEntries is the log of the vectors.
func testEntries() []string {
	var entries []string
	for i := range testSize {
		entries = append(entries, fmt.Sprintf("entry %d", i))
	}
	entries[testIndex] = testEntry
	return entries
}

// parts is a proof before it is written down.
type parts struct {
	header  string
	extra   string // whole line
	index   string
	hashes  []string
	text    string // of the checkpoint
	signers []note.Signer
	more    string // signature lines
}

func testParts() *parts {
	entries := testEntries()
	p := &parts{header: proofHeader, index: fmt.Sprint(testIndex)}
	for _, h := range merklePath(testIndex, entries) {
		p.hashes = append(p.hashes, tlog.Hash(h).String())
	}
	p.text = checkpointText(testOrigin, fmt.Sprint(testSize), merkleRoot(entries))
	p.signers = []note.Signer{logSigner(testOrigin), witnessSigner("w1.example"), witnessSigner("w3.example")}
	return p
}

func checkpointText(origin, size string, root [32]byte) string {
	return origin + "\n" + size + "\n" + tlog.Hash(root).String() + "\n"
}

func (p *parts) String() string {
	head := p.header + "\n"
	if p.extra != "" {
		head += p.extra + "\n"
	}
	head += "index " + p.index + "\n"
	for _, h := range p.hashes {
		head += h + "\n"
	}
	return head + "\n" + sign(p.text, p.signers...) + p.more
}

// testPolicy accepts the test log, under either of two keys, if two of three
// witnesses cosigned.
func testPolicy() string {
	rotated := newSigner(testOrigin, LogKey, testKey("rotated"))
	lines := []string{
		"# Two keys of one log: it is changing them.",
		"log " + logSigner(testOrigin).String() + " https://log.example/boot/",
		"log " + rotated.String(),
		"log " + logSigner("other.example").String(),
		"",
		"witness w1 " + witnessSigner("w1.example").String(),
		"witness w2 " + witnessSigner("w2.example").String(),
		"witness w3 " + witnessSigner("w3.example").String(),
		"group two-of-three 2 w1 w2 w3",
		"quorum two-of-three",
	}
	return strings.Join(lines, "\n") + "\n"
}

func mustPolicy(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
