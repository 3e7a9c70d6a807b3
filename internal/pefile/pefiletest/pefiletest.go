// Package pefiletest makes small EFI programs, for tests.
package pefiletest

import "encoding/binary"

// Program is an EFI program of 2 KiB for a machine type, which can be extended and
// signed. Its only section, from byte 0x400, holds the text.
func Program(machine uint16, text string) []byte {
	b, le := make([]byte, 0x800), binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[0x84:], machine)
	le.PutUint16(b[0x86:], 1)
	le.PutUint16(b[0x94:], 240)
	le.PutUint16(b[0x96:], 0x2022)
	opt := b[0x98:]
	le.PutUint16(opt, 0x20b)
	for at, v := range map[int]uint32{4: 0x400, 16: 0x1000, 20: 0x1000, 32: 0x1000, 36: 0x200, 56: 0x2000, 60: 0x400, 68: 10, 108: 16} {
		le.PutUint32(opt[at:], v)
	}
	section := opt[240:]
	copy(section, ".text")
	for i, v := range []uint32{0x400, 0x1000, 0x400, 0x400} {
		le.PutUint32(section[8+4*i:], v)
	}
	le.PutUint32(section[36:], 0x60000020)
	copy(b[0x400:], text)
	return b
}
