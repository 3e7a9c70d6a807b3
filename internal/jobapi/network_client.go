package jobapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
)

// Remote asks other nodes by way of this machine's. Nothing of what they answer
// is verified here. Safe for concurrent use.
type Remote struct {
	c         *Client
	submitter ed25519.PublicKey
}

// Remote gives the way to other nodes, about jobs of submitter, nil for nobody in
// particular. Its errors are those of a *jobpeer.Client.
func (c *Client) Remote(submitter ed25519.PublicKey) Remote { return Remote{c, submitter} }

var _ Peers = Remote{}

// maxAnswered bounds the outputs of one answer, in bytes: more than any node keeps.
const maxAnswered = 256 << 20

// path is that of an operation on p.
func (r Remote) path(p peer.Peer, rest string, query url.Values) string {
	if query == nil {
		query = url.Values{}
	}
	query["addr"] = p.Addrs[:min(len(p.Addrs), maxAddrs)]
	if r.submitter != nil {
		query.Set("submitter", job.FormatKey(r.submitter))
	}
	return "/network/nodes/" + job.FormatKey(p.Key) + rest + "?" + query.Encode()
}

// told turns what the node at the socket said into what package jobpeer would have.
func told(p peer.Peer, err error) error {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	f := refused.Failure
	for kind, reason := range kinds {
		if f.Reason == reason {
			return &jobpeer.Error{Peer: job.FormatKey(p.Key), Kind: kind, Err: errors.New(f.Text)}
		}
	}
	return refused.Refusal()
}

// Search tells of nodes of arch that run jobs, until nobody knows others.
func (r Remote) Search(ctx context.Context, arch string, found func(peer.Peer)) error {
	return r.lines(ctx, http.MethodGet, "/network/nodes?arch="+url.QueryEscape(arch), nil, func(v Relayed) error {
		if v.Node == nil {
			return nil
		}
		key, err := job.ParseKey(v.Node.Key)
		if err != nil {
			return err
		}
		found(peer.Peer{ID: v.Node.ID, Key: key, Addrs: v.Node.Addrs})
		return nil
	})
}

// Capacity is what p says about itself.
func (r Remote) Capacity(ctx context.Context, p peer.Peer) (c jobpeer.Capacity, err error) {
	return c, told(p, r.c.json(ctx, http.MethodGet, r.path(p, "", nil), "", nil, &c))
}

// Push gives p a module, by way of this machine's node, which gets it as well.
func (r Remote) Push(ctx context.Context, p peer.Peer, envelope []byte, d blob.Digest, size int64, body io.Reader) error {
	if err := r.c.upload(ctx, d, size, body); err != nil {
		return err
	}
	more := url.Values{"size": {strconv.FormatInt(size, 10)}}
	w, err := r.c.do(ctx, http.MethodPost, r.path(p, "/blobs/"+d.String(), more), TypeEnvelope, bytes.NewReader(envelope), int64(len(envelope)))
	if err != nil {
		return told(p, err)
	}
	return w.Body.Close()
}

// Submit gives p a submission and waits for the answer.
func (r Remote) Submit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (jobpeer.Answer, error) {
	return r.answer(ctx, p, http.MethodPost, "/jobs", envelope, tell)
}

// Await waits for the answer to a submission that p was given before.
func (r Remote) Await(ctx context.Context, p peer.Peer, id blob.Digest, tell func(job.Status)) (jobpeer.Answer, error) {
	return r.answer(ctx, p, http.MethodGet, "/jobs/"+id.String(), nil, tell)
}

// Cancel ends a job at p, without waiting for the end.
func (r Remote) Cancel(ctx context.Context, p peer.Peer, id blob.Digest) error {
	w, err := r.c.do(ctx, http.MethodDelete, r.path(p, "/jobs/"+id.String(), nil), "", nil, 0)
	if err != nil {
		return told(p, err)
	}
	return w.Body.Close()
}

// Commit gives p a submission and waits for its commitment.
func (r Remote) Commit(ctx context.Context, p peer.Peer, envelope []byte, tell func(job.Status)) (commitment []byte, err error) {
	err = r.lines(ctx, http.MethodPost, r.path(p, "/commitments", nil), envelope, func(v Relayed) error {
		if v.Status != nil && tell != nil {
			tell(*v.Status)
		}
		if len(v.Commitment) > 0 {
			commitment = v.Commitment
		}
		return nil
	})
	return commitment, told(p, err)
}

// Reveal shows p a set of commitments and gets its answer.
func (r Remote) Reveal(ctx context.Context, p peer.Peer, id blob.Digest, set []byte) (jobpeer.Answer, error) {
	return r.answer(ctx, p, http.MethodPost, "/reveals/"+id.String(), set, nil)
}

// answer puts the pieces of an answer together.
func (r Remote) answer(ctx context.Context, p peer.Peer, method, rest string, document []byte, tell func(job.Status)) (a jobpeer.Answer, err error) {
	err = r.lines(ctx, method, r.path(p, rest, nil), document, func(v Relayed) error {
		switch {
		case v.Status != nil && tell != nil:
			tell(*v.Status)
		case len(v.Receipt) > 0:
			a.Receipt = v.Receipt
		case len(v.Opening) > 0:
			a.Opening = v.Opening
		}
		a.Stdout = append(a.Stdout, v.Stdout...)
		a.Stderr = append(a.Stderr, v.Stderr...)
		if len(a.Stdout)+len(a.Stderr) > maxAnswered {
			return errors.New("the outputs are larger than any job's")
		}
		return nil
	})
	return a, told(p, err)
}

// lines reads an answer line by line until its last, which says that it is whole.
func (r Remote) lines(ctx context.Context, method, path string, body []byte, each func(Relayed) error) error {
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	w, err := r.c.do(ctx, method, path, TypeEnvelope, in, int64(len(body)))
	if err != nil {
		return err
	}
	defer w.Body.Close()
	scan := bufio.NewScanner(w.Body)
	scan.Buffer(nil, maxLine)
	for scan.Scan() {
		var v Relayed
		if err := strictjson.Unmarshal(scan.Bytes(), &v, strictjson.Limits{Bytes: maxLine, Depth: 16}); err != nil {
			return fmt.Errorf("the node's answer: %w", err)
		}
		switch {
		case v.Failure != nil:
			return &RefusedError{*v.Failure}
		case v.Done:
			return nil
		}
		if err := each(v); err != nil {
			return err
		}
	}
	err = scan.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("the node's answer ends early: %w", err)
}
