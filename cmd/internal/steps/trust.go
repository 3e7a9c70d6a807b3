package steps

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/manifest"
)

// inputError says that something the person named cannot be read or used.
type inputError struct {
	object string // "key", "manifest", "log policy" …
	err    error
}

func (e *inputError) Error() string { return e.object + ": " + e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }
func (e *inputError) Code() string  { return "VFY-019" }
func (e *inputError) Hint() string {
	return "Check the name of the file, and that it is the one that the command asks for."
}

// unusable wraps err, a failure to read or use what was named as object. An
// error that has a code of its own keeps it.
func unusable(object string, err error) error {
	if code, _ := explain(err); code != "" {
		return fmt.Errorf("%s: %w", object, err)
	}
	return &inputError{object, err}
}

// rootFlags say which root is trusted, and how newer ones follow from it.
type rootFlags struct {
	key   string
	roots []string
}

const keyUsage = "`file` with a root.json, or a public key as 32 raw bytes, 64 hex digits or base64"

func (f *rootFlags) add(cmd *cobra.Command, keyUsage string) {
	cmd.Flags().StringVarP(&f.key, "key", "k", "", keyUsage)
	cmd.Flags().StringArrayVar(&f.roots, "roots", nil, "`file or folder` with newer roots (N.root.json) that follow from the trusted one; repeatable")
}

// load returns the newest root that follows from the trusted one.
func (f rootFlags) load() (*manifest.Root, error) {
	root, err := loadRoot(f.key)
	if err != nil {
		return nil, unusable("key", err)
	}
	if len(f.roots) > 0 && root.Version() == 0 {
		return nil, usageError{errors.New("--roots needs a root.json: a bare key has no successor")}
	}
	for _, path := range f.roots {
		if root, err = followRoots(root, path); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// followRoots updates root from path: a file has to be the very next root, a
// folder holds any number of them by name.
func followRoots(root *manifest.Root, path string) (*manifest.Root, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unusable("roots", err)
	}
	if !info.IsDir() {
		return updateRoot(root, path)
	}
	for range manifest.MaxRootChain {
		next, err := updateRoot(root, filepath.Join(path, fmt.Sprintf("%d.root.json", root.Version()+1)))
		if errors.Is(err, fs.ErrNotExist) {
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		root = next
	}
	return nil, unusable("roots", fmt.Errorf("%s holds more than %d successors", path, manifest.MaxRootChain))
}

func updateRoot(root *manifest.Root, path string) (*manifest.Root, error) {
	raw, err := readFile(path, nil, manifest.MaxRootBytes)
	if err != nil {
		return nil, unusable("roots", err)
	}
	next, err := root.Update(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return next, nil
}

// loadRoot reads what a person trusts: a root.json, or one Ed25519 public key
// as 32 raw bytes, 64 hexadecimal digits or base64. A bare key stands for the
// targets role with threshold 1.
func loadRoot(path string) (*manifest.Root, error) {
	raw, err := readFile(path, nil, manifest.MaxRootBytes)
	if err != nil {
		return nil, err
	}
	root, err := parseTrust(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return root, nil
}

var errNoKey = errors.New("neither a root.json nor an Ed25519 public key (32 raw bytes, 64 hexadecimal digits, or base64)")

// parseTrust tells the forms of a key file apart. Raw bytes come first, as any
// 32 bytes could be them; the text forms have other lengths.
func parseTrust(raw []byte) (*manifest.Root, error) {
	if len(raw) == ed25519.PublicKeySize {
		return manifest.KeyRoot(raw)
	}
	text := bytes.TrimSpace(raw)
	if bytes.HasPrefix(text, []byte("{")) {
		return manifest.ParseRoot(raw)
	}
	if len(text) == hex.EncodedLen(ed25519.PublicKeySize) {
		if key, err := hex.DecodeString(string(text)); err == nil {
			return manifest.KeyRoot(key)
		}
	}
	var key strictjson.Base64
	if err := key.UnmarshalText(text); err == nil && len(key) == ed25519.PublicKeySize {
		return manifest.KeyRoot(ed25519.PublicKey(key))
	}
	return nil, errNoKey
}
