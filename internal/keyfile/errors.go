package keyfile

import (
	"fmt"

	"github.com/phasebased/phase/internal/refusal"
)

// Reasons for which a key file is refused; match them with errors.Is.
var (
	ErrPassphrase = refusal.New("KEY-001", "wrong passphrase",
		"Try again; nobody can recover the key without it, so if it is lost, replace the key as a lost one.")
	ErrNeedPassphrase = refusal.New("KEY-002", "the key is encrypted and no passphrase was given",
		"Name a file with --passphrase-file, or run the command in a terminal.")
	ErrNoPassphrase = refusal.New("KEY-003", "the passphrase is empty",
		"Choose a passphrase of several words.")
	ErrLongPassphrase = refusal.New("KEY-004", fmt.Sprintf("the passphrase is longer than %d bytes", MaxPassphrase),
		"Choose a shorter passphrase.")
	ErrManyLines = refusal.New("KEY-005", "more than one line where a passphrase was expected",
		"Put the passphrase alone on the first line of the file.")
	ErrNotKey = refusal.New("KEY-006", "not a private key",
		"Name the .key file that keygen made.")
	ErrPublicKey = refusal.New("KEY-007", "this is the public half of a key",
		"Name the .key file beside it.")
	ErrPrivateKey = refusal.New("KEY-008", "this is a private key, not its public half",
		"Name the .pub file beside it, and keep the private key to yourself.")
	ErrKeyType = refusal.New("KEY-009", "a private key of another type, only Ed25519 in PKCS #8 is read",
		"Make a key with `phase release keygen`.")
	ErrNotRSA = refusal.New("KEY-010", "a private key of another type, only RSA of 2048 to 4096 bits in PKCS #8 is read here",
		"Make a key with `phase image secureboot keygen`.")
	ErrDamaged = refusal.New("KEY-011", "the key file is damaged or cut short",
		"Use another copy of the file; if there is none, replace the key as a lost one.")
	ErrRecipient = refusal.New("KEY-012", "encrypted for an age recipient instead of a passphrase",
		"Decrypt it with age and encrypt it again with `age --passphrase --armor`.")
	ErrWorkFactor = refusal.New("KEY-013", fmt.Sprintf("the file asks for more work than 2^%d to open it", maxWorkFactor),
		"Decrypt it with age and encrypt it again with `age --passphrase --armor`.")
	ErrExists = refusal.New("KEY-014", "there is something already, and keys are never overwritten",
		"Choose another name, or move the old file away if it is a key that nobody needs.")
	ErrNotPublic = refusal.New("KEY-015", "not a public key (the .pub file of keygen, 64 hexadecimal digits, base64, or 32 raw bytes)",
		"Ask the key's owner for the .pub file.")
	ErrWeak = refusal.New("KEY-016", "an unusable public key",
		"Do not use this key: anybody may be able to sign for it.")
	ErrKeyID = refusal.New("KEY-017", "the key id in the file is not that of its key",
		"Ask the key's owner for the .pub file again, and compare the key id by voice.")
)

// Error says what was refused, and why; its reason is one of those above.
type Error = refusal.Error
