package jobpeer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
)

// CapacityType is the payload type of a signed Capacity.
const CapacityType = "application/vnd.phase.node-capacity+json"

// Config says what a server serves. All fields are needed except where noted.
type Config struct {
	Key        ed25519.PrivateKey // identity; signs the capacity
	Desk       Desk
	Rounds     Rounds // nil: takes part in no quorums
	Blobs      Blobs
	Submitters []ed25519.PublicKey // whose jobs the desk takes
	// Describe is what the node is and does at the moment. The server fills in
	// Node, At, Quorum and Accepts.
	Describe       func() Capacity
	MaxModuleBytes int64            // of a module that is pushed
	MaxInputBytes  int64            // of an input that is pushed; 0: none is taken
	Now            func() time.Time // time.Now if nil
	Log            *slog.Logger     // nil discards
	// Times; 0 means the default beside it.
	RequestTimeout time.Duration // for a whole request, 15 s
	BlockTimeout   time.Duration // for 32 KiB in either direction, 5 s
	BeatEvery      time.Duration // how often who waits is told that the job is not over, 15 s
}

// patience is how long a job may take before anybody is told how far it is: most
// are over by then.
const patience = 20 * time.Millisecond

// maxPushes is how many modules and inputs are received at once, maxSubmitterPushes how many
// of one submitter.
const (
	maxPushes          = 8
	maxSubmitterPushes = 2
)

// Server answers streams. Make it with New. It is safe for concurrent use.
type Server struct {
	cfg  Config
	gate *gate

	mu     sync.Mutex
	pushes map[string]int // by submitter
}

