package keyfile

import (
	"errors"
	"fmt"
)

// Reasons for which a key file is refused; match them with errors.Is.
var (
	ErrPassphrase     = errors.New("wrong passphrase")
	ErrNeedPassphrase = errors.New("the key is encrypted and no passphrase was given")
	ErrNoPassphrase   = errors.New("the passphrase is empty")
	ErrLongPassphrase = fmt.Errorf("the passphrase is longer than %d bytes", MaxPassphrase)
	ErrManyLines      = errors.New("more than one line where a passphrase was expected")
	ErrNotKey         = errors.New("not a private key")
	ErrPublicKey      = errors.New("this is the public half of a key")
	ErrPrivateKey     = errors.New("this is a private key, not its public half")
	ErrKeyType        = errors.New("a private key of another type, only Ed25519 in PKCS #8 is read")
	ErrNotRSA         = errors.New("a private key of another type, only RSA of 2048 to 4096 bits in PKCS #8 is read here")
	ErrDamaged        = errors.New("the key file is damaged or cut short")
	ErrRecipient      = errors.New("encrypted for an age recipient instead of a passphrase")
	ErrWorkFactor     = fmt.Errorf("the file asks for more work than 2^%d to open it", maxWorkFactor)
	ErrExists         = errors.New("there is something already, and keys are never overwritten")
	ErrNotPublic      = errors.New("not a public key (the .pub file of keygen, 64 hexadecimal digits, base64, or 32 raw bytes)")
	ErrWeak           = errors.New("an unusable public key")
	ErrKeyID          = errors.New("the key id in the file is not that of its key")
)

// hints say what to do next.
var hints = map[error]string{
	ErrPassphrase:     "Try again; nobody can recover the key without it, so if it is lost, replace the key as a lost one.",
	ErrNeedPassphrase: "Name a file with --passphrase-file, or run the command in a terminal.",
	ErrNoPassphrase:   "Choose a passphrase of several words.",
	ErrLongPassphrase: "Choose a shorter passphrase.",
	ErrManyLines:      "Put the passphrase alone on the first line of the file.",
	ErrNotKey:         "Name the .key file that keygen made.",
	ErrPublicKey:      "Name the .key file beside it.",
	ErrPrivateKey:     "Name the .pub file beside it, and keep the private key to yourself.",
	ErrKeyType:        "Make a key with `phase release keygen`.",
	ErrNotRSA:         "Make a key with `phase image secureboot keygen`.",
	ErrDamaged:        "Use another copy of the file; if there is none, replace the key as a lost one.",
	ErrRecipient:      "Decrypt it with age and encrypt it again with `age --passphrase --armor`.",
	ErrWorkFactor:     "Decrypt it with age and encrypt it again with `age --passphrase --armor`.",
	ErrExists:         "Choose another name, or move the old file away if it is a key that nobody needs.",
	ErrNotPublic:      "Ask the key's owner for the .pub file.",
	ErrWeak:           "Do not use this key: anybody may be able to sign for it.",
	ErrKeyID:          "Ask the key's owner for the .pub file again, and compare the key id by voice.",
}

// Error says why a file with a key or a passphrase was refused.
type Error struct {
	Path   string // of the file
	Reason error  // one of the reasons above
	Err    error  // cause, or nil
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %v", e.Path, e.Reason)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the reason and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// Hint says in one sentence what to do next.
func (e *Error) Hint() string { return hints[e.Reason] }
