package jobpeer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
)

// A Client gives jobs to other nodes. Its methods may be called concurrently.
//
// Their errors are a *job.Refusal, possibly in an *EndedError, for what a node says
// no to, and an *Error for everything that went wrong between the nodes.
type Client struct {
	Open peer.Opener
	// Submitter is whom Capacity asks about; nil: nobody.
	Submitter ed25519.PublicKey
}

var errNotYet = errors.New("not yet")

// Capacity asks a node about itself. The answer is signed by p.
func (c *Client) Capacity(ctx context.Context, p peer.Peer) (Capacity, error) {
	return Capacity{}, errNotYet
}

// Push gives a node the module of a job, whose signed submission is the permission
// to do so, before or after the job itself. A node that has it says so, and r is not
// read.
func (c *Client) Push(ctx context.Context, p peer.Peer, envelope []byte, d blob.Digest, size int64, r io.Reader) error {
	return errNotYet
}

// Submit gives a job to a node and waits for its end. tell, if not nil, is told how
// far it is. A node without the module refuses it as job.Unavailable, and nothing
// is used up: Push, and submit the same envelope again.
func (c *Client) Submit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (Answer, error) {
	return Answer{}, errNotYet
}

// Await is Submit for a job that this client has given to p before.
func (c *Client) Await(ctx context.Context, p peer.Peer, id blob.Digest, tell func(job.Status)) (Answer, error) {
	return Answer{}, errNotYet
}

// Commit is Submit in a quorum: the node tells its commitment, and nothing else.
func (c *Client) Commit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (commitment []byte, err error) {
	return nil, errNotYet
}

// Reveal gives a node that has committed itself the set of commitments, signed by
// the job's submitter, for its receipt.
func (c *Client) Reveal(ctx context.Context, p peer.Peer, id blob.Digest, set []byte) (Answer, error) {
	return Answer{}, errNotYet
}

// Cancel ends a job that this client has given to p. It does not wait for the end.
func (c *Client) Cancel(ctx context.Context, p peer.Peer, id blob.Digest) error { return errNotYet }
