package jobpeer

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
)

// asking is a stream on which something was asked.
type asking struct {
	stream peer.Stream
	in     *bufio.Reader
	silent time.Duration // for the next frame
	most   int64         // of an output, in bytes
}

const (
	defaultOutput = 16 << 20
	// inline is the largest request that is sent before the answer is read. A node
	// may answer a larger one before it has read it.
	inline = 48 << 10
	// maxStatuses is how often a node may tell how far a job is: every 15 s for a
	// day, and then some.
	maxStatuses = 10_000
	// A node has sendTimeout to take a block.
	sendTimeout = 30 * time.Second
)

// talk opens a stream, asks, and has the answer taken.
func (c *Client) talk(ctx context.Context, p peer.Peer, protocol string, q request, take func(*asking) error) error {
	name := p.ID
	if p.Key != nil {
		name = job.FormatKey(p.Key)
	}
	raw, err := q.marshal()
	if err != nil {
		return &job.Refusal{Reason: job.TooBig, Detail: "the request has a form that no node takes", Err: err}
	}
	st, err := c.Open(ctx, p, protocol)
	if err != nil {
		return between(ctx, name, Unreachable, err)
	}
	// Streams know deadlines, not contexts.
	defer context.AfterFunc(ctx, func() { _ = st.Reset() })()
	t := &asking{
		stream: st, in: bufio.NewReaderSize(st, 4<<10), most: c.MaxOutput,
		silent: orElse(c.AnswerTimeout, 10*time.Second),
	}
	if t.most <= 0 {
		t.most = defaultOutput
	}
	if q.kind == askSubmit || q.kind == askCommit || q.kind == askAwait {
		t.silent = orElse(c.SilentTimeout, 45*time.Second)
	}
	if err := t.converse(raw, take); err != nil {
		_ = st.Reset()
		return between(ctx, name, 0, err)
	}
	_ = st.Close()
	return nil
}

// converse sends a request and has the answer taken.
func (t *asking) converse(raw []byte, take func(*asking) error) error {
	if len(raw) <= inline {
		if err := t.write(raw); err != nil {
			return err
		}
		return take(t)
	}
	sent := make(chan error, 1)
	go func() {
		for rest := raw; ; rest = rest[chunk:] {
			if err := t.write(rest[:min(len(rest), chunk)]); err != nil || len(rest) <= chunk {
				sent <- err
				return
			}
		}
	}()
	err := take(t)
	if err != nil {
		_ = t.stream.Reset() // what was not sent is not wanted
	}
	return errors.Join(err, <-sent)
}

func (t *asking) write(b []byte) error {
	if err := t.stream.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := t.stream.Write(b)
	return err
}

// between puts what went wrong into words. A refusal is none of it.
func between(ctx context.Context, name string, kind Kind, err error) error {
	var refused *job.Refusal
	var ended *EndedError
	var source *sourceError
	switch {
	case errors.As(err, &ended):
		return ended
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &source):
		return source.err
	case plainError(err) != nil:
		return plainError(err)
	case ctx.Err() != nil:
		return ctx.Err()
	case kind != 0:
	case errors.Is(err, peer.ErrProtocol):
		kind = Unreachable
	case errors.Is(err, errForm), errors.Is(err, strictjson.ErrSyntax):
		kind = Lying
	case isTimeout(err):
		kind = Silent
	default:
		kind = Broken
	}
	return &Error{Peer: name, Kind: kind, Err: err}
}

func plainError(err error) error {
	for _, p := range plainErrors {
		if errors.Is(err, p.err) {
			return p.err
		}
	}
	return nil
}

// next is the next frame of the answer. A refusal is an error.
func (t *asking) next() (frame, error) {
	if err := t.stream.SetReadDeadline(time.Now().Add(t.silent)); err != nil {
		return frame{}, err
	}
	return t.receive()
}

// receive is next for who has set the deadline.
func (t *asking) receive() (frame, error) {
	h, err := readHead(t.in)
	if err != nil {
		return frame{}, err
	}
	if h.kind < sayFailure {
		return frame{}, formError("kind %d is no answer", byte(h.kind))
	}
	body, err := readBody(t.in, h.size)
	if err != nil {
		return frame{}, err
	}
	if h.kind == sayFailure {
		refused, err := parseFailure(body)
		if err != nil {
			return frame{}, formError("a refusal that is none: %v", err)
		}
		return frame{}, refused
	}
	return frame{h.kind, body}, nil
}

func (t *asking) unexpected(f frame) error { return formError("%s where it is not due", f.kind) }

// only is the next frame, which has to be of a kind.
func (t *asking) only(k kind) ([]byte, error) {
	f, err := t.next()
	if err != nil {
		return nil, err
	}
	if f.kind != k {
		return nil, t.unexpected(f)
	}
	return f.body, nil
}

