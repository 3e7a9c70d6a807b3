package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/manifest"
)

// reach is this node's way to others, for those at its job socket. What they ask
// for is signed with their own keys, which the node never sees; it carries bytes.
// The node itself is reached the same way, as one among others.
type reach struct {
	node *p2p.Node // set before the socket is served
	// own answers those who ask this node; nil: it runs nobody's signed jobs.
	own    *jobpeer.Server
	caller peer.Caller // the node as its own caller

	mu      sync.Mutex
	streams map[string]*lane // by peer
}

// Search asks the network who runs jobs on machines of arch; "" is any.
func (r *reach) Search(ctx context.Context, arch string, found func(peer.Peer)) error {
	arches := []string{arch}
	switch arch {
	case manifest.ArchX8664, manifest.ArchARM64:
	case "":
		arches = []string{manifest.ArchX8664, manifest.ArchARM64}
	default:
		return &job.Refusal{Reason: job.Malformed, Detail: fmt.Sprintf("there is no architecture %.40q", arch)}
	}
	var searches sync.WaitGroup
	var mu sync.Mutex // found is called by one at a time
	failed := make([]error, len(arches))
	for i, arch := range arches {
		searches.Go(func() {
			failed[i] = r.node.Workers(ctx, arch, func(p peer.Peer) {
				mu.Lock()
				defer mu.Unlock()
				found(p)
			})
		})
	}
	searches.Wait()
	for _, err := range failed {
		if err == nil {
			return nil
		}
	}
	return cannotLook(failed[0])
}

// cannotLook says to a person what the node lacks to find others.
func cannotLook(err error) error {
	var nobody *p2p.UnreachableError
	if !errors.As(err, &nobody) {
		return err
	}
	todo := "Name peers to find others by, as bootstrap_peers of the node's configuration"
	if len(nobody.Peers) > 0 {
		todo = "Check that one of the bootstrap_peers of the node's configuration runs, and that no firewall blocks its TCP port"
	}
	return &job.Refusal{
		Reason: job.Internal, Detail: "other nodes cannot be looked for", Err: err,
		Directions: todo + "; or name a node with its address, as --on KEY@MULTIADDR.",
	}
}

// For asks other nodes about jobs of submitter.
func (r *reach) For(submitter ed25519.PublicKey) jobapi.Peers {
	return &jobpeer.Client{Open: r.open, Submitter: submitter}
}

// asCaller is the node as its own caller: a place of its own, which no network has.
func asCaller(id string, key ed25519.PublicKey) peer.Caller {
	return peer.Caller{ID: id, Key: key, Place: "own"}
}

// open opens a stream, to this node itself as well, when there are not too many to
// that node already.
func (r *reach) open(ctx context.Context, p peer.Peer, protocol string) (peer.Stream, error) {
	if p.Key.Equal(r.caller.Key) || p.ID != "" && p.ID == r.caller.ID {
		return r.openOwn(ctx, protocol)
	}
	leave, err := r.enter(ctx, p.ID+string(p.Key))
	if err != nil {
		return nil, err
	}
	st, err := r.node.Open(ctx, p, protocol)
	if err != nil {
		leave()
		return nil, err
	}
	return &countedStream{Stream: st, leave: sync.OnceFunc(leave)}, nil
}

// openOwn asks this node what others would ask it.
func (r *reach) openOwn(ctx context.Context, protocol string) (peer.Stream, error) {
	if r.own == nil {
		return nil, &job.Refusal{Reason: job.Unauthorised, Detail: "this machine's own node runs nobody's signed jobs",
			Directions: "Put the submitter's key among submitters in the node's configuration, or leave this node out."}
	}
	ours, theirs, err := streamPair()
	if err != nil {
		return nil, err
	}
	serve := r.own.ServeJob
	if protocol == jobpeer.BlobProtocol {
		serve = r.own.ServeBlob
	}
	go func() {
		defer theirs.Close()
		serve(context.WithoutCancel(ctx), r.caller, theirs) // ends when our end is closed
	}()
	return ours, nil
}

// maxPeerStreams is how many conversations this node has with another at once, for
// all who stand at its socket. Nodes allow 32 of one caller, and take a moment to see
// that one has ended; who comes when there are as many waits.
const maxPeerStreams = 28

// lane is the way to one peer.
type lane struct {
	places chan struct{}
	users  int // that have a place or wait for one
}

// enter waits for a place; leave gives it back.
func (r *reach) enter(ctx context.Context, name string) (leave func(), err error) {
	r.mu.Lock()
	if r.streams == nil {
		r.streams = map[string]*lane{}
	}
	l := r.streams[name]
	if l == nil {
		l = &lane{places: make(chan struct{}, maxPeerStreams)}
		r.streams[name] = l
	}
	l.users++
	r.mu.Unlock()
	gone := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(r.streams, name)
		}
	}
	select {
	case l.places <- struct{}{}:
		return func() { <-l.places; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, context.Cause(ctx)
	}
}

// countedStream gives its place back when it ends.
type countedStream struct {
	peer.Stream
	leave func()
}

// Close ends the stream in order.
func (s *countedStream) Close() error {
	defer s.leave()
	return s.Stream.Close()
}

// Reset ends the stream at once.
func (s *countedStream) Reset() error {
	defer s.leave()
	return s.Stream.Reset()
}
