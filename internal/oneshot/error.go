package oneshot

import "fmt"

// Error is a start by way of the firmware that is not possible, in words.
type Error struct {
	Step string
	Err  error // may be nil

	text string
	kind kind
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Step, e.text)
	}
	return fmt.Sprintf("%s: %s (%v)", e.Step, e.text, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Code is the error's number in docs/codes.md.
func (e *Error) Code() string { return e.kind.code }

// Hint says what a person can do.
func (e *Error) Hint() string { return e.kind.hint }

// kind is what sorts of errors have in common.
type kind struct{ code, hint string }

var (
	kindLoader   = kind{"KEXEC-060", "Start this medium in UEFI mode, by its own boot loader."}
	kindMedium   = kind{"KEXEC-061", "Start the machine from this medium itself, and unplug other boot media."}
	kindMount    = kind{"KEXEC-062", "Write the medium anew: its boot partition cannot be read."}
	kindFull     = kind{"KEXEC-063", "Make the boot partition of the medium larger, delete what was added to it, or boot a smaller system."}
	kindWrite    = kind{"KEXEC-064", "The medium may be write-protected or worn out; write it to another one."}
	kindFirmware = kind{"KEXEC-065", "The firmware takes no variables; a firmware update or a reset of its settings may help."}
	kindKernel   = kind{"KEXEC-066", "Tell the publisher: the kernel in this release cannot be started on this machine."}
	kindSecure   = kind{"KEXEC-067", "Turn Secure Boot off in the firmware, or use a system whose kernel is signed by a key that this machine trusts."}
	kindReboot   = kind{"KEXEC-068", "Restart the machine by hand, and try again."}
	kindIgnored  = kind{"KEXEC-069", "Start this medium from the firmware's boot menu, by its own boot loader, or use another machine."}
)

func (k kind) error(step string, err error, format string, args ...any) *Error {
	return &Error{Step: step, Err: err, kind: k, text: fmt.Sprintf(format, args...)}
}
