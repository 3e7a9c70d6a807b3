package jobapi

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
)

// Network is how the server reaches other nodes for its callers. The callers'
// keys are not needed: what they submit is signed already. Nothing that comes
// from another node is verified on the way; that is for the caller.
type Network interface {
	// Search tells of nodes that run jobs on machines of arch, until it knows no
	// others or ctx ends.
	Search(ctx context.Context, arch string, found func(peer.Peer)) error
	// For asks nodes about jobs of submitter, nil for nobody in particular.
	For(submitter ed25519.PublicKey) Peers
}

// Peers is how other nodes are asked; a *jobpeer.Client is one, and a Remote.
type Peers interface {
	Capacity(ctx context.Context, p peer.Peer) (jobpeer.Capacity, error)
	Push(ctx context.Context, p peer.Peer, envelope []byte, d blob.Digest, size int64, r io.Reader) error
	Submit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (jobpeer.Answer, error)
	Await(ctx context.Context, p peer.Peer, id blob.Digest, tell func(job.Status)) (jobpeer.Answer, error)
	Commit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (commitment []byte, err error)
	Reveal(ctx context.Context, p peer.Peer, id blob.Digest, set []byte) (jobpeer.Answer, error)
	Cancel(ctx context.Context, p peer.Peer, id blob.Digest) error
}

var _ Peers = (*jobpeer.Client)(nil)

// Bounds of what is asked of other nodes.
const (
	maxRelays       = 64  // requests at once
	maxCallerRelays = 48  // of one caller
	maxAddrs        = 8   // addresses of one node in a request
	maxAddr         = 256 // bytes of one
	maxSet          = 1 << 20
	maxChunk        = 32 << 10  // of an output in one line, in bytes
	maxLine         = 256 << 10 // of an answer, in bytes
)

// Reasons of failures between the nodes.
const (
	Unreachable job.Reason = "unreachable"
	Silent      job.Reason = "silent"
	Broken      job.Reason = "broken"
	Lying       job.Reason = "lying"
)

var kinds = map[jobpeer.Kind]job.Reason{
	jobpeer.Unreachable: Unreachable, jobpeer.Silent: Silent, jobpeer.Broken: Broken, jobpeer.Lying: Lying,
}

// errNoNetwork is of a server without a Network.
var errNoNetwork = &job.Refusal{
	Reason: job.Unsupported, Detail: "this node asks no others",
	Directions: "Ask a node that is on the network, or leave --on away.",
}

// failureOf describes err; what went wrong between nodes keeps its kind.
func failureOf(err error) *job.Failure {
	var between *jobpeer.Error
	if !errors.As(err, &between) {
		return job.FailureOf(err)
	}
	return &job.Failure{Reason: kinds[between.Kind], Code: between.Code(), Text: between.Err.Error(), Hint: between.Hint()}
}

// Relayed is a line of an answer that comes from another node. One member is
// there; Done is the last line of a whole answer.
type Relayed struct {
	Node       *Found            `json:"node,omitempty"`
	Status     *job.Status       `json:"status,omitempty"`
	Commitment strictjson.Base64 `json:"commitment,omitempty"`
	Receipt    strictjson.Base64 `json:"receipt,omitempty"`
	Stdout     strictjson.Base64 `json:"stdout,omitempty"` // the next bytes of it
	Stderr     strictjson.Base64 `json:"stderr,omitempty"`
	Opening    strictjson.Base64 `json:"opening,omitempty"`
	Failure    *job.Failure      `json:"failure,omitempty"`
	Done       bool              `json:"done,omitzero"`
}

// Found is a node that may be asked.
type Found struct {
	Key   string   `json:"key"`
	ID    string   `json:"peer_id"`
	Addrs []string `json:"addrs"`
}

// lines writes an answer line by line.
type lines struct {
	s     *Server
	w     http.ResponseWriter
	out   *http.ResponseController
	begun bool
}

func (s *Server) lines(w http.ResponseWriter) *lines {
	return &lines{s: s, w: w, out: http.NewResponseController(w)}
}

func (l *lines) write(v Relayed) error {
	line, err := strictjson.MarshalCanonical(v)
	if err != nil {
		return err
	}
	if !l.begun {
		l.w.Header().Set("Content-Type", TypeEvents)
		l.begun = true
	}
	if err := l.out.SetWriteDeadline(time.Now().Add(l.s.cfg.BodyTimeout)); err != nil {
		return err
	}
	if _, err := l.w.Write(append(line, '\n')); err != nil {
		return err
	}
	return l.out.Flush()
}

// end writes how it ended: as an HTTP error if nothing was written yet.
func (l *lines) end(err error) error {
	switch {
	case err == nil:
		return quiet(l.write(Relayed{Done: true}))
	case l.begun:
		return quiet(l.write(Relayed{Failure: failureOf(err)}))
	}
	return err
}

// answer writes an answer in pieces; opened says that it opens a commitment.
func (l *lines) answer(a jobpeer.Answer, opened bool) error {
	if err := l.write(Relayed{Receipt: a.Receipt}); err != nil {
		return err
	}
	if opened {
		if err := l.write(Relayed{Opening: a.Opening}); err != nil {
			return err
		}
	}
	for data := range chunks(a.Stdout) {
		if err := l.write(Relayed{Stdout: data}); err != nil {
			return err
		}
	}
	for data := range chunks(a.Stderr) {
		if err := l.write(Relayed{Stderr: data}); err != nil {
			return err
		}
	}
	return nil
}
