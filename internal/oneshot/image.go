package oneshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrImage is wrapped by the errors of readImage.
var ErrImage = errors.New("not an EFI program")

// Machine types of PE/COFF.
const (
	peX8664 = 0x8664
	peARM64 = 0xaa64
)

// peImage is what is asked of a kernel that the firmware is to start.
type peImage struct {
	Machine uint16
	Signed  bool // it carries signatures; whose, the firmware judges
}

// readImage reads the head of a PE32+ image, which kernels with an EFI stub have
// (Microsoft PE/COFF specification; Documentation/admin-guide/efi-stub.rst).
func readImage(f io.ReaderAt) (peImage, error) {
	const (
		optionalAt = 24  // after the signature and the COFF header
		countAt    = 108 // number of data directories in the optional header
		signatures = 4   // the directory's index
		need       = optionalAt + countAt + 4 + 8*(signatures+1)
	)
	dos := make([]byte, 64)
	if _, err := f.ReadAt(dos, 0); err != nil || string(dos[:2]) != "MZ" {
		return peImage{}, fmt.Errorf("%w: no MZ at its start", ErrImage)
	}
	le := binary.LittleEndian
	at := le.Uint32(dos[60:])
	head := make([]byte, need)
	if at > 1<<20 {
		return peImage{}, fmt.Errorf("%w: its header lies at %d", ErrImage, at)
	}
	if _, err := f.ReadAt(head, int64(at)); err != nil || string(head[:4]) != "PE\x00\x00" {
		return peImage{}, fmt.Errorf("%w: no PE header", ErrImage)
	}
	if magic := le.Uint16(head[optionalAt:]); magic != 0x20b {
		return peImage{}, fmt.Errorf("%w: header of type %#x, not PE32+", ErrImage, magic)
	}
	image := peImage{Machine: le.Uint16(head[4:])}
	if le.Uint32(head[optionalAt+countAt:]) > signatures {
		image.Signed = le.Uint32(head[optionalAt+countAt+4+8*signatures+4:]) > 0
	}
	return image, nil
}
