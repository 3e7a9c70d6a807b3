package delta

import (
	"errors"
	"fmt"
	"io"
)

// Reason says why a patch was not made or applied.
type Reason int

// The reasons. Whoever applies a patch may answer all of them in the same way: by
// downloading in full.
const (
	Malformed  Reason = iota + 1 // not a patch, damaged, or made to do harm
	Version                      // made by a newer program
	WrongSizes                   // made for other files than the given ones
	Unreadable                   // the old file or the patch could not be read
	Unwritable                   // the result could not be written
	TooLarge                     // of Make: a file is larger than it takes
)

var reasons = map[Reason]string{
	Malformed:  "the patch is malformed",
	Version:    "the patch has a form that this program does not know",
	WrongSizes: "the patch is for other files",
	Unreadable: "reading failed",
	Unwritable: "writing failed",
	TooLarge:   "the files are too large to be compared",
}

// firstCode is the number of the first reason among the FETCH codes.
const firstCode = 30

// An Error says why a patch cannot be used.
type Error struct {
	Reason Reason
	Detail string // what exactly; may be empty
	Err    error  // the cause, if there is one
}

func (e *Error) Error() string {
	text := "delta: " + reasons[e.Reason]
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Code is FETCH-030 and following, one per reason.
func (e *Error) Code() string { return fmt.Sprintf("FETCH-%03d", firstCode-1+int(e.Reason)) }

// Hint says what to do next.
func (e *Error) Hint() string {
	if e.Reason == TooLarge {
		return "Publish this file without a patch."
	}
	return "The whole file is downloaded instead."
}

func malformed(format string, args ...any) error {
	return &Error{Reason: Malformed, Detail: fmt.Sprintf(format, args...)}
}

func unreadable(err error) error { return &Error{Reason: Unreadable, Err: err} }

// cut is the error of a patch that could not be read to its end: it is too
// short, its compression is damaged, or its source failed.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("it is cut")
	}
	return &Error{Reason: Unreadable, Detail: "the patch", Err: err}
}
