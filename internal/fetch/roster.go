package fetch

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// maxRest bounds how long a source is left alone, also when it asks for more.
	maxRest = 30 * time.Second
	// maxWaits is how often a source may say when to come back before that counts
	// as a failure.
	maxWaits = 4
	// maxPeers bounds the sources of one artifact: finders believe strangers.
	maxPeers = 64
	// maxNames bounds those who were ever among them.
	maxNames = 1024
	// maxAttempts bounds what is remembered of them.
	maxAttempts = 128
)

// A peer is a source and what became of asking it. It belongs to the goroutine
// that runs the download.
type peer struct {
	src  Source
	name string
	last bool // of last resort
	met  bool // by a finder

	conns    int       // reading now
	failures int       // since it last gave right bytes
	waits    int       // the same, for a busy source that said when to come back
	rest     time.Time // is left alone until then
	lied     bool      // gave other bytes; never asked again
	absent   bool      // the last answer was that it has no such file
	wholes   bool      // knows no ranges
	single   bool      // wants one connection only

	bytes int64         // that were right
	busy  time.Duration // reading
	rate  float64       // lately, in bytes per second; 0: never gave any
	err   error         // the last
}

// A roster is everybody who may have a blob.
type roster struct {
	f       *Fetcher
	log     *slog.Logger
	retries int
	peers   []*peer
	names   map[string]bool // of all who were ever known
	liars   bool            // among those who are forgotten
	others  bool            // the same: who neither lied nor was without it

	attempts []Attempt
	rounds   int

	found     chan Source
	ended     chan struct{} // one for each finder
	searching int           // finders that have not ended
	news      time.Time     // when there last was reason to hope for one
}

// add makes s known; a second one of the same name is not.
func (r *roster) add(s Source) *peer {
	name := s.String()
	if len(r.peers) >= maxPeers || r.names[name] {
		return nil
	}
	if r.names == nil {
		r.names = map[string]bool{}
	}
	r.names[name] = true
	last, ok := s.(LastResort)
	p := &peer{src: s, name: name, last: ok && last.LastResort()}
	r.peers = append(r.peers, p)
	return p
}

// makeRoom forgets somebody who was found and of no use, so that a crowd of them
// keeps nobody out. All their names are remembered.
func (r *roster) makeRoom() {
	useless := func(p *peer) bool { return p.met && p.conns == 0 && p.bytes == 0 && (p.lied || p.failures > 0) }
	if i := slices.IndexFunc(r.peers, useless); i >= 0 && len(r.peers) >= maxPeers && len(r.names) < maxNames {
		p := r.peers[i]
		r.liars, r.others = r.liars || p.lied, r.others || !p.lied && !p.absent
		r.peers = slices.Delete(r.peers, i, i+1)
	}
}

// search starts the finders, until ctx ends. wait waits for them.
func (r *roster) search(ctx context.Context, j job) (wait func()) {
	r.found, r.ended, r.news = make(chan Source), make(chan struct{}, len(j.finders)), time.Now()
	r.searching = len(j.finders)
	for _, finder := range j.finders {
		go func() {
			defer func() { r.ended <- struct{}{} }()
			err := guarded(func() error {
				return finder.Find(ctx, j.digest, func(s Source) {
					if s == nil {
						return
					}
					select {
					case r.found <- s:
					case <-ctx.Done():
					}
				})
			})
			if err != nil && ctx.Err() == nil {
				r.log.Info("looking for further sources failed", "err", err)
			}
		}()
	}
	return func() {
		for ; r.searching > 0; r.searching-- {
			<-r.ended
		}
	}
}

// await waits for a new source, the end of a finder, one of wake, or d.
func (r *roster) await(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case s := <-r.found:
		r.meet(s)
	case <-r.ended:
		r.searching--
	case <-t.C:
	case <-ctx.Done():
	}
}

func (r *roster) meet(s Source) {
	if h, ok := s.(*httpSource); ok {
		if r.f.permitted(h.url) != nil {
			return
		}
		s = &httpSource{client: r.f.policed(h.client), url: h.url}
	}
	r.makeRoom()
	if p := r.add(s); p != nil {
		p.met, r.news = true, time.Now()
		r.log.Info("found a source", "source", p.name)
	}
}

// usable says that p may be asked now.
func (p *peer) usable(now time.Time) bool { return !p.lied && !now.Before(p.rest) }

// worn says that p had all its chances. It is still asked while others give
// something.
func (r *roster) worn(p *peer) bool { return p.lied || p.failures >= r.retries }

// hope says that it makes sense to wait: somebody will be asked again, or may
// yet be found.
func (r *roster) hope(now time.Time) bool {
	for _, p := range r.peers {
		if !r.worn(p) {
			return true
		}
	}
	return r.searching > 0 && now.Sub(r.news) < r.f.patience()
}

