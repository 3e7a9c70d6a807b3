package jobpeer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
)

// socket is a stream over a connection of this machine.
type socket struct{ *net.TCPConn }

func (s socket) Reset() error { return errors.Join(s.SetLinger(0), s.Close()) }

// wire is both ends of a stream.
func wire(t testing.TB) (here, there peer.Stream) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return socket{a}, socket{b}
}

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(n byte) ed25519.PublicKey { return key(n).Public().(ed25519.PublicKey) }

func frames(t testing.TB, list ...frame) (raw []byte) {
	t.Helper()
	for _, f := range list {
		var err error
		if raw, err = appendFrame(raw, f.kind, f.body); err != nil {
			t.Fatal(err)
		}
	}
	return raw
}

func said(t testing.TB, s job.Status) frame {
	t.Helper()
	raw, err := strictjson.MarshalCanonical(s)
	if err != nil {
		t.Fatal(err)
	}
	return frame{sayStatus, raw}
}

func out(s string) job.Output { return job.Output{Digest: blob.Of([]byte(s)), Size: int64(len(s))} }

func endedStatus(stdout, stderr string) job.Status {
	return job.Status{ID: blob.Of([]byte("job")), Module: blob.Of(nil), Stage: job.Ended, End: &job.End{
		State: job.Exited, Stdout: out(stdout), Stderr: out(stderr), Receipt: true,
	}}
}

func running() job.Status {
	return job.Status{ID: blob.Of([]byte("job")), Module: blob.Of(nil), Stage: job.Running}
}

// against makes a client whose every stream is answered with raw, whatever it asks;
// the stream then stays open or not.
func against(t testing.TB, raw []byte, stays bool) *Client {
	return &Client{
		AnswerTimeout: time.Minute, SilentTimeout: time.Minute,
		Open: func(context.Context, peer.Peer, string) (peer.Stream, error) {
			here, there := wire(t)
			go func() {
				_, _ = there.Write(raw)
				if !stays {
					_ = there.CloseWrite()
				}
			}()
			return here, nil
		},
	}
}

func kindOf(err error) Kind {
	var e *Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.Kind
}

var honest = []frame{{sayStdout, []byte("out")}, {sayStderr, []byte("err")}, {sayReceipt, []byte("receipt")}, {kind: sayDone}}

