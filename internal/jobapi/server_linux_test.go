package jobapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/schemas"
)

// fakeDesk knows one job of each kind by its digest.
type fakeDesk struct{}

func named(name string) blob.Digest { return blob.Of([]byte(name)) }

func (fakeDesk) status(name string) job.Status {
	s := job.Status{ID: named(name), Stage: job.Running, Submitter: "local:1", Module: named("m"), AcceptedAt: time.Unix(1e9, 5)}
	out := job.Output{Digest: named("output"), Size: 6}
	switch name {
	case "ended":
		s.Stage, s.End = job.Ended, &job.End{State: job.Exited, ExitCode: 3, EndedAt: time.Unix(1e9, 0), Stdout: out, Stderr: out, Receipt: true}
	case "failed":
		err := &job.Refusal{Reason: job.Unavailable, Detail: "no module", Err: io.EOF}
		s.Stage, s.End = job.Ended, &job.End{State: job.Refused, EndedAt: time.Unix(1e9, 0), Stdout: out, Stderr: out, Failure: job.FailureOf(err)}
	}
	return s
}

func (d fakeDesk) Get(id blob.Digest, _ job.Caller) (job.Status, error) {
	for _, name := range []string{"ended", "failed", "running"} {
		if named(name) == id {
			return d.status(name), nil
		}
	}
	return job.Status{}, job.ErrUnknown
}

// submit refuses with the reason that stands in the document.
func (d fakeDesk) SubmitLocal(raw []byte, _ job.Caller) (job.Status, error) {
	if reason := strings.Trim(string(raw), "\x00 "); reason != "" {
		return job.Status{}, &job.Refusal{Reason: job.Reason(reason), Detail: "refused", RetryAfter: 1500 * time.Millisecond}
	}
	return d.status("running"), nil
}

func (d fakeDesk) SubmitSigned([]byte, job.Caller) (job.Status, error) {
	return d.status("running"), nil
}
func (d fakeDesk) List(job.Caller) []job.Status {
	return []job.Status{d.status("ended"), d.status("failed"), d.status("running")}
}
func (d fakeDesk) Cancel(id blob.Digest, by job.Caller) (job.Status, error) { return d.Get(id, by) }

func (d fakeDesk) Watch(ctx context.Context, id blob.Digest, by job.Caller, tell func(job.Status) error) error {
	s, err := d.Get(id, by)
	if err != nil {
		return err
	}
	if err := tell(d.status("running")); err != nil || s.Stage != job.Ended {
		return err
	}
	return tell(s)
}

func (d fakeDesk) Receipt(id blob.Digest, by job.Caller) ([]byte, error) {
	s, err := d.Get(id, by)
	switch {
	case err != nil:
		return nil, err
	case s.End == nil:
		return nil, job.ErrNotEnded
	case !s.End.Receipt:
		return nil, job.ErrNoReceipt
	}
	return []byte("{}"), nil
}

func (d fakeDesk) Spec(id blob.Digest, by job.Caller) ([]byte, error) { return d.Receipt(id, by) }

func (d fakeDesk) Output(id blob.Digest, _ bool, by job.Caller) (io.ReadCloser, job.Output, error) {
	if _, err := d.Receipt(id, by); err != nil {
		return nil, job.Output{}, err
	}
	return io.NopCloser(strings.NewReader("output")), job.Output{Digest: named("output"), Size: 6}, nil
}

func (d fakeDesk) Replay(_ context.Context, spec []byte, by job.Caller) ([]byte, error) {
	_, err := d.SubmitLocal(spec, by)
	return []byte("{}"), err
}

type fakeBlobs struct{}

func (fakeBlobs) Open(d blob.Digest, size int64) (io.ReadCloser, error) {
	if d != named("m") {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(blob.NewReader(strings.NewReader("m"), d, size)), nil
}

func (fakeBlobs) Has(d blob.Digest) bool { return d == named("m") }
func (fakeBlobs) Put(d blob.Digest, size int64, r io.Reader) error {
	_, err := io.Copy(io.Discard, blob.NewReader(r, d, size))
	return err
}

// start serves on a socket.
func start(t *testing.T, change func(*Config)) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "jobapi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := Config{
		Desk: fakeDesk{}, Blobs: fakeBlobs{}, Caller: PeerCaller, MaxUploadBytes: 1 << 20,
		Node: func() Node { return Node{Key: "ed25519:" + strings.Repeat("0", 64), Version: "1", Local: true} },
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is left behind")
		}
	})
	return path
}

