package dsse

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// ErrWeakKey says that a public key must not be trusted: for some such keys
// one signature is valid for many messages, or two encodings mean one key.
var ErrWeakKey = errors.New("unusable Ed25519 public key")

// lowOrder lists every encoding of the eight points of small order, canonical
// or not, with the sign bit (the top bit of the last byte) cleared. Source:
// Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs" (SSR 2020), table 1;
// the same list is libsodium's blocklist in ge25519_has_small_order.
var lowOrder = [...]string{
	"0100000000000000000000000000000000000000000000000000000000000000", // order 1
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
	"0000000000000000000000000000000000000000000000000000000000000000", // order 4
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p, order 4
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p+1, order 1
}

// CheckKey refuses public keys that are not 32 bytes, not the canonical
// encoding of a point (RFC 8032, section 5.1.3), not on the curve, or of small
// order. It does not look for a small component beside a full one, which does
// not help a forger. It costs about as much as a signature check.
func CheckKey(pub ed25519.PublicKey) error {
	if err := checkEncoding(pub); err != nil {
		return err
	}
	y := slices.Clone(pub)
	y[31] &= 0x7f
	slices.Reverse(y) // big-endian
	if !onCurve(new(big.Int).SetBytes(y), fieldPrime()) {
		return fmt.Errorf("%w: not a point of the curve", ErrWeakKey)
	}
	return nil
}

// checkEncoding is the cheap part of CheckKey. It is all that is needed right
// before a signature check, which fails for a key that is not on the curve.
func checkEncoding(pub ed25519.PublicKey) error {
	if len(pub) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: %d bytes, want %d", ErrWeakKey, len(pub), ed25519.PublicKeySize)
	}
	unsigned := slices.Clone(pub)
	unsigned[31] &= 0x7f
	if slices.Contains(lowOrder[:], hex.EncodeToString(unsigned)) {
		return fmt.Errorf("%w: point of small order", ErrWeakKey)
	}
	// p = 2^255-19 is ed ff … ff 7f in this order of bytes, so what is not
	// below p has all these ones above a first byte of at least ed.
	if unsigned[0] >= 0xed && unsigned[31] == 0x7f && !slices.ContainsFunc(unsigned[1:31], notAllOnes) {
		return fmt.Errorf("%w: encoding is not canonical", ErrWeakKey)
	}
	return nil
}

func notAllOnes(b byte) bool { return b != 0xff }

// fieldPrime returns 2^255 - 19.
func fieldPrime() *big.Int {
	p := new(big.Int).Lsh(big.NewInt(1), 255)
	return p.Sub(p, big.NewInt(19))
}

// onCurve reports whether some x satisfies -x² + y² = 1 + d x² y² modulo p,
// that is, whether (y²-1)(dy²+1) is a square, with d = -121665/121666.
// Multiplying the second factor by 121666² keeps that and spares a division.
func onCurve(y, p *big.Int) bool {
	yy := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(yy, big.NewInt(1))
	v := new(big.Int).Mul(yy, big.NewInt(-121665))
	v.Add(v, big.NewInt(121666))
	v.Mul(v, big.NewInt(121666))
	u.Mul(u, v).Mod(u, p)
	return big.Jacobi(u, p) >= 0
}
