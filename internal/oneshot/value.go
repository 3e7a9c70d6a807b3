package oneshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"

	"github.com/phasebased/phase/internal/guid"
)

// ErrValue is wrapped by the errors of what reads firmware variables.
var ErrValue = errors.New("malformed firmware variable")

// Limits of what firmware variables may hold, in bytes.
const (
	maxValue = 1 << 10
	maxList  = 64 << 10 // LoaderEntries, which names every entry there is
)

// encodeText is a text as boot loaders keep it: UTF-16, little endian, with a
// closing NUL.
func encodeText(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// decodeText reads one text, with or without its closing NUL. Only printable
// ASCII is taken: what is compared here are names of ours and digits.
func decodeText(b []byte) (string, error) {
	if len(b) > maxValue || len(b)%2 != 0 {
		return "", fmt.Errorf("%w: %d bytes of text", ErrValue, len(b))
	}
	if n := len(b); n >= 2 && b[n-1] == 0 && b[n-2] == 0 {
		b = b[:n-2]
	}
	text := make([]byte, 0, len(b)/2)
	for ; len(b) > 0; b = b[2:] {
		if b[1] != 0 || b[0] < ' ' || b[0] > '~' {
			return "", fmt.Errorf("%w: not a plain text", ErrValue)
		}
		text = append(text, b[0])
	}
	return string(text), nil
}

// hasText reports whether a list of texts, each closed by a NUL, holds one.
func hasText(list []byte, text string) bool {
	if len(list) > maxList || len(list)%2 != 0 {
		return false
	}
	want := encodeText(text)
	for len(list) >= len(want) {
		end := 0
		for end+2 <= len(list) && (list[end] != 0 || list[end+1] != 0) {
			end += 2
		}
		end = min(end+2, len(list))
		if slices.Equal(list[:end], want) {
			return true
		}
		list = list[end:]
	}
	return false
}

// espType is the type of EFI system partitions.
var espType = guid.Must("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
