package secureboot

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/guid"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/pefile"
	"github.com/phasebased/phase/internal/pefile/pefiletest"
)

var day = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Two keys for all tests: making one takes its time.
var keys = sync.OnceValue(func() [2]*Key {
	var list [2]*Key
	for i, owner := range []string{"Test", "Stranger"} {
		k, _, err := NewKey(owner, RoleDB, day)
		if err != nil {
			panic(err)
		}
		list[i] = k
	}
	return list
})

func program() []byte { return pefiletest.Program(pefile.MachineX8664, "\xc3 what runs") }

func TestSign(t *testing.T) {
	own, other := keys()[0], keys()[1]
	signed, err := Sign(program(), own)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Sign(program(), own)
	if err != nil || !bytes.Equal(signed, again) {
		t.Errorf("the same key has signed the same file in two ways: %v", err)
	}
	if twice, err := Sign(signed, own); err != nil || !bytes.Equal(twice, signed) {
		t.Errorf("signed twice: %v", err)
	}
	both, err := Sign(signed, other)
	if err != nil {
		t.Fatal(err)
	}
	list, err := Signers(both)
	if err != nil || len(list) != 2 || list[0].Err != nil || list[1].Err != nil || !list[0].Signer.Equal(other.Cert) || !list[1].Signer.Equal(own.Cert) {
		t.Errorf("%+v, %v", list, err)
	}
	for name, tt := range map[string]struct {
		program []byte
		trusted []*x509.Certificate
		want    error
	}{
		"own":           {signed, []*x509.Certificate{own.Cert}, nil},
		"one of two":    {both, []*x509.Certificate{other.Cert}, nil},
		"unsigned":      {program(), []*x509.Certificate{own.Cert}, ErrUnsigned},
		"stranger":      {signed, []*x509.Certificate{other.Cert}, ErrStranger},
		"nobody":        {signed, nil, ErrStranger},
		"flipped byte":  {flipped(signed, 0x405), []*x509.Certificate{own.Cert}, ErrAltered},
		"no program":    {signed[:100], []*x509.Certificate{own.Cert}, pefile.ErrFormat},
		"bad signature": {flipped(signed, len(signed)-30), []*x509.Certificate{own.Cert}, ErrAltered},
	} {
		if err := Verify(tt.program, tt.trusted); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func flipped(data []byte, at int) []byte {
	data = slices.Clone(data)
	data[at] ^= 1
	return data
}

// TestForgedContent: attributes that were signed for one file do not vouch for the
// content of another, even if that content names the other's hash correctly.
func TestForgedContent(t *testing.T) {
	own := keys()[0]
	signed, err := Sign(program(), own)
	if err != nil {
		t.Fatal(err)
	}
	evil := flipped(program(), 0x405)
	from, to := mustParse(t, signed).Digest(), mustParse(t, evil).Digest()
	sigs, err := mustParse(t, signed).Signatures()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := mustParse(t, evil).Signed(bytes.Replace(sigs[0], from[:], to[:], 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(forged, []*x509.Certificate{own.Cert}); !errors.Is(err, ErrAltered) {
		t.Errorf("a forged content passed: %v", err)
	}
}

func mustParse(t *testing.T, data []byte) *pefile.File {
	t.Helper()
	f, err := pefile.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestEveryByteOfASignature: no change to a signature makes it vouch for anything,
// and none brings the reader down.
func TestEveryByteOfASignature(t *testing.T) {
	own := keys()[0]
	signed, err := Sign(program(), own)
	if err != nil {
		t.Fatal(err)
	}
	sigs, _ := mustParse(t, signed).Signatures()
	digest := [32]byte{1}
	for at := range sigs[0] {
		if s := readSignature(flipped(sigs[0], at), digest); s.Err == nil {
			t.Fatalf("byte %d: it vouches for another file", at)
		}
	}
}

// TestJudges: the distribution's own tools take what is signed here.
func TestJudges(t *testing.T) {
	dir := t.TempDir()
	own, other := keys()[0], keys()[1]
	signed, err := Sign(program(), own)
	if err != nil {
		t.Fatal(err)
	}
	esl := SignatureList(own.Cert)
	auth, err := SignedVariable(RoleDB, esl, day, own)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"signed.efi": signed, "altered.efi": flipped(signed, 0x405), "db.esl": esl, "db.auth": auth,
		"own.pem": pemOf(own.Cert), "other.pem": pemOf(other.Cert),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args string
		ok   bool
	}{
		{"sbverify --cert own.pem signed.efi", true},
		{"sbverify --cert other.pem signed.efi", false},
		{"sbverify --cert own.pem altered.efi", false},
		{"sig-list-to-certs db.esl out", true},
	} {
		args := splitWords(tt.args)
		tool, err := exec.LookPath(args[0])
		if err != nil {
			lacking(t, args[0]+" is missing")
			continue
		}
		cmd := exec.Command(tool, args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); (err == nil) != tt.ok {
			t.Errorf("%s: %v\n%s", tt.args, err, out)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "out-0.der")); err == nil && !bytes.Equal(got, own.Cert.Raw) {
		t.Error("the signature list holds another certificate")
	}
}

func splitWords(s string) []string {
	var words []string
	for _, w := range bytes.Fields([]byte(s)) {
		words = append(words, string(w))
	}
	return words
}

func lacking(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("PHASE_REQUIRE_TOOLS") != "" {
		t.Fatal(reason)
	}
	t.Log(reason)
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func TestSignatureList(t *testing.T) {
	own, other := keys()[0], keys()[1]
	data := SignatureList(own.Cert, other.Cert)
	hashes := slices.Concat(make([]byte, 16), []byte{28 + 2*48, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0}, make([]byte, 96))
	certs, others, err := ParseSignatureList(slices.Concat(data, hashes))
	if err != nil || others != 2 || len(certs) != 2 || !certs[0].Equal(own.Cert) || !certs[1].Equal(other.Cert) {
		t.Errorf("%d, %d, %v", len(certs), others, err)
	}
	for name, bad := range map[string][]byte{
		"short":       data[:20],
		"cut":         data[:len(data)-1],
		"total":       flipped(data, 19),
		"total small": slices.Concat(data[:16], []byte{1, 0, 0, 0}, data[20:]),
		"header":      flipped(data, 23),
		"each":        slices.Concat(data[:24], []byte{0, 0, 0, 0}, data[28:]),
		"uneven":      flipped(data, 24),
		"too much":    make([]byte, maxLists+1),
	} {
		if _, _, err := ParseSignatureList(bad); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSignedVariable(t *testing.T) {
	own := keys()[0]
	content := SignatureList(own.Cert)
	a, err := SignedVariable(RolePK, content, day, own)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := SignedVariable(RolePK, content, day, own)
	if !bytes.Equal(a, b) || !bytes.HasSuffix(a, content) {
		t.Error("not the same, or without its content")
	}
	if le.Uint16(a) != 2026 || a[2] != 1 || a[3] != 1 || guid.GUID(a[24:40]) != guidPKCS7 {
		t.Errorf("% x", a[:40])
	}
	if _, err := SignedVariable("", content, day, own); err == nil {
		t.Error("a variable without a name")
	}
}

func TestKeys(t *testing.T) {
	key, private, err := NewKey("Somebody", RoleMOK, day.Add(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	c := key.Cert
	if c.Subject.CommonName != "Somebody MOK" || !c.NotBefore.Equal(day) || c.IsCA || !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) || len(c.UnknownExtKeyUsage) > 0 || private.N.BitLen() != 2048 {
		t.Errorf("%+v", c)
	}
	dir := t.TempDir()
	files := keyfile.Files{WorkFactor: 4}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := files.WriteRSA(at("MOK.key"), private, keyfile.Passphrase{}); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"MOK.pem": pemOf(c), "MOK.cer": c.Raw, "other.pem": pemOf(keys()[0].Cert), "rubbish": []byte("x")} {
		if err := os.WriteFile(at(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]error{"MOK.pem": nil, "MOK.cer": nil, "other.pem": ErrMismatch} {
		if k, err := Load(files, at("MOK.key"), at(name), nil); !errors.Is(err, want) || (err == nil && !k.Cert.Equal(c)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(files, at("MOK.key"), at("rubbish"), nil); err == nil {
		t.Error("a certificate of one byte")
	}
	if _, err := Load(files, at("none"), at("MOK.pem"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	var _ *rsa.PrivateKey = private
}

// fixedSignature is what the fuzzers begin with: a signature by a key that was
// thrown away.
func fixedSignature(f *testing.F) []byte {
	signed, err := Sign(program(), keys()[0])
	if err != nil {
		f.Fatal(err)
	}
	p, err := pefile.Parse(signed)
	if err != nil {
		f.Fatal(err)
	}
	sigs, err := p.Signatures()
	if err != nil {
		f.Fatal(err)
	}
	return sigs[0]
}

func FuzzSignature(f *testing.F) {
	f.Add(fixedSignature(f))
	digest := [32]byte{1}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := readSignature(data, digest)
		if s.Err == nil && s.LeadsTo([]*x509.Certificate{keys()[0].Cert}) {
			t.Fatal("a forged signature")
		}
	})
}

func FuzzSignatureList(f *testing.F) {
	f.Add(SignatureList(keys()[0].Cert))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, others, err := ParseSignatureList(data)
		if err != nil && (!errors.Is(err, ErrList) || certs != nil || others != 0) {
			t.Fatal(err)
		}
		if len(certs)+others > len(data) {
			t.Fatal("more entries than bytes")
		}
	})
}
