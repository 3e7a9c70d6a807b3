package nettime

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Limits of one Ask.
const (
	DefaultTimeout  = 5 * time.Second
	DefaultPatience = 2 * time.Second
	MaxServers      = 8
	// Agreement is how far apart answers may lie and still agree. It allows
	// for slow paths and sloppy servers; what depends on the result is judged
	// in hours and days.
	Agreement = 10 * time.Second
)

// Server is one time server.
type Server struct {
	// Address is a host or host:port; IPv6 addresses with a port stand in
	// brackets. Without a port it is 123, or 4460 for NTS.
	Address string
	// NTS asks for authenticated time; Address is then that of the key
	// exchange, and its host must be in the server's certificate.
	NTS bool
}

// Query is what to ask and whom. The zero value asks nobody.
type Query struct {
	// Servers are asked in parallel. Those beyond MaxServers are not asked,
	// NTS servers going first; naming a server twice gives it one voice.
	Servers []Server
	// Now is the machine's clock, right or wrong: Answer.Offset is measured
	// from it. It is read once; nil: time.Now.
	Now func() time.Time
	// Floor has certainly passed: no NTS server is believed that it is earlier,
	// nor one whose certificate ended before. Zero: nothing is known to have
	// passed, and the key of any certificate that ever was vouches for its time.
	Floor time.Time
	// Roots vouch for NTS servers; nil: the system's.
	Roots *x509.CertPool
	// Timeout bounds the whole of Ask; 0: DefaultTimeout.
	Timeout time.Duration
	// Patience is how long, from the beginning, all NTS servers are waited
	// for; 0: DefaultPatience. After it, two that agree are enough, or plain
	// ones that agree: somebody on the path can suppress the authenticated
	// answers anyway.
	Patience time.Duration
	// LocalOnly keeps every packet on the local network: addresses that are
	// not private, link-local or loopback are not contacted, names outside
	// .local not looked up, and name servers elsewhere not asked.
	LocalOnly bool
	// Log receives one record for each server; nil: silent.
	Log *slog.Logger
}

// Answer is what the servers agreed on.
type Answer struct {
	// Offset added to what Query.Now said gives the network's time. It is
	// exact to about half of the answers' RTT, and never better than
	// Agreement among hostile servers.
	Offset time.Duration
	// Authenticated: at least two NTS servers say so, or the only one asked.
	// If false, anybody on the path may have chosen Offset.
	Authenticated bool
	// Agreed of Usable answers of that kind lie within Agreement.
	Agreed, Usable int
	// Servers holds what each server said, in the order of Query.Servers. It
	// is filled in with an error, too.
	Servers []Result

	clock clock // the network's time; zero without an answer
}

// Now returns the time by this answer, carried on by the machine's monotonic
// clock since. Unlike Offset it does not depend on what Query.Now said, nor on
// what has become of it meanwhile. It is the zero time where there is no answer.
func (a Answer) Now() time.Time {
	if a.clock.began.IsZero() {
		return time.Time{}
	}
	return a.clock.now()
}

// Result is what came of one server.
type Result struct {
	Address string
	NTS     bool
	// Offset of the server's clock from Query.Now; it and what follows are
	// set if Err is nil.
	Offset time.Duration
	// Time is what the server's clock said when Ask began.
	Time time.Time
	// RTT is how long the answer took, measured here. Offset errs by up to
	// half of it.
	RTT     time.Duration
	Stratum int
	// Err is why there is no usable answer. An ErrNotWaited is no fault.
	Err error
}

// Authenticated reports whether the answer is tied to the server by NTS.
func (r Result) Authenticated() bool { return r.NTS && r.Err == nil }

// clock is a time that is carried on by the monotonic clock, so that
// nothing that happens to the machine's clock meanwhile bends a measurement.
type clock struct {
	zero  time.Time
	began time.Time // with a monotonic reading
}

func (c clock) now() time.Time { return c.zero.Add(time.Since(c.began)) }

// Ask asks all servers at once and returns as soon as its answer is settled:
// more than half of the servers agree, or all have answered or failed, at the
// latest after q.Timeout. No goroutine or socket of it outlives the call.
// Errors are of type *Error and tell what each server said.
func Ask(ctx context.Context, q Query) (Answer, error) {
	q = q.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	began := time.Now()
	a := &asking{query: q, clock: clock{zero: q.Now(), began: began}, dialer: newDialer(q.LocalOnly)}
	results := a.run(ctx)
	answer, err := a.conclude(results, context.Cause(ctx))
	a.log(answer)
	return answer, err
}

func (q Query) withDefaults() Query {
	if q.Now == nil {
		q.Now = time.Now
	}
	if q.Timeout <= 0 {
		q.Timeout = DefaultTimeout
	}
	if q.Patience <= 0 {
		q.Patience = DefaultPatience
	}
	if q.Log == nil {
		q.Log = slog.New(slog.DiscardHandler)
	}
	return q
}

// run asks until the poll is settled, and returns when everything it began has
// ended.
func (a *asking) run(ctx context.Context) *poll {
	p, targets := newPoll(a.query.Servers, a.query.LocalOnly)
	ctx, enough := context.WithCancel(ctx)
	answers := make(chan answer, len(targets))
	var workers sync.WaitGroup
	for _, t := range targets {
		workers.Go(func() {
			r, err := a.ask(ctx, t)
			answers <- answer{t.index, r, err}
		})
	}
	defer workers.Wait()
	defer enough()
	patience := time.NewTimer(a.query.Patience)
	defer patience.Stop()
	for !p.settled() {
		select {
		case v := <-answers:
			p.take(v)
		case <-patience.C:
			p.impatient = true
		}
	}
	return p
}

// conclude makes the answer, or the error, of a settled poll.
func (a *asking) conclude(p *poll, cause error) (Answer, error) {
	result := Answer{Servers: p.results(a.clock.zero)}
	v := p.verdict()
	if v.reason != 0 {
		e := &Error{Reason: v.reason, Waited: time.Since(a.clock.began), Results: result.Servers}
		if errors.Is(cause, context.Canceled) {
			e.Err = cause
		}
		return result, e
	}
	result.clock = clock{zero: v.time(), began: a.clock.began}
	result.Offset = v.time().Sub(a.clock.zero)
	result.Authenticated, result.Agreed, result.Usable = v.authenticated, len(v.agreed), v.usable
	return result, nil
}

func (a *asking) log(answer Answer) {
	for _, r := range answer.Servers {
		a.query.Log.Debug("time server", "answer", r.String())
	}
}
