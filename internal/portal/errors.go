package portal

import (
	"errors"
	"strings"
)

// Why somebody's answer says nothing; found in an *Error with errors.Is.
var (
	// ErrURL: what to ask is not a URL that can be asked.
	ErrURL = errors.New("not a usable URL")
	// ErrUnexpected: an answer that neither the server asked for nor a portal
	// gives.
	ErrUnexpected = errors.New("unexpected answer")
)

// An Error says that nothing is known about a portal.
type Error struct {
	Check error // why the check says nothing; ErrNotAsked if there was none
	API   error // why the network's API says nothing; ErrNotAsked if it has none
}

func (e *Error) Error() string {
	var why []string
	if e.Check != nil && e.Check != ErrNotAsked {
		why = append(why, "the check: "+e.Check.Error())
	}
	if e.API != nil && e.API != ErrNotAsked {
		why = append(why, "the network's API: "+e.API.Error())
	}
	if len(why) == 0 {
		why = []string{ErrNotAsked.Error()}
	}
	return "cannot tell whether this network has a sign-in page: " + strings.Join(why, "; ")
}

// Unwrap gives the reasons.
func (e *Error) Unwrap() []error { return []error{e.Check, e.API} }

// Code is NET-030.
func (e *Error) Code() string { return "NET-030" }

// Hint says what to do next, in one sentence.
func (e *Error) Hint() string {
	return "Check the network connection; if other devices have to sign in here, so has this one."
}
