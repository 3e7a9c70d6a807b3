package wifi

import (
	"errors"
	"fmt"
)

// Reason says why a network could not be joined or looked for.
type Reason int

// The reasons, in the order of their codes NET-021 to NET-029.
const (
	ProgramMissing  Reason = iota + 1 // wpa_supplicant cannot be started
	NoAnswer                          // wpa_supplicant runs and says nothing, or nonsense
	NotFound                          // no such network in the air
	WrongPassphrase                   // the network refused the passphrase
	Refused                           // the network refused this machine, or did not finish
	Unsupported                       // the network wants what this package cannot do
	BadNetwork                        // the name or the passphrase cannot be right
	RadioOff                          // the radio is switched off
	ScanFailed                        // the card could not look around
)

const firstCode = 21

// Error is a failure of the wireless network. It never holds a passphrase.
type Error struct {
	Reason Reason
	SSID   string // of the network, if one was asked for
	Detail string // what was said: short, printable; "" if there is nothing to add
	Err    error  // the cause, if there is one
}

func (e *Error) Error() string {
	s := "wifi: " + e.what()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) what() string {
	name := `"` + Show(e.SSID) + `"`
	switch e.Reason {
	case ProgramMissing:
		return "wpa_supplicant cannot be started"
	case NoAnswer:
		return "wpa_supplicant does not answer"
	case NotFound:
		return "the network " + name + " was not found"
	case WrongPassphrase:
		return "the passphrase of " + name + " is wrong"
	case Refused:
		return "the network " + name + " could not be joined"
	case Unsupported:
		return "the network " + name + " cannot be joined by this image"
	case BadNetwork:
		return "the network " + name + " cannot be right"
	case RadioOff:
		return "the Wi-Fi radio is switched off"
	}
	return "the Wi-Fi card could not look for networks"
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns "NET-0NN", a row of docs/codes.md.
func (e *Error) Code() string { return fmt.Sprintf("NET-%03d", firstCode-1+int(e.Reason)) }

// Hint says what to do next.
func (e *Error) Hint() string {
	switch e.Reason {
	case ProgramMissing:
		return "Build the image with --wifi, or use a network cable."
	case NoAnswer:
		return "Retry; if it happens again, use a network cable and look at the kernel log for the card's driver."
	case NotFound:
		return "Check the name letter by letter, go nearer to the access point, and say so if the network is hidden."
	case WrongPassphrase:
		return "Type the passphrase again; upper and lower case count."
	case Refused:
		return "Go nearer to the access point, check whether it admits only known devices, or restart it."
	case Unsupported:
		return "Use a network with WPA2 or WPA3 personal, for instance a phone's hotspot, or a network cable."
	case BadNetwork:
		return "A name has 1 to 32 bytes; a passphrase 8 to 63 characters, or 64 hex digits."
	case RadioOff:
		return "Switch the radio on: a key or slider on the machine, or a setting of its firmware."
	}
	return "Retry; if it happens again, use a network cable and look at the kernel log for the card's driver."
}

// is tells whether an error is an *Error with a certain reason.
func is(err error, r Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == r
}
