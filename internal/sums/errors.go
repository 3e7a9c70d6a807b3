package sums

import (
	"errors"
	"fmt"
)

// Reasons for which a list, a signature or a key is refused; match them with
// errors.Is.
var (
	ErrList      = errors.New("not a list of digests as this program writes them")
	ErrSignature = errors.New("not a signature of this list by this key")
	ErrSigFile   = errors.New("not a signature file")
	ErrOtherKey  = errors.New("signed by another key")
	ErrKey       = errors.New("not a public key (PEM, minisign's, or the .pub file of keygen)")
	ErrMissing   = errors.New("a file of the list is missing")
	ErrDiffers   = errors.New("a file is not the one of the list")
	ErrUnlisted  = errors.New("a file does not stand in the list")
)

// Error says what was refused, and why.
type Error struct {
	Object string // what was looked at: a file's name
	Reason error  // one of the reasons above
	Detail string // more, or ""
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %v", e.Object, e.Reason)
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Reason }

// Code is the reason's number in docs/codes.md.
func (e *Error) Code() string { return e.words().code }

// Hint says in one sentence what to do next.
func (e *Error) Hint() string { return e.words().hint }

type words struct{ code, hint string }

func (e *Error) words() words {
	switch e.Reason {
	case ErrList:
		return words{"MEDIA-001", "Download SHA256SUMS again, from the publisher."}
	case ErrSignature:
		return words{"MEDIA-002", "Do not use these files; download SHA256SUMS and its signature again, and check that the key is the publisher's."}
	case ErrSigFile:
		return words{"MEDIA-003", "Download SHA256SUMS.sig or SHA256SUMS.minisig again."}
	case ErrOtherKey:
		return words{"MEDIA-004", "Compare the key with the one that the publisher names in another place than the download."}
	case ErrKey:
		return words{"MEDIA-005", "Name the publisher's key for media: a PEM file, a minisign key or a .pub file."}
	case ErrMissing:
		return words{"MEDIA-006", "Download the file that is named."}
	case ErrDiffers:
		return words{"MEDIA-007", "Do not use the file; download it again, and if it differs again, tell the publisher."}
	}
	return words{"MEDIA-008", "Use nothing that SHA256SUMS does not name."}
}
