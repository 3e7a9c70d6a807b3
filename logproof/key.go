package logproof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// KeyType is the signature type byte of a signed note's key.
type KeyType byte

// The two types this package knows, both Ed25519.
const (
	LogKey     KeyType = 1 // signs the note text itself (signed-note)
	WitnessKey KeyType = 4 // signs it with the time, "cosignature/v1" (tlog-cosignature)
)

// Bounds on the time inside a cosignature, in seconds since 1970: what a date
// with a four-digit year can say.
const (
	minCosigned = 1
	maxCosigned = 253402300799
)

const cosignatureSize = 8 + ed25519.SignatureSize // time and signature

// A Key is the public key of a log or a witness together with its name. It is
// a note.Verifier. Make one with NewKey or ParseKey.
type Key struct {
	id     keyID
	kind   KeyType
	public ed25519.PublicKey
}

// keyID is how signatures name their key.
type keyID struct {
	name string
	hash uint32
}

// NewKey refuses names that cannot stand in a signed note (empty, not UTF-8,
// with a space, a control character or "+"), unknown types, and public keys
// that are not canonical, not on the curve or of small order.
func NewKey(name string, kind KeyType, public ed25519.PublicKey) (*Key, error) {
	if !validKeyName(name) {
		return nil, fmt.Errorf("key name %q cannot stand in a signed note", name)
	}
	if kind != LogKey && kind != WitnessKey {
		return nil, fmt.Errorf("key type %d is not supported", kind)
	}
	if err := checkPublic(public); err != nil {
		return nil, err
	}
	material := append([]byte{byte(kind)}, public...)
	sum := sha256.Sum256(append([]byte(name+"\n"), material...))
	id := keyID{name, binary.BigEndian.Uint32(sum[:])}
	return &Key{id, kind, slices.Clone(public)}, nil
}

// ParseKey reads a verifier key as [Key.String] writes it. Other spellings of
// the same key are refused.
func ParseKey(vkey string) (*Key, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	hash, encoded, _ := strings.Cut(rest, "+")
	material, err := decodeBase64(encoded)
	if err != nil || len(material) != 1+ed25519.PublicKeySize {
		return nil, errors.New("not an Ed25519 verifier key (name+hash+base64)")
	}
	k, err := NewKey(name, KeyType(material[0]), material[1:])
	if err != nil {
		return nil, err
	}
	if k.String() != vkey {
		return nil, fmt.Errorf("key hash %q is not that of the key", hash)
	}
	return k, nil
}

// String is the verifier key ("vkey") of C2SP signed-note: name, key hash in
// hexadecimal, type byte and public key in base64, joined by "+".
func (k *Key) String() string {
	material := append([]byte{byte(k.kind)}, k.public...)
	return fmt.Sprintf("%s+%08x+%s", k.id.name, k.id.hash, base64.StdEncoding.EncodeToString(material))
}

// Name is the key's name: of a log, its origin.
func (k *Key) Name() string { return k.id.name }

// KeyHash is the first 32 bits of a hash over name, type and public key.
func (k *Key) KeyHash() uint32 { return k.id.hash }

// Type says what the key signs.
func (k *Key) Type() KeyType { return k.kind }

// Verify reports whether sig is this key's signature of the note text msg. The
// zero Key verifies nothing.
func (k *Key) Verify(msg, sig []byte) bool {
	if k.kind == LogKey {
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(k.public, msg, sig)
	}
	if k.kind != WitnessKey || len(sig) != cosignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	if at < minCosigned || at > maxCosigned {
		return false
	}
	return ed25519.Verify(k.public, CosignMessage(msg, int64(at)), sig[8:])
}

// CosignMessage is what a witness signs: the whole text of the checkpoint
// under a header that carries the time, in seconds since 1970.
func CosignMessage(text []byte, at int64) []byte {
	message := append([]byte("cosignature/v1\ntime "), strconv.FormatInt(at, 10)...)
	return append(append(message, '\n'), text...)
}

func validKeyName(name string) bool {
	bad := func(r rune) bool { return r == '+' || r < ' ' || unicode.IsSpace(r) }
	return name != "" && utf8.ValidString(name) && !strings.ContainsFunc(name, bad)
}

// checkPublic refuses every public key under which a signature could say less
// than it seems to: one of small order (a signature may fit many messages),
// one not in its canonical encoding (RFC 8032, section 5.1.3), and one off the
// curve, under which nothing can be signed.
func checkPublic(public ed25519.PublicKey) error {
	if len(public) != ed25519.PublicKeySize {
		return fmt.Errorf("public key of %d bytes, want %d", len(public), ed25519.PublicKeySize)
	}
	p := new(big.Int).Lsh(big.NewInt(1), 255)
	p.Sub(p, big.NewInt(19))
	encoded := slices.Clone(public)
	encoded[31] &= 0x7f // the sign of x
	slices.Reverse(encoded)
	y := new(big.Int).SetBytes(encoded)
	switch {
	case y.Cmp(p) >= 0:
		return errors.New("unusable public key: encoding is not canonical")
	case smallOrder(y, p):
		return errors.New("unusable public key: point of small order")
	case !onCurve(y, p):
		return errors.New("unusable public key: not a point of the curve")
	}
	return nil
}

// smallOrder reports whether a point with this y has an order of 1 (y = 1),
// 2 (y = -1), 4 (y = 0) or 8. A point of order 8 doubles to one with y = 0;
// doubling (x, y) gives (y²+x²)/(1-dx²y²), so x² = -y², and with the equation
// of the curve, -x²+y² = 1+dx²y², that is dy⁴+2y²-1 = 0. With d equal to
// -121665/121666, multiplied out.
func smallOrder(y, p *big.Int) bool {
	y2 := new(big.Int).Mul(y, y)
	unit := new(big.Int).Sub(y2, big.NewInt(1))
	eight := new(big.Int).Mul(y2, big.NewInt(-121665))
	eight.Add(eight, big.NewInt(2*121666))
	eight.Mul(eight, y2)
	eight.Sub(eight, big.NewInt(121666))
	product := new(big.Int).Mul(y, unit)
	product.Mul(product, eight)
	return product.Mod(product, p).Sign() == 0
}

// onCurve reports whether some x belongs to y: whether (y²-1)/(dy²+1), and so
// (y²-1)(dy²+1), is a square modulo p. d is multiplied out by a square.
func onCurve(y, p *big.Int) bool {
	y2 := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(y2, big.NewInt(1))
	v := new(big.Int).Mul(y2, big.NewInt(-121665))
	v.Add(v, big.NewInt(121666))
	product := u.Mul(u, v.Mul(v, big.NewInt(121666)))
	return big.Jacobi(product.Mod(product, p), p) >= 0
}
