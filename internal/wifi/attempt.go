package wifi

import (
	"fmt"
	"strings"
)

const (
	missesToGiveUp  = 2 // whole looks around; one may miss a beacon
	rejectsToGiveUp = 3 // an access point may be busy
)

// An attempt follows the events while one network is being joined.
type attempt struct {
	id      int // the supplicant's number
	ssid    string
	looking bool // a look around began since the selection
	misses  int
	rejects int
	last    error // the last refusal, for when time runs out
}

// see judges an event: done with nil is joined.
func (a *attempt) see(e event) (done bool, err error) {
	switch e.name {
	case evConnected:
		return e.number("id") == a.id, nil
	case evScanStarted:
		a.looking = true
	case evNotFound:
		// Said at once of what was seen earlier, or by a look around that did not
		// ask for a hidden network, it means nothing.
		if !a.looking {
			return false, nil
		}
		a.looking = false
		a.misses++
		return a.misses >= missesToGiveUp, &Error{Reason: NotFound, SSID: a.ssid}
	case evDisabled:
		if e.number("id") != a.id {
			return false, nil
		}
		return true, a.best(refusal(a.ssid, e))
	case evAuthReject, evAssocReject:
		a.rejects++
		a.last = refusal(a.ssid, e)
		return a.rejects >= rejectsToGiveUp || is(a.last, WrongPassphrase), a.last
	}
	return false, nil
}

// best prefers an earlier, clearer word to a summary.
func (a *attempt) best(err error) error {
	if a.last != nil && !is(err, WrongPassphrase) {
		return a.last
	}
	return err
}

// late is the error of an attempt whose time is over.
func (a *attempt) late() error {
	switch {
	case a.last != nil:
		return a.last
	case a.misses > 0:
		return &Error{Reason: NotFound, SSID: a.ssid}
	}
	return &Error{Reason: Refused, SSID: a.ssid, Detail: fmt.Sprintf("it did not finish within %v", JoinTime)}
}

// authSAE is the authentication algorithm of WPA3, whose second transaction
// proves that both know the passphrase (IEEE 802.11-2020, 9.4.1.1 and 12.4.8.2).
const (
	authSAE     = 3
	saeConfirm  = 2
	statusFull  = 17 // IEEE 802.11-2020, table 9-50
	statusLater = 30
)

// refusal turns an event into an error.
func refusal(ssid string, e event) *Error {
	out := &Error{Reason: Refused, SSID: ssid}
	switch e.name {
	case evAuthReject:
		if e.number("auth_type") == authSAE && e.number("auth_transaction") == saeConfirm {
			out.Reason = WrongPassphrase
			return out
		}
	case evDisabled:
		switch reason := e.fields["reason"]; reason {
		case "WRONG_KEY":
			out.Reason = WrongPassphrase
			return out
		case "AUTH_FAILED", "CONN_FAILED":
			out.Detail = "it gave up (" + strings.ToLower(strings.ReplaceAll(reason, "_", " ")) + ")"
		}
		return out
	}
	switch code := e.number("status_code"); {
	case code == statusFull:
		out.Detail = "it has no room for more devices"
	case code == statusLater:
		out.Detail = "it asks to try later"
	case code >= 0:
		out.Detail = fmt.Sprintf("status code %d", code)
	}
	return out
}

// explain says why a network that is in the air was not taken, or returns err.
func explain(n Network, air []AccessPoint, err error) error {
	var unfit *AccessPoint
	for _, a := range air {
		if a.SSID != n.SSID {
			continue
		}
		if fits(n, a) {
			return err
		}
		unfit = &a
	}
	if unfit == nil {
		return err
	}
	out := &Error{Reason: BadNetwork, SSID: n.SSID}
	switch open := unfit.Security == "open"; {
	case !unfit.Usable():
		out.Reason, out.Detail = Unsupported, "it wants "+strings.TrimPrefix(unfit.Security, unsupported)
	case open:
		out.Detail = "it is open, but a passphrase was given"
	case n.Passphrase == "":
		out.Detail = "it wants a passphrase"
	default:
		out.Detail = "it is WPA3 only, which needs the passphrase instead of the key"
	}
	return out
}

// fits tells whether the supplicant would take an access point for a network.
func fits(n Network, a AccessPoint) bool {
	switch {
	case !a.Usable():
		return false
	case n.Passphrase == "" || a.Security == "open":
		return n.Passphrase == "" && a.Security == "open"
	}
	return a.Security != "WPA3" || !n.isKey()
}