// New starts nothing.
func New(cfg Config) (*Server, error) {
	switch {
	case len(cfg.Key) != ed25519.PrivateKeySize:
		return nil, errors.New("jobpeer: no identity key")
	case cfg.Desk == nil || cfg.Blobs == nil || cfg.Describe == nil || cfg.MaxModuleBytes < 1:
		return nil, errors.New("jobpeer: the configuration is not complete")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.RequestTimeout = orElse(cfg.RequestTimeout, 15*time.Second)
	cfg.BlockTimeout = orElse(cfg.BlockTimeout, 5*time.Second)
	cfg.BeatEvery = orElse(cfg.BeatEvery, 15*time.Second)
	return &Server{cfg: cfg, gate: newGate(cfg.Now), pushes: map[string]int{}}, nil
}

func orElse(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// ServeJob answers a stream of JobProtocol.
func (s *Server) ServeJob(ctx context.Context, c peer.Caller, st peer.Stream) {
	s.serve(ctx, c, st, func(a *answering, r request) error {
		switch r.kind {
		case askCapacity:
			return s.capacity(a, r)
		case askSubmit, askCommit:
			return s.submit(a, r)
		case askAwait:
			return s.follow(a, r.id, s.result)
		case askReveal:
			return s.reveal(a, r)
		case askCancel:
			return s.cancel(a, r)
		}
		return malformed("kind %d has no place here", byte(r.kind))
	})
}

// ServeBlob answers a stream of BlobProtocol.
func (s *Server) ServeBlob(ctx context.Context, c peer.Caller, st peer.Stream) {
	s.serve(ctx, c, st, func(a *answering, r request) error {
		if r.kind != askPush {
			return malformed("kind %d has no place here", byte(r.kind))
		}
		return s.push(a, r)
	})
}

func malformed(format string, args ...any) error {
	return &job.Refusal{Reason: job.Malformed, Detail: "that was no request", Err: formError(format, args...)}
}

// serve reads a request, answers it and ends the stream.
func (s *Server) serve(ctx context.Context, c peer.Caller, st peer.Stream, handle func(*answering, request) error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &answering{ctx: ctx, cancel: cancel, stream: st, block: s.cfg.BlockTimeout, by: job.Caller{Name: "peer:" + c.ID, Key: c.Key}}
	err := s.admit(a, c, handle)
	if err != nil {
		s.cfg.Log.Debug("a peer's request was not met", "peer", c.ID, "err", err)
		err = a.fail(err)
	}
	if err != nil {
		_ = st.Reset()
	}
}

// admit reads the request and has it met, within the bounds of its caller.
func (s *Server) admit(a *answering, c peer.Caller, handle func(*answering, request) error) error {
	v, err := s.gate.enter(c, func() { _ = a.stream.Reset() })
	if err != nil {
		return err
	}
	defer v.leave()
	r, err := s.read(v, a.stream)
	if err != nil {
		s.gate.strike(c.ID)
		return err
	}
	v.read()
	err = handle(a, r)
	var refused *job.Refusal
	if errors.As(err, &refused) && (refused.Reason == job.Unauthorised || refused.Reason == job.Malformed) {
		s.gate.strike(c.ID) // no honest caller asks so again and again
	}
	return err
}

// read reads the one request of a stream.
func (s *Server) read(v *visit, st peer.Stream) (request, error) {
	if err := st.SetReadDeadline(time.Now().Add(s.cfg.RequestTimeout)); err != nil {
		return request{}, err
	}
	h, err := readHead(st)
	switch {
	case errors.Is(err, errForm):
		return request{}, malformed("%v", err)
	case err != nil:
		return request{}, err
	case h.kind >= sayFailure:
		return request{}, malformed("kind %d is no request", byte(h.kind))
	}
	if err := v.take(h.size); err != nil {
		return request{}, err
	}
	body, err := readBody(st, h.size)
	if err != nil {
		return request{}, err
	}
	r, err := parseRequest(h.kind, body)
	if err != nil {
		return request{}, malformed("%v", err)
	}
	return r, nil
}

// capacity tells what the node is, signed.
func (s *Server) capacity(a *answering, r request) error {
	c := s.cfg.Describe()
	c.Node, c.At, c.Quorum = job.FormatKey(s.cfg.Key.Public().(ed25519.PublicKey)), s.cfg.Now().UTC().Truncate(time.Second), s.cfg.Rounds != nil
	c.Accepts = s.accepts(r.submitter)
	if c.Walls == nil {
		c.Walls = []string{}
	}
	payload, err := strictjson.MarshalCanonical(c)
	if err != nil {
		return err
	}
	raw, err := dsse.Envelope{
		PayloadType: CapacityType, Payload: payload,
		Signatures: []dsse.Signature{dsse.Sign(CapacityType, payload, s.cfg.Key)},
	}.Marshal()
	if err != nil {
		return err
	}
	return a.finish(frame{sayCapacity, raw})
}

func (s *Server) accepts(submitter ed25519.PublicKey) bool {
	for _, key := range s.cfg.Submitters {
		if key.Equal(submitter) {
			return true
		}
	}
	return false
}

// submit gives a job to the desk and tells what came of it.
func (s *Server) submit(a *answering, r request) error {
	if !r.id.IsZero() && !s.cfg.Blobs.Has(r.id) {
		return s.missing(r.document)
	}
	status, err := s.cfg.Desk.SubmitSigned(r.document, a.by)
	switch {
	case err == nil && r.kind == askSubmit:
		return s.follow(a, status.ID, s.result)
	case err == nil:
		return s.follow(a, status.ID, s.commitment)
	case r.kind == askCommit:
		return s.again(a, r.document, err)
	}
	return err
}

// again takes a conversation about a replica up that has broken off: the same caller
// brings the same submission. Anything else is refused, as the desk did.
func (s *Server) again(a *answering, envelope []byte, refused error) error {
	var refusal *job.Refusal
	if s.cfg.Rounds == nil || !errors.As(refused, &refusal) || refusal.Reason != job.Replayed {
		return refused
	}
	sub, err := s.authority().Open(envelope)
	if err != nil {
		return err
	}
	id := sub.Job.ID()
	if known, err := s.cfg.Rounds.Submitted(id, a.by); err != nil || known != sub.Digest {
		return refused
	}
	return s.follow(a, id, s.commitment)
}

// authority is what submissions are judged by, before the desk does it again for
// those that are not used up.
func (s *Server) authority() job.Authority {
	return job.Authority{
		Node: s.cfg.Key.Public().(ed25519.PublicKey), Submitters: s.cfg.Submitters, Now: s.cfg.Now(),
	}
}

// missing refuses a job whose module is not here, so that its submitter can push
// it and submit the same again. A stranger does not learn what is here.
func (s *Server) missing(envelope []byte) error {
	if _, err := s.authority().Open(envelope); err != nil {
		return err
	}
	return &job.Refusal{Reason: job.Unavailable, Detail: "the module is not on this node"}
}

// follow tells how far a job is, and at its end what came of it. One who went away
// is noticed; the job goes on, for them or others to ask about.
func (s *Server) follow(a *answering, id blob.Digest, result func(*answering, blob.Digest) error) error {
	a.heed()
	b := newBeat(a, s.cfg.BeatEvery)
	err := s.cfg.Desk.Watch(a.ctx, id, a.by, b.tell)
	b.stop()
	if err != nil {
		return err
	}
	if err := a.status(b.last); err != nil {
		return err
	}
	if b.last.Stage == job.Committed { // the end is told to who shows the set
		return result(a, id)
	}
	if end := b.last.End; end == nil || !end.Receipt && end.Failure != nil {
		return a.finish()
	}
	return result(a, id)
}

// result sends the outputs and the receipt.
func (s *Server) result(a *answering, id blob.Digest) error {
	raw, err := s.cfg.Desk.Receipt(id, a.by)
	if err != nil {
		return err
	}
	if err := s.outputs(a, id); err != nil {
		return err
	}
	return a.finish(frame{sayReceipt, raw})
}

func (s *Server) commitment(a *answering, id blob.Digest) error {
	if s.cfg.Rounds == nil {
		return errNoRounds
	}
	raw, err := s.cfg.Rounds.Commitment(id, a.by)
	if err != nil {
		return err
	}
	return a.finish(frame{sayCommitment, raw})
}

var errNoRounds error = &job.Refusal{Reason: job.Unsupported, Detail: "this node takes part in no quorums"}

func (s *Server) reveal(a *answering, r request) error {
	if s.cfg.Rounds == nil {
		return errNoRounds
	}
	receipt, opening, err := s.cfg.Rounds.Reveal(r.id, r.document, a.by)
	if err != nil {
		return err
	}
	status, err := s.cfg.Desk.Get(r.id, a.by)
	if err != nil {
		return err
	}
	if err := a.status(status); err != nil {
		return err
	}
	if err := s.outputs(a, r.id); err != nil {
		return err
	}
	return a.finish(frame{sayOpening, opening}, frame{sayReceipt, receipt})
}

func (s *Server) cancel(a *answering, r request) error {
	if _, err := s.cfg.Desk.Cancel(r.id, a.by); err != nil {
		return err
	}
	return a.finish()
}

func (s *Server) outputs(a *answering, id blob.Digest) error {
	for _, stderr := range []bool{false, true} {
		if err := s.output(a, id, stderr); err != nil {
			return err
		}
	}
	return nil
}

// output sends what a job wrote, chunk by chunk.
func (s *Server) output(a *answering, id blob.Digest, stderr bool) error {
	body, out, err := s.cfg.Desk.Output(id, stderr, a.by)
	if err != nil {
		return err
	}
	defer body.Close()
	k := sayStdout
	if stderr {
		k = sayStderr
	}
	buf := make([]byte, min(out.Size, chunk))
	for left := out.Size; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(left, int64(len(buf)))]
		if _, err := io.ReadFull(body, buf); err != nil {
			return err
		}
		if err := a.write(k, buf); err != nil {
			return err
		}
	}
	return nil
}

