package tor

import (
	"errors"
	"fmt"
)

// Reason says why there is no way through Tor.
type Reason int

// The reasons, in the order of their codes TOR-001 to TOR-008.
const (
	ProgramMissing Reason = iota + 1 // Tor is not in this system, or cannot be started
	BadConfig                        // the configuration is refused, here or by Tor
	WrongClock                       // Tor says that this machine's clock is wrong
	NotConnected                     // Tor made no progress for too long
	NoBridge                         // none of the bridges answers
	NotRunning                       // nobody answers where Tor's socket should be
	NotThrough                       // Tor could not connect to this destination
	NotTCP                           // what was asked for cannot go through Tor
)

// Error is a failure of the way through Tor. It never holds a bridge.
type Error struct {
	Reason Reason
	Detail string // short and printable; "" if there is nothing to add
	Err    error  // the cause, if there is one
}

func (e *Error) Error() string {
	s := e.what()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) what() string {
	switch e.Reason {
	case ProgramMissing:
		return "this boot must go through Tor, and Tor cannot be started"
	case BadConfig:
		return "Tor's configuration cannot be used"
	case WrongClock:
		return "Tor does not work with this machine's clock"
	case NotConnected:
		return "Tor found no way into its network"
	case NoBridge:
		return "Tor reached none of the bridges"
	case NotRunning:
		return "Tor does not answer, and nothing is asked without it"
	case NotThrough:
		return "Tor did not get through"
	}
	return "this cannot go through Tor"
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns "TOR-00N", a row of docs/codes.md.
func (e *Error) Code() string { return fmt.Sprintf("TOR-%03d", int(e.Reason)) }

// Hint says what to do next.
func (e *Error) Hint() string {
	switch e.Reason {
	case ProgramMissing:
		return "Build the image with --tor, or boot without phase.tor=on; nothing was asked."
	case BadConfig:
		return "Correct [tor] in policy.toml: bridges are plain ones, as <address>:<port> <fingerprint>, and extra takes only the options that docs/tor.md lists."
	case WrongClock:
		return "Set the clock in the machine's firmware setup to UTC, right to the minute, then retry."
	case NotConnected:
		return "Check that this network lets Tor through; where it does not, name bridges in policy.toml under [tor]."
	case NoBridge:
		return "Check the bridges in policy.toml letter by letter, or ask for other ones: bridges come and go."
	case NotRunning:
		return "Wait for Tor to be started again, then retry."
	case NotThrough:
		return "Retry, as another way through Tor may work; or check that the server runs and takes connections from Tor."
	}
	return "Use a server that answers over TCP."
}

// Is tells whether an error is, or wraps, an *Error with a certain reason.
func Is(err error, r Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == r
}