// ask has try ask one source after the other, first who is preferred, then who
// failed least, until one gives all. Otherwise it returns errNoSource, or a
// localError.
func (r *roster) ask(ctx context.Context, prefer func(*peer) bool, try func(context.Context, *peer) error) error {
	for {
		now := time.Now()
		p := r.next(now, prefer)
		switch {
		case ctx.Err() != nil:
			return errNoSource
		case p == nil && !r.hope(now):
			return errNoSource
		case p == nil:
			r.await(ctx, r.pause(now, time.Second))
			continue
		}
		if err := try(ctx, p); err == nil || isLocal(err) {
			return err
		}
	}
}

func (r *roster) next(now time.Time, prefer func(*peer) bool) (best *peer) {
	for _, p := range r.peers {
		if !p.usable(now) || r.worn(p) {
			continue
		}
		if prefer(p) {
			return p
		}
		if best == nil || best.last && !p.last || best.last == p.last && p.failures < best.failures {
			best = p
		}
	}
	return best
}

// pause is how long nothing will happen by itself, at most limit.
func (r *roster) pause(now time.Time, limit time.Duration) time.Duration {
	for _, p := range r.peers {
		if rest := p.rest.Sub(now); rest > 0 && !p.lied {
			limit = min(limit, rest)
		}
	}
	return limit
}

// gave says that p sent so many bytes in that time, and how many of them were
// right and new.
func (r *roster) gave(p *peer, came, right int64, took time.Duration) {
	p.busy += took
	rate := float64(came+1) / max(took.Seconds(), 1e-6)
	if p.rate > 0 {
		rate = (rate + p.rate) / 2
	}
	p.rate = rate
	if right > 0 {
		p.bytes += right
		p.failures, p.waits, p.absent, p.err, r.news = 0, 0, false, nil, time.Now()
	}
}

// failed says that p did not give what it was asked for, and why.
func (r *roster) failed(p *peer, err error, took time.Duration) {
	var status *StatusError
	if errors.As(err, &status) && status.busy() && status.RetryAfter > 0 && p.waits < maxWaits {
		p.waits++
	} else {
		p.failures++
	}
	round := max(p.failures, 1)
	p.err, p.absent, p.lied = err, errors.Is(err, ErrAbsent), isMismatch(err)
	r.rounds = max(r.rounds, min(round, r.retries))
	rest := r.backoff(round)
	if status != nil {
		rest = max(rest, status.RetryAfter)
	}
	p.rest = time.Now().Add(rest)
	r.note(Attempt{URL: p.name, Round: round, Err: err, Took: took})
}

// note keeps an attempt for the error that a person may see.
func (r *roster) note(a Attempt) {
	if len(r.attempts) == maxAttempts {
		r.attempts = append(r.attempts[:1], r.attempts[2:]...)
	}
	r.attempts = append(r.attempts, a)
	if a.Err != nil {
		r.log.Warn("source failed", "source", a.URL, "round", a.Round, "took", a.Took.Round(time.Millisecond), "err", a.Err)
	}
}

// backoff is between half and one and a half of the nominal time, so that
// machines that started together spread out.
func (r *roster) backoff(failures int) time.Duration {
	mean := r.f.Backoff
	if mean <= 0 {
		mean = defaultBackoff
	}
	mean = min(mean<<min(failures-1, 20), maxRest)
	return mean/2 + rand.N(mean)
}

// failure makes the error that a person sees. A mismatch is the headline when
// every source that has the file was caught with other bytes: "could not
// fetch" would hide an attack, and one honest source that was merely
// unreachable means that nobody knows yet.
func (r *roster) failure(ctx context.Context, j job) *Error {
	e := &Error{Artifact: j.name, Want: j.digest, Rounds: r.rounds, Attempts: r.attempts}
	if ctx.Err() != nil {
		e.Cause = context.Cause(ctx)
		return e
	}
	liars, others := r.liars, r.others
	for _, p := range r.peers {
		liars = liars || p.lied
		others = others || !p.lied && !p.absent
	}
	e.Mismatch = liars && !others
	return e
}

// report is what each source did.
func (r *roster) report() []SourceReport {
	var out []SourceReport
	for _, p := range r.peers {
		s := SourceReport{Source: p.name, Bytes: p.bytes, Seconds: p.busy.Seconds(), Verdict: "good"}
		if p.busy > 0 {
			s.Rate = float64(p.bytes) / p.busy.Seconds()
		}
		switch {
		case p.lied:
			s.Verdict = "wrong bytes"
		case p.err != nil:
			s.Verdict = p.err.Error()
		case p.bytes == 0:
			s.Verdict = "unused"
		}
		out = append(out, s)
	}
	return out
}