// A node's lies about a job, each found out for what it is, within bounds.
func TestLyingNodes(t *testing.T) {
	id := blob.Of([]byte("job"))
	done := endedStatus("out", "err")
	other := endedStatus("out", "err")
	other.ID = blob.Of([]byte("another"))
	huge := endedStatus("out", "err")
	huge.End.Stdout.Size = 1 << 50
	negative := endedStatus("out", "err")
	negative.End.Stderr.Size = -1
	stageless := endedStatus("out", "err")
	stageless.Stage = "resting"
	endless := job.Status{ID: id, Module: blob.Of(nil), Stage: job.Ended}
	early := endedStatus("out", "err")
	early.Stage = job.Running
	say := func(s job.Status, rest ...frame) []byte { return frames(t, append([]frame{said(t, s)}, rest...)...) }
	for name, c := range map[string]struct {
		raw   []byte
		stays bool
		want  Kind
	}{
		"honest":                    {say(done, honest...), false, 0},
		"honest, and slow":          {append(say(running()), say(done, honest...)...), false, 0},
		"nothing":                   {nil, true, Silent},
		"nothing, and goes":         {nil, false, Broken},
		"half a head":               {[]byte{byte(sayStatus), 0}, true, Silent},
		"half a head, and goes":     {[]byte{byte(sayStatus), 0}, false, Broken},
		"half a body, and goes":     {say(done, honest...)[:40], false, Broken},
		"never ends":                {say(running()), true, Silent},
		"no receipt":                {say(done, honest[:2]...), true, Silent},
		"no end":                    {say(done, honest[:3]...), false, Broken},
		"a kind that is none":       {[]byte{77, 0, 0, 0, 1, 1}, true, Lying},
		"a request":                 {[]byte{byte(askAwait), 0, 0, 0, 32}, true, Lying},
		"a status of 4 GiB":         {[]byte{byte(sayStatus), 255, 255, 255, 255}, true, Lying},
		"an empty status":           {[]byte{byte(sayStatus), 0, 0, 0, 0}, true, Lying},
		"a receipt first":           {frames(t, honest[2]), true, Lying},
		"the end first":             {frames(t, honest[3]), true, Lying},
		"another job":               {say(other, honest...), true, Lying},
		"another job on the way":    {append(say(running()), say(other, honest...)...), true, Lying},
		"a terabyte of output":      {say(huge, honest...), true, Lying},
		"less than nothing":         {say(negative, honest...), true, Lying},
		"a stage that is none":      {say(stageless, honest...), true, Lying},
		"an end without an end":     {say(endless, honest...), true, Lying},
		"an end before the end":     {say(early, honest...), true, Lying},
		"other output":              {say(done, frame{sayStdout, []byte("OUT")}), true, Lying},
		"more output":               {say(done, frame{sayStdout, []byte("out+")}), true, Lying},
		"the wrong output":          {say(done, frame{sayStderr, []byte("out")}), true, Lying},
		"a status that is no JSON":  {frames(t, frame{sayStatus, []byte("{")}), true, Lying},
		"a status twice over":       {frames(t, frame{sayStatus, []byte(`{"id":"","id":""}`)}), true, Lying},
		"a refusal that is no JSON": {frames(t, frame{sayFailure, []byte("{")}), true, Lying},
		"a refusal for no reason":   {frames(t, frame{sayFailure, []byte(`{"reason":"mood","retry_after_ms":0,"text":""}`)}), true, Lying},
		"a refusal for ever":        {frames(t, frame{sayFailure, []byte(`{"reason":"busy","retry_after_ms":99999999999,"text":""}`)}), true, Lying},
		"a refusal that goes on":    {frames(t, frame{sayFailure, []byte(`{"reason":"busy","retry_after_ms":1,"text":"` + strings.Repeat("x", 5000) + `"}`)}), true, Lying},
		"statuses without an end":   {bytes.Repeat(say(running()), maxStatuses+1), true, Lying},
		"a commitment instead":      {say(done, frame{sayCommitment, []byte("c")}), true, Lying},
	} {
		t.Run(name, func(t *testing.T) {
			client := against(t, c.raw, c.stays)
			if c.want == Silent {
				client.AnswerTimeout, client.SilentTimeout = 100*time.Millisecond, 100*time.Millisecond
			}
			a, err := client.Await(t.Context(), peer.Peer{ID: "liar"}, id, nil)
			if kindOf(err) != c.want || (c.want == 0) != (err == nil) {
				t.Fatalf("%v", err)
			}
			if err == nil && (string(a.Stdout) != "out" || string(a.Stderr) != "err" || string(a.Receipt) != "receipt") {
				t.Errorf("%+v", a)
			}
			if err != nil && (a.Receipt != nil || a.Stdout != nil) {
				t.Errorf("an error, and %+v", a)
			}
		})
	}
}

