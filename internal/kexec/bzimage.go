package kexec

import (
	"bytes"
	"encoding/binary"
)

// bzImage is what an x86_64 kernel's setup header says
// (Documentation/arch/x86/boot.rst).
type bzImage struct {
	setup     []byte // the header, as it goes to the boot parameters
	code      []byte // the part that runs in protected and long mode
	align     uint64
	preferred uint64 // the lowest place that it does not move away from
	size      uint64 // in memory, while it unpacks itself
	initrdMax uint64 // the last byte of an initrd at the latest
	cmdline   uint64 // the longest command line, without the NUL
}

// Offsets in the file, which for the header are those in the boot parameters.
const (
	offSetup        = 0x1f1 // where the header begins
	offBootFlag     = 0x1fe
	offHeaderEnd    = 0x201 // one byte: the header's end behind 0x202
	offHeaderMagic  = 0x202
	offVersion      = 0x206
	offLoader       = 0x210
	offLoadFlags    = 0x211
	offRamdisk      = 0x218
	offRamdiskSize  = 0x21c
	offCmdline      = 0x228
	offInitrdMax    = 0x22c
	offAlignment    = 0x230
	offRelocatable  = 0x234
	offXLoadFlags   = 0x236
	offCmdlineSize  = 0x238
	offSubarch      = 0x23c
	offSetupData    = 0x250
	offPreferred    = 0x258
	offInitSize     = 0x260
	bzHeaderSize    = 0x268 // up to where we read
	maxSetupHeader  = 0x290 // what follows in the boot parameters is something else
	entry64         = 0x200 // of the code, for processors in long mode
	bzMagic         = "HdrS"
	bzProtocol      = 0x020c // 2.12, Linux 3.8
	bzLoadedHigh    = 1 << 0 // of the load flags
	bzKernel64      = 1 << 0 // of the extended ones: it has entry64
	bzAbove4G       = 1 << 1 // everything may lie above 4 GiB
	bzSector        = 512
	bzDefaultSector = 4
)

// isX86 reports whether this is an x86 kernel.
func isX86(kernel []byte) bool {
	return len(kernel) >= bzHeaderSize && bytes.Equal(kernel[offBootFlag:offBootFlag+2], []byte{0x55, 0xaa}) &&
		string(kernel[offHeaderMagic:offHeaderMagic+4]) == bzMagic
}

// parseX86 reads the setup header of an x86_64 kernel.
func parseX86(kernel []byte) (bzImage, error) {
	le := binary.LittleEndian
	if !isX86(kernel) {
		if len(kernel) >= armHeaderSize && string(kernel[0x38:0x3c]) == armMagic {
			return bzImage{}, kindMachine.error(stepImage, nil, "it is for arm64, this machine is x86_64")
		}
		return bzImage{}, kindImage.error(stepImage, nil, "it is not a bzImage")
	}
	sectors := int(kernel[offSetup])
	if sectors == 0 {
		sectors = bzDefaultSector
	}
	start, end := (sectors+1)*bzSector, offHeaderMagic+int(kernel[offHeaderEnd])
	flags := le.Uint16(kernel[offXLoadFlags:])
	img := bzImage{
		align: uint64(le.Uint32(kernel[offAlignment:])), preferred: le.Uint64(kernel[offPreferred:]),
		size: uint64(le.Uint32(kernel[offInitSize:])), initrdMax: uint64(le.Uint32(kernel[offInitrdMax:])),
		cmdline: uint64(le.Uint32(kernel[offCmdlineSize:])),
	}
	switch {
	case le.Uint16(kernel[offVersion:]) < bzProtocol || kernel[offLoadFlags]&bzLoadedHigh == 0:
		return img, kindImage.error(stepImage, nil, "it is older than Linux 3.8")
	case flags&bzKernel64 == 0:
		return img, kindMachine.error(stepImage, nil, "it is for 32-bit processors")
	case flags&bzAbove4G == 0 || kernel[offRelocatable] == 0:
		return img, kindImage.error(stepImage, nil, "it cannot be moved in memory")
	case start+entry64 >= len(kernel) || end > maxSetupHeader || end < bzHeaderSize:
		return img, kindImage.error(stepImage, nil, "it is cut off, or its header has a wrong length")
	case img.align == 0 || img.align&(img.align-1) != 0 || img.align > 1<<30 || img.preferred > 1<<40 || img.size > 4*maxImage:
		return img, kindImage.error(stepImage, nil, "its header asks for %d bytes at %#x, aligned to %#x", img.size, img.preferred, img.align)
	}
	img.setup, img.code = kernel[offSetup:end], kernel[start:]
	return img, nil
}
