package dsse

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

const testType = "http://example.com/HelloWorld"

var payload = []byte("hello world")

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func pub(names ...string) (keys []ed25519.PublicKey) {
	for _, name := range names {
		keys = append(keys, testKey(name).Public().(ed25519.PublicKey))
	}
	return keys
}

// TestPAE uses the example of the DSSE specification (protocol.md).
func TestPAE(t *testing.T) {
	got := string(PAE(testType, payload))
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := string(PAE("", nil)); got != "DSSEv1 0  0 " {
		t.Errorf("empty: %q", got)
	}
	if bytes.Equal(PAE("a", []byte("b 1 c")), PAE("a b 1", []byte("c"))) {
		t.Error("type and payload can be confused")
	}
}

// TestKeyID: the id is the hash of the key object as TUF writes it.
func TestKeyID(t *testing.T) {
	key := pub("a")[0]
	sum := sha256.Sum256([]byte(`{"keytype":"ed25519","keyval":{"public":"` + hex.EncodeToString(key) + `"},"scheme":"ed25519"}`))
	if got := KeyID(key); got != hex.EncodeToString(sum[:]) {
		t.Errorf("id is %s", got)
	}
}

func envelope(t testing.TB, sigs ...Signature) []byte {
	t.Helper()
	raw, err := Envelope{testType, payload, sigs}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestOpen(t *testing.T) {
	a, b := Sign(testType, payload, testKey("a")), Sign(testType, payload, testKey("b"))
	alias := Signature{strings.Repeat("0", 64), a.Sig}
	anonymous := Signature{"", a.Sig}
	other := Sign("other/type", payload, testKey("a"))
	short := Signature{a.KeyID, a.Sig[:63]}
	flipped := Signature{a.KeyID, bytes.Clone(a.Sig)}
	flipped.Sig[0] ^= 1
	var many []Signature
	for range MaxSignatures + 1 {
		many = append(many, a)
	}
	tests := []struct {
		name      string
		raw       []byte
		keys      []ed25519.PublicKey
		threshold int
		want      error // nil: accepted
	}{
		{"one of one", envelope(t, a), pub("a"), 1, nil},
		{"one of two", envelope(t, b), pub("a", "b"), 1, nil},
		{"two of two", envelope(t, b, a), pub("a", "b"), 2, nil},
		{"strangers' signatures are ignored", envelope(t, Sign(testType, payload, testKey("x")), a), pub("a"), 1, nil},
		{"without a key id", envelope(t, anonymous), pub("b", "a"), 1, nil},
		{"white space around", append(envelope(t, a), '\n'), pub("a"), 1, nil},
		{"no signature", envelope(t), pub("a"), 1, ErrThreshold},
		{"no key", envelope(t, a), nil, 1, ErrThreshold},
		{"stranger", envelope(t, b), pub("a"), 1, ErrThreshold},
		{"one twice", envelope(t, a, a), pub("a", "b"), 2, ErrThreshold},
		{"one twice, once without id", envelope(t, a, anonymous), pub("a", "b"), 2, ErrThreshold},
		{"one key listed twice", envelope(t, a, a), pub("a", "a"), 2, ErrThreshold},
		{"under another id", envelope(t, alias), pub("a"), 1, ErrThreshold},
		{"threshold zero", envelope(t), pub("a"), 0, ErrThreshold},
		{"threshold negative", envelope(t, a), pub("a"), -1, ErrThreshold},
		{"signed for another type", envelope(t, other), pub("a"), 1, ErrThreshold},
		{"short signature", envelope(t, short), pub("a"), 1, ErrThreshold},
		{"flipped bit", envelope(t, flipped), pub("a"), 1, ErrThreshold},
		{"weak key beside a good one", envelope(t, a), append(pub("a"), make(ed25519.PublicKey, 32)), 1, ErrWeakKey},
		{"too many signatures", envelope(t, many...), pub("a"), 1, ErrMalformed},
		{"other payload", bytes.Replace(envelope(t, a), []byte("aGVsbG8g"), []byte("aGVsbG8h"), 1), pub("a"), 1, ErrThreshold},
		{"other type", bytes.Replace(envelope(t, a), []byte("HelloWorld"), []byte("HelloWorlt"), 1), pub("a"), 1, ErrPayloadType},
		{"unknown member", bytes.Replace(envelope(t, a), []byte(`{"payload"`), []byte(`{"x":1,"payload"`), 1), pub("a"), 1, ErrMalformed},
		{"URL alphabet or no padding", bytes.Replace(envelope(t, a), []byte("bGQ="), []byte("bGQ"), 1), pub("a"), 1, ErrMalformed},
		{"trailing bytes", append(envelope(t, a), '{'), pub("a"), 1, ErrMalformed},
		{"too large", append(envelope(t, a), bytes.Repeat([]byte(" "), 5000)...), pub("a"), 1, ErrMalformed},
		{"empty", nil, pub("a"), 1, ErrMalformed},
		{"null", []byte("null"), pub("a"), 1, ErrMalformed},
	}
	for _, tt := range tests {
		got, err := Open(tt.raw, testType, 4096, tt.keys, tt.threshold)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if (err == nil) != bytes.Equal(got, payload) {
			t.Errorf("%s: payload %q with %v", tt.name, got, err)
		}
	}
}

func TestCheckKey(t *testing.T) {
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if err := CheckKey(pub(name)[0]); err != nil {
			t.Errorf("honest key refused: %v", err)
		}
	}
	for _, point := range lowOrder {
		key, err := hex.DecodeString(point)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := CheckKey(key); !errors.Is(err, ErrWeakKey) || !strings.Contains(err.Error(), "small order") {
				t.Errorf("%x: %v", key, err)
			}
			key[31] ^= 0x80 // the same with the other sign
		}
	}
	for name, digits := range map[string]string{
		"p+3, not canonical":   "f0" + strings.Repeat("ff", 30) + "7f",
		"the same, other sign": "f0" + strings.Repeat("ff", 31),
		"2^255-1":              strings.Repeat("ff", 32),
		"not on the curve, 2":  "02" + strings.Repeat("00", 31),
		"short":                strings.Repeat("11", 31),
		"long":                 strings.Repeat("11", 33),
		"empty":                "",
	} {
		key, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckKey(key); !errors.Is(err, ErrWeakKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWeakKeyWouldForge shows what CheckKey is for: under the identity point
// one signature fits every message, and the standard library accepts it.
func TestWeakKeyWouldForge(t *testing.T) {
	identity := make(ed25519.PublicKey, 32)
	identity[0] = 1
	forged := make([]byte, 64) // R = identity, S = 0
	forged[0] = 1
	if !ed25519.Verify(identity, PAE(testType, payload), forged) {
		t.Skip("the standard library refuses this key by itself")
	}
	raw := envelope(t, Signature{"", forged})
	if _, err := Open(raw, testType, 4096, []ed25519.PublicKey{identity}, 1); !errors.Is(err, ErrWeakKey) {
		t.Errorf("forged envelope: %v", err)
	}
}

func TestVerifyNamesSigners(t *testing.T) {
	sigs := []Signature{Sign(testType, payload, testKey("c")), Sign(testType, payload, testKey("a"))}
	ids, err := Verify(testType, payload, sigs, pub("a", "b", "c"), 2)
	if err != nil || len(ids) != 2 || ids[0] != KeyID(pub("a")[0]) || ids[1] != KeyID(pub("c")[0]) {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestOpenSigned(t *testing.T) {
	raw := envelope(t, Sign(testType, payload, testKey("c")), Sign(testType, payload, testKey("a")))
	got, ids, err := OpenSigned(raw, testType, 1<<10, pub("b", "c"), 1)
	if err != nil || string(got) != string(payload) || len(ids) != 1 || ids[0] != KeyID(pub("c")[0]) {
		t.Errorf("%q, %v, %v", got, ids, err)
	}
	if got, ids, err := OpenSigned(raw, testType, 1<<10, pub("b"), 1); err == nil || got != nil || ids != nil {
		t.Errorf("%q, %v, %v", got, ids, err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(envelope(f, Sign(testType, payload, testKey("a"))))
	f.Add([]byte(`{"payload":"","payloadType":"http://example.com/HelloWorld","signatures":[{"sig":""}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := Open(raw, testType, 4096, pub("a"), 1)
		if err == nil && !bytes.Equal(got, payload) {
			t.Fatalf("accepted %q", got)
		}
	})
}

func FuzzCheckKey(f *testing.F) {
	f.Add([]byte(pub("a")[0]))
	f.Fuzz(func(t *testing.T, key []byte) { _ = CheckKey(key) })
}

func BenchmarkCheckKey(b *testing.B) {
	key := pub("a")[0]
	for b.Loop() {
		if err := CheckKey(key); err != nil {
			b.Fatal(err)
		}
	}
}
