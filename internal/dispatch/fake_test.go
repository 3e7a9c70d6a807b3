package dispatch

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

func keyOf(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func publicOf(n byte) ed25519.PublicKey { return keyOf(n).Public().(ed25519.PublicKey) }

// alice submits.
const alice = 200

// conduct is what a fake node does instead of what it should.
type conduct struct {
	unreachable bool
	silent      bool       // takes the job and never ends it
	breaks      int        // so often the conversation breaks after the job was taken
	busy        int        // so often it is
	refuses     job.Reason // the job
	lies        string     // instead of the output
	infra       bool       // a receipt that says that the node failed
	forges      func(*receipt.Statement)
	otherKey    bool // signs with another key
	swaps       bool // hands out other bytes than it signed for
	hides       bool // opens nothing
	misopens    bool // opens its commitment to what does not fit
	turns       bool // signs another result when it is asked again
	no          func(*jobpeer.Capacity)
}

// town is a network of fake nodes. The keys of its nodes are of numbers 1 and up.
type town struct {
	mu        sync.Mutex
	nodes     map[string]*conduct
	keys      map[string]ed25519.PrivateKey
	modules   map[string]bool
	inputs    []string // nodes that were given the input
	given     []string // nodes that were given the job, in that order
	cancelled []string
	awaited   int
	kept      map[string]kept // replicas that have ended
}

type kept struct {
	ticket  quorum.Ticket
	receipt []byte
	secret  [32]byte
}

func newTown(nodes ...conduct) *town {
	t := &town{nodes: map[string]*conduct{}, keys: map[string]ed25519.PrivateKey{}, modules: map[string]bool{}, kept: map[string]kept{}}
	for i := range nodes {
		key := keyOf(byte(i + 1))
		name := job.FormatKey(key.Public().(ed25519.PublicKey))
		t.nodes[name], t.keys[name] = &nodes[i], key
	}
	return t
}

func (t *town) search(_ context.Context, found func(peer.Peer)) error {
	for _, key := range t.keys {
		found(peer.Peer{Key: key.Public().(ed25519.PublicKey)})
	}
	return nil
}

var testModule = []byte("module")

const output = "output"

func testJob(t *testing.T) Job {
	t.Helper()
	j, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(testModule), Args: []string{"a"}, Nonce: "n"})
	if err != nil {
		t.Fatal(err)
	}
	return Job{Job: j, Module: testModule, Key: keyOf(alice)}
}

func (t *town) of(p peer.Peer) (string, *conduct, error) {
	name := job.FormatKey(p.Key)
	c := t.nodes[name]
	if c == nil || c.unreachable {
		return name, nil, &jobpeer.Error{Peer: name, Kind: jobpeer.Unreachable, Err: errors.New("nobody there")}
	}
	return name, c, nil
}

func (t *town) Capacity(_ context.Context, p peer.Peer) (jobpeer.Capacity, error) {
	name, c, err := t.of(p)
	if err != nil {
		return jobpeer.Capacity{}, err
	}
	l := job.DefaultNodeLimits
	cap := jobpeer.Capacity{
		Node: name, Arch: "arm64", CostTable: 1, MaxRunning: 4, MaxWaiting: 32, MemoryBytes: l.MemoryBytes, DeadlineMS: l.DeadlineMS,
		StdoutBytes: l.StdoutBytes, StderrBytes: l.StderrBytes, Fuel: l.Fuel, ModuleBytes: l.ModuleBytes, InputBytes: l.InputBytes, Quorum: true, Accepts: true,
	}
	if c.no != nil {
		c.no(&cap)
	}
	return cap, nil
}

func (t *town) Push(_ context.Context, p peer.Peer, _ []byte, d blob.Digest, size int64, r io.Reader) error {
	if _, err := io.Copy(io.Discard, blob.NewReader(r, d, size)); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d == blob.Of(testInput) {
		t.inputs = append(t.inputs, job.FormatKey(p.Key))
		return nil
	}
	t.modules[job.FormatKey(p.Key)] = true
	return nil
}

