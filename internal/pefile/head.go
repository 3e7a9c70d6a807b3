package pefile

import (
	"errors"
	"fmt"
	"io"
)

// EFIApplication is the subsystem of what the firmware starts.
const EFIApplication = 10

// A Head is what the first headers of an EFI program say. Kernels with an EFI stub have
// one too (Documentation/admin-guide/efi-stub.rst), and sections that [Parse] refuses.
type Head struct {
	Machine, Sections, Subsystem uint16
	Signed                       bool // it carries signatures; whose, the firmware judges
}

const (
	coffAt     = 4 // behind the signature
	optionalAt = coffAt + coffHeader
	countAt    = optionalAt + 108 // how many directories there are
	signedSize = optionalAt + optionalFixed + 8*security + 4
	headSize   = signedSize + 4
	maxHeadAt  = 1 << 20 // bytes before the headers
)

// ReadHead reads the headers of a PE32+ file.
func ReadHead(r io.ReaderAt) (Head, error) {
	dos, b := make([]byte, 64), make([]byte, headSize)
	if _, err := r.ReadAt(dos, 0); err != nil {
		return Head{}, fmt.Errorf("it has no MZ header: %w", err)
	}
	at := int64(le.Uint32(dos[0x3c:]))
	if string(dos[:2]) != "MZ" {
		return Head{}, errors.New("it has no MZ header")
	}
	if at > maxHeadAt {
		return Head{}, fmt.Errorf("it has no PE header, or one at %d", at)
	}
	if _, err := r.ReadAt(b, at); err != nil {
		return Head{}, fmt.Errorf("it has no PE header: %w", err)
	}
	if string(b[:coffAt]) != "PE\x00\x00" {
		return Head{}, errors.New("it has no PE header")
	}
	if le.Uint16(b[optionalAt:]) != 0x20b {
		return Head{}, errors.New("it is not PE32+")
	}
	return Head{
		Machine: le.Uint16(b[coffAt:]), Sections: le.Uint16(b[coffAt+2:]), Subsystem: le.Uint16(b[optionalAt+68:]),
		Signed: le.Uint32(b[countAt:]) > security && le.Uint32(b[signedSize:]) > 0,
	}, nil
}
