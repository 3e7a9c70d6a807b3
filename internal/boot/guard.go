package boot

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a defect of this program that was caught where it happened, so
// that it ends one piece of work and not the machine's first process.
type PanicError struct {
	Value string // what the program panicked with
	Stack string // where, for a report
}

func (e *PanicError) Error() string { return "internal error: " + e.Value }

// Code is the error's number in docs/codes.md.
func (e *PanicError) Code() string { return "BOOT-090" }

// Hint says what to do next.
func (e *PanicError) Hint() string {
	return "this is a defect of Phase Boot; please report it with the kernel log"
}

// guard runs f and turns a panic into a *PanicError. Every goroutine of this
// package runs foreign input through one.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &PanicError{Value: fmt.Sprint(r), Stack: string(debug.Stack())}
		}
	}()
	return f()
}
