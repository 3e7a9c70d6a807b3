package fetch

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
)

const (
	defaultConns = 4
	// twice is the speed, in bytes per second, from which on a second connection
	// to the same source lets another processor hash.
	twice = 64 << 20
	// spanTime is for how long a connection is given work at once, if all goes as
	// before: long enough that the time between two requests does not count.
	spanTime = 2 * time.Second
	maxSpan  = 32 // chunks
	newSpan  = 4  // chunks, for a source of unknown speed
	// muchFaster is by what factor one who waits must be faster to take the
	// place of one who reads.
	muchFaster = 4
	dull       = 128 << 10 // bytes per second: slow enough to try somebody else
	// tick is how often it is looked for work that nobody announces: slow readers.
	tick = 50 * time.Millisecond
)

// A swarm fetches the missing chunks of a board from many sources at once. One
// goroutine decides who reads what; each reading is one of its own.
type swarm struct {
	f       *Fetcher
	job     job
	roster  *roster
	board   *board
	out     *output
	report  *reporter
	results chan result
	spare   [][]byte // buffers of one chunk, at most conns in all
	active  int
}

// A result is how the reading of one span ended.
type result struct {
	span *span
	recv *receiver
	err  error
	took time.Duration
}

// run returns nil when all chunks are here, or errNoSource, or a localError.
func (s *swarm) run(ctx context.Context) error {
	s.results = make(chan result, s.f.conns())
	inner, cancel := context.WithCancelCause(ctx)
	var readers sync.WaitGroup
	defer s.drain(ctx, &readers)
	defer cancel(errEnough)
	for s.board.left() > 0 {
		now := time.Now()
		for s.active < s.f.conns() {
			p, sp := s.assign(now)
			if sp == nil {
				break
			}
			s.begin(inner, p, sp, &readers)
		}
		s.relieve(now)
		if ctx.Err() != nil || s.active == 0 && !s.roster.hope(now) {
			return errNoSource
		}
		if err := s.await(ctx); err != nil {
			return err
		}
		here, coming := s.board.bytes()
		s.report.show(here, coming, s.active)
	}
	return nil
}

func (f *Fetcher) conns() int { return cmp.Or(max(f.Connections, 0), defaultConns) }

// drain waits for those who still read when nothing is wanted any more.
func (s *swarm) drain(ctx context.Context, readers *sync.WaitGroup) {
	readers.Wait()
	for ; s.active > 0; s.active-- {
		r := <-s.results
		p := r.span.peer
		s.roster.gave(p, r.recv.came, r.recv.right, r.took)
		switch {
		case ctx.Err() != nil && r.err != nil:
			s.roster.failed(p, r.err, r.took) // the caller gave up; it is told what was waited for
		case p.err == nil && p.bytes == 0:
			p.err = errSlower
		}
	}
}

var errSlower = errors.New("others were faster")

