package kexec

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
)

const stepImage = "look at the new kernel"

// maxImage bounds an unpacked kernel. Distributions' have 30 to 70 MB.
const maxImage = 256 << 20

// armImage is what an arm64 kernel's header says
// (Documentation/arch/arm64/booting.rst, "Call the kernel image").
type armImage struct {
	code       []byte
	textOffset uint64 // from a multiple of armBase
	size       uint64 // in memory, with what is zero at first
}

const (
	armHeaderSize = 64
	armMagic      = "ARM\x64"
	// armBase is what the image's base is a multiple of.
	armBase = 2 << 20

	armBigEndian = 1 << 0
	armAnywhere  = 1 << 3 // the image may lie anywhere in memory (since Linux 4.6)
)

// parseARM reads the header of an arm64 Image, plain or packed as distributions
// pack it: with gzip, or as an EFI program that unpacks itself.
func parseARM(kernel []byte) (armImage, error) {
	if isX86(kernel) {
		return armImage{}, kindMachine.error(stepImage, nil, "it is for x86_64, this machine is arm64")
	}
	code, err := unpack(kernel)
	if err != nil {
		return armImage{}, err
	}
	img, err := parseHeader(code)
	img.code = code
	return img, err
}

// parseHeader reads the first bytes of an Image.
func parseHeader(code []byte) (armImage, error) {
	if len(code) < armHeaderSize || string(code[0x38:0x3c]) != armMagic {
		return armImage{}, kindImage.error(stepImage, nil, "it is not an arm64 Image")
	}
	le := binary.LittleEndian
	img := armImage{textOffset: le.Uint64(code[0x08:]), size: le.Uint64(code[0x10:])}
	flags := le.Uint64(code[0x18:])
	switch {
	case flags&armBigEndian != 0:
		return armImage{}, kindImage.error(stepImage, nil, "it is for processors that run big-endian")
	case img.size == 0 || flags&armAnywhere == 0:
		return armImage{}, kindImage.error(stepImage, nil, "it is older than Linux 4.6, which could not lie anywhere in memory")
	case img.textOffset >= armBase || img.textOffset%segmentAlign != 0:
		return armImage{}, kindImage.error(stepImage, nil, "its header has the offset %#x", img.textOffset)
	case img.size > maxImage:
		return armImage{}, kindImage.error(stepImage, nil, "its header says %d bytes in memory", img.size)
	}
	return img, nil
}

// EFI "zboot" (drivers/firmware/efi/libstub/zboot-header.S): an EFI program whose
// header says where the packed Image is.
const (
	zbootMagic  = "MZ\x00\x00zimg"
	zbootHeader = 64
	zbootOffset = 8
	zbootSize   = 12
	zbootMethod = 24 // a string, 32 bytes at most
)

// unpack returns the Image in what distributions ship, which most often is kernel
// itself.
func unpack(kernel []byte) ([]byte, error) {
	method, packed, err := findPacked(kernel)
	if err != nil || method == "" {
		return kernel, err
	}
	return inflate(method, packed, maxImage)
}

// findPacked returns the packed Image in a kernel, and by which of the kernel's
// methods; "" is none.
func findPacked(kernel []byte) (method string, packed []byte, err error) {
	switch {
	case bytes.HasPrefix(kernel, []byte{0x1f, 0x8b}):
		return "gzip", kernel, nil
	case len(kernel) < zbootHeader || !bytes.HasPrefix(kernel, []byte(zbootMagic)):
		return "", nil, nil
	}
	le := binary.LittleEndian
	start := uint64(le.Uint32(kernel[zbootOffset:]))
	end := start + uint64(le.Uint32(kernel[zbootSize:]))
	if end > uint64(len(kernel)) {
		return "", nil, kindImage.error(stepImage, nil, "its packed part ends at byte %d of %d", end, len(kernel))
	}
	name, _, _ := bytes.Cut(kernel[zbootMethod:zbootMethod+32], []byte{0})
	if len(name) == 0 {
		return "", nil, kindImage.error(stepImage, nil, "it does not say how it is packed")
	}
	return string(name), kernel[start:end], nil
}

// inflate unpacks at most limit bytes by one of the kernel's methods
// (CONFIG_KERNEL_…).
func inflate(method string, packed []byte, limit int64) ([]byte, error) {
	r, err := inflater(method, packed)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	head := make([]byte, armHeaderSize)
	n, err := io.ReadFull(r, head)
	code := bytes.NewBuffer(make([]byte, 0, sizeHint(head, limit)+bytes.MinRead))
	code.Write(head[:n])
	if err == nil {
		_, err = code.ReadFrom(io.LimitReader(r, limit+1-int64(n)))
	}
	if err != nil {
		return nil, kindImage.error(stepImage, err, "it cannot be unpacked")
	}
	if int64(code.Len()) > limit {
		return nil, kindImage.error(stepImage, nil, "it has more than %d bytes unpacked", limit)
	}
	return code.Bytes(), nil
}

// sizeHint is how much memory to take for an Image that begins with head, so that
// there is never a second copy of it while it grows: its size in memory, which is
// a little more than that in a file.
func sizeHint(head []byte, limit int64) int64 {
	if string(head[0x38:0x3c]) != armMagic {
		return 0
	}
	return int64(min(binary.LittleEndian.Uint64(head[0x10:]), uint64(limit)))
}

func inflater(method string, data []byte) (io.ReadCloser, error) {
	packed := bytes.NewReader(data)
	switch method {
	case "gzip":
		r, err := gzip.NewReader(packed)
		if err != nil {
			return nil, kindImage.error(stepImage, err, "it cannot be unpacked")
		}
		r.Multistream(false) // zboot has its size behind
		return r, nil
	case "zstd", "zstd22":
		r, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxImage))
		if err != nil {
			return nil, kindImage.error(stepImage, err, "it cannot be unpacked")
		}
		return &zstdStream{Decoder: r}, nil
	}
	return nil, kindImage.error(stepImage, nil, "it is packed with %.32q, which is not known here", method)
}

// zstdStream reads one frame: zboot has the unpacked size behind it.
type zstdStream struct{ *zstd.Decoder }

func (z *zstdStream) Close() error { z.Decoder.Close(); return nil }
