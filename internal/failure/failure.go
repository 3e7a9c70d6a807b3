// Package failure is how a package says that a step failed on this machine: what was
// being done, why, and the cause; and where the code and the hint of an error are found.
// It is trusted with nothing; it only words things.
package failure

import (
	"errors"
	"fmt"
)

// A Kind is what sorts of failures have in common.
type Kind struct {
	Code string // in docs/codes.md
	Hint string // what a person can do, in one sentence; ""
}

// Error is a step that failed, in words.
type Error struct {
	Step string // what was being done: "load the new kernel"
	Text string // why it failed
	Kind Kind
	Err  error // the cause, often a syscall.Errno; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Step, e.Text)
	}
	return fmt.Sprintf("%s: %s (%v)", e.Step, e.Text, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Code is that of the kind.
func (e *Error) Code() string { return e.Kind.Code }

// Hint is that of the kind.
func (e *Error) Hint() string { return e.Kind.Hint }

// Code is the number in docs/codes.md that err or the first of its causes with one has;
// "": none has.
func Code(err error) string {
	var coded interface{ Code() string }
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return ""
}

// Hint is the hint that err or the first of its causes with one has; "": none has.
func Hint(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}
