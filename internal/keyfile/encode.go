package keyfile

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"strconv"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// form is what a key file is, told by how it begins.
type form int

const (
	formOther     form = iota
	formAge            // encrypted by age
	formBare           // a PKCS #8 PEM block
	formOtherPEM       // PEM, but encrypted or of another kind
	formPublic         // the public half, as keygen writes it
	formPublicPEM      // the public half, as OpenSSL writes it
)

const (
	ageMagic   = "age-encryption.org/"
	pemPrivate = "PRIVATE KEY"
	pemBegin   = "-----BEGIN "
)

func formOf(data []byte) form {
	data = bytes.TrimLeft(data, " \t\r\n")
	switch {
	case bytes.HasPrefix(data, []byte(armor.Header)), bytes.HasPrefix(data, []byte(ageMagic)):
		return formAge
	case bytes.HasPrefix(data, []byte(pemBegin+pemPrivate+"-----")):
		return formBare
	case bytes.HasPrefix(data, []byte(pemBegin+"PUBLIC KEY-----")):
		return formPublicPEM
	case bytes.HasPrefix(data, []byte(pemBegin)):
		return formOtherPEM
	case bytes.HasPrefix(data, []byte("{")) && bytes.Contains(data, []byte(`"keyval"`)):
		return formPublic
	}
	return formOther
}

func encodePEM(key privateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

// decodePEM reads exactly one PKCS #8 block. Its errors are reasons; the
// decoders' own might quote what they read.
func decodePEM(data []byte, f form) (any, error) {
	switch f {
	case formPublic, formPublicPEM:
		return nil, ErrPublicKey
	case formOtherPEM:
		return nil, ErrKeyType
	case formBare:
	default:
		return nil, ErrNotKey
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, ErrDamaged
	}
	defer clear(block.Bytes)
	if len(bytes.TrimSpace(rest)) != 0 || len(block.Headers) != 0 || block.Type != pemPrivate {
		return nil, ErrNotKey
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, ErrDamaged
	}
	return parsed, nil
}

func encrypt(plain []byte, pass Passphrase, workFactor int) ([]byte, error) {
	if len(pass.bytes()) > MaxPassphrase {
		return nil, ErrLongPassphrase
	}
	recipient, err := age.NewScryptRecipient(string(pass.bytes()))
	if err != nil {
		return nil, ErrNoPassphrase // its only reason
	}
	recipient.SetWorkFactor(workFactor)
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	body, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := body.Write(plain); err != nil {
		return nil, err
	}
	if err := errors.Join(body.Close(), armored.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// decrypt returns the content of an age file, armored or not, that asks for at
// most 2^maxWork. Its errors are reasons.
func decrypt(data []byte, pass Passphrase, maxWork int) ([]byte, error) {
	if err := checkHeader(data, maxWork); err != nil {
		return nil, err
	}
	identity, err := age.NewScryptIdentity(string(pass.bytes()))
	if err != nil {
		return nil, ErrNoPassphrase
	}
	identity.SetMaxWorkFactor(maxWork)
	body, err := age.Decrypt(unarmored(data), identity)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, ErrDamaged
	}
	plain, err := io.ReadAll(io.LimitReader(body, maxFileBytes))
	if err != nil {
		clear(plain)
		return nil, ErrDamaged
	}
	return plain, nil
}

func unarmored(data []byte) io.Reader {
	if bytes.HasPrefix(data, []byte(ageMagic)) {
		return bytes.NewReader(data)
	}
	return armor.NewReader(bytes.NewReader(data))
}

// checkHeader tells apart, before any work is done, the files that this
// package will not open: made for a recipient's key instead of a passphrase,
// or asking for too much work. age refuses both, without a type to match.
func checkHeader(data []byte, maxWork int) error {
	header := &headerIdentity{maxWork: maxWork, reason: ErrDamaged}
	_, _ = age.Decrypt(unarmored(data), header) // fails, as header opens nothing
	return header.reason
}

// headerIdentity looks at the stanzas of a header and opens nothing.
type headerIdentity struct {
	maxWork int
	reason  error // nil: nothing speaks against the file so far
}

// Unwrap implements age.Identity.
func (h *headerIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	h.reason = nil
	for _, s := range stanzas {
		switch {
		case s.Type != "scrypt":
			h.reason = ErrRecipient
		case len(s.Args) == 2 && tooMuchWork(s.Args[1], h.maxWork):
			h.reason = ErrWorkFactor
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// tooMuchWork reads the work factor of an scrypt stanza. What is no number is
// left to age to refuse.
func tooMuchWork(s string, most int) bool {
	n, err := strconv.Atoi(s)
	return errors.Is(err, strconv.ErrRange) || err == nil && n > most
}
