package oneshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
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

// guid is a GUID as it lies in a partition table: its first three numbers are
// little endian.
type guid [16]byte

// espType is the type of EFI system partitions.
var espType = guid{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// parseGUID reads the usual form, in any case.
func parseGUID(s string) (g guid, err error) {
	parts := strings.Split(s, "-")
	widths := []int{8, 4, 4, 4, 12}
	if len(parts) != len(widths) {
		return g, fmt.Errorf("%w: %.40q is no GUID", ErrValue, s)
	}
	var digits string
	for i, p := range parts {
		if len(p) != widths[i] {
			return g, fmt.Errorf("%w: %.40q is no GUID", ErrValue, s)
		}
		digits += p
	}
	for i := range g {
		hi, lo := hexDigit(digits[2*i]), hexDigit(digits[2*i+1])
		if hi < 0 || lo < 0 {
			return guid{}, fmt.Errorf("%w: %.40q is no GUID", ErrValue, s)
		}
		g[i] = byte(hi<<4 | lo)
	}
	slices.Reverse(g[0:4])
	slices.Reverse(g[4:6])
	slices.Reverse(g[6:8])
	return g, nil
}

func hexDigit(c byte) int {
	if 'A' <= c && c <= 'F' {
		c += 'a' - 'A'
	}
	return strings.IndexByte("0123456789abcdef", c)
}
