package secureboot

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"github.com/phasebased/phase/internal/pefile"
)

// Reasons for which firmware refuses a file; match them with errors.Is.
var (
	ErrUnsigned = errors.New("it is not signed")
	ErrAltered  = errors.New("it was altered after it was signed")
	ErrStranger = errors.New("none of its signers is trusted")
)

// obsolete is the text that Authenticode signatures of EFI programs carry in place
// of a file name: "<<<Obsolete>>>" in UTF-16, as all signing tools write it.
var obsolete = []byte("\x00<\x00<\x00<\x00O\x00b\x00s\x00o\x00l\x00e\x00t\x00e\x00>\x00>\x00>")

// indirectData is the content of a SpcIndirectDataContent: what Authenticode signs.
func indirectData(digest [32]byte) []byte {
	file := der(tagExplicit, der(tagExplicit2, der(tagContext, obsolete)))
	data := der(tagSequence, encoded(oidPEImage), der(tagSequence, der(tagBitString, []byte{0}), file))
	info := der(tagSequence, algorithm(oidSHA256), der(tagOctetString, digest[:]))
	return append(data, info...)
}

// Sign returns the EFI program with a signature by key before those it has: firmware
// and shim look at all, but Linux, when it is to start a kernel by kexec_file_load,
// at the first alone. The same program and key give the same bytes. What the key
// has signed already, first, is returned as it is.
func Sign(program []byte, key *Key) ([]byte, error) {
	f, err := pefile.Parse(program)
	if err != nil {
		return nil, fmt.Errorf("secureboot: %w", err)
	}
	have, err := f.Signatures()
	if err != nil {
		return nil, fmt.Errorf("secureboot: %w", err)
	}
	if len(have) > 0 {
		if s := readSignature(have[0], f.Digest()); s.Err == nil && s.Signer.Equal(key.Cert) {
			return bytes.Clone(program), nil
		}
	}
	content := indirectData(f.Digest())
	signed, err := key.signData(oidIndirectData, der(tagSequence, content), content)
	if err != nil {
		return nil, err
	}
	first := der(tagSequence, encoded(oidSignedData), der(tagExplicit, signed))
	out, err := f.Signed(slices.Insert(have, 0, first)...)
	if err != nil {
		return nil, fmt.Errorf("secureboot: %w", err)
	}
	return out, nil
}

// A Signature is one of an EFI program.
type Signature struct {
	Signer *x509.Certificate   // nil: it cannot be read that far
	Others []*x509.Certificate // that came with it, such as the signer's authority
	Err    error               // nil: it fits the file; ErrAltered, ErrSignature
}

// Signers returns the signatures of an EFI program in their order; none if it has
// none. That a signature fits says nothing about whether its signer is trusted.
func Signers(program []byte) ([]Signature, error) {
	f, err := pefile.Parse(program)
	if err != nil {
		return nil, fmt.Errorf("secureboot: %w", err)
	}
	raw, err := f.Signatures()
	if err != nil {
		return nil, fmt.Errorf("secureboot: %w", err)
	}
	var list []Signature
	for _, data := range raw {
		list = append(list, readSignature(data, f.Digest()))
	}
	return list, nil
}

func readSignature(data []byte, digest [32]byte) Signature {
	s, certs, err := parseSignedData(data)
	if err != nil {
		return Signature{Err: err}
	}
	signer, err := s.Signers[0].signerOf(certs)
	if err != nil {
		return Signature{Others: certs, Err: err}
	}
	result := Signature{Signer: signer}
	for _, c := range certs {
		if c != signer {
			result.Others = append(result.Others, c)
		}
	}
	result.Err = checkIndirect(s, signer, digest)
	return result
}

// checkIndirect holds a signature against the hash of the file it is attached to.
func checkIndirect(s *signedData, signer *x509.Certificate, digest [32]byte) error {
	if !s.Content.Type.Equal(oidIndirectData) {
		return fmt.Errorf("%w: it is not about a program", ErrSignature)
	}
	var outer asn1.RawValue
	if err := parseStrict(s.Content.Content.Bytes, &outer); err != nil {
		return err
	}
	var spc struct {
		Data asn1.RawValue
		Info struct {
			Algorithm pkix.AlgorithmIdentifier
			Digest    []byte
		}
	}
	if err := parseStrict(outer.FullBytes, &spc); err != nil {
		return err
	}
	if !spc.Info.Algorithm.Algorithm.Equal(oidSHA256) {
		return fmt.Errorf("%w: its hash is not SHA-256", ErrSignature)
	}
	if !bytes.Equal(spc.Info.Digest, digest[:]) {
		return ErrAltered
	}
	return s.Signers[0].check(signer, oidIndirectData, outer.Bytes)
}

// Verify answers as firmware would that trusts these certificates: nil if one of
// the signatures fits and leads to one of them. Otherwise ErrUnsigned, ErrAltered
// or ErrStranger, or what makes the file unreadable. Revocation (dbx, SBAT) is
// the firmware's and shim's business.
func Verify(program []byte, trusted []*x509.Certificate) error {
	signatures, err := Signers(program)
	if err != nil {
		return err
	}
	reason := ErrUnsigned
	for _, s := range signatures {
		switch {
		case s.Err != nil:
			reason = s.Err
		case s.LeadsTo(trusted):
			return nil
		default:
			reason = ErrStranger
		}
	}
	return reason
}

// LeadsTo reports whether the signer is one of the certificates or was certified
// by one, perhaps through those that came with the signature.
func (s Signature) LeadsTo(trusted []*x509.Certificate) bool {
	at := s.Signer
	for range maxEmbedded {
		if at == nil {
			return false
		}
		for _, t := range trusted {
			if t.Equal(at) || issued(t, at) {
				return true
			}
		}
		at = s.issuer(at)
	}
	return false
}

// issuer finds who certified a certificate among those of the signature.
func (s Signature) issuer(c *x509.Certificate) *x509.Certificate {
	for _, o := range s.Others {
		if !o.Equal(c) && issued(o, c) {
			return o
		}
	}
	return nil
}

func issued(by, c *x509.Certificate) bool {
	return bytes.Equal(by.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(by) == nil
}
