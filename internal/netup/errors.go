package netup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Reason says how far the bring-up came.
type Reason int

// The reasons, by their codes NET-001 to NET-007 and NET-011.
const (
	NoInterface   Reason = iota + 1 // no network interface was found
	NoCable                         // interfaces, but no carrier
	NoDHCP                          // a carrier, but nobody answered
	RefusedByDHCP                   // the DHCP server answered and refused, or made no sense
	NotConfigured                   // the kernel refused a setting
	NoSocket                        // a socket this package needs cannot be opened
	SwitchedOff                     // Config.Off

	KeptMAC Reason = 11 // a card does not take the fresh address that Config.RandomMAC promises
)

// maxErr bounds the text of one interface's failure.
const maxErr = 200

// Try is what was tried on one interface.
type Try struct {
	Interface string
	Wireless  bool
	Step      string // "link", "DHCP", "static address", "link-local", …
	Attempts  int    // DHCP requests sent
	Took      time.Duration
	Err       error // nil while the step has simply not ended
}

func (t Try) String() string {
	s := t.Interface + ": " + t.Step
	if t.Attempts > 0 {
		s += fmt.Sprintf(", %d tries in %s", t.Attempts, roundTime(t.Took))
	}
	if t.Err != nil {
		s += ": " + t.Err.Error()
	}
	return s
}

// Error is a bring-up that ended without a usable interface.
type Error struct {
	Reason Reason
	Waited time.Duration
	Tried  []Try // sorted by interface
	Err    error // the cause, if there is one apart from Tried
}

// Error is one line: the reason, then every interface.
func (e *Error) Error() string {
	parts := []string{e.what()}
	for _, t := range e.Tried {
		parts = append(parts, t.String())
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, "; ")
}

func (e *Error) what() string {
	switch e.Reason {
	case NoInterface:
		return fmt.Sprintf("no network interface was found within %s", roundTime(e.Waited))
	case NoCable:
		if e.wireless() {
			return "no Wi-Fi network was joined"
		}
		return "no cable is plugged in, or the other end is off"
	case NoDHCP:
		return fmt.Sprintf("no DHCP server answered within %s", roundTime(e.Waited))
	case RefusedByDHCP:
		return "the DHCP server gave no usable address"
	case NoSocket:
		return "the kernel offers no network sockets"
	case SwitchedOff:
		return "the network is switched off"
	case KeptMAC:
		return "no network without showing this machine's own hardware address"
	default:
		return "the network could not be configured"
	}
}

// wireless reports whether there are Wi-Fi cards only.
func (e *Error) wireless() bool {
	return len(e.Tried) > 0 && !slices.ContainsFunc(e.Tried, func(t Try) bool { return !t.Wireless })
}

// Unwrap returns the causes.
func (e *Error) Unwrap() []error {
	var causes []error
	if e.Err != nil {
		causes = append(causes, e.Err)
	}
	for _, t := range e.Tried {
		if t.Err != nil {
			causes = append(causes, t.Err)
		}
	}
	return causes
}

// Code returns "NET-0NN", a row of docs/codes.md.
func (e *Error) Code() string { return fmt.Sprintf("NET-%03d", int(e.Reason)) }

// Hint says what to do next.
func (e *Error) Hint() string {
	switch e.Reason {
	case NoInterface:
		return "Use a wired network card this image has a driver for, or boot the virtual machine with one."
	case NoCable:
		if e.wireless() {
			return "Join a Wi-Fi network (policy.toml, [[network.wifi.networks]]), or plug in a network cable, then retry."
		}
		return "Plug in the network cable and check the lights at its other end, then retry."
	case NoDHCP:
		return "Check the router, or give an address by hand: phase.ip=<address>/<length>,<gateway>,<dns>."
	case RefusedByDHCP:
		return "Check the DHCP server's address range, or give an address by hand with phase.ip=."
	case SwitchedOff:
		return "Remove phase.ip=off from the kernel options, or boot in Local mode from the cache."
	case KeptMAC:
		return "Use another network card, or set keep_mac = true under [network] in policy.toml to show this card's address."
	default:
		return "Check the network settings in policy.toml and the kernel log, then retry."
	}
}

// stepError is a failure with its reason, made where it happened.
type stepError struct {
	reason Reason
	step   string
	err    error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// reasonOf finds the reason of an error, or NotConfigured.
func reasonOf(err error) Reason {
	var s *stepError
	if errors.As(err, &s) {
		return s.reason
	}
	return NotConfigured
}

func bounded(s string, limit int) string {
	if len(s) > limit {
		return s[:limit]
	}
	return s
}
