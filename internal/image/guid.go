package image

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// A GUID in the byte order of its text form (RFC 9562, section 4).
type GUID [16]byte

// DeriveGUID makes a GUID from names: the first half of their SHA-256 with the
// bits of version 8 (RFC 9562, section 5.8). Equal names give equal media, which
// is what a reproducible build needs and a random identifier prevents.
func DeriveGUID(names ...string) GUID {
	sum := sha256.Sum256([]byte("phase image guid\x00" + strings.Join(names, "\x00")))
	var g GUID
	copy(g[:], sum[:])
	g[6] = g[6]&0x0f | 0x80
	g[8] = g[8]&0x3f | 0x80
	return g
}

// String returns the 36-character text form.
func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[0:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

// disk returns the mixed-endian form used on GPT disks (UEFI 2.10, appendix A).
func (g GUID) disk() [16]byte {
	d := [16]byte(g)
	binary.LittleEndian.PutUint32(d[0:], binary.BigEndian.Uint32(g[0:]))
	binary.LittleEndian.PutUint16(d[4:], binary.BigEndian.Uint16(g[4:]))
	binary.LittleEndian.PutUint16(d[6:], binary.BigEndian.Uint16(g[6:]))
	return d
}
