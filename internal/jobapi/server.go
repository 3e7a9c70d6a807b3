package jobapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/schemas"
)

// Config says what a server serves. All fields are needed except where noted.
type Config struct {
	Desk  Desk
	Blobs Blobs
	Node  func() Node
	// Caller tells who is at the other end of a connection; an error ends it.
	// PeerCaller is for Unix sockets.
	Caller func(net.Conn) (job.Caller, error)
	// MaxUploadBytes bounds an upload: the largest module or input.
	MaxUploadBytes int64
	// Network reaches other nodes; nil: they are not asked.
	Network Network
	Log     *slog.Logger // nil discards
	// Times of a request; 0 means the default beside it.
	HeaderTimeout time.Duration // for its head, 5 s
	BodyTimeout   time.Duration // for its whole body, 60 s
}

// maxUploads is how many modules are received at once, maxCallerUploads how many of
// them from one caller.
const (
	maxUploads       = 8
	maxCallerUploads = 2
)

// maxHeader bounds the head of a request in bytes.
const maxHeader = 16 << 10

// Server answers requests. Make it with New.
type Server struct {
	cfg     Config
	http    *http.Server
	uploads *shares
	relays  *shares // requests to other nodes
	carried carried
}

// New starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Desk == nil || cfg.Blobs == nil || cfg.Node == nil || cfg.Caller == nil || cfg.MaxUploadBytes < 1 {
		return nil, errors.New("jobapi: the configuration is not complete")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.HeaderTimeout <= 0 {
		cfg.HeaderTimeout = 5 * time.Second
	}
	if cfg.BodyTimeout <= 0 {
		cfg.BodyTimeout = 60 * time.Second
	}
	s := &Server{cfg: cfg, uploads: newShares(maxUploads, maxCallerUploads), relays: newShares(maxRelays, maxCallerRelays)}
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: cfg.HeaderTimeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug), ConnContext: s.connected,
	}
	return s, nil
}

// Serve answers on l until ctx ends; open answers are then cut off.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	bounded := newBounded(l, maxConns)
	s.http.ConnState = bounded.note
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	defer context.AfterFunc(ctx, func() { s.http.Close() })()
	err := s.http.Serve(bounded)
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// route is one operation; the OpenAPI document has the same, which a test compares.
type route struct {
	method, path string
	serve        func(s *Server, w http.ResponseWriter, r *http.Request, by job.Caller) error
}

var routes = []route{
	{"GET", "/v1/openapi.json", (*Server).getDocument},
	{"GET", "/v1/nodes", (*Server).getNodes},
	{"GET", "/v1/jobs", (*Server).listJobs},
	{"POST", "/v1/jobs", (*Server).submit},
	{"GET", "/v1/jobs/{id}", (*Server).getJob},
	{"DELETE", "/v1/jobs/{id}", (*Server).cancelJob},
	{"GET", "/v1/jobs/{id}/events", (*Server).watchJob},
	{"GET", "/v1/jobs/{id}/spec", (*Server).getSpec},
	{"GET", "/v1/jobs/{id}/receipt", (*Server).getReceipt},
	{"GET", "/v1/jobs/{id}/stdout", (*Server).getStdout},
	{"GET", "/v1/jobs/{id}/stderr", (*Server).getStderr},
	{"POST", "/v1/runs", (*Server).run},
	{"POST", "/v1/replays", (*Server).replay},
	{"HEAD", "/v1/blobs/{id}", (*Server).hasBlob},
	{"PUT", "/v1/blobs/{id}", (*Server).putBlob},
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range slices.Concat(routes, relayRoutes) {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) {
			by, err := callerOf(req.Context())
			if req.ContentLength == 0 {
				by.conn.works()
			}
			w = answering{w, by.conn, s.cfg.BodyTimeout}
			if err == nil {
				err = r.serve(s, w, req, by.Caller)
			}
			if err != nil {
				s.fail(w, req, err)
			}
		})
	}
	return mux
}

type callerKey struct{}

type knownCaller struct {
	job.Caller
	conn *heldConn
	err  error
}

func (s *Server) connected(ctx context.Context, c net.Conn) context.Context {
	held, ok := c.(*heldConn)
	if ok {
		c = held.Conn
	}
	by, err := s.cfg.Caller(c)
	return context.WithValue(ctx, callerKey{}, knownCaller{by, held, err})
}

func callerOf(ctx context.Context) (knownCaller, error) {
	known, ok := ctx.Value(callerKey{}).(knownCaller)
	if !ok {
		return known, errors.New("nobody knows who asks")
	}
	return known, known.err
}

// connOf is the connection of a request, nil for one of no listener of ours.
func connOf(r *http.Request) *heldConn {
	known, _ := r.Context().Value(callerKey{}).(knownCaller)
	return known.conn
}

