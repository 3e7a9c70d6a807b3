// Package guid knows the two forms of a GUID: the bytes that firmware and disks keep,
// and its text. It decides nothing.
package guid

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// A GUID as firmware and partition tables keep it: its first three numbers are little
// endian (UEFI 2.10, appendix A).
type GUID [16]byte

// Parse reads the text form (RFC 9562, section 4), in either case.
func Parse(text string) (GUID, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err == nil && len(b) == len(GUID{}) {
		if g := GUID(swapped([16]byte(b))); strings.EqualFold(g.String(), text) {
			return g, nil
		}
	}
	return GUID{}, fmt.Errorf("%.40q is no GUID", text)
}

// Must is Parse for constants.
func Must(text string) GUID {
	g, err := Parse(text)
	if err != nil {
		panic(err)
	}
	return g
}

// Of makes a GUID from a hash: its first half with the bits of version 8 (RFC 9562,
// section 5.8). Equal content has equal GUIDs, which is what a reproducible build
// needs and a random identifier prevents.
func Of(sum [sha256.Size]byte) GUID {
	b := [16]byte(sum[:16])
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	return swapped(b)
}

// String is the text form, 36 characters.
func (g GUID) String() string {
	b := g.Ordered()
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// Ordered are the bytes in the order of the text form.
func (g GUID) Ordered() [16]byte { return swapped(g) }

// swapped changes between the two orders.
func swapped(b [16]byte) [16]byte {
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return b
}
