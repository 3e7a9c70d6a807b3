package jobpeer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
)

// A Client gives jobs to other nodes. Its methods may be called concurrently.
//
// Their errors are ctx's, a *job.Refusal, possibly in an *EndedError, or one of
// package job's plain errors for what a node says no to, and an *Error for
// everything that went wrong between the nodes.
type Client struct {
	Open peer.Opener
	// Submitter is whom Capacity asks about; nil: nobody.
	Submitter ed25519.PublicKey
	// Fetch leaves it to a node without the module to look for it, instead of
	// refusing the job: for who cannot push it.
	Fetch bool
	// MaxOutput is how much of each output is taken, in bytes; 0: 16 MiB, twice what
	// nodes give by default.
	MaxOutput int64
	// Times; 0 means the default beside it.
	AnswerTimeout time.Duration // for what needs no job, 10 s
	SilentTimeout time.Duration // without a word while a job goes on, 45 s; nodes say one every 15 s
}

// Capacity asks a node about itself. The answer is signed by p, whose key has to be
// known.
func (c *Client) Capacity(ctx context.Context, p peer.Peer) (out Capacity, err error) {
	if len(p.Key) != ed25519.PublicKeySize {
		return out, errors.New("jobpeer: the key of the node to ask is not known")
	}
	err = c.talk(ctx, p, JobProtocol, request{kind: askCapacity, submitter: c.Submitter}, func(t *asking) error {
		raw, err := t.one(sayCapacity)
		if err != nil {
			return err
		}
		out, err = openCapacity(raw, p.Key)
		return err
	})
	return out, err
}

// openCapacity reads what a node has signed about itself.
func openCapacity(raw []byte, key ed25519.PublicKey) (Capacity, error) {
	payload, err := dsse.Open(raw, CapacityType, maxDocument, []ed25519.PublicKey{key}, 1)
	if err != nil {
		return Capacity{}, formError("the capacity is not signed by the node: %v", err)
	}
	var c Capacity
	lim := strictjson.Limits{Bytes: maxDocument, Depth: 4, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(payload, &c, lim); err != nil {
		return Capacity{}, formError("the capacity is not valid: %v", err)
	}
	if c.Node != job.FormatKey(key) {
		return Capacity{}, formError("the capacity is of another node")
	}
	return c, nil
}

// Push gives a node the module or an input of a job, whose signed submission is the permission
// to do so, before or after the job itself. A node that has it says so, and r is not
// read.
func (c *Client) Push(ctx context.Context, p peer.Peer, envelope []byte, d blob.Digest, size int64, r io.Reader) error {
	q := request{kind: askPush, id: d, size: size, document: envelope}
	return c.talk(ctx, p, BlobProtocol, q, func(t *asking) error {
		f, err := t.next()
		switch {
		case err != nil:
			return err
		case f.kind == sayHave:
			return t.end()
		case f.kind != sayGo:
			return t.unexpected(f)
		}
		return t.push(r, size)
	})
}

// Submit gives a job to a node and waits for its end. tell, if not nil, is told how
// far it is, after a moment. A node without the module refuses it as
// job.Unavailable, and nothing is used up: Push, and submit the same envelope again.
func (c *Client) Submit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (Answer, error) {
	q, err := c.submission(askSubmit, envelope)
	if err != nil {
		return Answer{}, err
	}
	return c.answer(ctx, p, q, tell)
}

// Await is Submit for a job that this client has given to p before.
func (c *Client) Await(ctx context.Context, p peer.Peer, id blob.Digest, tell func(job.Status)) (Answer, error) {
	return c.answer(ctx, p, request{kind: askAwait, id: id}, tell)
}

// Reveal gives a node that has committed itself the set of commitments, signed by
// the job's submitter, for its receipt.
func (c *Client) Reveal(ctx context.Context, p peer.Peer, id blob.Digest, set []byte) (Answer, error) {
	return c.answer(ctx, p, request{kind: askReveal, id: id, document: set}, nil)
}

func (c *Client) answer(ctx context.Context, p peer.Peer, q request, tell func(job.Status)) (out Answer, err error) {
	err = c.talk(ctx, p, JobProtocol, q, func(t *asking) error {
		out, err = t.answer(q, tell)
		return err
	})
	return out, err
}

// Commit is Submit in a quorum: the node tells its commitment, and nothing else.
// After a conversation that broke, the same envelope takes it up again.
func (c *Client) Commit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (commitment []byte, err error) {
	q, err := c.submission(askCommit, envelope)
	if err != nil {
		return nil, err
	}
	err = c.talk(ctx, p, JobProtocol, q, func(t *asking) error {
		if _, err := t.status(blob.Digest{}, job.Committed, tell); err != nil {
			return err
		}
		commitment, err = t.one(sayCommitment)
		return err
	})
	return commitment, err
}

// Cancel ends a job that this client has given to p. It does not wait for the end.
func (c *Client) Cancel(ctx context.Context, p peer.Peer, id blob.Digest) error {
	return c.talk(ctx, p, JobProtocol, request{kind: askCancel, id: id}, (*asking).end)
}

// submission is the request that gives a job to a node.
func (c *Client) submission(k kind, envelope []byte) (request, error) {
	q := request{kind: k, document: envelope}
	if c.Fetch {
		return q, nil
	}
	var outer struct {
		Payload strictjson.Base64 `json:"payload"`
	}
	var inner struct {
		Spec struct {
			Module blob.Digest `json:"module_hash"`
		} `json:"spec"`
	}
	lim := strictjson.Limits{Bytes: job.MaxSubmissionBytes}
	err := strictjson.Unmarshal(envelope, &outer, lim)
	if err == nil {
		err = strictjson.Unmarshal(outer.Payload, &inner, lim)
	}
	if err != nil || inner.Spec.Module.IsZero() {
		return q, &job.Refusal{Reason: job.Malformed, Detail: "that is no submission", Err: err}
	}
	q.id = inner.Spec.Module
	return q, nil
}
