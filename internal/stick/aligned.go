package stick

import "unsafe"

// alignment is what direct input and output want of memory on every system here.
const alignment = 4096

// aligned makes a buffer of zeros that begins at a page.
func aligned(n int) []byte {
	raw := make([]byte, n+alignment)
	skip := (alignment - int(uintptr(unsafe.Pointer(unsafe.SliceData(raw)))%alignment)) % alignment
	return raw[skip : skip+n : skip+n]
}

func isAligned(p []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))%alignment == 0
}
