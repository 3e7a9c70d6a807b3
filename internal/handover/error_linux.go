package handover

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/failure"
)

// Error is a hand-over that failed, in words.
type Error = failure.Error

// Codes that no errno stands for.
const (
	codeSet     = "KEXEC-002" // the set is not what the manifest says
	codeCmdline = "KEXEC-003"
	codeBuild   = "KEXEC-004" // the combined initrd could not be made
	codeOther   = "KEXEC-005"
	codeReturn  = "KEXEC-006" // reboot(2) came back
	// codeUnverified is for the signature that a locked-down kernel misses.
	codeUnverified = "KEXEC-007"
)

func refuse(step, code, hint, format string, args ...any) *Error {
	return &Error{Step: step, Kind: failure.Kind{Code: code, Hint: hint}, Text: fmt.Sprintf(format, args...)}
}

// meaning is what one errno of kexec_file_load(2) says, for a person.
type meaning struct{ code, text, hint string }

var meanings = map[unix.Errno]meaning{
	unix.ENOSYS:        {"KEXEC-010", "the running kernel cannot load another one (built without kexec_file_load)", hintKernel},
	unix.EPERM:         {"KEXEC-011", "the running kernel does not allow it: kexec is switched off, locked down, or this is not the machine's init", "Remove kexec_load_disabled from the kernel's settings; with Secure Boot, use a signed kernel or turn Secure Boot off."},
	unix.EACCES:        {"KEXEC-012", "the running kernel is locked down and does not allow it", hintSecure},
	unix.ENODATA:       {"KEXEC-013", "the new kernel is not signed, and the running one asks for a signature", hintSecure},
	unix.ENOKEY:        {"KEXEC-014", "the new kernel is signed by a key that this machine does not know", hintSecure},
	unix.EKEYREJECTED:  {"KEXEC-015", "the new kernel's signature is wrong or its key was revoked", hintSecure},
	unix.ENOEXEC:       {"KEXEC-016", "the new kernel is not in a format that the running one can start", hintNewImage},
	unix.ENOMEM:        {"KEXEC-017", "there is not enough memory for the new kernel and its files", hintMemory},
	unix.EBUSY:         {"KEXEC-018", "another kernel is being loaded, or devices do not let go of memory", "Restart the machine and try again."},
	unix.EINVAL:        {"KEXEC-019", "the running kernel refuses the new one: wrong machine type, or the command line is too long", hintNewImage},
	unix.EADDRNOTAVAIL: {"KEXEC-020", "no place in memory fits the new kernel", hintMemory},
	unix.EBADMSG:       {"KEXEC-021", "the new kernel's signature cannot be read", hintSecure},
	unix.ETXTBSY:       {"KEXEC-022", "a file of the new system is still open for writing", "This is a mistake in the seed; please report it."},
	unix.EFBIG:         {"KEXEC-023", "a file of the new system is too large for the running kernel", hintNewImage},
	unix.EOPNOTSUPP:    {"KEXEC-024", "this machine cannot change kernels without a restart (its memory encryption does not allow it)", hintRestart},
	unix.ELIBBAD:       {"KEXEC-025", "the new kernel's signature does not belong to it", hintNewImage},
	unix.EKEYEXPIRED:   {"KEXEC-026", "the key that signed the new kernel has expired", hintSecure},
	unix.ENOPKG:        {"KEXEC-027", "the new kernel's signature is made in a way that the running one does not know", hintSecure},
	unix.EBADF:         {"KEXEC-028", "a file of the new system was closed too early", "This is a mistake in the seed; please report it."},
	unix.EIO:           {"KEXEC-029", "a file of the new system could not be read", "Check the machine's memory, and try again."},
}

const hintRestart = "Allow a restart: Internet and Local mode do."

// leaving is what reboot(2) means when it comes back instead of jumping.
var leaving = map[unix.Errno]string{
	unix.EINVAL: "the running kernel has no new one loaded, or was built without kexec",
	unix.EPERM:  "the running kernel does not allow it: this is not the machine's init",
	unix.EBUSY:  "the running kernel is busy with another kexec",
	unix.ENOSYS: "the running kernel cannot change kernels",
	unix.ENOMEM: "the running kernel has not enough memory left to change kernels",
}

// returned puts a reboot(2) that came back into words, with or without an errno.
func returned(err error) *Error {
	text := "the running kernel did not let go"
	var errno unix.Errno
	if errors.As(err, &errno) && leaving[errno] != "" {
		text = leaving[errno]
	}
	return &Error{Step: "start the new kernel", Err: err, Text: text, Kind: failure.Kind{Code: codeReturn,
		Hint: "Restart the machine and try again, or allow a restart into the new system: Internet and Local mode do."}}
}

// loadFault puts what kexec_file_load(2) says into words, when it was allowed before it saw
// the new kernel. EPERM then has one meaning: a locked-down kernel that may start
// without a signature otherwise drops the reason why it could not verify one
// (kimage_validate_signature in kernel/kexec_file.c).
func loadFault(err error) *Error {
	if errors.Is(err, unix.EPERM) {
		return &Error{Step: stepLoad, Err: err, Text: unverified, Kind: failure.Kind{Code: codeUnverified, Hint: hintSecure}}
	}
	return explain(stepLoad, err)
}

const unverified = "the running kernel is locked down and could not verify the new one: it is not signed, " +
	"its signer is not known here, or it was altered"

// explain puts an errno into words.
func explain(step string, err error) *Error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		if m, ok := meanings[errno]; ok {
			return &Error{Step: step, Err: err, Text: m.text, Kind: failure.Kind{Code: m.code, Hint: m.hint}}
		}
	}
	return &Error{Step: step, Err: err, Text: "the running kernel did not take it",
		Kind: failure.Kind{Code: codeOther, Hint: "Look at the kernel's log for the reason, and report it."}}
}
