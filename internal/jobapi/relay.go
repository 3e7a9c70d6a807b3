package jobapi

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
)

var relayRoutes = []route{
	{"GET", "/v1/network/nodes", (*Server).searchNodes},
	{"GET", "/v1/network/nodes/{key}", (*Server).peerCapacity},
	{"POST", "/v1/network/nodes/{key}/blobs/{id}", (*Server).peerPush},
	{"POST", "/v1/network/nodes/{key}/jobs", (*Server).peerSubmit},
	{"GET", "/v1/network/nodes/{key}/jobs/{id}", (*Server).peerAwait},
	{"DELETE", "/v1/network/nodes/{key}/jobs/{id}", (*Server).peerCancel},
	{"POST", "/v1/network/nodes/{key}/commitments", (*Server).peerCommit},
	{"POST", "/v1/network/nodes/{key}/reveals/{id}", (*Server).peerReveal},
}

// chunks are the pieces in which b is written.
func chunks(b []byte) iter.Seq[[]byte] { return slices.Chunk(b, maxChunk) }

// carried remembers who handed in which jobs for other nodes: these know the
// carrier, which is this node, and not its callers.
type carried struct {
	mu    sync.Mutex
	who   map[carriedJob]string
	order []carriedJob
}

type carriedJob struct {
	node string
	id   blob.Digest
}

// maxCarried bounds what is remembered of jobs that were handed on.
const maxCarried = 4096

// note remembers a job with the first who brought it.
func (c *carried) note(j carriedJob, by job.Caller) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.who == nil {
		c.who = map[carriedJob]string{}
	}
	if _, known := c.who[j]; known {
		return
	}
	c.who[j] = by.Name
	c.order = append(c.order, j)
	if len(c.order) > maxCarried {
		delete(c.who, c.order[0])
		c.order = c.order[1:]
	}
}

// take remembers the job of a submission that is about to be handed on; one that
// is none is for the other node to refuse.
func (c *carried) take(a *asked, envelope []byte) {
	var outer struct {
		Payload strictjson.Base64 `json:"payload"`
	}
	var inner struct {
		Spec strictjson.Raw `json:"spec"`
	}
	lim := strictjson.Limits{Bytes: job.MaxSubmissionBytes}
	if strictjson.Unmarshal(envelope, &outer, lim) != nil || strictjson.Unmarshal(outer.Payload, &inner, lim) != nil {
		return
	}
	if j, err := job.Parse(inner.Spec); err == nil {
		c.note(a.carried(j.ID()), a.by)
	}
}

// check tells nobody about others' jobs.
func (c *carried) check(j carriedJob, by job.Caller) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if who, known := c.who[j]; known && (by.Admin || who == by.Name) {
		return nil
	}
	return job.ErrUnknown
}

// relay holds one of the places for requests to other nodes.
func (s *Server) relay(r *http.Request, by job.Caller) (leave func(), err error) {
	if s.cfg.Network == nil {
		return nil, errNoNetwork
	}
	leave, ok := s.relays.enter(by)
	if !ok {
		return nil, &job.Refusal{Reason: job.Busy, Detail: "enough other nodes are being asked, for you or in all", RetryAfter: time.Second}
	}
	connOf(r).pin()
	return leave, nil
}

// searchNodes answers with a line for each node, as they are found, until nobody
// knows others or the client leaves.
func (s *Server) searchNodes(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	leave, err := s.relay(r, by)
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	found := make(chan peer.Peer)
	ended := make(chan error, 1)
	go func() {
		ended <- s.cfg.Network.Search(ctx, r.URL.Query().Get("arch"), func(p peer.Peer) {
			select {
			case found <- p:
			case <-ctx.Done():
			}
		})
	}()
	out := s.lines(w)
	for {
		select {
		case p := <-found:
			if err := out.write(Relayed{Node: &Found{job.FormatKey(p.Key), p.ID, append([]string{}, p.Addrs...)}}); err != nil {
				cancel()
				<-ended
				return quiet(err)
			}
		case err := <-ended:
			return out.end(err)
		}
	}
}

// asked is a request to one other node.
type asked struct {
	w     http.ResponseWriter
	r     *http.Request
	by    job.Caller
	peer  peer.Peer
	peers Peers
	id    blob.Digest // if the path has one
}

// carried names the job of the request, by its id or that of its submission.
func (a *asked) carried(id blob.Digest) carriedJob {
	return carriedJob{job.FormatKey(a.peer.Key), id}
}

