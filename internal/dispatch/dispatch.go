// Package dispatch gives one job to nodes of the network and comes back with an
// answer that can be checked, or with a failure that tells what happened at each
// node.
//
// There is no scheduler in the middle: whoever wants a job run chooses the nodes,
// from what they sign about themselves. With one replica a node that is known gets
// the job, the least busy first, else a stranger with room for it, by chance; if it
// fails, another does. With several, nodes are
// chosen by their distance from a beacon, so that nobody gets near a job on
// purpose; each commits itself to its result before any is shown; and the result
// is the one on which a quorum agrees. A split makes more nodes run it, up to a
// bound, until there is a quorum, and the statement that comes out names those
// who told otherwise.
//
// Nodes are believed nothing. An answer counts if its receipt verifies under the
// key of the node that was asked, for this very job and these very outputs; one
// that does not is a failure of that node, and the next is asked. A node that was
// tried is not tried again, except one that was busy. Every wait is bounded: a
// node has the job's own deadline and a grace to answer.
//
// The package talks to nobody itself: how nodes are found and reached is behind
// Options.Search and Peers.
package dispatch

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/quorum"
	"github.com/phasebased/phase/receipt"
)

// Peers is how nodes are asked; a *jobpeer.Client is one. Errors are a
// *job.Refusal for what a node says no to, else a *jobpeer.Error.
type Peers interface {
	Capacity(ctx context.Context, p peer.Peer) (jobpeer.Capacity, error)
	Push(ctx context.Context, p peer.Peer, envelope []byte, d blob.Digest, size int64, r io.Reader) error
	Submit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (jobpeer.Answer, error)
	Await(ctx context.Context, p peer.Peer, id blob.Digest, tell func(job.Status)) (jobpeer.Answer, error)
	Commit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (commitment []byte, err error)
	Reveal(ctx context.Context, p peer.Peer, id blob.Digest, set []byte) (jobpeer.Answer, error)
	Cancel(ctx context.Context, p peer.Peer, id blob.Digest) error
}

// Job is what is to be run, and in whose name.
type Job struct {
	Job    *job.Job
	Module []byte
	// Inputs are the contents of the job's inputs, by digest; empty ones are not needed.
	// Nodes compare what they get, so they need not be the same for ever.
	Inputs map[blob.Digest]io.ReaderAt
	Key    ed25519.PrivateKey // of the submitter; it stays in this process
}

// Options say where and how often. The zero value of a field means what stands
// beside it.
type Options struct {
	// Nodes are known beforehand; Search finds more and returns when it knows no
	// others. found may be called from any goroutine until Search returns.
	Nodes  []peer.Peer
	Search func(ctx context.Context, found func(peer.Peer)) error // nil: Nodes are all
	// Operator is who runs the node with a key, as far as whoever wants the job run
	// knows: of one operator's nodes only one votes in a quorum. "" is an operator of
	// its own. Nil: nothing is known.
	Operator func(ed25519.PublicKey) string
	// Known are keys of which whoever wants the job run knows whose they are: they are
	// asked before others, and no number of others crowds them out. Nil: those of Nodes.
	Known func(ed25519.PublicKey) bool
	// Replicas are the nodes whose results are compared, 1. Quorum is how many of
	// them have to agree, more than half of them.
	Replicas, Quorum int
	// MaxNodes is how many nodes may get the job in all, 3 more than twice Replicas.
	MaxNodes int

	SearchTime time.Duration // for the search, 15 s
	AskTime    time.Duration // for what a node says about itself, and to take a module, 10 s and 60 s more
	Grace      time.Duration // for a node's queue and way, beyond the job's deadline, 60 s
	Valid      time.Duration // of what is signed, 1 h
	// Beacon decides who is near the job: public randomness that nobody knew when the
	// job was made. 32 bytes of one's own, the default, convince nobody else that the
	// nodes were not picked.
	Beacon []byte

	// Tell is told of progress, by one goroutine at a time; nil: nobody is.
	Tell func(Event)
}

// Bounds of a run.
const (
	MaxReplicas = 16
	MaxTried    = 64  // nodes that get one job
	maxFound    = 128 // nodes that are asked what they can
	maxAsked    = 16  // at once
	busyTries   = 3   // of one node that is busy
)

// Event is something that happened with a node, for progress.
type Event struct {
	Node  string // its key
	Round int    // from 1; 0 while nodes are looked for
	What  string // a few words
	Stage job.Stage
}

// Outcome is what came of one node.
type Outcome string

