package netup

import (
	"fmt"
	"strings"
	"time"
)

// State is what happened to an interface.
type State int

// The states an Event reports.
const (
	Found      State = iota // the interface exists and is being brought up
	NoCarrier               // no cable, or nobody at its other end
	Carrier                 // the link is up
	Asking                  // a DHCP request goes out; the Attempt counts
	Refused                 // the DHCP server took its offer back (NAK)
	NoAnswer                // nobody answered DHCP for FallbackAfter
	Claiming                // a link-local address is being probed
	Configured              // the interface can be used; Link says how
	Renewed                 // the lease was renewed
	Asking6                 // a DHCPv6 request goes out; the Attempt counts
	AlsoIPv6                // besides IPv4, IPv6 can be used as well
	Waiting                 // Wait goes on; Link, Attempt and Left say for what
	Lost                    // the lease ran out or was withdrawn
	Failed                  // a step failed; Err says which
	Gone                    // the interface was removed
)

// Event is one thing that happened to one interface.
type Event struct {
	// Interface is the kernel's name, "" for something about all of them.
	Interface string
	State     State
	// Attempt counts DHCP requests since the carrier came.
	Attempt int
	// Left is how long Wait will go on; for Waiting only.
	Left time.Duration
	// Took is the time since the carrier came (for Found: since Run began).
	Took time.Duration
	// Link is the state of the interface after the event.
	Link Link
	// Err is the cause of Failed and Lost, and the last failure before Waiting.
	Err error
}

// String is a line for the console, below 76 columns in the usual case.
func (e Event) String() string {
	if e.Interface == "" {
		return fmt.Sprintf("network: %v", e.Err)
	}
	return e.Interface + ": " + e.what()
}

func (e Event) what() string {
	switch e.State {
	case Found:
		if e.Link.VLAN > 0 {
			return fmt.Sprintf("made for VLAN %d", e.Link.VLAN)
		}
		return "found, address " + e.Link.MAC
	case NoCarrier:
		return e.Link.unconnected()
	case Carrier:
		return "link is up"
	case Asking:
		if e.Attempt == 1 {
			return "asking for an address (DHCP)"
		}
		return fmt.Sprintf("asking for an address (DHCP, try %d)", e.Attempt)
	case Refused:
		return "the DHCP server refused its own offer; asking again"
	case NoAnswer:
		return fmt.Sprintf("no DHCP answer for %s; still asking", roundTime(e.Took))
	case Claiming:
		return "claiming a link-local address"
	case Asking6:
		if e.Attempt == 1 {
			return "asking for an IPv6 address (DHCPv6)"
		}
		return fmt.Sprintf("asking for an IPv6 address (DHCPv6, try %d)", e.Attempt)
	case AlsoIPv6:
		return "IPv6 as well: " + e.Link.ipv6() + ", router " + e.Link.Gateway6.String()
	case Waiting:
		return e.waiting()
	case Configured, Renewed:
		return e.Link.describe(e.Took, e.State == Renewed)
	case Lost:
		return fmt.Sprintf("address lost: %v", e.Err)
	case Gone:
		return "removed"
	default:
		return fmt.Sprint(e.Err)
	}
}

// waiting says what there is and what is missing, before a long wait.
func (e Event) waiting() string {
	l, what := e.Link, ""
	switch {
	case !l.Carrier && e.Err != nil:
		what = "not used"
	case !l.Carrier:
		what = l.unconnected()
	case l.Configured():
		what = l.describe(e.Took, false) + "; waiting for more"
	default:
		what = fmt.Sprintf("link for %s, no address; DHCP asked %d times", roundTime(e.Took), e.Attempt)
		if l.Gateway6.IsValid() {
			what += ", IPv6 router " + l.Gateway6.String()
		} else {
			what += ", no IPv6 router"
		}
	}
	if e.Err != nil {
		what += ": " + bounded(e.Err.Error(), maxErr)
	}
	return fmt.Sprintf("%s; %s left", what, e.Left.Round(time.Second))
}

// unconnected says that there is no carrier.
func (l Link) unconnected() string {
	if l.Wireless {
		return "no Wi-Fi network joined"
	}
	return "no link (is the cable plugged in?)"
}

// describe says how an interface is configured: address, gateway, DNS and
// how long it took.
func (l Link) describe(took time.Duration, renewed bool) string {
	var b strings.Builder
	if len(l.Addresses) > 0 {
		b.WriteString(l.Addresses[0].String())
	}
	fmt.Fprintf(&b, " (%s)", l.Method)
	switch {
	case l.Gateway.IsValid():
		b.WriteString(", gateway " + l.Gateway.String())
	case l.Gateway6.IsValid():
		b.WriteString(", gateway " + l.Gateway6.String())
	default:
		b.WriteString(", no gateway")
	}
	if len(l.DNS) > 0 {
		b.WriteString(", DNS " + l.DNS[0].String())
	}
	if renewed {
		b.WriteString(", renewed")
	} else {
		b.WriteString(", " + roundTime(took).String())
	}
	return b.String()
}

// ipv6 is the first IPv6 address in words.
func (l Link) ipv6() string {
	for _, a := range l.Addresses {
		if a.Addr().Is6() {
			return a.String()
		}
	}
	return "no address"
}

func roundTime(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
