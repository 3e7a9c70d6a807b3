package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/phasebased/phase/internal/durable"
)

// maxKeyFile bounds what is read as a key; a real one has 119 bytes.
const maxKeyFile = 4 << 10

// KeyError says why an identity cannot be used. It never holds key material.
type KeyError struct {
	Path string
	Err  error
}

func (e *KeyError) Error() string { return fmt.Sprintf("identity %s: %v", e.Path, e.Err) }

// Unwrap gives the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// Code is NODE-020.
func (e *KeyError) Code() string { return "NODE-020" }

// Hint says what to do next.
func (e *KeyError) Hint() string {
	return "Restore the file from a backup, or move it away: the node then makes a new identity and is a stranger to those who knew it."
}

// LoadOrCreateKey reads the node's Ed25519 key (PEM, PKCS #8) from path, or
// makes one there if nothing is there yet, with mode 0600 from its first byte.
// A file that is there but unusable, or that others may read, is an error and
// is left alone: losing an identity must not go unnoticed. The directory must
// exist. Errors are *KeyError.
func LoadOrCreateKey(path string) (ed25519.PrivateKey, error) {
	key, err := loadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = createKey(path)
	}
	if err != nil {
		return nil, &KeyError{path, err}
	}
	return key, nil
}

// EphemeralKey makes an identity that is never stored.
func EphemeralKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

func createKey(path string) (ed25519.PrivateKey, error) {
	key, err := EphemeralKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := durable.WriteFile(path, block, 0o600); err != nil {
		return nil, err
	}
	return loadKey(path) // what is there now counts, should two nodes have raced
}

func loadKey(path string) (ed25519.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("mode %#o lets others read it, want 0600", info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(raw)
	if len(raw) > maxKeyFile || block == nil || block.Type != "PRIVATE KEY" || len(rest) != 0 {
		return nil, errors.New("not one PEM private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a PKCS #8 private key")
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a %T, want an Ed25519 key", parsed)
	}
	return key, nil
}
