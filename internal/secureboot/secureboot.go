// Package secureboot signs EFI programs for UEFI Secure Boot and says who has
// signed one: keys and certificates, Authenticode signatures (Microsoft's
// "Windows Authenticode Portable Executable Signature Format"), signature lists
// and authenticated variables (UEFI 2.10, sections 32.4 and 8.2.2).
//
// Two kinds of keys exist. A machine owner key (MOK) is enrolled once beside the
// keys that a machine came with; shim asks for it. Owner keys (PK, KEK, db) take
// the place of those the machine came with. Both are RSA of 2048 bits, which is
// what firmware takes, in self-signed certificates.
//
// Signing has no clock and no randomness: one file, one key, one signature. All
// parsing is of foreign bytes: strict, bounded, never followed further than it
// was checked. A signature counts only if its own hash, the signed attributes
// and the file's hash agree; what certificates say about time does not count, as
// firmware has no clock that it trusts.
package secureboot

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/keyfile"
)

// Roles of keys, which are also their file names.
const (
	RoleMOK = "MOK" // what shim trusts beside its vendor's key, once enrolled
	RolePK  = "PK"  // the platform key: who owns it may change KEK
	RoleKEK = "KEK" // who owns it may change db
	RoleDB  = "db"  // what it signs, the firmware starts
)

// OwnerRoles are the keys of a machine that trusts nobody but its owner.
func OwnerRoles() []string { return []string{RolePK, RoleKEK, RoleDB} }

// life is how long certificates say they are valid. Firmware does not look.
const life = 20 * 365 * 24 * time.Hour

// bits of new keys: what every firmware takes.
const bits = 2048

// A Key signs. It holds a private key: keep it short.
type Key struct {
	Cert   *x509.Certificate
	signer crypto.Signer
}

// NewKey makes a key with a self-signed certificate whose name says what it is
// for: "<owner> <role>". At is the beginning of its validity, and the time stamp
// of variables that are signed with it.
func NewKey(owner, role string, at time.Time) (*Key, *rsa.PrivateKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, nil, fmt.Errorf("secureboot: make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("secureboot: make a serial number: %w", err)
	}
	at = at.UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: owner + " " + role},
		NotBefore: at, NotAfter: at.Add(life),
		// Code signing, and not the use that shim and Linux reserve for modules.
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true, SignatureAlgorithm: x509.SHA256WithRSA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("secureboot: make a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("secureboot: read the certificate back: %w", err)
	}
	return &Key{cert, private}, private, nil
}

// ErrMismatch says that a certificate is not that of a private key.
var ErrMismatch = errors.New("the certificate belongs to another key")

// Load reads a key file and the certificate for it. ask is for the passphrase, as
// in package keyfile.
func Load(files keyfile.Files, keyPath, certPath string, ask func() (keyfile.Passphrase, error)) (*Key, error) {
	cert, err := LoadCertificate(certPath)
	if err != nil {
		return nil, err
	}
	private, err := files.ReadRSA(keyPath, ask)
	if err != nil {
		return nil, err
	}
	if !private.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s and %s: %w", keyPath, certPath, ErrMismatch)
	}
	return &Key{cert, private}, nil
}

// maxCertificate bounds a certificate's file, in bytes.
const maxCertificate = 16 << 10

// LoadCertificate reads a certificate in PEM or DER.
func LoadCertificate(path string) (*x509.Certificate, error) {
	data, err := durable.ReadSmall(path, maxCertificate, durable.FollowLinks)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	cert, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%s: not a certificate in PEM or DER: %w", path, err)
	}
	return cert, nil
}

// Fingerprint is SHA-256 over a certificate, as mokutil, MokManager and openssl
// show it.
func Fingerprint(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.Raw) }
