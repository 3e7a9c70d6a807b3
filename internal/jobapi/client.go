package jobapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/strictjson"
)

// maxAnswer bounds an answer that is JSON, in bytes.
const maxAnswer = 8 << 20

// Client asks a node over its socket. The node is believed about everything but
// outputs, which are compared with the digest it gave. Safe for concurrent use.
type Client struct {
	path string
	http *http.Client
}

// expectTime is how long an upload waits for the node's word that it is wanted. A
// node that is busy says so before it is sent.
const expectTime = 5 * time.Second

// NewClient connects with the first request.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) }
	return &Client{path, &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableCompression: true, ExpectContinueTimeout: expectTime,
	}}}
}

// How long a client tries to get into a crowd, and how often. The kernel tells
// nobody when there is room again.
const (
	crowdPatience = 10 * time.Second
	crowdPause    = 20 * time.Millisecond
)

// dial connects to the socket at path, also while too many others want to.
func dial(ctx context.Context, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, crowdPatience)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(crowdPause):
		}
	}
}

// Close closes the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// UnreachableError says that no node answers.
type UnreachableError struct {
	Path string
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no node answers at %s: %v", e.Path, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Code is NODE-050.
func (*UnreachableError) Code() string { return "NODE-050" }

// Hint says what to do next.
func (e *UnreachableError) Hint() string {
	switch {
	case errors.Is(e.Err, syscall.EACCES):
		return "Have yourself added to the socket's group, which ls -l names, and log in again; or ask as the user who runs plasmd."
	case errors.Is(e.Err, syscall.ENOENT), errors.Is(e.Err, syscall.ECONNREFUSED):
		return "Start plasmd, or name the socket of one that runs with --socket."
	}
	return "Start plasmd, name its socket with --socket, or have yourself added to the socket's group."
}

// RefusedError is a refusal as the node worded it.
type RefusedError struct{ Failure job.Failure }

func (e *RefusedError) Error() string { return e.Failure.Text }

// Code is the node's.
func (e *RefusedError) Code() string { return e.Failure.Code }

// Refusal is the same as the node itself has it.
func (e *RefusedError) Refusal() *job.Refusal {
	f := e.Failure
	return &job.Refusal{Reason: f.Reason, Detail: f.Text, Directions: f.Hint, RetryAfter: time.Duration(f.RetryAfterMS) * time.Millisecond}
}

// Hint is the node's.
func (e *RefusedError) Hint() string { return e.Failure.Hint }

// do sends a request; the caller closes the answer's body. An answer that is
// not a success is an error.
func (c *Client) do(ctx context.Context, method, path, kind string, body io.Reader, size int64) (*http.Response, error) {
	if body != nil && size == 0 {
		body = http.NoBody // anything else would go out as a body of unknown length
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://node/v1"+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.ContentLength = size
		r.Header.Set("Content-Type", kind)
		if method == http.MethodPut {
			r.Header.Set("Expect", "100-continue")
		}
	}
	w, err := c.http.Do(r)
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		return nil, &UnreachableError{c.path, op.Err}
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("the node at %s: %w", c.path, err)
	case w.StatusCode < 300:
		return w, nil
	}
	defer w.Body.Close()
	var refused failureBody
	if err := read(w.Body, &refused); err != nil || refused.Error.Text == "" {
		return nil, fmt.Errorf("the node at %s answers %s", c.path, w.Status)
	}
	return nil, &RefusedError{refused.Error}
}

func read(r io.Reader, v any) error {
	raw, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return err
	}
	return strictjson.Unmarshal(raw, v, strictjson.Limits{Bytes: maxAnswer, Depth: 16})
}

func (c *Client) json(ctx context.Context, method, path, kind string, body []byte, v any) error {
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	w, err := c.do(ctx, method, path, kind, in, int64(len(body)))
	if err != nil {
		return err
	}
	defer w.Body.Close()
	if err := read(w.Body, v); err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	return nil
}

// document gets bytes of at most most.
func (c *Client) document(ctx context.Context, method, path string, body []byte, most int64) ([]byte, error) {
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	w, err := c.do(ctx, method, path, TypeSpec, in, int64(len(body)))
	if err != nil {
		return nil, err
	}
	defer w.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(w.Body, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("the node's answer has more than %d bytes", most)
	}
	return raw, err
}

// Upload gives the node a module, unless it has it.
func (c *Client) Upload(ctx context.Context, module []byte) error {
	return c.upload(ctx, blob.Of(module), int64(len(module)), bytes.NewReader(module))
}

// UploadFrom gives the node size bytes of r, which are d, unless it has them.
func (c *Client) UploadFrom(ctx context.Context, d blob.Digest, size int64, r io.ReaderAt) error {
	return c.upload(ctx, d, size, io.NewSectionReader(r, 0, size))
}

// busyTime is how long an upload is tried again at a node that is busy with others.
const busyTime = time.Minute

// upload is Upload for what is read from module; if that is an io.ReaderAt, from its
// beginning, and it is tried again while the node is busy.
func (c *Client) upload(ctx context.Context, d blob.Digest, size int64, module io.Reader) error {
	at, again := module.(io.ReaderAt)
	for until := time.Now().Add(busyTime); ; {
		body := module
		if again {
			body = io.NewSectionReader(at, 0, size)
		}
		err := c.uploadOnce(ctx, "/blobs/"+d.String(), size, body)
		var refused *RefusedError
		if !again || !errors.As(err, &refused) || refused.Failure.Reason != job.Busy || time.Now().After(until) {
			return err
		}
		if pause(ctx, time.Duration(refused.Failure.RetryAfterMS)*time.Millisecond) != nil {
			return err
		}
	}
}

