package appliance

import (
	"bytes"
	"encoding/binary"
	"io"
)

// Sizes of the flash that QEMU's own builds of EDK II keep variables in.
const (
	flashX8664 = 0x84000
	flashARM64 = 64 << 20
)

// emptyVariables writes a variable store without variables. On arm64 the firmware
// formats a flash of zeros; on x86_64 it wants the headers of a firmware volume
// (UEFI PI 1.8, volume 3, 3.2.1) and of a store of authenticated variables (EDK II,
// VariableFormat.h), and makes the rest itself.
func emptyVariables(w io.Writer, arch string) error {
	size, fill := flashX8664, byte(0xff)
	if arch == ARM64 {
		size, fill = flashARM64, 0
	}
	block := bytes.Repeat([]byte{fill}, 64<<10)
	if arch == X8664 {
		head := volumeHeader()
		if _, err := w.Write(head); err != nil {
			return err
		}
		size -= len(head)
	}
	for size > 0 {
		n := min(size, len(block))
		if _, err := w.Write(block[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func volumeHeader() []byte {
	le := binary.LittleEndian
	const page = 0x1000
	b := make([]byte, 16)
	b = append(b, 0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50) // of non-volatile data
	b = le.AppendUint64(b, flashX8664)
	b = append(b, "_FVH"...)
	b = le.AppendUint32(b, 0x0004feff) // it can be read, written and locked; erased bits are one
	b = le.AppendUint16(b, 0x48)       // of this header
	b = le.AppendUint16(b, 0)          // its checksum, below
	b = append(b, 0, 0, 0, 2)          // no further header; revision 2
	b = le.AppendUint32(b, flashX8664/page)
	b = le.AppendUint32(b, page)
	b = le.AppendUint64(b, 0) // the map of blocks ends
	var sum uint16
	for i := 0; i < len(b); i += 2 {
		sum += le.Uint16(b[i:])
	}
	le.PutUint16(b[0x32:], -sum)
	const store = 0x40000
	b = append(b, 0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92) // authenticated
	b = le.AppendUint32(b, store-0x48)
	return append(b, 0x5a, 0xfe, 0, 0, 0, 0, 0, 0) // formatted, healthy
}
