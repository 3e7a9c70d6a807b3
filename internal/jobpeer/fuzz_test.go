package jobpeer

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
)

// tape is a stream whose other end has said all it will, and hears everything.
type tape struct {
	io.Reader
	heard bytes.Buffer
}

func (t *tape) Write(b []byte) (int, error)      { return t.heard.Write(b) }
func (t *tape) Close() error                     { return nil }
func (t *tape) CloseWrite() error                { return nil }
func (t *tape) Reset() error                     { return nil }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// What is a request is so in one form only.
func FuzzRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := bytes.NewReader(raw)
		h, err := readHead(in)
		if err != nil {
			return
		}
		body, err := readBody(in, h.size)
		if err != nil {
			return
		}
		r, err := parseRequest(h.kind, body)
		if err != nil {
			return
		}
		again, err := r.marshal()
		if whole := raw[:len(raw)-in.Len()]; err != nil || !bytes.Equal(again, whole) {
			t.Errorf("%x becomes %x, %v", whole, again, err)
		}
	})
}

// Whatever a node answers, a client comes to an end, and believes no output that
// the status did not announce.
func FuzzAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &Client{MaxOutput: 1 << 10, Open: func(context.Context, peer.Peer, string) (peer.Stream, error) {
			return &tape{Reader: bytes.NewReader(raw)}, nil
		}}
		ended := job.Status{}
		a, err := c.Await(t.Context(), peer.Peer{ID: "node"}, blob.Of([]byte("job")), func(s job.Status) { ended = s })
		switch {
		case err != nil && a.Receipt != nil:
			t.Error("an answer and an error")
		case err != nil:
		case ended.End == nil || blob.Of(a.Stdout) != ended.End.Stdout.Digest || blob.Of(a.Stderr) != ended.End.Stderr.Digest || len(a.Receipt) == 0:
			t.Errorf("%+v of %+v", a, ended)
		}
		_, _ = c.Commit(t.Context(), peer.Peer{ID: "node"}, nil, nil)
		_, _ = c.Capacity(t.Context(), peer.Peer{Key: public(1)})
		_ = c.Push(t.Context(), peer.Peer{ID: "node"}, []byte("{}"), blob.Of(nil), 3, bytes.NewReader([]byte("abc")))
	})
}

// Whatever callers say, a server answers with frames or not at all, and forgets
// them.
func FuzzServe(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := newServer(t, nil)
		for _, serve := range []func(context.Context, peer.Caller, peer.Stream){s.ServeJob, s.ServeBlob} {
			st := &tape{Reader: bytes.NewReader(raw)}
			serve(t.Context(), peer.Caller{ID: "x", Place: "here"}, st)
			for st.heard.Len() > 0 {
				h, err := readHead(&st.heard)
				if err != nil || h.kind < sayFailure || st.heard.Len() < h.size {
					t.Fatalf("%+v, %v", h, err)
				}
				st.heard.Next(h.size)
			}
		}
		if s.gate.visits != 0 || s.gate.bytes != 0 || len(s.gate.unread) != 0 || len(s.pushes) != 0 {
			t.Errorf("%d visits, %d bytes are left", s.gate.visits, s.gate.bytes)
		}
	})
}
