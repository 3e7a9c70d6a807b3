package dsse

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
)

// The edge cases on which implementations of Ed25519 disagree, after Chalkias,
// Garillot, Nikolaenko, "Taming the many EdDSAs" (SSR 2020), section 5: points
// of small and mixed order, encodings that are not canonical, and S that is not
// reduced. They are made here with textbook arithmetic and lie in
// testdata/ed25519-edge.json for others:
//
//	go test ./dsse -run TestEdgeCases -update
//
// RFC 8032 lets a verifier choose between two equations. This package keeps to
// the stricter one without the cofactor, as crypto/ed25519 does: what it accepts
// every other implementation accepts.
var update = flag.Bool("update", false, "write the vectors in testdata anew")

// An edgeCase is a signature over PAE(payload_type, payload).
type edgeCase struct {
	Name        string `json:"name"`
	Public      string `json:"public"`
	PayloadType string `json:"payload_type"`
	Payload     string `json:"payload"`
	Signature   string `json:"signature"`
	// Key says whether CheckKey accepts the key, Accepted whether the
	// signature is: never under a key that is refused.
	Key      bool `json:"key_accepted"`
	Accepted bool `json:"signature_accepted"`
	// Cofactored says whether the equation with the cofactor holds, of which
	// some implementations think that it is enough.
	Cofactored bool `json:"cofactored_equation_holds"`
}

// point is a point of the curve in affine coordinates.
type point struct{ x, y *big.Int }

// curve is the arithmetic of RFC 8032, section 5.1, in its plainest form.
type curve struct{ p, d, l *big.Int }

func newCurve() curve {
	p := fieldPrime()
	d := new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), p))
	l, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	l.Add(l, new(big.Int).Lsh(big.NewInt(1), 252))
	return curve{p, d.Mod(d, p), l}
}

func (c curve) add(a, b point) point {
	mul := func(x, y *big.Int) *big.Int { return new(big.Int).Mul(x, y) }
	k := mul(mul(mul(mul(c.d, a.x), b.x), a.y), b.y)
	over := func(n, d *big.Int) *big.Int {
		d.Mod(d, c.p)
		n.Mul(n, d.ModInverse(d, c.p))
		return n.Mod(n, c.p)
	}
	one := big.NewInt(1)
	return point{
		over(new(big.Int).Add(mul(a.x, b.y), mul(b.x, a.y)), new(big.Int).Add(one, k)),
		over(new(big.Int).Add(mul(a.y, b.y), mul(a.x, b.x)), new(big.Int).Sub(one, k)),
	}
}

func (c curve) identity() point { return point{big.NewInt(0), big.NewInt(1)} }

func (c curve) mul(n *big.Int, a point) point {
	sum := c.identity()
	for i := n.BitLen() - 1; i >= 0; i-- {
		sum = c.add(sum, sum)
		if n.Bit(i) == 1 {
			sum = c.add(sum, a)
		}
	}
	return sum
}

// decode reads an encoding, canonical or not.
func (c curve) decode(t *testing.T, enc []byte) point {
	t.Helper()
	raw := slices.Clone(enc)
	sign := uint(raw[31] >> 7)
	raw[31] &= 0x7f
	slices.Reverse(raw)
	y := new(big.Int).SetBytes(raw)
	y.Mod(y, c.p)
	yy := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(yy, big.NewInt(1))
	v := new(big.Int).Add(new(big.Int).Mul(c.d, yy), big.NewInt(1))
	x := new(big.Int).ModSqrt(u.Mod(u.Mul(u, v.ModInverse(v.Mod(v, c.p), c.p)), c.p), c.p)
	if x == nil {
		t.Fatalf("%x is not a point", enc)
	}
	if x.Bit(0) != sign {
		x.Sub(c.p, x)
	}
	return point{x.Mod(x, c.p), y}
}

func (c curve) encode(a point) []byte {
	enc := littleEndian(a.y)
	enc[31] |= byte(a.x.Bit(0)) << 7
	return enc
}

func littleEndian(n *big.Int) []byte {
	out := n.FillBytes(make([]byte, 32))
	slices.Reverse(out)
	return out
}

// forge makes signatures as no honest signer does.
type forge struct {
	curve
	t      *testing.T
	base   point
	secret *big.Int
	order8 point
}

