package nettime

import (
	"slices"
	"time"
)

// origin is the zero of the scale on which answers are measured and compared.
// It is arbitrary, but within the 136 years in which an NTP time stamp has one
// meaning (RFC 5905, section 6, with github.com/beevik/ntp's pivot in 1970), so
// that differences never overflow, whatever the machine's clock says.
var origin = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// reading is a usable answer.
type reading struct {
	ahead   time.Duration // from origin to what the server's clock said when Ask began
	rtt     time.Duration
	stratum uint8
}

// time is what the server's clock said when Ask began.
func (r reading) time() time.Time { return origin.Add(r.ahead) }

// answer is what came of the server with that index.
type answer struct {
	index int
	reading
	err error
}

// poll collects the answers. It is pure: what it says depends on them only.
type poll struct {
	voices    []voice
	impatient bool // Query.Patience is over
}

type voice struct {
	server Server
	state  state
	answer
}

type state int

const (
	pending  state = iota
	answered       // usable
	failed
	unasked // has no say: its address is wrong, not local, or there already
)

// newPoll decides who is asked.
func newPoll(servers []Server, localOnly bool) (*poll, []target) {
	p := &poll{voices: make([]voice, len(servers))}
	var targets []target
	seen := make(map[string]bool)
	for _, nts := range []bool{true, false} {
		for n, s := range servers {
			if s.NTS != nts {
				continue
			}
			p.voices[n] = voice{server: s}
			t, err := newTarget(n, s, localOnly)
			switch {
			case err != nil:
			case seen[t.key()]:
				err = ErrTwice
			case len(targets) == MaxServers:
				err = ErrTooMany
			default:
				seen[t.key()] = true
				targets = append(targets, t)
				continue
			}
			p.voices[n].state, p.voices[n].err = unasked, err
		}
	}
	return p, targets
}

func (p *poll) take(a answer) {
	v := &p.voices[a.index]
	v.answer, v.state = a, answered
	if a.err != nil {
		v.state = failed
	}
}

// group is one kind of servers, authenticated or not.
type group struct {
	asked, pending int
	usable         []time.Duration // on the scale of reading.ahead
}

func (p *poll) group(nts bool) group {
	var g group
	for _, v := range p.voices {
		if v.server.NTS != nts || v.state == unasked {
			continue
		}
		g.asked++
		switch v.state {
		case pending:
			g.pending++
		case answered:
			g.usable = append(g.usable, v.ahead)
		}
	}
	return g
}

// settled reports whether nothing that may still come is worth waiting for.
func (p *poll) settled() bool {
	nts, plain := p.group(true), p.group(false)
	c := agreeing(nts.usable)
	v := p.verdict()
	switch {
	case nts.pending+plain.pending == 0:
		return true
	case nts.pending > 0 && p.impatient:
		return v.reason == 0 && (v.authenticated || plain.carried())
	case nts.pending > 0:
		return nts.quorum(c) && nts.carried()
	case v.authenticated || len(nts.usable) > 1:
		return true // whatever the plain ones say
	}
	return p.pool(nts, plain).carried()
}

// carried reports whether more than half of those asked agree, so that nobody
// who has not answered can outvote them.
func (g group) carried() bool { return 2*len(agreeing(g.usable)) > g.asked }

// quorum reports whether c is enough to call the answer authenticated.
func (g group) quorum(c []time.Duration) bool {
	return len(c) >= min(2, g.asked) && 2*len(c) > len(g.usable)
}

// pool is the plain servers, with a lone authenticated answer among them.
func (p *poll) pool(nts, plain group) group {
	if len(nts.usable) == 1 {
		plain.asked++
		plain.usable = append(slices.Clip(plain.usable), nts.usable...)
	}
	return plain
}

// verdict is what the servers agreed on, or why they did not.
type verdict struct {
	reason        Reason // 0: agreed
	authenticated bool
	agreed        []time.Duration // sorted
	usable        int
}

// time is the median of those that agree, on Ask's first moment.
func (v verdict) time() time.Time { return origin.Add(median(v.agreed)) }

// verdict judges the answers that are there.
func (p *poll) verdict() verdict {
	nts, plain := p.group(true), p.group(false)
	c := agreeing(nts.usable)
	switch {
	case nts.asked+plain.asked == 0:
		return verdict{reason: NoServers}
	case len(nts.usable) > 0 && nts.quorum(c):
		return verdict{authenticated: true, agreed: c, usable: len(nts.usable)}
	case len(nts.usable) > 1:
		return verdict{reason: NoAgreement}
	}
	pool := p.pool(nts, plain)
	c = agreeing(pool.usable)
	switch {
	case len(c) == 0:
		return verdict{reason: NoAnswer}
	case 2*len(c) <= len(pool.usable) || !vouched(c, nts.usable):
		return verdict{reason: NoAgreement}
	}
	return verdict{agreed: c, usable: len(pool.usable)}
}

// vouched reports whether every authenticated answer is among those that
// agree: a majority that anybody on the path can forge does not overrule it.
func vouched(agreed, authenticated []time.Duration) bool {
	for _, a := range authenticated {
		if !slices.Contains(agreed, a) {
			return false
		}
	}
	return true
}

// agreeing returns the largest group of answers that lie within Agreement,
// sorted; of several the one closest together, and of those the earliest.
// Any group that holds more than half of the answers holds their median, so
// two such groups overlap.
func agreeing(all []time.Duration) []time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	var best []time.Duration
	for n := range sorted {
		end := n
		for end < len(sorted) && sorted[end]-sorted[n] <= Agreement {
			end++
		}
		c := sorted[n:end]
		if len(c) > len(best) || len(c) == len(best) && spread(c) < spread(best) {
			best = c
		}
	}
	return best
}

func spread(sorted []time.Duration) time.Duration { return sorted[len(sorted)-1] - sorted[0] }

// median of a sorted list; of two in the middle, the point between them.
func median(sorted []time.Duration) time.Duration {
	n := len(sorted)
	low, high := sorted[(n-1)/2], sorted[n/2]
	return low + (high-low)/2
}

// results is what each server said, for people; zero is what Query.Now said.
func (p *poll) results(zero time.Time) []Result {
	out := make([]Result, len(p.voices))
	for n, v := range p.voices {
		out[n] = Result{Address: v.server.Address, NTS: v.server.NTS, Err: v.err}
		switch v.state {
		case pending:
			out[n].Err = ErrNotWaited
		case answered:
			t := v.time()
			out[n].Offset, out[n].Time, out[n].RTT, out[n].Stratum = t.Sub(zero), t, v.rtt, int(v.stratum)
		}
	}
	return out
}
