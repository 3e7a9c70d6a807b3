package nettime

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Why one server gave no usable answer; found in Result.Err with errors.Is.
var (
	// ErrNoAnswer: nothing came that belongs to the question.
	ErrNoAnswer = errors.New("no answer")
	// ErrUnreachable: its name cannot be resolved, or no packet gets there.
	ErrUnreachable = errors.New("cannot be reached")
	// ErrUnusable: the answer says that it is not to be used, or cannot be true.
	ErrUnusable = errors.New("unusable answer")
	// ErrKeyExchange: the NTS key exchange failed; certificates that do not
	// verify, or ended before Query.Floor, are among the causes.
	ErrKeyExchange = errors.New("NTS key exchange failed")
	// ErrNotAuthentic: answers came, but none that the key of the exchange made.
	ErrNotAuthentic = errors.New("answer is not authentic")
	// ErrDates: the server's answer is authentic, but its certificates do not
	// hold at the time it gives, or that time is before Query.Floor.
	ErrDates = errors.New("certificates do not vouch for the time given")
	// ErrNotLocal: it is, or may be, beyond the local network.
	ErrNotLocal = errors.New("beyond the local network, which is not left in this mode")
	// ErrAddress: not the address of a server.
	ErrAddress = errors.New("not a host or host:port")
	// ErrTooMany: MaxServers are asked already.
	ErrTooMany = errors.New("not asked: 8 servers are enough")
	// ErrTwice: the same server is named before.
	ErrTwice = errors.New("not asked: named twice")
	// ErrNotWaited: the others had settled it before its answer came.
	ErrNotWaited = errors.New("not waited for")
)

// Reason says why there is no answer. Its values go on where those of
// internal/netup end.
type Reason int

// The reasons, by their codes NET-008 to NET-010.
const (
	NoServers   Reason = iota + 8 // nobody to ask
	NoAnswer                      // nobody gave a usable answer
	NoAgreement                   // the answers contradict each other
)

// Error is an Ask without an answer.
type Error struct {
	Reason  Reason
	Waited  time.Duration
	Results []Result // in the order of Query.Servers
	Err     error    // context.Canceled if the caller gave up, else nil
}

// Error is one line: the reason, then every server.
func (e *Error) Error() string {
	parts := []string{e.what()}
	for _, r := range e.Results {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, "; ")
}

func (e *Error) what() string {
	switch {
	case e.Err != nil:
		return "asking for the time was given up"
	case e.Reason == NoServers:
		return "there is no time server to ask"
	case e.Reason == NoAgreement:
		return "the time servers contradict each other"
	}
	return fmt.Sprintf("no time server gave a usable answer within %s", roundTime(e.Waited))
}

// Unwrap returns the causes.
func (e *Error) Unwrap() []error {
	var causes []error
	if e.Err != nil {
		causes = append(causes, e.Err)
	}
	for _, r := range e.Results {
		if r.Err != nil {
			causes = append(causes, r.Err)
		}
	}
	return causes
}

// Code returns "NET-0NN", a row of docs/codes.md.
func (e *Error) Code() string { return fmt.Sprintf("NET-%03d", int(e.Reason)) }

// Hint says what to do next.
func (e *Error) Hint() string {
	switch e.Reason {
	case NoServers:
		return "Name time servers in policy.toml under [time], or set the clock in the machine's firmware setup."
	case NoAgreement:
		return "Take the servers that are wrong out of policy.toml, or set the clock in the machine's firmware setup."
	default:
		return "Let UDP port 123 and TCP port 4460 out, name a reachable time server in policy.toml, or set the clock in the machine's firmware setup."
	}
}

// String is a line for the console: who, and what time it said or why not.
func (r Result) String() string {
	name := clean(r.Address)
	if r.NTS {
		name += " (NTS)"
	}
	if r.Err != nil {
		return name + ": " + clean(r.Err.Error())
	}
	return fmt.Sprintf("%s: %s, %s, stratum %d", name, r.Time.UTC().Format("2006-01-02 15:04:05 UTC"), roundTime(r.RTT), r.Stratum)
}

// clean makes foreign text fit for a console line: certificates and key
// exchanges put their own words into errors.
func clean(s string) string {
	const limit = 200
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

func roundTime(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(100 * time.Millisecond)
}