// document is the OpenAPI document with its schemas compiled.
type document struct {
	Paths    map[string]map[string]json.RawMessage `json:"paths"`
	compiler *jsonschema.Compiler
}

type operation struct {
	Responses map[string]struct {
		Content map[string]struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"content"`
	} `json:"responses"`
}

func openDocument(t *testing.T) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(schemas.JobsAPI(), &d); err != nil {
		t.Fatal(err)
	}
	all, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemas.JobsAPI()))
	if err != nil {
		t.Fatal(err)
	}
	d.compiler = jsonschema.NewCompiler()
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("api.json", all); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDocumentHasAllRoutes(t *testing.T) {
	d := openDocument(t)
	there := map[string]bool{}
	for path, item := range d.Paths {
		for method := range item {
			if method != "parameters" {
				there[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	for _, r := range slices.Concat(routes, relayRoutes) {
		if !there[r.method+" "+r.path] {
			t.Errorf("%s %s is not in the document", r.method, r.path)
		}
		delete(there, r.method+" "+r.path)
	}
	for name := range there {
		t.Errorf("%s is in the document only", name)
	}
}

// TestAnswersAreAsDocumented asks for everything and holds each answer to the
// document: its status, its type, its schema.
func TestAnswersAreAsDocumented(t *testing.T) {
	d := openDocument(t)
	client := NewClient(start(t, nil))
	defer client.Close()
	ended, running, failed, unknown := named("ended").String(), named("running").String(), named("failed").String(), named("x").String()
	tooLarge := strings.Repeat(" ", job.MaxSpecBytes+1)
	for _, c := range []struct {
		method, path, arg, kind, body string
		want                          int
	}{
		{"GET", "/v1/openapi.json", "", "", "", 200},
		{"GET", "/v1/nodes", "", "", "", 200},
		{"GET", "/v1/jobs", "", "", "", 200},
		{"POST", "/v1/jobs", "", TypeSpec, " ", 202},
		{"POST", "/v1/jobs", "", TypeEnvelope, "{}", 202},
		{"POST", "/v1/jobs", "", TypeSpec + "; charset=utf-8", " ", 202},
		{"POST", "/v1/jobs", "", "text/plain", " ", 400},
		{"POST", "/v1/jobs", "", "", " ", 400},
		{"POST", "/v1/jobs", "", TypeSpec, "malformed", 400},
		{"POST", "/v1/jobs", "", TypeSpec, "unauthorised", 403},
		{"POST", "/v1/jobs", "", TypeSpec, "replayed", 409},
		{"POST", "/v1/jobs", "", TypeSpec, "expired", 410},
		{"POST", "/v1/jobs", "", TypeSpec, "too_big", 413},
		{"POST", "/v1/jobs", "", TypeSpec, tooLarge, 413},
		{"POST", "/v1/jobs", "", TypeSpec, "unsupported", 422},
		{"POST", "/v1/jobs", "", TypeSpec, "internal", 500},
		{"POST", "/v1/jobs", "", TypeSpec, "busy", 503},
		{"GET", "/v1/jobs/{id}", ended, "", "", 200},
		{"GET", "/v1/jobs/{id}", failed, "", "", 200},
		{"GET", "/v1/jobs/{id}", running, "", "", 200},
		{"GET", "/v1/jobs/{id}", unknown, "", "", 404},
		{"GET", "/v1/jobs/{id}", "..%2fx", "", "", 400},
		{"DELETE", "/v1/jobs/{id}", running, "", "", 202},
		{"DELETE", "/v1/jobs/{id}", unknown, "", "", 404},
		{"GET", "/v1/jobs/{id}/events", ended, "", "", 200},
		{"GET", "/v1/jobs/{id}/events", unknown, "", "", 404},
		{"GET", "/v1/jobs/{id}/spec", ended, "", "", 200},
		{"GET", "/v1/jobs/{id}/spec", unknown, "", "", 404},
		{"GET", "/v1/jobs/{id}/receipt", ended, "", "", 200},
		{"GET", "/v1/jobs/{id}/receipt", failed, "", "", 404},
		{"GET", "/v1/jobs/{id}/receipt", running, "", "", 409},
		{"GET", "/v1/jobs/{id}/stdout", ended, "", "", 200},
		{"GET", "/v1/jobs/{id}/stderr", running, "", "", 409},
		{"POST", "/v1/runs", "", TypeSpec, " ", 200},
		{"POST", "/v1/runs", "", TypeEnvelope, "{}", 200},
		{"POST", "/v1/runs", "", "text/plain", " ", 400},
		{"POST", "/v1/runs", "", TypeSpec, "unauthorised", 403},
		{"POST", "/v1/runs", "", TypeSpec, "replayed", 409},
		{"POST", "/v1/runs", "", TypeSpec, tooLarge, 413},
		{"POST", "/v1/runs", "", TypeSpec, "busy", 503},
		{"POST", "/v1/replays", "", TypeSpec, " ", 200},
		{"POST", "/v1/replays", "", TypeSpec, "unavailable", 424},
		{"HEAD", "/v1/blobs/{id}", named("m").String(), "", "", 200},
		{"HEAD", "/v1/blobs/{id}", unknown, "", "", 404},
		{"PUT", "/v1/blobs/{id}", named("m").String(), TypeBytes, "m", 201},
		{"PUT", "/v1/blobs/{id}", named("m").String(), TypeBytes, "other", 400},
		{"PUT", "/v1/blobs/{id}", named("m").String(), TypeBytes, strings.Repeat("m", 1<<20+1), 413},
	} {
		name := fmt.Sprintf("%s %s %.20s", c.method, strings.Replace(c.path, "{id}", c.arg, 1), c.body)
		r, err := http.NewRequest(c.method, "http://node"+strings.Replace(c.path, "{id}", c.arg, 1), strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.kind)
		w, err := client.http.Do(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(w.Body)
		w.Body.Close()
		if err != nil || w.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d, %v: %s", name, w.StatusCode, c.want, err, body)
			continue
		}
		if c.want == 503 && w.Header.Get("Retry-After") != "2" {
			t.Errorf("%s: retry after %q", name, w.Header.Get("Retry-After"))
		}
		if err := d.check(c.method, c.path, w, body); err != nil {
			t.Errorf("%s: %v: %s", name, err, body)
		}
	}
}

// check holds one answer to the document.
func (d document) check(method, path string, w *http.Response, body []byte) error {
	var op operation
	if err := json.Unmarshal(d.Paths[path][strings.ToLower(method)], &op); err != nil {
		return err
	}
	status := fmt.Sprint(w.StatusCode)
	response, ok := op.Responses[status]
	if !ok {
		return errors.New("status not documented")
	}
	if len(response.Content) == 0 {
		return nil
	}
	kind := w.Header.Get("Content-Type")
	if _, ok := response.Content[kind]; !ok {
		return fmt.Errorf("content type %q not documented", kind)
	}
	if kind == TypeBytes {
		return nil
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D", "+", "%2B").Replace
	schema, err := d.compiler.Compile("api.json#/paths/" + escape(path) + "/" + strings.ToLower(method) + "/responses/" + status + "/content/" + escape(kind) + "/schema")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(body) {
		if kind != TypeEvents {
			line = body
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err == nil {
			err = schema.Validate(doc)
		}
		if err != nil || kind != TypeEvents {
			return err
		}
	}
	return nil
}

func TestSocketModeAndPlace(t *testing.T) {
	path := start(t, nil)
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o660 || info.Mode()&os.ModeSocket == 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := Listen(path, -1); !errors.As(err, new(*SocketError)) || !strings.Contains(err.Error(), "another plasmd") {
		t.Errorf("taken: %v", err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, -1); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a file: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("x", 120)), -1); err == nil {
		t.Error("a long path: no error")
	}
	if _, err := Listen(filepath.Join(dir, "none", "s"), -1); err == nil {
		t.Error("no folder: no error")
	}
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	again, err := Listen(dead, -1)
	if err != nil {
		t.Fatalf("a dead socket: %v", err)
	}
	again.Close()
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// A slow head or body ends with the time it has, and keeps nobody out.
func TestSlowRequestsEnd(t *testing.T) {
	// The one who asks properly has this time too.
	path := start(t, func(c *Config) { c.HeaderTimeout, c.BodyTimeout = 3*time.Second, 3*time.Second })
	var slow []net.Conn
	begun := []string{
		"GET /v1/jobs HTTP/1.1\r\nHost: node\r\n",
		"POST /v1/jobs HTTP/1.1\r\nHost: node\r\nContent-Type: " + TypeSpec + "\r\nContent-Length: 100\r\n\r\n{",
		"PUT /v1/blobs/" + named("m").String() + " HTTP/1.1\r\nHost: node\r\nContent-Length: 1000\r\n\r\nm",
	}
	for _, begin := range begun {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, begin); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
	}
	if _, err := NewClient(path).Nodes(context.Background()); err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	for i, c := range slow {
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Errorf("%.20q: %v", begun[i], err)
		}
	}
}

// More connections than are held: those on which nothing happens give way.
func TestCrowd(t *testing.T) {
	for _, say := range []string{
		"", "GET /v1/jobs HTTP/1.1\r\nX",
		"POST /v1/jobs HTTP/1.1\r\nHost: node\r\nContent-Type: " + TypeSpec + "\r\nContent-Length: 100\r\n\r\n{",
		"GET /v1/jobs/" + named("ended").String() + "/stdout HTTP/1.1\r\nHost: node\r\n\r\n",
	} {
		path := start(t, nil)
		for range 3 * maxConns {
			c, err := dial(context.Background(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, say) // or it had to go at once
		}
		if _, err := NewClient(path).Nodes(context.Background()); err != nil {
			t.Errorf("%.20q: %v", say, err)
		}
	}
}

// slowBlobs takes nothing in before it may.
type slowBlobs struct {
	fakeBlobs
	begun chan struct{}
	may   chan struct{}
}

func (b slowBlobs) Put(d blob.Digest, size int64, r io.Reader) error {
	b.begun <- struct{}{}
	<-b.may
	return b.fakeBlobs.Put(d, size, r)
}

// Who uploads as much as one may keeps nobody else out, and is let in again later.
func TestUploadsAreBoundedByCaller(t *testing.T) {
	ctx := t.Context()
	blobs := slowBlobs{begun: make(chan struct{}, 10), may: make(chan struct{})}
	var who atomic.Value
	who.Store("crowd")
	path := start(t, func(c *Config) {
		c.Blobs = blobs
		c.Caller = func(net.Conn) (job.Caller, error) { return job.Caller{Name: who.Load().(string)}, nil }
	})
	// The connections are made one after the other, each with its caller's name.
	connect := func(name string) *Client {
		who.Store(name)
		c := NewClient(path)
		t.Cleanup(c.Close)
		if _, err := c.Nodes(ctx); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ended := make(chan error, 10)
	big := bytes.Repeat([]byte("x"), 1<<20)
	for range maxCallerUploads {
		c := connect("crowd")
		go func() { ended <- c.Upload(ctx, big) }()
		<-blobs.begun
	}
	var refused *RefusedError
	if err := connect("crowd").uploadOnce(ctx, "/blobs/"+blob.Of(big).String(), int64(len(big)), bytes.NewReader(big)); !errors.As(err, &refused) || refused.Failure.Reason != job.Busy {
		t.Errorf("one more: %v", err)
	}
	patient := connect("crowd")
	go func() { ended <- patient.Upload(ctx, big) }()
	other := connect("another")
	go func() { ended <- other.Upload(ctx, big) }()
	<-blobs.begun // the other's
	close(blobs.may)
	for range maxCallerUploads + 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestShares(t *testing.T) {
	s := newShares(3, 2)
	alice, bob, carol := job.Caller{Name: "alice"}, job.Caller{Name: "bob"}, job.Caller{Name: "carol"}
	leave, ok := s.enter(alice)
	_, ok2 := s.enter(alice)
	if _, third := s.enter(alice); !ok || !ok2 || third {
		t.Fatal("one caller has not two of three places")
	}
	if _, ok := s.enter(bob); !ok {
		t.Error("no place for another")
	}
	if _, ok := s.enter(carol); ok {
		t.Error("four in three places")
	}
	leave()
	if _, ok := s.enter(carol); !ok {
		t.Error("a place is not given back")
	}
}

func TestUnknownCallersAreRefused(t *testing.T) {
	path := start(t, func(c *Config) {
		c.Caller = func(net.Conn) (job.Caller, error) { return job.Caller{}, errors.New("who are you") }
	})
	if _, err := NewClient(path).List(context.Background()); err == nil || !strings.Contains(err.Error(), "who are you") {
		t.Errorf("%v", err)
	}
	if _, err := NewClient(filepath.Join(t.TempDir(), "none")).List(context.Background()); !errors.As(err, new(*UnreachableError)) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestUnreachableHints: whoever may not go in need not start a node, and the other way
// round.
func TestUnreachableHints(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EACCES: "group", syscall.ENOENT: "Start plasmd, or", syscall.ECONNREFUSED: "Start plasmd, or", syscall.EIO: "Start plasmd, name",
	} {
		err := &UnreachableError{"/s", os.NewSyscallError("connect", errno)}
		if hint := err.Hint(); !strings.Contains(hint, want) {
			t.Errorf("%v: %q", err, hint)
		}
	}
}
