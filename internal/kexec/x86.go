package kexec

import "bytes"

// isX86 reports whether this is a bzImage (Documentation/arch/x86/boot.rst).
func isX86(kernel []byte) bool {
	return len(kernel) >= 0x206 && bytes.Equal(kernel[0x1fe:0x200], []byte{0x55, 0xaa}) && string(kernel[0x202:0x206]) == "HdrS"
}