// await takes what happens next.
func (s *swarm) await(ctx context.Context) error {
	t := time.NewTimer(s.roster.pause(time.Now(), tick))
	defer t.Stop()
	select {
	case r := <-s.results:
		return s.finish(r)
	case src := <-s.roster.found:
		s.roster.meet(src)
	case <-s.roster.ended:
		s.roster.searching--
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// assign finds the best source that is free and something for it to read.
func (s *swarm) assign(now time.Time) (*peer, *span) {
	for _, p := range s.candidates(now) {
		if sp := s.board.take(p, s.spanFor(p)); sp != nil {
			return p, sp
		}
		if sp := s.board.hedge(p, cmp.Or(p.rate, blob.ChunkSize)); sp != nil {
			return p, sp
		}
	}
	return nil, nil
}

// candidates are those who may be asked now, best first: those that nobody asked
// yet in their order, so that all are known soon, then the fastest.
func (s *swarm) candidates(now time.Time) []*peer {
	var out []*peer
	last := s.onlyLast(now)
	reserved := s.reserved(now)
	for _, p := range s.roster.peers {
		if p.usable(now) && p.conns < p.limit() && (!p.last || last) && (p.bytes > 0 || !reserved) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b *peer) int {
		return cmp.Or(
			cmp.Compare(btoi(a.last), btoi(b.last)),
			cmp.Compare(a.conns, b.conns),
			cmp.Compare(min(a.failures, 1), min(b.failures, 1)),
			cmp.Compare(btoi(a.rate > 0), btoi(b.rate > 0)),
			cmp.Compare(b.rate, a.rate))
	})
	return out
}

// reserved says that the connections that are left are for those who gave right
// bytes before, of whom one waits: a crowd of slow strangers could have them all.
func (s *swarm) reserved(now time.Time) bool {
	trials, waiting := 0, false
	for _, p := range s.roster.peers {
		if p.bytes == 0 {
			trials += p.conns
		}
		waiting = waiting || p.bytes > 0 && p.conns == 0 && p.usable(now) && !p.last
	}
	return waiting && trials >= max(1, s.f.conns()/2)
}

// relieve ends the slowest reading if all connections are taken and somebody
// waits who is much faster, or, when readers are very slow, who was never tried.
func (s *swarm) relieve(now time.Time) {
	if s.active < s.f.conns() {
		return
	}
	best, untried := 0.0, false
	for _, p := range s.roster.peers {
		if p.conns == 0 && p.usable(now) && !p.last {
			untried = untried || p.rate == 0
			if p.bytes > 0 {
				best = max(best, p.rate)
			}
		}
	}
	s.board.endSlowest(func(age time.Duration, rate float64) bool {
		return age >= spanTime && rate < best/muchFaster || untried && age >= s.f.stall()/4 && rate < dull
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// limit is how many connections p may have.
func (p *peer) limit() int {
	if p.rate >= twice && !p.single && !p.wholes {
		return 2
	}
	return 1
}

// onlyLast says that nobody but sources of last resort gives anything.
func (s *swarm) onlyLast(now time.Time) bool {
	for _, p := range s.roster.peers {
		if !p.last && p.conns == 0 && p.usable(now) {
			return false
		}
	}
	return !s.board.flowing(s.f.minRate())
}

func (s *swarm) spanFor(p *peer) int {
	switch {
	case p.rate == 0 && len(s.roster.peers) > s.f.conns():
		return 1 // there are others to try
	case p.rate == 0:
		return newSpan
	}
	share := max(1, s.board.left()/max(1, min(s.f.conns(), len(s.roster.peers))))
	return min(max(1, int(p.rate*spanTime.Seconds()/blob.ChunkSize)), maxSpan, share)
}

// begin starts to read a span.
func (s *swarm) begin(ctx context.Context, p *peer, sp *span, readers *sync.WaitGroup) {
	p.conns++
	s.active++
	s.report.from(p.name)
	var buf []byte
	if n := len(s.spare); n > 0 {
		buf, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		buf = make([]byte, 0, min(blob.ChunkSize, s.job.size))
	}
	part := s.board.part(s.job.digest, sp)
	ctx, stop := s.f.bounded(ctx)
	w := s.f.newWatch(ctx)
	s.board.cancellable(sp, w.cancel)
	recv := &receiver{board: s.board, span: sp, out: s.out, watch: w, buf: buf, asked: part.Length}
	readers.Go(func() {
		defer stop()
		defer w.close()
		began := time.Now()
		w.wait()
		err := guarded(func() error { return p.src.Read(w.ctx, part, recv) })
		s.results <- result{span: sp, recv: recv, err: recv.verdict(err), took: time.Since(began)}
	})
}

// finish judges a source by how it read its span.
func (s *swarm) finish(r result) error {
	p := r.span.peer
	p.conns--
	s.active--
	s.board.drop(r.span)
	s.spare = append(s.spare, r.recv.buf[:0])
	s.roster.gave(p, r.recv.came, r.recv.right, r.took)
	var status *StatusError
	var dial *net.OpError
	switch {
	case r.err == nil || errors.Is(r.err, errEnough):
	case isLocal(r.err):
		return r.err
	case errors.Is(r.err, errNoRanges) && !p.wholes:
		p.wholes = true
	case p.conns > 0 && (errors.As(r.err, &status) && status.busy() || errors.As(r.err, &dial) && dial.Op == "dial"):
		p.single = true // it only has no room for a second connection
	default:
		s.roster.failed(p, r.err, r.took)
	}
	return nil
}