// take is what happens before a job is run.
func (t *town) take(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (string, *conduct, *job.Submission, error) {
	name, c, err := t.of(p)
	if err != nil {
		return name, nil, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s, err := job.Authority{Node: p.Key, Submitters: []ed25519.PublicKey{publicOf(alice)}, Now: time.Now()}.Open(envelope)
	switch {
	case err != nil:
		return name, c, nil, err
	case c.busy > 0:
		c.busy--
		return name, c, nil, &job.Refusal{Reason: job.Busy, RetryAfter: time.Second}
	case c.refuses != "":
		return name, c, nil, &job.Refusal{Reason: c.refuses, Detail: "it does not want to"}
	case !t.modules[name]:
		return name, c, nil, &job.Refusal{Reason: job.Unavailable}
	}
	t.given = append(t.given, name)
	tell(job.Status{ID: s.Job.ID(), Stage: job.Running})
	return name, c, s, nil
}

func (t *town) Submit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (jobpeer.Answer, error) {
	name, c, s, err := t.take(ctx, p, envelope, tell)
	if err != nil {
		return jobpeer.Answer{}, err
	}
	if c.silent {
		<-ctx.Done()
		return jobpeer.Answer{}, &jobpeer.Error{Peer: name, Kind: jobpeer.Broken, Err: ctx.Err()}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept[name] = kept{receipt: t.sign(name, c, s)}
	if c.turns {
		a := t.answer(name, c)
		c.lies = "another"
		t.kept[name] = kept{receipt: t.sign(name, c, s)}
		return a, &jobpeer.Error{Peer: name, Kind: jobpeer.Broken, Err: io.ErrUnexpectedEOF}
	}
	if c.breaks > 0 {
		c.breaks--
		return jobpeer.Answer{}, &jobpeer.Error{Peer: name, Kind: jobpeer.Broken, Err: io.ErrUnexpectedEOF}
	}
	return t.answer(name, c), nil
}

func (t *town) Await(_ context.Context, p peer.Peer, _ blob.Digest, _ func(job.Status)) (jobpeer.Answer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.awaited++
	name, c, err := t.of(p)
	if err == nil && c.breaks > 0 {
		err = &jobpeer.Error{Peer: name, Kind: jobpeer.Broken, Err: io.ErrUnexpectedEOF}
	}
	if err != nil {
		return jobpeer.Answer{}, err
	}
	return t.answer(name, c), nil
}

// sign makes the node's receipt.
func (t *town) sign(name string, c *conduct, s *job.Submission) []byte {
	spec, l := s.Job.Spec(), s.Job.Limits()
	out := output
	if c.lies != "" {
		out = c.lies
	}
	st := receipt.Statement{
		Result: receipt.Result{
			JobID: s.Job.ID(), Module: spec.Module, Args: spec.Args, Stdin: blob.Of(spec.Stdin), Stdout: receipt.OutputOf([]byte(out), false),
			Stderr: receipt.OutputOf(nil, false), EndState: receipt.Exited, Determinism: receipt.Strict,
			Limits: receipt.Limits{MemoryBytes: l.MemoryBytes, DeadlineMS: l.DeadlineMS, StdoutBytes: l.StdoutBytes, StderrBytes: l.StderrBytes, Fuel: l.Fuel},
			Fuel:   receipt.Fuel{Used: 1, CostTable: 1},
		},
		Observation: receipt.Observation{Engine: "fake", Walls: []string{"wasm"}, Submitter: s.Submitter, Timings: receipt.Timings{StartedAt: time.Now().UTC().Truncate(time.Millisecond)}},
	}
	for name, in := range spec.Inputs {
		if st.Result.Inputs == nil {
			st.Result.Inputs = map[string]receipt.Input{}
		}
		st.Result.Inputs[name] = receipt.Input(in)
	}
	if c.infra {
		st.Result.EndState, st.Result.Fuel.Used = receipt.InfraError, 0
	}
	if c.forges != nil {
		c.forges(&st)
	}
	key := t.keys[name]
	if c.otherKey {
		key = keyOf(99)
	}
	raw, err := receipt.Sign(st, key)
	if err != nil {
		panic(err)
	}
	return raw
}

func (t *town) answer(name string, c *conduct) jobpeer.Answer {
	a := jobpeer.Answer{Receipt: t.kept[name].receipt, Stdout: []byte(output)}
	if c.lies != "" {
		a.Stdout = []byte(c.lies)
	}
	if c.swaps {
		a.Stdout = []byte("swapped")
	}
	return a
}

func (t *town) Commit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) ([]byte, error) {
	name, c, s, err := t.take(ctx, p, envelope, tell)
	if err != nil {
		return nil, err
	}
	if c.silent {
		<-ctx.Done()
		return nil, &jobpeer.Error{Peer: name, Kind: jobpeer.Broken, Err: ctx.Err()}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.breaks > 0 {
		c.breaks--
		return nil, &jobpeer.Error{Peer: name, Kind: jobpeer.Broken, Err: io.ErrUnexpectedEOF}
	}
	k := kept{ticket: quorum.Ticket{JobID: s.Job.ID(), Plan: s.Commit, Submission: s.Digest}, receipt: t.sign(name, c, s)}
	_, _ = rand.Read(k.secret[:])
	t.kept[name] = k
	return quorum.Commit(k.ticket, k.receipt, k.secret, t.keys[name])
}

func (t *town) Reveal(_ context.Context, p peer.Peer, _ blob.Digest, set []byte) (jobpeer.Answer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, c, err := t.of(p)
	if err != nil {
		return jobpeer.Answer{}, err
	}
	if c.hides {
		return jobpeer.Answer{}, &jobpeer.Error{Peer: name, Kind: jobpeer.Silent, Err: errors.New("says nothing")}
	}
	s, err := quorum.OpenSet(set, publicOf(alice))
	if err != nil {
		return jobpeer.Answer{}, err
	}
	k, a := t.kept[name], t.answer(name, c)
	a.Opening, err = quorum.SignOpening(s, k.ticket, k.receipt, k.secret, t.keys[name])
	if c.misopens {
		a.Opening = resigned(a.Opening, quorum.OpeningType, "secret", bytes.Repeat([]byte{7}, 32), t.keys[name])
	}
	return a, err
}

// resigned is a document with another member, signed again.
func resigned(raw []byte, kind, member string, value any, key ed25519.PrivateKey) []byte {
	var envelope struct{ Payload []byte }
	document := map[string]any{}
	err := json.Unmarshal(raw, &envelope)
	if err == nil {
		err = json.Unmarshal(envelope.Payload, &document)
	}
	if err != nil {
		panic(err)
	}
	document[member], document["version"] = value, int64(quorum.Version)
	payload, err := strictjson.MarshalCanonical(document)
	if err == nil {
		raw, err = dsse.Envelope{PayloadType: kind, Payload: payload, Signatures: []dsse.Signature{dsse.Sign(kind, payload, key)}}.Marshal()
	}
	if err != nil {
		panic(err)
	}
	return raw
}

func (t *town) Cancel(_ context.Context, p peer.Peer, _ blob.Digest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancelled = append(t.cancelled, job.FormatKey(p.Key))
	return nil
}

// outcomes are what a run says of each node, by number.
func outcomes(list []Attempt) map[int][]Outcome {
	out := map[int][]Outcome{}
	for _, a := range list {
		for n := range byte(32) {
			if job.FormatKey(publicOf(n+1)) == a.Node {
				out[int(n+1)] = append(out[int(n+1)], a.Outcome)
			}
		}
	}
	return out
}

func count(list []Attempt, o Outcome) (n int) {
	for _, a := range list {
		if a.Outcome == o {
			n++
		}
	}
	return n
}

func numbered(t *testing.T, names []string) (out []int) {
	t.Helper()
	for _, name := range names {
		for n := range byte(32) {
			if job.FormatKey(publicOf(n+1)) == name {
				out = append(out, int(n+1))
			}
		}
	}
	slices.Sort(out)
	return out
}
