package main

import (
	"context"
	"errors"
	"io"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/dispatch"
	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
)

// own is this machine's node, as one among others.
type own struct {
	peer peer.Peer
	node jobapi.Node
}

func ownNode(ctx context.Context, c *jobapi.Client) (own, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return own{}, err
	}
	if len(nodes) == 0 {
		return own{}, errors.New("the node does not say its key")
	}
	key, err := job.ParseKey(nodes[0].Key)
	return own{peer.Peer{Key: key}, nodes[0]}, err
}

// ownNode finds this machine's node, if it is meant: by any, or by its key, for which
// nobody has to look then.
func (p *places) ownNode(ctx context.Context, c *jobapi.Client) (own, error) {
	if !p.local && len(p.wanted) == 0 {
		return own{}, nil
	}
	own, err := ownNode(ctx, c)
	if err != nil {
		return own, err
	}
	if p.wanted[own.node.Key] {
		delete(p.wanted, own.node.Key)
		p.local = true
	}
	return own, nil
}

// withOwn asks this machine's node over its socket, and others by way of it.
type withOwn struct {
	dispatch.Peers
	c      *jobapi.Client
	own    own
	module []byte
}

// Push gives the node at the socket a module or an input, which needs nobody else's word.
func (w withOwn) Push(ctx context.Context, p peer.Peer, envelope []byte, d blob.Digest, size int64, r io.Reader) error {
	at, ok := r.(io.ReaderAt)
	if !w.is(p) || !ok {
		return w.Peers.Push(ctx, p, envelope, d, size, r)
	}
	return between(p, w.c.UploadFrom(ctx, d, size, at))
}

func (w withOwn) is(p peer.Peer) bool { return p.Key.Equal(w.own.peer.Key) }

// Capacity is what the node at the socket says; that it runs jobs of the submitter
// shows when it gets one.
func (w withOwn) Capacity(ctx context.Context, p peer.Peer) (jobpeer.Capacity, error) {
	if !w.is(p) {
		return w.Peers.Capacity(ctx, p)
	}
	n, l := w.own.node, job.DefaultNodeLimits
	return jobpeer.Capacity{
		Node: n.Key, Version: n.Version, Running: n.Running, Waiting: n.Waiting, MaxRunning: n.MaxRunning, MaxWaiting: n.MaxWaiting,
		MemoryBytes: n.MemoryBytes, DeadlineMS: n.DeadlineMS, ModuleBytes: n.ModuleBytes, InputBytes: n.InputBytes,
		StdoutBytes: l.StdoutBytes, StderrBytes: l.StderrBytes, Fuel: l.Fuel, CostTable: fuel.CostTable, Accepts: true,
	}, nil
}

// Submit hands the job in over the socket. Whether the node has the module would
// show there only with the job's end, so it gets it beforehand.
func (w withOwn) Submit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (jobpeer.Answer, error) {
	if !w.is(p) {
		return w.Peers.Submit(ctx, p, envelope, tell)
	}
	err := w.c.Upload(ctx, w.module)
	var done jobapi.Ran
	if err == nil {
		done, err = w.c.Run(ctx, jobapi.TypeEnvelope, envelope, tell)
	}
	return answerOf(p, done, err)
}

// answerOf is what came of a job at the socket as it comes from others.
func answerOf(p peer.Peer, done jobapi.Ran, err error) (jobpeer.Answer, error) {
	if err == nil && done.Status.End.Failure != nil {
		err = &jobapi.RefusedError{Failure: *done.Status.End.Failure}
	}
	return jobpeer.Answer{Receipt: done.Receipt, Stdout: done.Stdout, Stderr: done.Stderr}, between(p, err)
}

// Await waits for the end and gets the answer.
func (w withOwn) Await(ctx context.Context, p peer.Peer, id blob.Digest, tell func(job.Status)) (jobpeer.Answer, error) {
	if !w.is(p) {
		return w.Peers.Await(ctx, p, id, tell)
	}
	done, err := w.c.Await(ctx, id, tell)
	return answerOf(p, done, err)
}

// Cancel ends the job.
func (w withOwn) Cancel(ctx context.Context, p peer.Peer, id blob.Digest) error {
	if !w.is(p) {
		return w.Peers.Cancel(ctx, p, id)
	}
	_, err := w.c.Cancel(ctx, id)
	return err
}

// between turns what the node at the socket says into what others' errors are.
func between(p peer.Peer, err error) error {
	var refused *jobapi.RefusedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused.Refusal()
	case errors.As(err, new(*jobapi.UnreachableError)):
		return &jobpeer.Error{Peer: job.FormatKey(p.Key), Kind: jobpeer.Unreachable, Err: err}
	}
	return &jobpeer.Error{Peer: job.FormatKey(p.Key), Kind: jobpeer.Broken, Err: err}
}
