package net_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// An authority makes certificates.
type authority struct {
	s    *site
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (s *site) authority() *authority {
	s.Helper()
	a := &authority{s: s}
	a.key, a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// sign makes a key and a certificate for it; the authority's own if it has none.
func (a *authority) sign(template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	nettest.Check(a.s, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	nettest.Check(a.s, err)
	cert, err := x509.ParseCertificate(raw)
	nettest.Check(a.s, err)
	return key, cert
}

// server is the TLS configuration of a server with this name, from a moment on.
func (a *authority) server(name string, from time.Time) *tls.Config {
	a.s.Helper()
	key, cert := a.sign(&x509.Certificate{
		DNSNames: []string{name}, NotBefore: from, NotAfter: from.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}}
}

// trusted is the environment of a program that trusts this authority alone.
func (a *authority) trusted() []string {
	a.s.Helper()
	file := filepath.Join(a.s.TempDir(), "ca.pem")
	nettest.Check(a.s, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o644))
	return []string{"SSL_CERT_FILE=" + file, "SSL_CERT_DIR=/nonexistent"}
}

// pool is the same for this process.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}
