package kexec

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kexecSegment is struct kexec_segment of linux/kexec.h: Buf is copied to the
// physical address Mem, the rest up to MemSize is zeroed.
type kexecSegment struct {
	Buf     *byte
	BufSize uintptr
	Mem     uintptr
	MemSize uintptr
}

// kexecLoad is kexec_load(2). No segments unload what is loaded.
func kexecLoad(entry uintptr, segments []kexecSegment, flags uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, entry, uintptr(len(segments)),
		uintptr(unsafe.Pointer(unsafe.SliceData(segments))), flags, 0, 0)
	runtime.KeepAlive(segments)
	if errno != 0 {
		return errno
	}
	return nil
}
