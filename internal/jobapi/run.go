package jobapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/strictjson"
)

// progress is a line of the answer to a run: how far the job is, and with the end
// what came of it.
type progress struct {
	Status  job.Status     `json:"status"`
	Receipt strictjson.Raw `json:"receipt,omitzero"` // with an end that has one
	// Outputs that fit in; the others are to be had by their own requests.
	Stdout *strictjson.Base64 `json:"stdout,omitempty"`
	Stderr *strictjson.Base64 `json:"stderr,omitempty"`
}

const (
	// patience is how long a job may take before anybody is told how far it is: most
	// are over by then, and their answer is one line.
	patience = 20 * time.Millisecond
	// maxInline is the largest output that comes with the end, in bytes, maxProgress
	// the longest line.
	maxInline   = 64 << 10
	maxProgress = 512 << 10
)

// run takes a job in, as submit does, follows it, as watchJob does, and sends what
// came of it, all with one request. Who goes away has submitted the job nevertheless.
func (s *Server) run(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	status, err := s.take(w, r, by)
	if err != nil {
		return err
	}
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		return err // the connection is read on, so that its end is noticed
	}
	w.Header().Set("Location", "/v1/jobs/"+status.ID.String())
	if status, err = s.soon(r.Context(), status, by); err == nil && !final(status) {
		w.Header().Set("Content-Type", TypeEvents)
		err = s.cfg.Desk.Watch(r.Context(), status.ID, by, func(now job.Status) error {
			if status = now; final(now) {
				return nil
			}
			return s.tell(w, progress{Status: now})
		})
	}
	last := progress{Status: status}
	if err == nil && status.Stage == job.Ended && status.End.Receipt {
		err = s.enclose(&last, by)
	}
	if err == nil {
		return quiet(s.tellAll(w, last))
	}
	if w.Header().Get("Content-Type") != "" {
		return quiet(err)
	}
	return err
}

// final: a listener is told no more.
func final(s job.Status) bool { return s.Stage == job.Ended || s.Stage == job.Committed }

// soon waits a moment for the end and says how far the job is then.
func (s *Server) soon(ctx context.Context, status job.Status, by job.Caller) (job.Status, error) {
	moment, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.cfg.Desk.Watch(moment, status.ID, by, func(now job.Status) error {
		status = now
		return nil
	})
	if err != nil && moment.Err() != nil && ctx.Err() == nil {
		err = nil
	}
	return status, err
}

// enclose adds what came of the job.
func (s *Server) enclose(p *progress, by job.Caller) error {
	raw, err := s.cfg.Desk.Receipt(p.Status.ID, by)
	if err != nil {
		return err
	}
	p.Receipt = raw
	for _, stderr := range []bool{false, true} {
		what, to := p.Status.End.Stdout, &p.Stdout
		if stderr {
			what, to = p.Status.End.Stderr, &p.Stderr
		}
		if what.Size > maxInline {
			continue
		}
		b, err := s.small(p.Status.ID, stderr, by)
		if err != nil {
			return err
		}
		*to = &b
	}
	return nil
}

// small reads an output that fits into a line.
func (s *Server) small(id blob.Digest, stderr bool, by job.Caller) (strictjson.Base64, error) {
	body, out, err := s.cfg.Desk.Output(id, stderr, by)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b := make([]byte, out.Size)
	_, err = io.ReadFull(body, b)
	return b, err
}

func (s *Server) tell(w http.ResponseWriter, p progress) error {
	line, err := strictjson.Marshal(p)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// tellAll sends the last line. If it is the only one, its length is known.
func (s *Server) tellAll(w http.ResponseWriter, p progress) error {
	line, err := strictjson.Marshal(p)
	if err != nil {
		return err
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", TypeEvents)
		w.Header().Set("Content-Length", strconv.Itoa(len(line)+1))
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// Ran is what came of a job. The receipt is not verified.
type Ran struct {
	Status         job.Status // ended
	Receipt        []byte     // nil: there is none, and Status says why
	Stdout, Stderr []byte     // compared with the digests in Status
}

// Run hands a job in, tells of each stage of one that takes its time, and returns what
// came of it: Submit, Watch, Receipt and Output with one request. Its errors are
// theirs; after one, the job may have been accepted.
func (c *Client) Run(ctx context.Context, kind string, document []byte, tell func(job.Status)) (ran Ran, err error) {
	w, err := c.do(ctx, http.MethodPost, "/runs", kind, bytes.NewReader(document), int64(len(document)))
	if err != nil {
		return ran, err
	}
	last, err := hear(w.Body, tell)
	w.Body.Close()
	switch {
	case errors.Is(err, job.ErrWithheld):
		return Ran{Status: last.Status}, err
	case err != nil && ctx.Err() != nil:
		return ran, context.Cause(ctx)
	case err != nil && last.Status.ID.IsZero():
		return ran, err
	case err != nil: // cut off, as one of too many listeners
		return c.Await(ctx, last.Status.ID, tell)
	}
	return c.complete(ctx, last)
}

// Await is Run for a job that was handed in before.
func (c *Client) Await(ctx context.Context, id blob.Digest, tell func(job.Status)) (Ran, error) {
	s, err := c.Watch(ctx, id, tell)
	if err != nil {
		return Ran{Status: s}, err
	}
	return c.complete(ctx, progress{Status: s})
}

// hear reads the lines of an answer and gives the last.
func hear(r io.Reader, tell func(job.Status)) (p progress, err error) {
	err = eachLine(r, maxProgress, func(line []byte) (bool, error) {
		var now progress
		if err := readLine(line, &now); err != nil {
			return true, err
		}
		p = now
		tell(p.Status)
		return over(p.Status)
	})
	return p, err
}

// complete gets what did not come with the end, and compares.
func (c *Client) complete(ctx context.Context, last progress) (ran Ran, err error) {
	id, end := last.Status.ID, last.Status.End
	ran.Status, ran.Receipt = last.Status, last.Receipt
	if !end.Receipt {
		return ran, nil
	}
	if ran.Receipt == nil {
		if ran.Receipt, err = c.Receipt(ctx, id); err != nil {
			return ran, err
		}
	}
	if ran.Stdout, err = c.enclosed(ctx, id, "stdout", end.Stdout, last.Stdout); err != nil {
		return ran, err
	}
	ran.Stderr, err = c.enclosed(ctx, id, "stderr", end.Stderr, last.Stderr)
	return ran, err
}

func (c *Client) enclosed(ctx context.Context, id blob.Digest, stream string, want job.Output, have *strictjson.Base64) ([]byte, error) {
	if have != nil {
		return io.ReadAll(blob.NewReader(bytes.NewReader(*have), want.Digest, want.Size))
	}
	var out bytes.Buffer
	err := c.Output(ctx, id, stream, want, &out)
	return out.Bytes(), err
}
