// Package blob names byte strings by their SHA-256 digest, checks streams against
// such a name, and lists the digests of a string's chunks.
//
// A Digest is the only way the project writes down a hash: one type, one text
// form ("sha256:" and 64 lower-case hexadecimal digits), so that a digest with
// a prefix is never compared with one without. The package trusts nothing: a
// Digest says what bytes must be, never that they are.
package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Prefix starts the text form of every digest and names its algorithm.
const Prefix = "sha256:"

// Digest is a SHA-256 value. It is comparable and may be a map key; the zero
// value means "no digest" and is never what a Parse returns without an error.
type Digest struct{ sum [sha256.Size]byte }

// Parse reads the one text form of a digest: exactly "sha256:" followed by 64
// lower-case hexadecimal digits. The digest of all zero bytes is refused,
// because the zero Digest means "none".
func Parse(s string) (Digest, error) {
	digits, ok := strings.CutPrefix(s, Prefix)
	if !ok {
		return Digest{}, fmt.Errorf("digest %s does not start with %q", clip(s), Prefix)
	}
	if len(digits) != hex.EncodedLen(sha256.Size) {
		return Digest{}, fmt.Errorf("digest has %d digits after %q, want 64", len(digits), Prefix)
	}
	if strings.ContainsAny(digits, "ABCDEF") {
		return Digest{}, fmt.Errorf("digest %s has upper-case digits", clip(s))
	}
	var d Digest
	if _, err := hex.Decode(d.sum[:], []byte(digits)); err != nil {
		return Digest{}, fmt.Errorf("digest %s: %w", clip(s), err)
	}
	if d.IsZero() {
		return Digest{}, fmt.Errorf("digest %s is all zeros", clip(s))
	}
	return d, nil
}

// Of returns the digest of b.
func Of(b []byte) Digest { return Digest{sha256.Sum256(b)} }

// FromSum wraps a finished SHA-256 sum.
func FromSum(sum [sha256.Size]byte) Digest { return Digest{sum} }

// String returns the text form that Parse reads.
func (d Digest) String() string { return Prefix + d.Hex() }

// Hex returns the 64 digits without the algorithm, for file names.
func (d Digest) Hex() string { return hex.EncodeToString(d.sum[:]) }

// IsZero reports whether d is the zero value, that is, names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler. The zero Digest has no text
// form and fails: a missing hash must not travel as one of zeros.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, fmt.Errorf("zero digest cannot be written")
	}
	return []byte(d.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler with the rules of Parse.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// clip quotes a foreign string for a message, at most 80 bytes of it.
func clip(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q…", s[:80])
	}
	return fmt.Sprintf("%q", s)
}
