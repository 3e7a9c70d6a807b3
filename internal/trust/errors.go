package trust

import (
	"errors"
	"fmt"

	"github.com/phasebased/phase/manifest"
)

// Error says that something remembered cannot be read or stored.
type Error struct {
	Op     string // "load", "save" or "confirm"
	Object string // "version floor of stable/x86_64", "time", "roots" …
	Floor  bool   // Object is a version floor
	Err    error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Object, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code is the error's number in docs/codes.md.
func (e *Error) Code() string {
	switch {
	case !e.Floor:
		return "VFY-023"
	case errors.Is(e.Err, ErrUnreadable):
		return "VFY-020"
	case errors.Is(e.Err, ErrLower), errors.Is(e.Err, ErrOtherDigest):
		return "VFY-021"
	}
	return "VFY-022"
}

// Hint says in one sentence what to do next.
func (e *Error) Hint() string {
	switch {
	case e.Code() == "VFY-020":
		return "The cache on this medium is damaged: write the medium anew, or go on with the floor built into it."
	case e.Code() == "VFY-021":
		return "Another program accepted a newer release meanwhile: start again."
	case errors.Is(e.Err, ErrUnreadable):
		return "The cache on this medium is damaged: it mends itself with the next boot from the network; if it does not, write the medium anew."
	case errors.Is(e.Err, ErrNotTried):
		return "This system was not booted through this medium; nothing needs to be done."
	}
	return "Check that the cache partition is mounted, writable and not full."
}

// Causes in an Error; match them with errors.Is.
var (
	// ErrUnreadable: something was stored, but it cannot be read or was
	// damaged. It is not the same as nothing stored, and must never be taken
	// for 0.
	ErrUnreadable = errors.New("stored value is unreadable")
	// ErrLower: the stored floor is higher than the one to be saved.
	ErrLower = errors.New("a higher floor is stored")
	// ErrOtherDigest: the stored floor has the same version for other content.
	ErrOtherDigest = errors.New("a floor of the same version with another digest is stored")
	// ErrNotTried: the release to be confirmed was not the one started last.
	ErrNotTried = errors.New("this release was not started from here")
)

func name(want manifest.Want) string { return want.Channel + "/" + want.Arch }

func floorError(op string, want manifest.Want, err error) error {
	return wrap(err, &Error{Op: op, Object: "version floor of " + name(want), Floor: true})
}

func releaseError(op string, want manifest.Want, err error) error {
	return wrap(err, &Error{Op: op, Object: "last good release of " + name(want)})
}

// wrap returns e around err, or nil if err is.
func wrap(err error, e *Error) error {
	if err == nil {
		return nil
	}
	e.Err = err
	return e
}
