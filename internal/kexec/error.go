package kexec

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/phasebased/phase/internal/failure"
)

// Error is a kernel that could not be put into memory, in words.
type Error = failure.Error

type kind failure.Kind

const (
	hintSeed   = "Build the medium with another kernel for the seed: Debian's allows it."
	hintImage  = "Tell the publisher: the kernel in this release cannot be started on this machine."
	hintMemory = "Give the machine more memory, or boot a smaller system."
	hintReport = "Look at the kernel's log for the reason, and report it."
)

// Kinds that no errno stands for.
var (
	kindImage   = kind{"KEXEC-038", hintImage}  // not a kernel that can be started this way
	kindMachine = kind{"KEXEC-039", hintImage}  // a kernel for another machine
	kindCmdline = kind{"KEXEC-040", hintImage}  // too long, or with a NUL
	kindPlace   = kind{"KEXEC-041", hintMemory} // no place in memory
	kindMap     = kind{"KEXEC-042", hintReport} // the memory map cannot be read or believed
	kindTree    = kind{"KEXEC-043", hintReport} // the device tree, likewise
	kindParams  = kind{"KEXEC-044", hintReport} // the boot parameters, likewise
	kindFile    = kind{"KEXEC-045", hintReport} // kernel or initrd cannot be read
	kindArch    = kind{"KEXEC-046", ""}         // this package does not know the machine
	kindOther   = kind{"KEXEC-047", hintReport} // any other errno
)

func (k kind) error(step string, err error, format string, args ...any) *Error {
	return &Error{Step: step, Err: err, Kind: failure.Kind(k), Text: fmt.Sprintf(format, args...)}
}

// meaning is what one errno of kexec_load(2) says, for a person.
type meaning struct{ code, text, hint string }

var meanings = map[syscall.Errno]meaning{
	syscall.ENOSYS:        {"KEXEC-030", "the running kernel cannot load another one (built without kexec_load)", hintSeed},
	syscall.EPERM:         {"KEXEC-031", "the running kernel does not allow it: kexec is switched off, locked down, or this is not root", "Remove kexec_load_disabled from the kernel's settings; with Secure Boot, turn that off in the firmware."},
	syscall.EACCES:        {"KEXEC-032", "the running kernel takes only signed kernels, and not by this way", "Turn Secure Boot off in the firmware."},
	syscall.ENOMEM:        {"KEXEC-033", "there is not enough memory for the new kernel and its files", hintMemory},
	syscall.EBUSY:         {"KEXEC-034", "another kernel is being loaded, or a processor cannot be stopped", "Restart the machine and try again."},
	syscall.EINVAL:        {"KEXEC-035", "the running kernel refuses the new one, as too large or in a wrong place", hintReport},
	syscall.EADDRNOTAVAIL: {"KEXEC-036", "the running kernel refuses the places chosen in memory", hintReport},
	syscall.ENOEXEC:       {"KEXEC-037", "the running kernel cannot start the new one", hintImage},
}

// explain puts an errno into words.
func explain(step string, err error) *Error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if m, ok := meanings[errno]; ok {
			return kind{m.code, m.hint}.error(step, err, "%s", m.text)
		}
	}
	return kindOther.error(step, err, "the running kernel did not take it")
}
