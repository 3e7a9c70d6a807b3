// Package refusal is how a package says that it refuses something: what it looked at,
// the reason, and the cause. It is trusted with nothing; it only words things.
package refusal

import (
	"errors"
	"fmt"
)

// A Reason is one of those for which a package refuses. Packages have them as variables,
// to be matched with errors.Is.
type Reason struct{ code, text, hint string }

// New makes a reason: its code in docs/codes.md, what is wrong, and in one sentence what
// to do next.
func New(code, text, hint string) *Reason { return &Reason{code, text, hint} }

// Error implements error.
func (r *Reason) Error() string { return r.text }

// Code is the reason's number in docs/codes.md.
func (r *Reason) Code() string { return r.code }

// Hint says in one sentence what to do next.
func (r *Reason) Hint() string { return r.hint }

// Of refuses an object for this reason, with details.
func (r *Reason) Of(object, format string, args ...any) error {
	return &Error{object, r, fmt.Errorf(format, args...)}
}

// Error says what was refused, and why.
type Error struct {
	Object string // what was looked at: a file, or a part of one
	Reason error  // a *Reason, or what wraps one
	Err    error  // cause or detail, or nil
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Object + ": " + e.Reason.Error()
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Code is that of the reason.
func (e *Error) Code() string { return e.reason().code }

// Hint is that of the reason.
func (e *Error) Hint() string { return e.reason().hint }

func (e *Error) reason() (r *Reason) {
	if !errors.As(e.Reason, &r) {
		return &Reason{}
	}
	return r
}

// Unwrap returns the reason and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}
