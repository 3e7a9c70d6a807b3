package strictjson

import (
	"encoding/base64"
	"errors"
)

// Base64 is a byte string written as standard, padded base64 (RFC 4648,
// section 4). Reading accepts the one encoding that writing produces: no line
// breaks, no URL alphabet, no missing padding, no stray bits at the end.
type Base64 []byte

// ErrBase64 says that a string is not strict base64.
var ErrBase64 = errors.New("not strict standard base64")

// MarshalText implements encoding.TextMarshaler.
func (b Base64) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Base64) UnmarshalText(text []byte) error {
	decoded, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	// The decoder skips line breaks even in strict mode; the length shows them.
	if err != nil || base64.StdEncoding.EncodedLen(len(decoded)) != len(text) {
		return ErrBase64
	}
	*b = decoded
	return nil
}
