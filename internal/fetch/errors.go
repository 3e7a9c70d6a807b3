package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/phasebased/phase/blob"
)

// Faults of one attempt at one source. They are found with errors.Is in an
// *Error's attempts.
var (
	// ErrStalled: the source sent nothing for Fetcher.Stall.
	ErrStalled = errors.New("no data from the source")
	// ErrSlow: the source sent less than Fetcher.MinRate.
	ErrSlow = errors.New("source too slow")
	// ErrTimeout: one attempt took longer than Fetcher.Timeout.
	ErrTimeout = errors.New("attempt took too long")
	// ErrShort: the source ended before the stated size.
	ErrShort = errors.New("source ended early")
	// ErrTooLarge: an unverified document is larger than the caller allows.
	ErrTooLarge = errors.New("answer too large")
	// ErrEncoded: the source compressed although it was told not to.
	ErrEncoded = errors.New("answer has a content encoding")
	// ErrWebPage: the source answered with HTML, as captive portals do.
	ErrWebPage = errors.New("answered with a web page instead of the file (a sign-in page of the network?)")
	// ErrRange: the answer to a range request was not the range asked for.
	ErrRange = errors.New("wrong range in the answer")
	// ErrAbsent: the source does not have the blob.
	ErrAbsent = errors.New("the source does not have it")
	// ErrRedirect: the source redirected too often or to a forbidden place.
	ErrRedirect = errors.New("redirect refused")
	// ErrProxy: the proxy cannot be reached.
	ErrProxy = errors.New("the proxy does not answer")
	// ErrProxyAuth: the proxy asks who we are, or does not believe it.
	ErrProxyAuth = errors.New("the proxy wants a user name and password, or others")
	// ErrProxyRefused: the proxy does not connect to the source.
	ErrProxyRefused = errors.New("the proxy refused to connect to the source")
	// ErrOtherHost: the certificate is good for another host, if at all.
	ErrOtherHost = errors.New("the certificate is for another host (does a sign-in page of the network stand in between?)")
	// ErrUntrusted: the certificate was made by somebody unknown.
	ErrUntrusted = errors.New("nobody known vouches for the certificate (does a sign-in page of the network stand in between?)")
	// ErrNoTLS: the source speaks http where https was asked for.
	ErrNoTLS = errors.New("answered without TLS (does a sign-in page of the network stand in between?)")
	// ErrNotValid: the certificate does not hold at this machine's time.
	ErrNotValid = errors.New("the certificate is not valid at this machine's time (is its clock right?)")
	// ErrNoName: the DNS does not know the source's name.
	ErrNoName = errors.New("the DNS knows no such name")
	// ErrNoDNS: the name could not be looked up at all.
	ErrNoDNS = errors.New("no name server answers")
	// ErrURL: not an absolute http or https URL.
	ErrURL = errors.New("not a usable URL")
)

// A StatusError is an HTTP answer that is neither 200 nor a wanted 206.
type StatusError struct {
	Code       int
	RetryAfter time.Duration // that the source asked for, bounded; 0: none
}

func (e *StatusError) Error() string { return fmt.Sprintf("HTTP status %d", e.Code) }

// absent says that the source does not have the object at all.
func (e *StatusError) absent() bool { return e.Code == 404 || e.Code == 410 }

// Is makes a StatusError that says so an ErrAbsent.
func (e *StatusError) Is(target error) bool { return target == ErrAbsent && e.absent() }

// busy says that the source has no room for another connection now.
func (e *StatusError) busy() bool { return e.Code == 429 || e.Code == 503 }

// An Attempt is one source asked once.
type Attempt struct {
	URL   string // of the source, or what it is called; or "cache"
	Round int    // from 1; 0 for the cache and for a source that was not asked
	Err   error  // nil only for the attempt that succeeded
	Took  time.Duration
}

// An Error says that no source gave the artifact. Its text is the headline
// that a person sees; Attempts are the reasons.
type Error struct {
	Artifact string
	Want     blob.Digest
	Rounds   int // rounds over all sources that were begun
	Attempts []Attempt
	// Mismatch: every source that has the artifact gave other bytes than
	// the manifest names. A source that answers 404 does not have it.
	Mismatch bool
	// Cause is the context's error if the caller gave up, else nil.
	Cause error
}

func (e *Error) Error() string {
	switch {
	case e.Mismatch:
		return fmt.Sprintf("Artifact %s hash mismatch (expected %s)", e.Artifact, e.Want)
	case e.Cause != nil:
		return fmt.Sprintf("Failed to fetch %s: %v", e.Artifact, e.Cause)
	case e.Rounds == 0 && errors.Is(e, ErrNotLocal):
		return fmt.Sprintf("Failed to fetch %s: no source on the local network is known", e.Artifact)
	case e.Rounds == 0:
		return fmt.Sprintf("Failed to fetch %s: no source is known", e.Artifact)
	case e.Rounds == 1:
		return fmt.Sprintf("Failed to fetch %s after 1 try", e.Artifact)
	}
	return fmt.Sprintf("Failed to fetch %s after %d retries", e.Artifact, e.Rounds)
}

// Unwrap gives the reasons. A *blob.MismatchError is among them only if
// Mismatch, so that errors.As on it agrees with the headline.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	for _, a := range e.Attempts {
		if e.Mismatch || !isMismatch(a.Err) {
			errs = append(errs, a.Err)
		}
	}
	return errs
}

