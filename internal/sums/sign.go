package sums

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/phasebased/phase/dsse"
)

// Signatures are the two files beside a list.
type Signatures struct {
	Sig     []byte // SHA256SUMS.sig
	Minisig []byte // SHA256SUMS.minisig
}

// Of minisign's formats (https://jedisct1.github.io/minisign/, "Signature format").
const (
	algorithm = "Ed" // Ed25519 of the file itself
	untrusted = "untrusted comment: "
	trusted   = "trusted comment: "
	keyIDLen  = 8
)

// Sign signs a list, which it parses first, for the day of at. Equal arguments
// give equal bytes.
func Sign(list []byte, key ed25519.PrivateKey, at time.Time) (Signatures, error) {
	if _, err := Parse(list); err != nil {
		return Signatures{}, err
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return Signatures{}, &Error{Object: "key", Reason: ErrKey}
	}
	id := minisignID(pub)
	sig := ed25519.Sign(key, list)
	comment := fmt.Sprintf("timestamp:%d\tfile:%s", at.Unix(), Name)
	global := ed25519.Sign(key, append(bytes.Clone(sig), comment...))
	var mini bytes.Buffer
	fmt.Fprintf(&mini, "%ssignature of %s by minisign key %s\n", untrusted, Name, shownID(id))
	fmt.Fprintln(&mini, base64.StdEncoding.EncodeToString(joined([]byte(algorithm), id[:], sig)))
	fmt.Fprintf(&mini, "%s%s\n", trusted, comment)
	fmt.Fprintln(&mini, base64.StdEncoding.EncodeToString(global))
	return Signatures{sig, mini.Bytes()}, nil
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Open returns the list if sig, the content of either signature file, is one of
// exactly these bytes by key. Nothing of an unsigned list is parsed.
func Open(list, sig []byte, key ed25519.PublicKey) (List, error) {
	if err := dsse.CheckKey(key); err != nil {
		return nil, ErrKey.Of("key", "%w", err)
	}
	if len(list) > MaxBytes {
		return nil, ErrList.Of(Name, "it is too long")
	}
	if len(sig) == ed25519.SignatureSize {
		if !ed25519.Verify(key, list, sig) {
			return nil, &Error{Object: SigName, Reason: ErrSignature}
		}
		return Parse(list)
	}
	if err := openMinisig(list, sig, key); err != nil {
		return nil, err
	}
	return Parse(list)
}

func openMinisig(list, file []byte, key ed25519.PublicKey) error {
	m, err := parseMinisig(file)
	if err != nil {
		return err
	}
	if id := minisignID(key); m.id != id {
		return ErrOtherKey.Of(MinisigName, "its key is %s, expected %s", shownID(m.id), shownID(id))
	}
	if !ed25519.Verify(key, list, m.sig) || !ed25519.Verify(key, append(bytes.Clone(m.sig), m.comment...), m.global) {
		return &Error{Object: MinisigName, Reason: ErrSignature}
	}
	return nil
}

type minisig struct {
	id          [keyIDLen]byte
	sig, global []byte
	comment     string
}

// parseMinisig reads the four lines of a signature file of algorithm "Ed".
func parseMinisig(file []byte) (m minisig, err error) {
	refuse := func(detail string) (minisig, error) {
		return minisig{}, ErrSigFile.Of(MinisigName, "%s", detail)
	}
	lines, err := commented(file, 4)
	if err != nil {
		return refuse(err.Error())
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(lines[1])
	if err != nil || len(raw) != len(algorithm)+keyIDLen+ed25519.SignatureSize {
		return refuse("its second line is not a signature")
	}
	if string(raw[:2]) != algorithm {
		return refuse("it is made with another algorithm than Ed")
	}
	comment, ok := strings.CutPrefix(lines[2], trusted)
	global, err := base64.StdEncoding.Strict().DecodeString(lines[3])
	if !ok || err != nil || len(global) != ed25519.SignatureSize {
		return refuse("its trusted comment is not signed")
	}
	return minisig{[keyIDLen]byte(raw[2:]), raw[2+keyIDLen:], global, comment}, nil
}

// commented splits a file of n lines whose first one is an untrusted comment.
func commented(file []byte, n int) ([]string, error) {
	if len(file) > maxSigFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxSigFile)
	}
	text := strings.ReplaceAll(string(file), "\r\n", "\n")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != n || !strings.HasPrefix(lines[0], untrusted) {
		return nil, fmt.Errorf("it has not the %d lines of minisign", n)
	}
	return lines, nil
}

// minisignID is minisign's name of a key. minisign draws it; ours is taken from
// the key, so that everybody who exports it writes the same file.
func minisignID(pub ed25519.PublicKey) [keyIDLen]byte {
	sum := sha256.Sum256(pub)
	return [keyIDLen]byte(sum[:])
}

// shownID is how minisign prints it.
func shownID(id [keyIDLen]byte) string {
	return fmt.Sprintf("%016X", binary.LittleEndian.Uint64(id[:]))
}

// PEM is a public key as OpenSSL reads it (RFC 8410).
func PEM(pub ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// Minisign is a public key as minisign reads it.
func Minisign(pub ed25519.PublicKey) []byte {
	id := minisignID(pub)
	return fmt.Appendf(nil, "%sminisign public key %s\n%s\n", untrusted, shownID(id),
		base64.StdEncoding.EncodeToString(joined([]byte(algorithm), id[:], pub)))
}

// ParseKey reads a public key in the form of PEM or Minisign. Weak keys are
// refused, and minisign keys that are not ours: their names are not derived.
func ParseKey(data []byte) (ed25519.PublicKey, error) {
	refuse := func(detail string) (ed25519.PublicKey, error) {
		return nil, ErrKey.Of("key", "%s", detail)
	}
	if len(data) > maxSigFile {
		return refuse("it is too large")
	}
	var pub ed25519.PublicKey
	if bytes.HasPrefix(data, []byte(untrusted)) {
		lines, err := commented(data, 2)
		if err != nil {
			return refuse(err.Error())
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(lines[1])
		if err != nil || len(raw) != 2+keyIDLen+ed25519.PublicKeySize || string(raw[:2]) != algorithm {
			return refuse("its second line is not a minisign key")
		}
		if pub = raw[2+keyIDLen:]; minisignID(pub) != [keyIDLen]byte(raw[2:]) {
			return refuse("its minisign key id is not derived from the key")
		}
	} else {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != "PUBLIC KEY" || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
			return refuse("")
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		var ok bool
		if pub, ok = parsed.(ed25519.PublicKey); err != nil || !ok {
			return refuse("it is not an Ed25519 key")
		}
	}
	if err := dsse.CheckKey(pub); err != nil {
		return refuse(err.Error())
	}
	return pub, nil
}