// one is the last frame but the end.
func (t *asking) one(k kind) ([]byte, error) {
	body, err := t.only(k)
	if err != nil {
		return nil, err
	}
	return body, t.end()
}

// end is the end of an answer.
func (t *asking) end() error {
	_, err := t.only(sayDone)
	return err
}

// status reads how far a job is until it has ended with a receipt, or comes to the
// stage last; an end without a receipt is an error. want is the job's id, if it is
// known.
func (t *asking) status(want blob.Digest, last job.Stage, tell func(job.Status)) (job.End, error) {
	for range maxStatuses {
		body, err := t.only(sayStatus)
		if err != nil {
			return job.End{}, err
		}
		s, err := parseStatus(body)
		if err != nil {
			return job.End{}, err
		}
		if want.IsZero() {
			want = s.ID
		}
		if s.ID != want {
			return job.End{}, formError("a status of another job")
		}
		if tell != nil {
			tell(s)
		}
		switch {
		case s.Stage != job.Ended && s.Stage == last:
			return job.End{}, nil
		case s.Stage != job.Ended:
		case s.End.Failure == nil:
			return *s.End, nil
		default:
			return job.End{}, t.failed(s)
		}
	}
	return job.End{}, formError("more than %d statuses", maxStatuses)
}

// failed is the error of a job that ended without a receipt.
func (t *asking) failed(s job.Status) error {
	if err := t.end(); err != nil {
		return err
	}
	f := s.End.Failure
	return &EndedError{s, &job.Refusal{
		Reason: f.Reason, Detail: cut(f.Text), RetryAfter: time.Duration(min(max(0, f.RetryAfterMS), maxRetry.Milliseconds())) * time.Millisecond,
	}}
}

// parseStatus reads a status that a stranger sent.
func parseStatus(raw []byte) (job.Status, error) {
	var s job.Status
	lim := strictjson.Limits{Bytes: maxDocument, Depth: 8, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(raw, &s, lim); err != nil {
		return s, formError("a status that is none: %v", err)
	}
	switch s.Stage {
	case job.Queued, job.Fetching, job.Running, job.Committed, job.Ended:
	default:
		return s, formError("stage %.40q", s.Stage)
	}
	if (s.Stage == job.Ended) != (s.End != nil) || s.ID.IsZero() {
		return s, formError("a status that contradicts itself")
	}
	return s, nil
}

// answer reads all that comes of a job.
func (t *asking) answer(q request, tell func(job.Status)) (out Answer, err error) {
	var id blob.Digest
	if q.kind != askSubmit {
		id = q.id
	}
	end, err := t.status(id, job.Ended, tell)
	if err != nil {
		return out, err
	}
	if out.Stdout, err = t.output(sayStdout, end.Stdout); err != nil {
		return Answer{}, err
	}
	if out.Stderr, err = t.output(sayStderr, end.Stderr); err != nil {
		return Answer{}, err
	}
	if q.kind == askReveal {
		if out.Opening, err = t.only(sayOpening); err != nil {
			return Answer{}, err
		}
	}
	if out.Receipt, err = t.one(sayReceipt); err != nil {
		return Answer{}, err
	}
	return out, nil
}

// output reads an output, which is what the status said.
func (t *asking) output(k kind, want job.Output) ([]byte, error) {
	if want.Size < 0 || want.Size > t.most {
		return nil, formError("%s of %d bytes, %d are allowed", k, want.Size, t.most)
	}
	var b []byte
	for int64(len(b)) < want.Size {
		part, err := t.only(k)
		if err != nil {
			return nil, err
		}
		b = append(b, part...)
	}
	if int64(len(b)) != want.Size || blob.Of(b) != want.Digest {
		return nil, formError("%s is not what the status says", k)
	}
	return b, nil
}

// sourceError says that what was to be sent could not be read here.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }

// push sends exactly size bytes of r, and hears a node that says no meanwhile.
func (t *asking) push(r io.Reader, size int64) error {
	if err := t.stream.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		err := t.send(r, size)
		if err == nil {
			err = t.stream.SetReadDeadline(time.Now().Add(t.silent))
		}
		if err != nil {
			_ = t.stream.Reset()
		}
		sent <- err
	}()
	f, err := t.receive()
	if err == nil && f.kind != sayDone {
		err = t.unexpected(f)
	}
	if err != nil {
		_ = t.stream.Reset() // what was not sent is not wanted
	}
	return errors.Join(err, <-sent)
}

// send sends exactly size bytes of r, block by block.
func (t *asking) send(r io.Reader, size int64) error {
	buf := make([]byte, min(size, chunk))
	for left := size; left > 0; {
		part := buf[:min(left, int64(len(buf)))]
		if _, err := io.ReadFull(r, part); err != nil {
			return &sourceError{err}
		}
		if err := t.write(part); err != nil {
			return err
		}
		left -= int64(len(part))
	}
	return nil
}