// statuses are the answers to refusals.
var statuses = map[job.Reason]int{
	job.Malformed: http.StatusBadRequest, job.Unsupported: http.StatusUnprocessableEntity,
	job.TooBig: http.StatusRequestEntityTooLarge, job.Busy: http.StatusServiceUnavailable,
	job.Unavailable: http.StatusFailedDependency, job.Unauthorised: http.StatusForbidden,
	job.Expired: http.StatusGone, job.Replayed: http.StatusConflict,
	job.Internal: http.StatusInternalServerError, NotFound: http.StatusNotFound, NotReady: http.StatusConflict,
	job.Cancelled: http.StatusConflict,
	Unreachable:   http.StatusBadGateway, Broken: http.StatusBadGateway, Lying: http.StatusBadGateway, Silent: http.StatusGatewayTimeout,
}

// Reasons of this package, beside those of package job.
const (
	NotFound job.Reason = "not_found"
	NotReady job.Reason = "not_ready"
)

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var f *job.Failure
	switch {
	case errors.Is(err, job.ErrUnknown), errors.Is(err, job.ErrNoReceipt), errors.Is(err, job.ErrGone):
		f = &job.Failure{Reason: NotFound, Code: "NODE-051", Text: err.Error(), Hint: hintNotFound}
	case errors.Is(err, job.ErrNotEnded):
		f = &job.Failure{Reason: NotReady, Code: "NODE-052", Text: err.Error(), Hint: hintNotReady}
	case errors.Is(err, job.ErrWithheld):
		f = job.FailureOf(err)
		f.Reason = NotReady
	default:
		f = failureOf(err)
	}
	status := statuses[f.Reason]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if f.RetryAfterMS > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt((f.RetryAfterMS+999)/1000, 10))
	}
	s.cfg.Log.Debug("request refused", "method", r.Method, "path", r.URL.Path, "err", err)
	w.Header().Set("Connection", "close") // what is left of the request is not read
	if err := writeJSON(w, status, failureBody{*f}); err != nil {
		s.cfg.Log.Debug("answer not written", "err", err)
	}
}

const (
	hintNotFound = "Check the job's id, and ask as the user who submitted it."
	hintNotReady = "Wait for the job's end (phase job logs --follow ID)."
)

func writeJSON(w http.ResponseWriter, status int, v any) error {
	raw, err := strictjson.MarshalCanonical(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)+1))
	w.WriteHeader(status)
	_, err = w.Write(append(raw, '\n'))
	return err
}

func malformed(detail string, err error) error {
	return &job.Refusal{Reason: job.Malformed, Detail: detail, Err: err, Directions: "See schemas/jobs.openapi.json for what may be asked."}
}

// body reads a whole request body of at most most bytes, in bounded time.
func (s *Server) body(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	if err := s.timed(w); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var big *http.MaxBytesError
	if errors.As(err, &big) {
		return nil, &job.Refusal{Reason: job.TooBig, Detail: "the request is larger than " + strconv.FormatInt(most, 10) + " bytes"}
	}
	if err != nil {
		return nil, malformed("the request could not be read", err)
	}
	connOf(r).works()
	return raw, nil
}

// timed bounds the time for the rest of the request.
func (s *Server) timed(w http.ResponseWriter) error {
	return http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout))
}

// id is the digest in the path.
func id(r *http.Request) (blob.Digest, error) {
	d, err := blob.Parse(r.PathValue("id"))
	if err != nil {
		return d, malformed("the path names no digest", err)
	}
	return d, nil
}

func (s *Server) getDocument(w http.ResponseWriter, _ *http.Request, _ job.Caller) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(schemas.JobsAPI())
	return quiet(err)
}

// quiet: an answer that nobody takes is no error of ours, and cannot be answered.
func quiet(error) error { return nil }

func (s *Server) getNodes(w http.ResponseWriter, _ *http.Request, _ job.Caller) error {
	return writeJSON(w, http.StatusOK, nodeList{[]Node{s.cfg.Node()}})
}

func (s *Server) listJobs(w http.ResponseWriter, _ *http.Request, by job.Caller) error {
	return writeJSON(w, http.StatusOK, jobList{s.cfg.Desk.List(by)})
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	status, err := s.take(w, r, by)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/jobs/"+status.ID.String())
	return writeJSON(w, http.StatusAccepted, status)
}

// take gives the job in the request to the desk.
func (s *Server) take(w http.ResponseWriter, r *http.Request, by job.Caller) (job.Status, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	take, most := s.cfg.Desk.SubmitLocal, int64(job.MaxSpecBytes)
	switch {
	case err == nil && kind == TypeEnvelope:
		take, most = s.cfg.Desk.SubmitSigned, job.MaxSubmissionBytes
	case err != nil || kind != TypeSpec:
		return job.Status{}, malformed("the request's content type is neither "+TypeSpec+" nor "+TypeEnvelope, err)
	}
	raw, err := s.body(w, r, most)
	if err != nil {
		return job.Status{}, err
	}
	return take(raw, by)
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	d, err := id(r)
	if err != nil {
		return err
	}
	status, err := s.cfg.Desk.Get(d, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, status)
}