// The outcomes. A node that committed itself in a quorum has its quorum.Fate
// instead, such as agreed, dissented or copied.
const (
	Answered    Outcome = "answered"    // with a receipt that verified
	Unsuitable  Outcome = "unsuitable"  // it cannot or does not want to run this job, by what it says of itself
	Unreachable Outcome = "unreachable" // it could not be asked, or the connection broke
	Refused     Outcome = "refused"     // it refused, or failed and said so
	TimedOut    Outcome = "timed_out"   // no answer within the time that it had
	Failed      Outcome = "infra_error" // its receipt says that the node failed, not the job
	Invalid     Outcome = "invalid"     // what it answered does not verify
	Stopped     Outcome = "stopped"     // the run ended before it answered
)

// Attempt is what happened with one node, in the order of the ends.
type Attempt struct {
	Node    string  `json:"node"` // its key
	Round   int     `json:"round"`
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text,omitempty"`
	Code    string  `json:"code,omitempty"`    // of docs/codes.md, if the error has one
	Receipt []byte  `json:"receipt,omitempty"` // what it signed, as far as it did
}

// Answer is what came of a job.
type Answer struct {
	Statement receipt.Statement // of the node whose outputs these are, verified
	Receipt   []byte
	Stdout    []byte
	Stderr    []byte
	// Quorum is the signed statement about all replicas; nil for one.
	Quorum   []byte
	Agreed   int // receipts that agree
	Attempts []Attempt
	Frauds   []Fraud // proofs that came out by the way
}

// Run gives j to nodes. Its error is a *Failure, or says that j or o cannot be
// meant.
func Run(ctx context.Context, peers Peers, j Job, o Options) (*Answer, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	if err := j.check(); err != nil {
		return nil, err
	}
	if o.Replicas > 1 && j.Job.Spec().Determinism != job.Strict {
		return nil, &RuleError{"a job of relaxed determinism cannot be decided by a quorum: honest nodes may differ"}
	}
	r := &run{peers: peers, job: j, o: o}
	r.gather(ctx)
	give := r.single
	if o.Replicas > 1 {
		give = r.quorum
	}
	a, err := give(ctx)
	var failure *Failure
	switch {
	case a != nil:
		a.Frauds = r.evidence.frauds()
	case errors.As(err, &failure):
		failure.Frauds = r.evidence.frauds()
	}
	return a, err
}

func (j Job) check() error {
	switch {
	case j.Job == nil:
		return errors.New("dispatch: no job")
	case len(j.Key) != ed25519.PrivateKeySize:
		return errors.New("dispatch: no submitter's key")
	case blob.Of(j.Module) != j.Job.Module():
		return errors.New("dispatch: the module is not the job's")
	}
	for name, in := range j.Job.Inputs() {
		if in.Size > 0 && j.Inputs[in.Digest] == nil {
			return fmt.Errorf("dispatch: input %s is missing", name)
		}
	}
	return nil
}

// Check says what Run would say to o alone.
func (o Options) Check() error { return o.fill() }

// fill puts defaults into the fields that are zero.
func (o *Options) fill() error {
	o.Replicas = max(o.Replicas, 1)
	if o.Quorum == 0 {
		o.Quorum = o.Replicas/2 + 1
	}
	if o.MaxNodes == 0 {
		o.MaxNodes = min(2*o.Replicas+3, MaxTried)
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.SearchTime, 15 * time.Second}, {&o.AskTime, 10 * time.Second}, {&o.Grace, time.Minute}, {&o.Valid, time.Hour}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.Beacon == nil {
		o.Beacon = make([]byte, 32)
		_, _ = rand.Read(o.Beacon) // never fails
	}
	if o.Tell == nil {
		o.Tell = func(Event) {}
	}
	if o.Operator == nil {
		o.Operator = func(ed25519.PublicKey) string { return "" }
	}
	if o.Known == nil {
		o.Known = o.named
	}
	return o.check()
}

// named reports whether a key is of Nodes.
func (o *Options) named(key ed25519.PublicKey) bool {
	return slices.ContainsFunc(o.Nodes, func(p peer.Peer) bool { return p.Key.Equal(key) })
}

// RuleError says that what is asked for cannot be meant.
type RuleError struct{ text string }

func (e *RuleError) Error() string { return e.text }

func (o *Options) check() error {
	switch {
	case o.Replicas > MaxReplicas:
		return &RuleError{"at most 16 replicas are compared"}
	case o.Quorum < 1 || o.Quorum > o.Replicas:
		return &RuleError{"the quorum is not between 1 and the number of replicas"}
	case o.Replicas > 1 && 2*o.Quorum <= o.Replicas:
		return &RuleError{"a quorum is more than half of the replicas: two results could have it otherwise"}
	case len(o.Beacon) > quorum.MaxBeaconBytes:
		return &RuleError{"the beacon is too long"}
	case o.MaxNodes < o.Replicas || o.MaxNodes > MaxTried:
		return &RuleError{"the most nodes to try are between the number of replicas and 64"}
	}
	return nil
}