// ask reads which node is meant and holds a place for the request.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, by job.Caller, do func(*asked) error) error {
	a := &asked{w: w, r: r, by: by}
	var err error
	if a.peer, err = peerOf(r); err != nil {
		return err
	}
	if r.PathValue("id") != "" {
		if a.id, err = id(r); err != nil {
			return err
		}
	}
	var submitter []byte
	if text := r.URL.Query().Get("submitter"); text != "" {
		if submitter, err = job.ParseKey(text); err != nil {
			return malformed("the request names no submitter", err)
		}
	}
	leave, err := s.relay(r, by)
	if err != nil {
		return err
	}
	defer leave()
	a.peers = s.cfg.Network.For(submitter)
	return do(a)
}

// peerOf is the node that the request names, with addresses to try first.
func peerOf(r *http.Request) (peer.Peer, error) {
	key, err := job.ParseKey(r.PathValue("key"))
	if err != nil {
		return peer.Peer{}, malformed("the path names no node", err)
	}
	addrs := r.URL.Query()["addr"]
	if len(addrs) > maxAddrs || slices.ContainsFunc(addrs, func(a string) bool { return len(a) > maxAddr }) {
		return peer.Peer{}, malformed("the request names too many addresses", nil)
	}
	return peer.Peer{Key: key, Addrs: addrs}, nil
}

func (s *Server) peerCapacity(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.ask(w, r, by, func(a *asked) error {
		c, err := a.peers.Capacity(r.Context(), a.peer)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, c)
	})
}

// peerPush gives another node a module that this one has; the body is the signed
// submission for which it is.
func (s *Server) peerPush(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.ask(w, r, by, func(a *asked) error {
		size, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64)
		if err != nil || size < 0 || size > s.cfg.MaxUploadBytes {
			return malformed("the request says no size of a module or input", err)
		}
		envelope, err := s.body(w, r, job.MaxSubmissionBytes)
		if err != nil {
			return err
		}
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		module, err := s.cfg.Blobs.Open(a.id, size)
		if err != nil {
			return &job.Refusal{Reason: job.Unavailable, Detail: "this node does not have the module or input", Err: err}
		}
		defer module.Close()
		if err := a.peers.Push(r.Context(), a.peer, envelope, a.id, size, module); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

func (s *Server) peerSubmit(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.ask(w, r, by, func(a *asked) error {
		return s.relayed(a, job.MaxSubmissionBytes, func(ctx context.Context, envelope []byte, out *lines, tell func(job.Status)) error {
			s.carried.take(a, envelope)
			answer, err := a.peers.Submit(ctx, a.peer, envelope, tell)
			if err != nil {
				return err
			}
			return out.answer(answer, false)
		})
	})
}

func (s *Server) peerAwait(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.ask(w, r, by, func(a *asked) error {
		if err := s.carried.check(a.carried(a.id), by); err != nil {
			return err
		}
		return s.relayed(a, 0, func(ctx context.Context, _ []byte, out *lines, tell func(job.Status)) error {
			answer, err := a.peers.Await(ctx, a.peer, a.id, tell)
			if err != nil {
				return err
			}
			return out.answer(answer, false)
		})
	})
}

func (s *Server) peerCancel(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.ask(w, r, by, func(a *asked) error {
		if err := s.carried.check(a.carried(a.id), by); err != nil {
			return err
		}
		if err := a.peers.Cancel(r.Context(), a.peer, a.id); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

func (s *Server) peerCommit(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.ask(w, r, by, func(a *asked) error {
		return s.relayed(a, job.MaxSubmissionBytes, func(ctx context.Context, envelope []byte, out *lines, tell func(job.Status)) error {
			s.carried.take(a, envelope)
			commitment, err := a.peers.Commit(ctx, a.peer, envelope, tell)
			if err != nil {
				return err
			}
			return out.write(Relayed{Commitment: commitment})
		})
	})
}

// peerReveal needs no look at who asks: the set is signed by the job's submitter.
func (s *Server) peerReveal(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.ask(w, r, by, func(a *asked) error {
		return s.relayed(a, maxSet, func(ctx context.Context, set []byte, out *lines, _ func(job.Status)) error {
			answer, err := a.peers.Reveal(ctx, a.peer, a.id, set)
			if err != nil {
				return err
			}
			return out.answer(answer, true)
		})
	})
}

type relaying func(ctx context.Context, document []byte, out *lines, tell func(job.Status)) error

var errLeft = errors.New("who asked has left")

// relayed hands a document to another node and its answer back, line by line. Who
// leaves before the end ends the request to the other node as well.
func (s *Server) relayed(a *asked, most int64, do relaying) error {
	document, err := s.body(a.w, a.r, most)
	if err != nil {
		return err
	}
	// The connection is read on, so that its end is noticed.
	if err := http.NewResponseController(a.w).SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(a.r.Context())
	defer cancel(nil)
	out := s.lines(a.w)
	return out.end(do(ctx, document, out, func(status job.Status) {
		if err := out.write(Relayed{Status: &status}); err != nil {
			cancel(errLeft)
		}
	}))
}