func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	d, err := id(r)
	if err != nil {
		return err
	}
	status, err := s.cfg.Desk.Cancel(d, by)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, status)
}

// watchJob answers with a line for each stage, the last one with the end.
func (s *Server) watchJob(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	d, err := id(r)
	if err != nil {
		return err
	}
	begun := false
	out := http.NewResponseController(w)
	err = s.cfg.Desk.Watch(r.Context(), d, by, func(status job.Status) error {
		if !begun {
			w.Header().Set("Content-Type", TypeEvents)
			begun = true
		}
		line, err := strictjson.MarshalCanonical(status)
		if err != nil {
			return err
		}
		if err := out.SetWriteDeadline(time.Now().Add(s.cfg.BodyTimeout)); err != nil {
			return err
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return out.Flush()
	})
	if begun {
		return quiet(err)
	}
	return err
}

func (s *Server) getSpec(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.document(w, r, by, TypeSpec, s.cfg.Desk.Spec)
}

func (s *Server) getReceipt(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.document(w, r, by, TypeEnvelope, s.cfg.Desk.Receipt)
}

func (s *Server) document(w http.ResponseWriter, r *http.Request, by job.Caller, kind string, get func(blob.Digest, job.Caller) ([]byte, error)) error {
	d, err := id(r)
	if err != nil {
		return err
	}
	raw, err := get(d, by)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", kind)
	_, err = io.Copy(w, bytes.NewReader(raw))
	return quiet(err)
}

func (s *Server) getStdout(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.output(w, r, by, false)
}

func (s *Server) getStderr(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	return s.output(w, r, by, true)
}

func (s *Server) output(w http.ResponseWriter, r *http.Request, by job.Caller, stderr bool) error {
	d, err := id(r)
	if err != nil {
		return err
	}
	body, out, err := s.cfg.Desk.Output(d, stderr, by)
	if err != nil {
		return err
	}
	defer body.Close()
	w.Header().Set("Content-Type", TypeBytes)
	w.Header().Set("Content-Length", strconv.FormatInt(out.Size, 10))
	w.Header().Set("X-Artifact-Hash", out.Digest.String())
	_, err = io.Copy(w, body) // one that ends early is cut short, as its length was told
	return quiet(err)
}

func (s *Server) replay(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	raw, err := s.body(w, r, job.MaxSpecBytes)
	if err != nil {
		return err
	}
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		return err // the connection is read on, so that its end is noticed
	}
	receipt, err := s.cfg.Desk.Replay(r.Context(), raw, by)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", TypeEnvelope)
	_, err = w.Write(receipt)
	return quiet(err)
}

func (s *Server) hasBlob(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	d, err := id(r)
	if err != nil {
		return err
	}
	if !s.cfg.Blobs.Has(d) {
		w.WriteHeader(http.StatusNotFound)
		return nil
	}
	if k, ok := s.cfg.Blobs.(Keeper); ok {
		k.Claim(by.Name, d)
	}
	return nil
}

// uploadRate is how fast an upload has to come, in bytes a second, beyond BodyTimeout.
const uploadRate = 4 << 20

// keep puts what a caller brings into the store.
func (s *Server) keep(by job.Caller, d blob.Digest, size int64, r io.Reader) error {
	if k, ok := s.cfg.Blobs.(Keeper); ok {
		return k.PutFor(by.Name, d, size, r)
	}
	return s.cfg.Blobs.Put(d, size, r)
}

func (s *Server) putBlob(w http.ResponseWriter, r *http.Request, by job.Caller) error {
	d, err := id(r)
	if err != nil {
		return err
	}
	switch {
	case r.ContentLength < 0:
		return malformed("the length of the upload is not known", nil)
	case r.ContentLength > s.cfg.MaxUploadBytes:
		return &job.Refusal{Reason: job.TooBig, Detail: "the upload is larger than " + strconv.FormatInt(s.cfg.MaxUploadBytes, 10) + " bytes"}
	}
	leave, ok := s.uploads.enter(by)
	if !ok {
		return &job.Refusal{Reason: job.Busy, Detail: "enough modules are being received, of you or in all", RetryAfter: time.Second}
	}
	defer leave()
	connOf(r).pin()
	most := s.cfg.BodyTimeout + time.Duration(r.ContentLength/uploadRate)*time.Second
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	if err := s.keep(by, d, r.ContentLength, r.Body); err != nil {
		var mismatch *blob.MismatchError
		if errors.As(err, &mismatch) || errors.Is(err, io.ErrUnexpectedEOF) {
			return malformed("the upload is not what its name says", err)
		}
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}
