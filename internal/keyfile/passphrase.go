package keyfile

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// Passphrase opens a private key. However it is printed, logged or encoded,
// and whatever it is a field of, its content does not appear: it sits in a closure,
// which prints as an address even where package fmt cannot call the methods
// below (unexported fields, wrong verbs). The zero Passphrase is none at all,
// which is not the same as an empty one.
type Passphrase struct{ secret func() []byte }

// NewPassphrase returns a Passphrase with a copy of secret.
func NewPassphrase(secret []byte) Passphrase {
	own := append([]byte{}, secret...)
	return Passphrase{func() []byte { return own }}
}

// IsZero reports whether p is none at all.
func (p Passphrase) IsZero() bool { return p.secret == nil }

// Len returns the number of bytes.
func (p Passphrase) Len() int { return len(p.bytes()) }

// Equal reports whether both have the same content. It is for asking twice.
func (p Passphrase) Equal(other Passphrase) bool { return bytes.Equal(p.bytes(), other.bytes()) }

// Wipe overwrites the passphrase, in all copies of p, with zeros.
func (p Passphrase) Wipe() { clear(p.bytes()) }

func (p Passphrase) bytes() []byte {
	if p.secret == nil {
		return nil
	}
	return p.secret()
}

const hidden = "[passphrase]"

// String returns a fixed text.
func (Passphrase) String() string { return hidden }

// Format implements fmt.Formatter, so that no verb shows the content.
func (Passphrase) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// MarshalText returns a fixed text, as does every encoder that asks for one.
func (Passphrase) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue implements slog.LogValuer.
func (Passphrase) LogValue() slog.Value { return slog.StringValue(hidden) }

// MaxPassphrase is the longest passphrase, in bytes.
const MaxPassphrase = 1024

// ReadPassphrase reads the passphrase that is the only line of in. name is
// what errors call it.
func ReadPassphrase(in io.Reader, name string) (Passphrase, error) {
	data, err := io.ReadAll(io.LimitReader(in, MaxPassphrase+3))
	defer clear(data)
	if err != nil {
		return Passphrase{}, fmt.Errorf("read the passphrase from %s: %w", name, err)
	}
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	switch {
	case len(line) == 0:
		return Passphrase{}, &Error{Object: name, Reason: ErrNoPassphrase}
	case len(bytes.TrimSpace(rest)) > 0:
		return Passphrase{}, &Error{Object: name, Reason: ErrManyLines}
	case len(line) > MaxPassphrase:
		return Passphrase{}, &Error{Object: name, Reason: ErrLongPassphrase}
	}
	return NewPassphrase(line), nil
}

// PassphraseFile reads the passphrase that is the only line of the file path.
func (f Files) PassphraseFile(path string) (Passphrase, error) {
	in, err := os.Open(path)
	if err != nil {
		return Passphrase{}, fmt.Errorf("read the passphrase: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return Passphrase{}, fmt.Errorf("read the passphrase: %w", err)
	}
	f.warnExposed(path, info)
	return ReadPassphrase(in, path)
}
