package vm_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/nettime/nettimetest"
)

// newAuthority makes a certificate authority, in PEM, and a certificate by it
// for this host as a guest sees it, valid for a month to both sides of now.
func newAuthority(t *testing.T) ([]byte, tls.Certificate) {
	t.Helper()
	from, until := time.Now().AddDate(0, -1, 0), time.Now().AddDate(0, 1, 0)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "time server of a test"}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.ParseIP(lab.GuestHost)},
	}
	rootKey, leafKey := newECKey(t), newECKey(t)
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
	return authority, tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// startChronyd runs chronyd with this computer's time, as the tests of
// internal/nettime have unpacked it if it is not installed, or skips.
func startChronyd(t *testing.T, cert tls.Certificate) *nettimetest.Chronyd {
	t.Helper()
	program, err := exec.LookPath("chronyd")
	if err != nil {
		unpacked, _ := filepath.Glob(filepath.Join(repository, "build", "test-packages", "chronyd_*"))
		if len(unpacked) == 0 {
			skip(t, "chronyd is missing: install it, or run `go test ./internal/nettime` first")
		}
		program = unpacked[0]
	}
	if err := exec.Command(program, "--version").Run(); err != nil {
		skip(t, "chronyd does not run: "+err.Error())
	}
	c, err := nettimetest.StartChronyd(nettimetest.ChronydConfig{Program: program, Dir: t.TempDir(), Cert: cert, More: []string{"local stratum 2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}