func (c *Client) uploadOnce(ctx context.Context, path string, size int64, body io.Reader) error {
	if w, err := c.do(ctx, http.MethodHead, path, "", nil, 0); err == nil {
		return w.Body.Close()
	} else if errors.As(err, new(*UnreachableError)) {
		return err
	}
	w, err := c.do(ctx, http.MethodPut, path, TypeBytes, body, size)
	if err != nil {
		return err
	}
	return w.Body.Close()
}

// pause waits, within bounds.
func pause(ctx context.Context, d time.Duration) error {
	wait := time.NewTimer(min(max(d, 100*time.Millisecond), 5*time.Second))
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wait.C:
		return nil
	}
}

// Submit hands a job in: kind is TypeSpec or TypeEnvelope.
func (c *Client) Submit(ctx context.Context, kind string, document []byte) (s job.Status, err error) {
	return s, c.json(ctx, http.MethodPost, "/jobs", kind, document, &s)
}

// Get tells how far a job is.
func (c *Client) Get(ctx context.Context, id blob.Digest) (s job.Status, err error) {
	return s, c.json(ctx, http.MethodGet, "/jobs/"+id.String(), "", nil, &s)
}

// List are the jobs that the node tells this caller of.
func (c *Client) List(ctx context.Context) ([]job.Status, error) {
	var list jobList
	err := c.json(ctx, http.MethodGet, "/jobs", "", nil, &list)
	return list.Jobs, err
}

// Cancel asks for a job's end.
func (c *Client) Cancel(ctx context.Context, id blob.Digest) (s job.Status, err error) {
	return s, c.json(ctx, http.MethodDelete, "/jobs/"+id.String(), "", nil, &s)
}

// Watch tells of each stage and returns the last, which is job.Ended, or with
// job.ErrWithheld job.Committed. A node that has too many listeners may cut one off: it is asked again.
func (c *Client) Watch(ctx context.Context, id blob.Digest, tell func(job.Status)) (job.Status, error) {
	for {
		heard := false
		s, err := c.listen(ctx, id, func(s job.Status) { heard = true; tell(s) })
		if err == nil || !heard || ctx.Err() != nil || errors.Is(err, job.ErrWithheld) {
			return s, err
		}
	}
}

// listen is Watch for as long as the node tells.
func (c *Client) listen(ctx context.Context, id blob.Digest, tell func(job.Status)) (job.Status, error) {
	w, err := c.do(ctx, http.MethodGet, "/jobs/"+id.String()+"/events", "", nil, 0)
	if err != nil {
		return job.Status{}, err
	}
	defer w.Body.Close()
	var s job.Status
	err = eachLine(w.Body, 64<<10, func(line []byte) (bool, error) {
		s = job.Status{}
		if err := readLine(line, &s); err != nil {
			return true, err
		}
		tell(s)
		return over(s)
	})
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return s, err
}

// over reports whether a node tells nothing more after s.
func over(s job.Status) (bool, error) {
	switch {
	case s.Stage == job.Ended && s.End != nil:
		return true, nil
	case s.Stage == job.Committed: // nothing more is told before the set is shown
		return true, job.ErrWithheld
	}
	return false, nil
}

func readLine(line []byte, v any) error {
	if err := strictjson.Unmarshal(line, v, strictjson.Limits{Bytes: len(line), Depth: 16}); err != nil {
		return fmt.Errorf("the node's answer: %w", err)
	}
	return nil
}

// eachLine gives lines of at most most bytes to take, until that has the last one. The
// end is read as well, without which the connection would be lost for the next request.
func eachLine(r io.Reader, most int, take func(line []byte) (last bool, err error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, most)
	for lines.Scan() {
		last, err := take(lines.Bytes())
		if last && (err == nil || errors.Is(err, job.ErrWithheld)) {
			_, _ = io.CopyN(io.Discard, r, 1)
		}
		if last {
			return err
		}
	}
	err := lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the node stopped telling about the job: %w", err)
}

// Receipt is a job's receipt, not verified.
func (c *Client) Receipt(ctx context.Context, id blob.Digest) ([]byte, error) {
	return c.document(ctx, http.MethodGet, "/jobs/"+id.String()+"/receipt", nil, 64<<10)
}

// Spec is a job's specification; it is compared with the id.
func (c *Client) Spec(ctx context.Context, id blob.Digest) ([]byte, error) {
	raw, err := c.document(ctx, http.MethodGet, "/jobs/"+id.String()+"/spec", nil, job.MaxSpecBytes)
	if err == nil && blob.Of(raw) != id {
		err = &blob.MismatchError{Want: id, Got: blob.Of(raw), WantSize: int64(len(raw)), GotSize: int64(len(raw))}
	}
	return raw, err
}

// Output copies a stream of an ended job to w: exactly what end says, or an error.
func (c *Client) Output(ctx context.Context, id blob.Digest, stream string, want job.Output, out io.Writer) error {
	w, err := c.do(ctx, http.MethodGet, "/jobs/"+id.String()+"/"+stream, "", nil, 0)
	if err != nil {
		return err
	}
	defer w.Body.Close()
	_, err = io.Copy(out, blob.NewReader(w.Body, want.Digest, want.Size))
	return err
}

// Replay has the node run a specification again, and returns the receipt.
func (c *Client) Replay(ctx context.Context, spec []byte) ([]byte, error) {
	return c.document(ctx, http.MethodPost, "/replays", spec, 64<<10)
}

// Nodes are the nodes that this one knows, itself first.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var list nodeList
	err := c.json(ctx, http.MethodGet, "/nodes", "", nil, &list)
	return list.Nodes, err
}
