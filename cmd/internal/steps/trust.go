package steps

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"

	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/manifest"
)

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