// What a node says no with reaches the caller as it was meant, without what could
// upset a terminal.
func TestRefusalsTravel(t *testing.T) {
	for _, err := range []error{job.ErrUnknown, job.ErrNotEnded, job.ErrNoReceipt, job.ErrGone, job.ErrWithheld, job.ErrNoReplica, job.ErrOtherSet, job.ErrSet} {
		if got := travel(t, fmt.Errorf("%w: of /var/lib/plasm", err)); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
	for _, reason := range refusals {
		sent := &job.Refusal{Reason: reason, Detail: "no\x1b[31m,\nno", RetryAfter: 3 * time.Second, Err: errors.New("/var/lib/plasm")}
		var got *job.Refusal
		if err := travel(t, sent); !errors.As(err, &got) || got.Reason != reason || got.RetryAfter != sent.RetryAfter {
			t.Errorf("%s: %v", reason, err)
		}
		named := reason == job.Malformed || reason == job.Unsupported // the submitter's own bytes
		if strings.Contains(got.Detail, "plasm") != named || strings.ContainsAny(got.Detail, "\x1b\n") {
			t.Errorf("%s: %q", reason, got.Detail)
		}
	}
	var got *job.Refusal
	if err := travel(t, errors.New("open /var/lib/plasm: no")); !errors.As(err, &got) || got.Reason != job.Internal || strings.Contains(got.Detail, "plasm") {
		t.Errorf("%v", err)
	}
	if err := travel(t, &job.Refusal{Reason: job.Malformed, Detail: strings.Repeat("ä", 5000)}); reasonOf(err) != job.Malformed {
		t.Errorf("%v", err)
	}
}

func travel(t *testing.T, err error) error {
	t.Helper()
	raw, bad := strictjson.MarshalCanonical(failureOf(err))
	if bad != nil {
		t.Fatal(bad)
	}
	_, got := against(t, frames(t, frame{sayFailure, raw}), true).Await(t.Context(), peer.Peer{ID: "node"}, blob.Of([]byte("job")), nil)
	return got
}

func reasonOf(err error) job.Reason {
	var r *job.Refusal
	if !errors.As(err, &r) {
		return ""
	}
	return r.Reason
}

// A capacity counts only if the node itself has signed it.
func TestForgedCapacity(t *testing.T) {
	here, there := wire(t)
	s := newServer(t, nil)
	go s.ServeJob(context.Background(), peer.Caller{ID: "x"}, there)
	raw, err := request{kind: askCapacity}.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := here.Write(raw); err != nil {
		t.Fatal(err)
	}
	h, err := readHead(here)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := readBody(here, h.size)
	if err != nil {
		t.Fatal(err)
	}
	answer := frames(t, frame{sayCapacity, signed}, frame{kind: sayDone})
	c := against(t, answer, true)
	if _, err := c.Capacity(t.Context(), peer.Peer{Key: public(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Capacity(t.Context(), peer.Peer{Key: public(2)}); kindOf(err) != Lying {
		t.Errorf("another's: %v", err)
	}
	flip := bytes.Clone(answer)
	flip[len(flip)/2] ^= 1
	bent := against(t, flip, true)
	if _, err := bent.Capacity(t.Context(), peer.Peer{Key: public(1)}); kindOf(err) != Lying {
		t.Errorf("bent: %v", err)
	}
}

// ctx ends a conversation at once, and is what the caller gets to see.
func TestContextEndsTalk(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := against(t, frames(t, said(t, running())), true)
	_, err := c.Await(ctx, peer.Peer{ID: "node"}, blob.Of([]byte("job")), func(job.Status) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// idle is a desk that knows no job.
type idle struct{}

func (idle) SubmitSigned(envelope []byte, _ job.Caller) (job.Status, error) {
	return job.Status{}, &job.Refusal{Reason: job.Unauthorised, Detail: "no"}
}
func (idle) Get(blob.Digest, job.Caller) (job.Status, error) { return job.Status{}, job.ErrUnknown }
func (idle) Watch(ctx context.Context, id blob.Digest, _ job.Caller, tell func(job.Status) error) error {
	if id != blob.Of([]byte("job")) {
		return job.ErrUnknown
	}
	_ = tell(running())
	<-ctx.Done()
	return ctx.Err()
}
func (idle) Cancel(blob.Digest, job.Caller) (job.Status, error) { return job.Status{}, job.ErrUnknown }
func (idle) Receipt(blob.Digest, job.Caller) ([]byte, error)    { return nil, job.ErrUnknown }
func (idle) Output(blob.Digest, bool, job.Caller) (io.ReadCloser, job.Output, error) {
	return nil, job.Output{}, job.ErrUnknown
}

// none is a store without blobs that keeps what is right.
type none struct{}

func (none) Has(blob.Digest) bool { return false }
func (none) Put(d blob.Digest, size int64, r io.Reader) error {
	_, err := io.Copy(io.Discard, blob.NewReader(r, d, size))
	return err
}

func newServer(t testing.TB, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		Key: key(1), Desk: idle{}, Blobs: none{}, Submitters: []ed25519.PublicKey{public(3)}, MaxModuleBytes: 1 << 20,
		Describe: func() Capacity { return Capacity{Arch: "x86_64"} },
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What callers may send that is no request: refused with a reason where they said
// something, and the stream ends in any case.
func TestLyingCallers(t *testing.T) {
	for name, c := range map[string]struct {
		raw   []byte
		stays bool
		want  job.Reason // "": the stream is reset
	}{
		"nothing":               {nil, true, ""},
		"nothing, and goes":     {nil, false, ""},
		"half a head":           {[]byte{1, 0}, true, ""},
		"half a body":           {[]byte{byte(askAwait), 0, 0, 0, 32, 1}, true, ""},
		"an unknown kind":       {[]byte{99, 0, 0, 0, 0}, true, job.Malformed},
		"an answer":             {[]byte{byte(sayDone), 0, 0, 0, 0}, true, job.Malformed},
		"a push":                {frames(t, frame{askPush, make([]byte, 41)}), true, job.Malformed},
		"4 GiB":                 {[]byte{byte(askSubmit), 255, 255, 255, 255}, true, job.Malformed},
		"a key of 5 bytes":      {frames(t, frame{askCapacity, make([]byte, 5)}), true, job.Malformed},
		"no digest":             {frames(t, frame{askAwait, make([]byte, 32)}), true, job.Malformed},
		"a long digest":         {[]byte{byte(askAwait), 0, 0, 0, 33}, true, job.Malformed},
		"an unsigned job":       {frames(t, frame{askSubmit, append(make([]byte, 32), "{}"...)}), true, job.Unauthorised},
		"a module that is none": {frames(t, frame{askSubmit, append(make([]byte, 31), 1, 'x')}), true, job.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			limit := time.Minute
			if c.want == "" && c.stays { // nothing else ends it
				limit = 50 * time.Millisecond
			}
			s := newServer(t, func(c *Config) { c.RequestTimeout, c.BlockTimeout = limit, time.Minute })
			here, there := wire(t)
			served := make(chan bool)
			go func() {
				defer close(served)
				s.ServeJob(context.Background(), peer.Caller{ID: "x"}, there)
				there.Close()
			}()
			if _, err := here.Write(c.raw); err != nil {
				t.Fatal(err)
			}
			if !c.stays {
				_ = here.CloseWrite()
			}
			<-served
			h, err := readHead(here)
			if c.want == "" {
				if err == nil {
					t.Errorf("answered with %s", h.kind)
				}
				return
			}
			if err != nil || h.kind != sayFailure {
				t.Fatalf("%v, %v", h.kind, err)
			}
			body, err := readBody(here, h.size)
			if err != nil {
				t.Fatal(err)
			}
			if refused, err := parseFailure(body); err != nil || reasonOf(refused) != c.want {
				t.Errorf("%v, %v", refused, err)
			}
		})
	}
}

// Somebody who waits for a job and goes away, or talks on, is noticed.
func TestWhoWaitsIsHeeded(t *testing.T) {
	for name, leave := range map[string]func(peer.Stream){
		"resets":   func(s peer.Stream) { _ = s.Reset() },
		"talks on": func(s peer.Stream) { _, _ = s.Write([]byte("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, nil)
			here, there := wire(t)
			served := make(chan bool)
			go func() { defer close(served); s.ServeJob(context.Background(), peer.Caller{ID: "x"}, there) }()
			raw, err := request{kind: askAwait, id: blob.Of([]byte("job"))}.marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := here.Write(raw); err != nil {
				t.Fatal(err)
			}
			if h, err := readHead(here); err != nil || h.kind != sayStatus {
				t.Fatalf("%v, %v", h, err)
			}
			leave(here)
			<-served
			if s.gate.visits != 0 {
				t.Errorf("%d visits are left", s.gate.visits)
			}
		})
	}
}

// Who has said nothing yet makes room for those who come; who is served does not.
func TestGate(t *testing.T) {
	g := newGate(time.Now)
	evicted := make(chan int, maxVisits)
	var all []*visit
	for i := range maxPlaceVisits {
		v, err := g.enter(peer.Caller{ID: fmt.Sprint(i), Place: "here"}, func() { evicted <- i })
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	all[0].read()
	if _, err := g.enter(peer.Caller{ID: "late", Place: "here"}, func() {}); err != nil {
		t.Fatal(err)
	}
	if i := <-evicted; i != 1 {
		t.Errorf("%d made room", i)
	}
	all[1].leave() // once more changes nothing
	if g.visits != maxPlaceVisits || g.places["here"] != maxPlaceVisits || len(g.unread) != maxPlaceVisits-1 {
		t.Errorf("%d visits, %d of the place, %d unread", g.visits, g.places["here"], len(g.unread))
	}
	for _, v := range all {
		v.read()
	}
	g.unread[0].read()
	if _, err := g.enter(peer.Caller{ID: "later", Place: "here"}, nil); reasonOf(err) != job.Busy {
		t.Errorf("a full place: %v", err)
	}
	if _, err := g.enter(peer.Caller{ID: "later", Place: "there"}, func() {}); err != nil {
		t.Errorf("another place: %v", err)
	}
}

func TestGateOfOnePeer(t *testing.T) {
	now := time.Now()
	g := newGate(func() time.Time { return now })
	greedy := peer.Caller{ID: "greedy", Place: "here"}
	for range maxPeerVisits {
		if _, err := g.enter(greedy, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.enter(greedy, nil); reasonOf(err) != job.Busy {
		t.Errorf("%v", err)
	}
	for range maxStrikes {
		g.strike("pest")
	}
	pest := peer.Caller{ID: "pest", Place: "there"}
	if _, err := g.enter(pest, nil); reasonOf(err) != job.Busy {
		t.Errorf("%v", err)
	}
	now = now.Add(strikeTime)
	v, err := g.enter(pest, func() {})
	if err != nil {
		t.Errorf("for ever: %v", err)
	}
	for i := range 2 * maxStruck {
		g.strike(fmt.Sprint(i))
	}
	if len(g.struck) > maxStruck {
		t.Errorf("%d are remembered", len(g.struck))
	}
	v.leave()
	if _, known := g.peers["pest"]; known {
		t.Error("who left is still counted")
	}
}

// Large requests are read as far as there is memory for them, small ones always.
func TestGateMemory(t *testing.T) {
	g := newGate(time.Now)
	var all []*visit
	taken := 0
	for i := range maxVisits / 2 {
		v, err := g.enter(peer.Caller{ID: fmt.Sprint(i), Place: "here"}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.take(smallRequest); err != nil {
			t.Fatal(err)
		}
		if v.take(job.MaxSubmissionBytes) == nil {
			taken++
		}
		all = append(all, v)
	}
	if taken == 0 || taken*job.MaxSubmissionBytes > maxRequests {
		t.Errorf("%d large requests", taken)
	}
	for _, v := range all {
		v.leave()
	}
	if g.bytes != 0 || len(g.unread) != 0 || g.visits != 0 {
		t.Errorf("%d bytes, %d visits left", g.bytes, g.visits)
	}
}

// Memory grows with what comes, not with what is announced.
func TestBodiesGrow(t *testing.T) {
	r := io.MultiReader(strings.NewReader("abc"), errReader{})
	if _, err := readBody(r, job.MaxSubmissionBytes); !errors.Is(err, errCut) {
		t.Error(err)
	}
	long := make([]byte, 100_000)
	binary.BigEndian.PutUint64(long[50_000:], 7)
	if got, err := readBody(bytes.NewReader(long), len(long)); err != nil || !bytes.Equal(got, long) {
		t.Error(err)
	}
	allocated := testing.AllocsPerRun(1, func() { _, _ = readBody(strings.NewReader("abc"), job.MaxSubmissionBytes) })
	if allocated > 4 {
		t.Errorf("%v allocations for three bytes", allocated)
	}
}

var errCut = errors.New("cut")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errCut }
