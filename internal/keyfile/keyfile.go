// Package keyfile keeps private keys in files (Ed25519, and the RSA that Secure
// Boot asks for): encrypted with a
// passphrase, readable by their owner only, written once and never over
// something else.
//
// A private key is a PKCS #8 PEM block inside an age file (armored, scrypt), so
// that nobody depends on this program: `age -d alice.key` asks for the
// passphrase and prints the PEM that OpenSSL and every TLS library read. Keys
// of machines that sign unattended may be the bare PEM; that has to be asked
// for, by writing with no Passphrase. The public half lies beside it as
// one line of JSON, the key object that TUF root metadata holds.
//
// What is read is hostile as well: a key file travels on sticks. Sizes and the
// work that a file may ask for are bounded before either is spent. No error
// and no String of this package shows key material. Secrets are wiped from
// memory where Go allows it; age's copy of the passphrase and its scrypt
// buffers are left to the garbage collector, so sign on a machine without swap.
package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/phasebased/phase/internal/durable"
)

const (
	// maxFileBytes is far above an armored key (about 450 bytes) or a bare
	// one (119 bytes).
	maxFileBytes = 8 << 10

	// defaultWorkFactor is log2 of scrypt's N in new files: 256 MiB and about
	// a second for every guess.
	defaultWorkFactor = 18

	// maxWorkFactor is the most that a file may ask for when it is read: 1 GiB.
	maxWorkFactor = 20
)

// Files reads and writes private keys. The zero Files is the one to use; it
// may be copied.
type Files struct {
	// WorkFactor is log2 of scrypt's N for the files written, 1 to 20; 0
	// means 18, which takes about a second and 256 MiB. It exists for tests,
	// which cannot wait so long; no command offers it.
	WorkFactor int

	// Warn is told, in a sentence, of an unencrypted secret that other users
	// of the machine can read. Nil: nobody is.
	Warn func(string)
}

// Generate makes a key from the system's randomness.
func Generate() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// Write is Files{}.Write.
func Write(path string, key ed25519.PrivateKey, pass Passphrase) error {
	return Files{}.Write(path, key, pass)
}

// Read is Files{}.Read.
func Read(path string, ask func() (Passphrase, error)) (ed25519.PrivateKey, error) {
	return Files{}.Read(path, ask)
}

// Write makes the file path with key in it, encrypted with pass, or bare if
// pass is the zero Passphrase; an empty one is refused. The file is readable by its owner only
// from its first byte on, is on the device when Write returns, and was read
// back. A file or link that is there already is left alone (ErrExists).
func (f Files) Write(path string, key ed25519.PrivateKey, pass Passphrase) error {
	if len(key) != ed25519.PrivateKeySize {
		return &Error{Object: path, Reason: ErrKeyType}
	}
	return f.write(path, key, pass)
}

// WriteRSA is Write for an RSA key.
func (f Files) WriteRSA(path string, key *rsa.PrivateKey, pass Passphrase) error {
	if !usableRSA(key) {
		return &Error{Object: path, Reason: ErrNotRSA}
	}
	return f.write(path, key, pass)
}

// privateKey is what the standard library's private keys have in common.
type privateKey interface{ Equal(crypto.PrivateKey) bool }

func (f Files) write(path string, key privateKey, pass Passphrase) error {
	data, err := encodePEM(key)
	if err != nil {
		return &Error{Object: path, Reason: ErrKeyType}
	}
	defer clear(data)
	content := data
	if !pass.IsZero() {
		if content, err = encrypt(data, pass, f.workFactor()); err != nil {
			return fmt.Errorf("write key %s: %w", path, err)
		}
	}
	if err := create(path, content, 0o600); err != nil {
		return err
	}
	back, err := f.read(path, func() (Passphrase, error) { return pass, nil })
	if err != nil {
		return fmt.Errorf("read the new key back: %w", err)
	}
	if wiped, ok := back.(ed25519.PrivateKey); ok {
		defer clear(wiped)
	}
	if !key.Equal(back) {
		return &Error{Object: path, Reason: ErrDamaged}
	}
	return nil
}

func (f Files) workFactor() int {
	if f.WorkFactor == 0 {
		return defaultWorkFactor
	}
	return min(max(f.WorkFactor, 1), maxWorkFactor)
}

