package secureboot

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Object identifiers of PKCS #7 (RFC 2315), PKCS #9 (RFC 2985), SHA-256 (RFC 5754)
// and Authenticode.
var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidIndirectData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidPEImage       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
)

// ASN.1 tags.
const (
	tagBitString   = 0x03
	tagOctetString = 0x04
	tagSequence    = 0x30
	tagSet         = 0x31
	tagContext     = 0x80 // [0], primitive
	tagExplicit    = 0xa0 // [0], constructed
	tagExplicit2   = 0xa2 // [2], constructed
)

// der encodes one value.
func der(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	out := []byte{tag}
	switch n := len(body); {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 1<<8:
		out = append(out, 0x81, byte(n))
	case n < 1<<16:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, body...)
}

// encoded is the encoding of what always has one.
func encoded(v any) []byte {
	b, err := asn1.Marshal(v)
	if err != nil {
		panic("secureboot: " + err.Error()) // unreachable: integers and constants
	}
	return b
}

func algorithm(oid asn1.ObjectIdentifier) []byte {
	return encoded(pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.NullRawValue})
}

// signData returns a SignedData structure (without the ContentInfo around it).
// content is the encoded content of the type; for detached signatures over plain
// data it is nil and nothing but the data is signed. The form is that of
// sbsign without the time of signing.
func (k *Key) signData(contentType asn1.ObjectIdentifier, content, signed []byte) ([]byte, error) {
	inner, attributes, message := encoded(contentType), []byte(nil), signed
	if content != nil {
		inner = append(inner, der(tagExplicit, content)...)
		sum := sha256.Sum256(signed)
		// In the order that DER asks of a set: the shorter first.
		list := slices.Concat(
			der(tagSequence, encoded(oidContentType), der(tagSet, encoded(contentType))),
			der(tagSequence, encoded(oidMessageDigest), der(tagSet, der(tagOctetString, sum[:]))),
		)
		attributes, message = der(tagExplicit, list), der(tagSet, list)
	}
	digest := sha256.Sum256(message)
	signature, err := k.signer.Sign(rand.Reader, digest[:], crypto.SHA256) // PKCS #1 v1.5: no randomness in it
	if err != nil {
		return nil, fmt.Errorf("secureboot: sign: %w", err)
	}
	info := der(tagSequence, encoded(1),
		der(tagSequence, k.Cert.RawIssuer, encoded(k.Cert.SerialNumber)),
		algorithm(oidSHA256), attributes, algorithm(oidRSA), der(tagOctetString, signature))
	return der(tagSequence, encoded(1), der(tagSet, algorithm(oidSHA256)), der(tagSequence, inner),
		der(tagExplicit, k.Cert.Raw), der(tagSet, info)), nil
}

// What is read of PKCS #7.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type signedData struct {
	Version      int
	Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
	Content      contentInfo
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      []signerInfo  `asn1:"set"`
}

type signerInfo struct {
	Version         int
	IssuerAndSerial struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}
	Digest          pkix.AlgorithmIdentifier
	Attributes      asn1.RawValue `asn1:"optional,tag:0"`
	Encryption      pkix.AlgorithmIdentifier
	EncryptedDigest []byte
	Unsigned        asn1.RawValue `asn1:"optional,tag:1"`
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue `asn1:"set"`
}

// maxSignature bounds a signature in bytes, maxEmbedded the certificates in it.
const (
	maxSignature = 64 << 10
	maxEmbedded  = 16
)

// ErrSignature says that a signature cannot be read, or contradicts itself.
var ErrSignature = errors.New("a signature that cannot be read")

// parseStrict parses exactly one value.
func parseStrict(data []byte, v any) error {
	rest, err := asn1.Unmarshal(data, v)
	if err == nil && len(rest) > 0 {
		err = errors.New("bytes behind it")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// parseSignedData reads a ContentInfo with SignedData in it, and its certificates.
func parseSignedData(data []byte) (*signedData, []*x509.Certificate, error) {
	if len(data) > maxSignature {
		return nil, nil, fmt.Errorf("%w: more than %d bytes", ErrSignature, maxSignature)
	}
	// Some tools count the zeros that align a signature as part of it.
	var outer contentInfo
	rest, err := asn1.Unmarshal(data, &outer)
	if err != nil || len(rest) > 7 || len(bytes.Trim(rest, "\x00")) > 0 {
		return nil, nil, fmt.Errorf("%w: %w", ErrSignature, cmp.Or(err, errors.New("bytes behind it")))
	}
	if !outer.Type.Equal(oidSignedData) {
		return nil, nil, fmt.Errorf("%w: not signed data", ErrSignature)
	}
	var s signedData
	if err := parseStrict(outer.Content.Bytes, &s); err != nil {
		return nil, nil, err
	}
	if len(s.Signers) != 1 {
		return nil, nil, fmt.Errorf("%w: %d signers, expected one", ErrSignature, len(s.Signers))
	}
	certs, err := x509.ParseCertificates(s.Certificates.Bytes)
	if err != nil || len(certs) > maxEmbedded {
		return nil, nil, fmt.Errorf("%w: its certificates: %d, %v", ErrSignature, len(certs), err)
	}
	return &s, certs, nil
}

// signerOf finds the certificate that a signature names.
func (i *signerInfo) signerOf(certs []*x509.Certificate) (*x509.Certificate, error) {
	for _, c := range certs {
		if bytes.Equal(c.RawIssuer, i.IssuerAndSerial.Issuer.FullBytes) && c.SerialNumber.Cmp(i.IssuerAndSerial.Serial) == 0 {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: it does not hold its signer's certificate", ErrSignature)
}

// check holds a signature against the content it is about: the content's digest
// must stand in the signed attributes, and those must be what was signed.
func (i *signerInfo) check(signer *x509.Certificate, contentType asn1.ObjectIdentifier, content []byte) error {
	if !i.Digest.Algorithm.Equal(oidSHA256) {
		return fmt.Errorf("%w: its hash is not SHA-256", ErrSignature)
	}
	sum := sha256.Sum256(content)
	types, digests := 0, 0
	for rest := i.Attributes.Bytes; len(rest) > 0; {
		var a attribute
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			return fmt.Errorf("%w: its attributes: %w", ErrSignature, err)
		}
		switch {
		case a.Type.Equal(oidContentType):
			types++
			if !bytes.Equal(a.Values.Bytes, encoded(contentType)) {
				return fmt.Errorf("%w: it is about another type of content", ErrSignature)
			}
		case a.Type.Equal(oidMessageDigest):
			digests++
			if !bytes.Equal(a.Values.Bytes, der(tagOctetString, sum[:])) {
				return ErrAltered
			}
		}
	}
	if types != 1 || digests != 1 {
		return fmt.Errorf("%w: its attributes do not say once what they are about", ErrSignature)
	}
	public, ok := signer.PublicKey.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("%w: its key is not RSA", ErrSignature)
	}
	digest := sha256.Sum256(der(tagSet, i.Attributes.Bytes))
	if rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], i.EncryptedDigest) != nil {
		return ErrAltered
	}
	return nil
}