// push takes a module or an input in for a job that a submitter has signed.
func (s *Server) push(a *answering, r request) error {
	sub, err := s.authority().Open(r.document)
	if err == nil {
		err = sub.BroughtBy(a.by)
	}
	if err != nil {
		return err
	}
	who, most := string(sub.Submitter), s.cfg.MaxModuleBytes
	if sub.Job.Module() != r.id {
		most = s.cfg.MaxInputBytes
	}
	keeper, counts := s.cfg.Blobs.(Keeper)
	switch {
	case !sub.Job.Needs(r.id, r.size):
		return &job.Refusal{Reason: job.Unauthorised, Detail: "the submission is for another module and other inputs"}
	case r.size > most:
		return &job.Refusal{Reason: job.TooBig, Detail: "that is larger than what this node takes"}
	case s.cfg.Blobs.Has(r.id):
		if counts {
			keeper.Claim(job.FormatKey(sub.Submitter), r.id)
		}
		return a.finish(frame{kind: sayHave})
	}
	if err := s.beginPush(who); err != nil {
		return err
	}
	defer s.endPush(who)
	if err := a.write(sayGo, nil); err != nil {
		return err
	}
	if err := a.flush(); err != nil {
		return err
	}
	in := &metered{stream: a.stream, block: s.cfg.BlockTimeout}
	if counts {
		err = keeper.PutFor(job.FormatKey(sub.Submitter), r.id, r.size, io.LimitReader(in, r.size))
	} else {
		err = s.cfg.Blobs.Put(r.id, r.size, io.LimitReader(in, r.size))
	}
	if err != nil {
		return putError(err, in.err)
	}
	return a.finish()
}

// putError tells whose fault it is that bytes were not kept.
func putError(err, read error) error {
	var wrong *blob.MismatchError
	switch {
	case read != nil:
		return read
	case errors.As(err, &wrong):
		return &job.Refusal{Reason: job.Malformed, Detail: "the bytes are not what their digest says"}
	}
	return &job.Refusal{Reason: job.Internal, Detail: "the bytes could not be kept", Err: err}
}

func (s *Server) beginPush(who string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for _, n := range s.pushes {
		total += n
	}
	if total >= maxPushes || s.pushes[who] >= maxSubmitterPushes {
		return busy("this node is receiving as many modules as it can", 2*time.Second)
	}
	s.pushes[who]++
	return nil
}

func (s *Server) endPush(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count(s.pushes, who)
}

// metered reads a stream whose other end has its time for each block.
type metered struct {
	stream peer.Stream
	block  time.Duration
	left   int   // of the block
	err    error // of the stream
}

func (m *metered) Read(b []byte) (int, error) {
	if m.left <= 0 {
		m.left = chunk
		if err := m.stream.SetReadDeadline(time.Now().Add(m.block)); err != nil {
			m.err = err
			return 0, err
		}
	}
	n, err := m.stream.Read(b[:min(len(b), chunk)])
	m.left -= n
	if err != nil {
		m.err = err
	}
	return n, err
}

// isTimeout tells a deadline that passed.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