// Code is FETCH-001 no source gave it, FETCH-002 all gave other bytes,
// FETCH-003 no source known, FETCH-004 given up by the caller.
func (e *Error) Code() string {
	switch {
	case e.Mismatch:
		return "FETCH-002"
	case e.Cause != nil:
		return "FETCH-004"
	case e.Rounds == 0:
		return "FETCH-003"
	}
	return "FETCH-001"
}

// Hint says what to do next, in one sentence.
func (e *Error) Hint() string {
	var cert x509.CertificateInvalidError
	switch {
	case e.Mismatch:
		return "Do not use these sources; ask the publisher, or give another one with phase.provider=."
	case errors.Is(e, ErrProxy), errors.Is(e, ErrProxyAuth), errors.Is(e, ErrProxyRefused):
		return "Check the proxy's address, user name and password, or give a source on the local network with phase.provider=."
	case errors.Is(e, ErrWebPage), errors.Is(e, ErrOtherHost), errors.Is(e, ErrUntrusted), errors.Is(e, ErrNoTLS):
		return "Sign in to this network with another device, or give a source inside it with phase.provider=."
	case errors.Is(e, ErrNoDNS):
		return "Check the name servers of this network, or give a source by its address with phase.provider=."
	case errors.As(e, &cert) && cert.Reason == x509.Expired:
		return "Check this machine's clock: the source's certificate is not valid at that time."
	case e.Rounds == 0 && errors.Is(e, ErrNotLocal):
		return "Give a source on the local network with phase.provider=, or choose the Internet mode."
	case errors.Is(e, ErrStalled), errors.Is(e, ErrSlow):
		return "The connection is very slow: try a cable, or a source nearby with phase.provider=."
	}
	return "Check the network connection, or give a source by hand with phase.provider=."
}

// A LocalError says that this machine could not keep the artifact: no memory,
// no room on disk. Another source would not help.
type LocalError struct {
	Artifact string
	Err      error
}

func (e *LocalError) Error() string {
	return fmt.Sprintf("Failed to keep %s on this machine: %v", e.Artifact, e.Err)
}

func (e *LocalError) Unwrap() error { return e.Err }

// Code is FETCH-005.
func (e *LocalError) Code() string { return "FETCH-005" }

// Hint says what to do next, in one sentence.
func (e *LocalError) Hint() string {
	if errors.Is(e, syscall.ENOSPC) || errors.Is(e, syscall.EDQUOT) || errors.Is(e, syscall.EFBIG) {
		return "Make room on the disk, or choose another folder, and start again."
	}
	return "Free memory or disk space, or use a machine with more of it."
}

// A ListError says that the chunks of an artifact are those of its chunk list and
// the whole is not what the manifest names: whoever signed them made a mistake.
// No source is to blame.
type ListError struct {
	Artifact  string
	List      blob.Digest // of the chunk list
	Want, Got blob.Digest // of the whole
}

func (e *ListError) Error() string {
	return fmt.Sprintf("Artifact %s does not fit its own chunk list %s (expected %s, got %s)", e.Artifact, e.List, e.Want, e.Got)
}

// Code is FETCH-006.
func (e *ListError) Code() string { return "FETCH-006" }

// Hint says what to do next, in one sentence.
func (e *ListError) Hint() string {
	return "Tell the publisher that this release contradicts itself, and use another one."
}

func isMismatch(err error) bool {
	var m *blob.MismatchError
	return errors.As(err, &m)
}

// inWords says what an error of the network stack means to a person.
func inWords(err error) error {
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name *net.DNSError
	var dial *net.OpError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &host):
		return &worded{ErrOtherHost, err}
	case errors.As(err, &unknown):
		return &worded{ErrUntrusted, err}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return &worded{ErrNotValid, err}
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return ErrNoTLS
	case errors.As(err, &dial) && dial.Op == "proxyconnect":
		return &worded{ErrProxy, dial.Err}
	case errors.As(err, &name) && name.IsNotFound:
		return &worded{ErrNoName, err}
	case errors.As(err, &name):
		return &worded{ErrNoDNS, err}
	}
	return err
}

// worded is err with what it means before it. Its text is bounded: certificates
// are full of strangers' names.
type worded struct{ means, err error }

func (e *worded) Error() string   { return fmt.Sprintf("%v: %.200v", e.means, e.err) }
func (e *worded) Unwrap() []error { return []error{e.means, e.err} }

// attemptError prefers the reason that ended an attempt's context over the
// "context canceled" that the network stack reports then.
func attemptError(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || cause == nil {
		return err
	}
	if cause == context.DeadlineExceeded {
		return errNoTimeLeft
	}
	return cause
}

// givenReason is attemptError for a source that may have done the same already,
// and added to it.
func givenReason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		return err
	}
	return attemptError(ctx, err)
}

// errNoTimeLeft is context.DeadlineExceeded in words.
var errNoTimeLeft error = noTimeLeft{}

type noTimeLeft struct{}

func (noTimeLeft) Error() string { return "no answer in the time that there was" }
func (noTimeLeft) Unwrap() error { return context.DeadlineExceeded }

// guarded makes a panic over foreign bytes a failure like others: the program may
// be the system's first process, which must not end.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}
