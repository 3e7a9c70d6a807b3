package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/phasebased/phase/blob"
)

// A straight fetches a blob without a chunk list: from one source at a time,
// since only the digest of the whole is known and nobody could say whose part
// was wrong if they were mixed. A source that breaks off may go on where it was.
type straight struct {
	f      *Fetcher
	job    job
	roster *roster
	out    *output
	report *reporter

	n     int64     // bytes written, all from owner
	owner *peer     // nil: nobody
	whole *follower // of those bytes; nil when there are none
}

// run returns nil when the whole is there and right, or errNoSource, or a
// localError.
func (s *straight) run(ctx context.Context) error {
	defer s.reset()
	return s.roster.ask(ctx, func(p *peer) bool { return p == s.owner && s.n > 0 && p.resumable() }, s.try)
}

func (p *peer) resumable() bool {
	r, ok := p.src.(interface{ resumable() bool })
	return ok && r.resumable()
}

// try asks one source once, or twice: when the bytes of two answers together
// gave the wrong hash, or the server cannot do ranges, the same source gets
// one chance alone from the beginning before it is judged.
func (s *straight) try(ctx context.Context, p *peer) error {
	from := int64(0)
	if p == s.owner && p.resumable() && s.n < s.job.size {
		from = s.n
	}
	err := s.attempt(ctx, p, from)
	if err != nil && from > 0 && (isMismatch(err) || errors.Is(err, ErrRange)) {
		s.roster.log.Warn("resumed download does not fit together, starting again", "source", p.name, "from", from, "err", err)
		s.roster.note(Attempt{URL: p.name, Round: p.failures + 1, Err: err})
		err = s.attempt(ctx, p, 0)
	}
	return err
}

func (s *straight) attempt(ctx context.Context, p *peer, from int64) error {
	began, had := time.Now(), s.n
	err := s.read(ctx, p, from)
	if err == nil {
		err = s.verify()
	}
	took := time.Since(began)
	switch {
	case err == nil:
		s.roster.gave(p, s.n-had, s.n, took)
	case isLocal(err):
	case from > 0 && (isMismatch(err) || errors.Is(err, ErrRange)): // see try
	default:
		s.roster.failed(p, err, took)
	}
	if isMismatch(err) {
		s.reset()
	}
	return err
}

// reset forgets the bytes that are here.
func (s *straight) reset() {
	if s.whole != nil {
		s.whole.stop()
	}
	s.n, s.owner, s.whole = 0, nil, nil
}

// read asks p for all that is missing.
func (s *straight) read(ctx context.Context, p *peer, from int64) error {
	ctx, stop := s.f.bounded(ctx)
	defer stop()
	w := s.f.newWatch(ctx)
	defer w.close()
	sink := &stream{s: s, p: p, watch: w, again: from == 0}
	w.wait()
	part := Part{Blob: s.job.digest, Size: s.job.size, Offset: from, Length: s.job.size - from}
	err := guarded(func() error { return p.src.Read(w.ctx, part, sink) })
	switch {
	case sink.fault != nil:
		return sink.fault
	case err != nil:
		return givenReason(w.ctx, err)
	case s.n < s.job.size:
		return fmt.Errorf("%w: after %d of %d bytes", ErrShort, s.n, s.job.size)
	}
	return nil
}

// verify compares the digest of everything written; nil means that the bytes
// are the artifact.
func (s *straight) verify() error {
	whole := s.whole
	if whole == nil {
		whole = follow(s.out.dst, s.job.size)
	}
	s.whole = nil
	got, err := whole.sum()
	if err != nil {
		return err
	}
	if s.n != s.job.size || got != s.job.digest {
		return &blob.MismatchError{Want: s.job.digest, Got: got, WantSize: s.job.size, GotSize: s.n}
	}
	return nil
}

// write appends to what is here.
func (s *straight) write(p []byte) error {
	if seen := s.n + int64(len(p)); seen > s.job.size {
		return &blob.MismatchError{Want: s.job.digest, WantSize: s.job.size, GotSize: seen}
	}
	if len(p) == 0 {
		return nil
	}
	if s.whole == nil {
		s.whole = follow(s.out.dst, s.job.size)
	}
	if err := s.out.write(p, s.n); err != nil {
		return err
	}
	s.n += int64(len(p))
	s.whole.advance(s.n)
	return nil
}

// A stream is where a source's bytes enter.
type stream struct {
	s     *straight
	p     *peer
	watch *watch
	again bool  // from the beginning: what is here goes when the first byte comes
	fault error // what ended it, whatever the source makes of that
	buf   []byte
}

// Write implements io.Writer.
func (t *stream) Write(b []byte) (int, error) {
	if t.fault == nil {
		t.fault = t.watch.arrived(len(b))
	}
	if t.again {
		t.s.reset()
		t.again = false
	}
	if t.fault == nil {
		t.fault = t.s.write(b)
	}
	if t.fault != nil {
		return 0, t.fault
	}
	t.s.owner = t.p
	t.s.report.from(t.p.name)
	t.s.report.show(t.s.n, 0, 1)
	t.watch.wait()
	return len(b), nil
}

// ReadFrom implements io.ReaderFrom: it chooses the size of what is read.
func (t *stream) ReadFrom(src io.Reader) (total int64, err error) {
	if t.buf == nil {
		t.buf = make([]byte, min(bufferSize, t.s.job.size+1))
	}
	for {
		n, err := src.Read(t.buf)
		total += int64(n)
		if n > 0 {
			if _, err := t.Write(t.buf[:n]); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}