func newForge(t *testing.T) forge {
	f := forge{curve: newCurve(), t: t}
	f.base = f.decode(t, unhex("58"+strings.Repeat("66", 31)))
	f.order8 = f.decode(t, unhex(lowOrder[4]))
	f.secret = new(big.Int).SetBytes([]byte("a secret scalar of a test, long"))
	f.secret.Mod(f.secret, f.l)
	return f
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// challenge is k of RFC 8032, section 5.1.7.
func (f forge) challenge(r, pub, payload []byte) *big.Int {
	h := sha512.New()
	h.Write(r)
	h.Write(pub)
	h.Write(PAE(testType, payload))
	sum := h.Sum(nil)
	slices.Reverse(sum)
	k := new(big.Int).SetBytes(sum)
	return k.Mod(k, f.l)
}

// sign returns R followed by S = nonce + k·secret, plus extra.
func (f forge) sign(r, pub, payload []byte, nonce, secret, extra *big.Int) []byte {
	s := new(big.Int).Mul(f.challenge(r, pub, payload), secret)
	s.Mod(s.Add(s, nonce), f.l)
	return slices.Concat(r, littleEndian(s.Add(s, extra)))
}

// cofactored reports whether 8SB = 8R + 8kA, whatever the encodings.
func (f forge) cofactored(pub, payload, sig []byte) bool {
	s := slices.Clone(sig[32:])
	slices.Reverse(s)
	k := f.challenge(sig[:32], pub, payload)
	eight := big.NewInt(8)
	left := f.mul(eight, f.mul(new(big.Int).SetBytes(s), f.base))
	right := f.mul(eight, f.add(f.decode(f.t, sig[:32]), f.mul(k, f.decode(f.t, pub))))
	return left.x.Cmp(right.x) == 0 && left.y.Cmp(right.y) == 0
}

func (f forge) caseOf(name string, pub, payload, sig []byte, key, accepted bool) edgeCase {
	return edgeCase{name, hex.EncodeToString(pub), testType, string(payload), hex.EncodeToString(sig),
		key, accepted, f.cofactored(pub, payload, sig)}
}

// payloadWith looks for a payload whose challenge satisfies ok.
func (f forge) payloadWith(r, pub []byte, ok func(k *big.Int) bool) []byte {
	for i := range 1000 {
		p := append([]byte("payload "), byte('0'+i/100), byte('0'+i/10%10), byte('0'+i%10))
		if ok(f.challenge(r, pub, p)) {
			return p
		}
	}
	f.t.Fatal("no payload found")
	return nil
}

func divisible(by int64) func(*big.Int) bool {
	return func(k *big.Int) bool { return new(big.Int).Mod(k, big.NewInt(by)).Sign() == 0 }
}

func (f forge) cases() []edgeCase {
	zero, nonce := new(big.Int), big.NewInt(123456789)
	r := f.encode(f.mul(nonce, f.base))
	honest := f.encode(f.mul(f.secret, f.base))
	mixed := f.encode(f.add(f.mul(f.secret, f.base), f.order8))
	mixedR := f.encode(f.add(f.mul(nonce, f.base), f.order8))
	identity := f.encode(f.identity())
	small := f.encode(f.order8)
	identityAlias := unhex(lowOrder[6]) // y = p+1
	zeros := make([]byte, 32)
	even, odd := f.payloadWith(r, mixed, divisible(8)), f.payloadWith(r, mixed, func(k *big.Int) bool { return k.Bit(0) == 1 })
	list := []edgeCase{
		f.caseOf("honest", honest, payload, f.sign(r, honest, payload, nonce, f.secret, zero), true, true),
		f.caseOf("S + L", honest, payload, f.sign(r, honest, payload, nonce, f.secret, f.l), true, false),
		f.caseOf("S + 8L, top bits set", honest, payload,
			f.sign(r, honest, payload, nonce, f.secret, new(big.Int).Mul(big.NewInt(8), f.l)), true, false),
		f.caseOf("R of mixed order", honest, payload, f.sign(mixedR, honest, payload, nonce, f.secret, zero), true, false),
		f.caseOf("R the identity, a nonce of zero", honest, payload, f.sign(identity, honest, payload, zero, f.secret, zero), true, true),
		f.caseOf("R the identity, not canonical", honest, payload, f.sign(identityAlias, honest, payload, zero, f.secret, zero), true, false),
		f.caseOf("R of small order", honest, payload, f.sign(small, honest, payload, zero, f.secret, zero), true, false),
		f.caseOf("A of mixed order, k divisible by 8", mixed, even, f.sign(r, mixed, even, nonce, f.secret, zero), true, true),
		f.caseOf("A of mixed order, k odd", mixed, odd, f.sign(r, mixed, odd, nonce, f.secret, zero), true, false),
		f.caseOf("A and R of small order, S = 0", small, payload, slices.Concat(small, zeros), false, false),
		f.caseOf("A and R the identity, S = 0", identity, payload, slices.Concat(identity, zeros), false, false),
		f.caseOf("A the identity, not canonical", identityAlias, payload, slices.Concat(identity, zeros), false, false),
		f.caseOf("A of small order, R honest", small, f.payloadWith(r, small, divisible(8)), slices.Concat(r, littleEndian(nonce)), false, false),
	}
	return append(list, f.aliases(nonce)...)
}

// aliases are the keys with y = p+i: other encodings of y = i, which a careless
// reader takes for two keys. Not all are points.
func (f forge) aliases(nonce *big.Int) (list []edgeCase) {
	r := f.encode(f.mul(nonce, f.base))
	for i := int64(2); i < 19; i++ {
		if !onCurve(big.NewInt(i), f.p) {
			continue
		}
		enc := littleEndian(new(big.Int).Add(f.p, big.NewInt(i)))
		list = append(list, f.caseOf("A not canonical, y = p+"+big.NewInt(i).String(), enc, payload,
			slices.Concat(r, littleEndian(nonce)), false, false))
	}
	return list
}

func TestEdgeCases(t *testing.T) {
	f := newForge(t)
	cases := f.cases()
	want, err := json.MarshalIndent(cases, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	const path = "testdata/ed25519-edge.json"
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the test makes; run with -update: %v", path, err)
	}
	for _, c := range cases {
		key, sig := ed25519.PublicKey(unhex(c.Public)), unhex(c.Signature)
		if err := CheckKey(key); (err == nil) != c.Key || err != nil && !errors.Is(err, ErrWeakKey) {
			t.Errorf("%s: key: %v", c.Name, err)
		}
		raw, err := Envelope{c.PayloadType, []byte(c.Payload), []Signature{{KeyID(key), sig}}}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(raw, testType, 4096, []ed25519.PublicKey{key}, 1)
		refusedFor := ErrThreshold
		if !c.Key {
			refusedFor = ErrWeakKey
		}
		if (err == nil) != c.Accepted || err != nil && !errors.Is(err, refusedFor) {
			t.Errorf("%s: %v", c.Name, err)
		}
		if c.Accepted && !c.Cofactored {
			t.Errorf("%s: accepted, although others may refuse it", c.Name)
		}
	}
}

// TestEdgeCasesBite: the cases are what they claim to be, and not just noise
// that any verifier refuses.
func TestEdgeCasesBite(t *testing.T) {
	f := newForge(t)
	careless := 0
	for _, c := range f.cases() {
		if c.Cofactored && !c.Accepted {
			careless++
		}
	}
	if careless < 8 {
		t.Errorf("a verifier with the cofactor would be wrong about %d cases only", careless)
	}
	key := testKey("a").Public().(ed25519.PublicKey)
	sig := Sign(testType, payload, testKey("a")).Sig
	if !f.cofactored(key, payload, sig) || f.cofactored(key, []byte("other"), sig) {
		t.Error("the arithmetic of this test does not agree with crypto/ed25519")
	}
}

// TestLowOrderList: the list holds the encodings of the eight points of small
// order, and no other.
func TestLowOrderList(t *testing.T) {
	f := newForge(t)
	points := map[string]bool{}
	for _, enc := range lowOrder {
		for _, sign := range []byte{0, 0x80} {
			raw := unhex(enc)
			raw[31] |= sign
			p := f.decode(t, raw)
			if eight := f.mul(big.NewInt(8), p); eight.x.Sign() != 0 || eight.y.Cmp(big.NewInt(1)) != 0 {
				t.Errorf("%x is not of small order", raw)
			}
			points[string(f.encode(p))] = true
		}
	}
	for i := range int64(8) {
		if enc := f.encode(f.mul(big.NewInt(i), f.order8)); !points[string(enc)] {
			t.Errorf("%x is not in the list", enc)
		}
	}
	if len(points) != 8 {
		t.Errorf("%d points, want 8", len(points))
	}
}
