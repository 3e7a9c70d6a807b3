package oneshot

import (
	"fmt"

	"github.com/phasebased/phase/internal/failure"
)

// Error is a start by way of the firmware that is not possible, in words.
type Error = failure.Error

type kind failure.Kind

var (
	kindLoader   = kind{"KEXEC-060", "Start this medium in UEFI mode, by its own boot loader. One built with --chain uki has none: use a medium of another chain, or another machine."}
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
	return &Error{Step: step, Err: err, Kind: failure.Kind(k), Text: fmt.Sprintf(format, args...)}
}