// Read returns the key of the file path, which may have been written by age and
// OpenSSL as well. ask is called once, and only if the file is encrypted; what
// it returns stays the caller's to wipe. A nil ask reads bare keys only
// (ErrNeedPassphrase). Errors are *Error, fs.ErrNotExist and its like, or
// ask's own.
func (f Files) Read(path string, ask func() (Passphrase, error)) (ed25519.PrivateKey, error) {
	read, err := f.read(path, ask)
	if err != nil {
		return nil, err
	}
	key, ok := read.(ed25519.PrivateKey)
	if !ok {
		return nil, &Error{Object: path, Reason: ErrKeyType}
	}
	return key, nil
}

// ReadRSA is Read for an RSA key.
func (f Files) ReadRSA(path string, ask func() (Passphrase, error)) (*rsa.PrivateKey, error) {
	read, err := f.read(path, ask)
	if err != nil {
		return nil, err
	}
	key, ok := read.(*rsa.PrivateKey)
	if !ok || !usableRSA(key) {
		return nil, &Error{Object: path, Reason: ErrNotRSA}
	}
	return key, nil
}

// usableRSA: what firmware takes, and a signature does not take minutes to make.
func usableRSA(key *rsa.PrivateKey) bool {
	return key != nil && key.N.BitLen() >= 2048 && key.N.BitLen() <= 4096
}

func (f Files) read(path string, ask func() (Passphrase, error)) (any, error) {
	data, info, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	form := formOf(data)
	if form == formBare {
		f.warnExposed(path, info)
	}
	if form == formAge {
		plain, err := f.unlock(path, data, ask)
		if err != nil {
			return nil, err
		}
		defer clear(plain)
		data, form = plain, formOf(plain)
	}
	key, err := decodePEM(data, form)
	if err != nil {
		return nil, &Error{Object: path, Reason: err}
	}
	return key, nil
}

func (f Files) unlock(path string, data []byte, ask func() (Passphrase, error)) ([]byte, error) {
	if ask == nil {
		return nil, &Error{Object: path, Reason: ErrNeedPassphrase}
	}
	pass, err := ask()
	if err != nil {
		return nil, err
	}
	if len(pass.bytes()) == 0 {
		return nil, &Error{Object: path, Reason: ErrNeedPassphrase}
	}
	plain, err := decrypt(data, pass, maxWorkFactor)
	if err != nil {
		return nil, &Error{Object: path, Reason: err}
	}
	return plain, nil
}

// Check looks at the file path and refuses what Read would refuse whatever the
// passphrase: what is no private key, or asks for too much work. It opens none.
func Check(path string) error {
	data, _, err := readBounded(path)
	if err != nil {
		return err
	}
	defer clear(data)
	switch form := formOf(data); form {
	case formAge:
		err = checkHeader(data, maxWorkFactor)
	case formBare:
	default:
		_, err = decodePEM(data, form)
	}
	if err != nil {
		return &Error{Object: path, Reason: err}
	}
	return nil
}

// warnExposed speaks up if others may read a file that holds a secret.
func (f Files) warnExposed(path string, info fs.FileInfo) {
	if f.Warn == nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return
	}
	f.Warn(fmt.Sprintf("%s is not encrypted and other users may read it (mode %04o): run `chmod 600 %s`, and replace it if anybody did",
		path, info.Mode().Perm(), path))
}

// readBounded reads a small file whole. Links are followed: what a person
// names for reading, they mean.
func readBounded(path string) ([]byte, fs.FileInfo, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read key: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read key: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(in, maxFileBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read key: %w", err)
	}
	if len(data) > maxFileBytes {
		clear(data)
		return nil, nil, &Error{Object: path, Reason: ErrNotKey}
	}
	return data, info, nil
}

// create makes a new file with these permissions from the start. O_EXCL fails
// on whatever is at path, a dangling link included. What could not be written
// whole is removed again.
func create(path string, data []byte, perm fs.FileMode) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) {
		return &Error{Object: path, Reason: ErrExists}
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = io.Copy(out, bytes.NewReader(data))
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("write key %s: %w", path, errors.Join(err, os.Remove(path)))
	}
	return durable.SyncDir(filepath.Dir(path))
}
