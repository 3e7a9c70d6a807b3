package mediacheck

import (
	"errors"
	"fmt"
)

// Reasons for which a medium is refused; match them with errors.Is.
var (
	ErrTable    = errors.New("the partition table is not whole")
	ErrSize     = errors.New("the image is not of the size that its partition table says")
	ErrBoot     = errors.New("the boot partition cannot be read")
	ErrSeed     = errors.New("the partition with the medium's papers cannot be read")
	ErrPapers   = errors.New("the medium's papers are not in order")
	ErrFile     = errors.New("a file on the boot partition is not the one in the medium's papers")
	ErrRootFile = errors.New("the medium's root of trust is not in order")
	ErrChain    = errors.New("nothing on the medium would start")
)

// Error says what was refused, and why.
type Error struct {
	Object string // what was looked at
	Reason error  // one of the reasons above
	Detail string // more, or ""
}

func refuse(object string, reason error, format string, args ...any) error {
	return &Error{object, reason, fmt.Sprintf(format, args...)}
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
	case ErrTable:
		return words{"MEDIA-020", "Download the image again, or write the stick again; nothing of ours has such a partition table."}
	case ErrSize:
		return words{"MEDIA-021", "Download the image again: it is cut short, or something was added to it."}
	case ErrBoot:
		return words{"MEDIA-022", "Download the image again, or write the stick again: its boot partition is damaged."}
	case ErrSeed:
		return words{"MEDIA-023", "Download the image again, or write the stick again: its second partition is damaged."}
	case ErrPapers:
		return words{"MEDIA-024", "Download the image again; if it stays so, tell the publisher."}
	case ErrFile:
		return words{"MEDIA-025", "Do not boot this medium: write it again from an image that is verified."}
	case ErrRootFile:
		return words{"MEDIA-026", "Do not boot this medium, and tell the publisher."}
	}
	return words{"MEDIA-027", "Do not boot this medium: write it again from an image that is verified."}
}
