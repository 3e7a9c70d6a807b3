package jobpeer_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/dhtserver"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/wasm"
	"github.com/phasebased/phase/receipt"
)

// TestMain lets the test binary be its own runner.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "job-runner" {
		if err := wasm.ServeRunner(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(n byte) ed25519.PublicKey { return key(n).Public().(ed25519.PublicKey) }

// The keys of these tests.
const (
	worker   = 1
	carrier  = 2 // who brings jobs
	owner    = 3 // whose jobs are run
	stranger = 4
)

// worker node, real but for what a test changes.
type site struct {
	peer  peer.Peer
	node  *node.Node
	desk  *node.Desk
	blobs *store.Store
}

// quick answers with the job's first argument, without a sandbox; "wait" is for
// ever, "flood" writes a lot.
type quick struct{ begun chan string }

func (q quick) Run(ctx context.Context, j *job.Job, _ []byte) (job.Result, error) {
	res := job.Result{State: job.Exited, Engine: "quick"}
	args := j.Spec().Args
	switch {
	case len(args) == 0:
	case args[0] == "wait":
		if q.begun != nil {
			q.begun <- args[0]
		}
		<-ctx.Done()
		return job.Result{State: job.InfraError, Detail: "killed"}, nil
	case args[0] == "flood":
		res.Stdout, res.Stderr = bytes.Repeat([]byte("0123456789abcdef"), 50_000), []byte("much")
	default:
		res.Stdout = []byte(args[0])
	}
	return res, nil
}

func sandbox(t testing.TB) node.Runner {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &wasm.Sandbox{Exe: exe, Args: []string{"job-runner"}, EmptyDir: t.TempDir()}
}

// open makes a worker that listens on loopback.
func open(t testing.TB, runner node.Runner, change func(*node.Config, *jobpeer.Config)) *site {
	t.Helper()
	s := &site{}
	dir := t.TempDir()
	var err error
	if s.blobs, err = store.Open(filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	modules := &node.Modules{Stores: []*store.Store{s.blobs}, MaxBytes: job.MaxModuleBytes}
	cfg := node.Config{
		Key: key(worker), Runner: runner, Module: modules.Get, Limits: job.DefaultNodeLimits,
		MaxConcurrent: 2, MaxQueued: 16, MaxPerSubmitter: 12,
	}
	serve := jobpeer.Config{
		Key: key(worker), Blobs: s.blobs, Submitters: []ed25519.PublicKey{public(owner)}, MaxModuleBytes: 1 << 20,
		Describe: func() jobpeer.Capacity { return jobpeer.Capacity{Arch: "x86_64", MaxRunning: 2} },
	}
	if change != nil {
		change(&cfg, &serve)
	}
	if s.node, err = node.New(cfg); err != nil {
		t.Fatal(err)
	}
	s.desk = openDesk(t, s.node, dir)
	serve.Desk, serve.Rounds = s.desk, s.desk
	server, err := jobpeer.New(serve)
	if err != nil {
		t.Fatal(err)
	}
	n := listen(t, worker)
	for name, h := range map[string]peer.Handler{jobpeer.JobProtocol: server.ServeJob, jobpeer.BlobProtocol: server.ServeBlob} {
		if err := n.Handle(name, h); err != nil {
			t.Fatal(err)
		}
	}
	s.peer = peer.Peer{ID: n.ID(), Key: public(worker), Addrs: n.Addrs()}
	return s
}

func openDesk(t testing.TB, n *node.Node, dir string) *node.Desk {
	t.Helper()
	outputs, err := store.Open(filepath.Join(dir, "outputs"))
	if err != nil {
		t.Fatal(err)
	}
	desk, err := node.NewDesk(node.DeskConfig{
		Node: n, Dir: dir, Outputs: outputs, Submitters: []ed25519.PublicKey{public(owner)},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- desk.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, desk.Close(), outputs.Close()); err != nil {
			t.Error(err)
		}
	})
	// The desk opens in its own time.
	for range 60_000 {
		if _, err := desk.SubmitSigned(nil, job.Caller{}); !isBusy(err) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return desk
}

func isBusy(err error) bool { return reason(err) == job.Busy }

func listen(t testing.TB, n byte) *p2p.Node {
	t.Helper()
	node, err := p2p.New(p2p.Config{Key: key(n), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: dhtserver.New})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	return node
}

// client is a node that only asks.
func client(t testing.TB, n byte) *jobpeer.Client {
	t.Helper()
	node, err := p2p.New(p2p.Config{Key: key(n)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	return &jobpeer.Client{Open: node.Open, AnswerTimeout: time.Minute, SilentTimeout: time.Minute}
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func newJob(t testing.TB, module []byte, args ...string) *job.Job {
	t.Helper()
	j, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Args: args, Nonce: fmt.Sprint(args, time.Now().UnixNano())})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func sign(t testing.TB, j *job.Job, who byte) []byte {
	t.Helper()
	raw, err := job.SignSubmission(j, public(worker), time.Now().Add(time.Hour), key(who))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func reason(err error) job.Reason {
	var r *job.Refusal
	if !errors.As(err, &r) {
		return ""
	}
	return r.Reason
}

var module = []byte("\x00asm module")

func (s *site) keep(t testing.TB, m []byte) {
	t.Helper()
	if err := s.blobs.Put(blob.Of(m), int64(len(m)), bytes.NewReader(m)); err != nil {
		t.Fatal(err)
	}
}

// A job whose module the node does not have: refused, pushed, run in the sandbox,
// signed for, verified.
func TestJobBetweenNodes(t *testing.T) {
	hello, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, sandbox(t), func(_ *node.Config, c *jobpeer.Config) { c.MaxModuleBytes = 16 << 20 })
	c := client(t, carrier)
	j := newJob(t, hello, "Hello, World")
	envelope := sign(t, j, owner)
	if _, err := c.Submit(soon(t), s.peer, envelope, nil); reason(err) != job.Unavailable {
		t.Fatalf("without the module: %v", err)
	}
	for range 2 {
		if err := c.Push(soon(t), s.peer, envelope, blob.Of(hello), int64(len(hello)), bytes.NewReader(hello)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := c.Submit(soon(t), s.peer, envelope, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := receipt.Verify(a.Receipt, public(worker))
	if err != nil || r.Result.JobID != j.ID() || r.Result.Stdout.Digest != blob.Of(a.Stdout) || !r.Observation.Submitter.Equal(public(owner)) {
		t.Errorf("%+v, %v", r, err)
	}
	if got := strings.TrimSpace(string(a.Stdout)); got != "dlroW ,olleH" {
		t.Errorf("%q", got)
	}
	if _, err := c.Submit(soon(t), s.peer, envelope, nil); reason(err) != job.Replayed {
		t.Errorf("again: %v", err)
	}
	again, err := c.Await(soon(t), s.peer, j.ID(), nil)
	if err != nil || !bytes.Equal(again.Receipt, a.Receipt) || !bytes.Equal(again.Stdout, a.Stdout) {
		t.Errorf("asked for once more: %v", err)
	}
	if _, err := client(t, stranger).Await(soon(t), s.peer, j.ID(), nil); !errors.Is(err, job.ErrUnknown) {
		t.Errorf("somebody else asks: %v", err)
	}
}

func TestCapacity(t *testing.T) {
	s := open(t, quick{}, nil)
	c := client(t, carrier)
	for who, accepts := range map[byte]bool{owner: true, stranger: false} {
		c.Submitter = public(who)
		got, err := c.Capacity(soon(t), s.peer)
		if err != nil || got.Accepts != accepts || got.Node != job.FormatKey(public(worker)) || !got.Quorum || got.MaxRunning != 2 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	c.Submitter = nil
	if got, err := c.Capacity(soon(t), s.peer); err != nil || got.Accepts {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.Capacity(soon(t), peer.Peer{ID: s.peer.ID, Addrs: s.peer.Addrs}); err == nil {
		t.Error("a capacity that nobody can have signed")
	}
}

// TestAnyNodeForItsSubmitterOnly: who got a submission for any node cannot bring it to
// another one, have the answer, and shut its submitter out; the submitter can.
func TestAnyNodeForItsSubmitterOnly(t *testing.T) {
	s := open(t, quick{}, nil)
	s.keep(t, module)
	j := newJob(t, module, "a")
	envelope, err := job.SignSubmission(j, nil, time.Now().Add(time.Hour), key(owner))
	if err != nil {
		t.Fatal(err)
	}
	thief := client(t, carrier)
	if _, err := thief.Submit(soon(t), s.peer, envelope, nil); reason(err) != job.Unauthorised {
		t.Errorf("somebody else brings it: %v", err)
	}
	if err := thief.Push(soon(t), s.peer, envelope, blob.Of(module), int64(len(module)), bytes.NewReader(module)); reason(err) != job.Unauthorised {
		t.Errorf("somebody else brings its module: %v", err)
	}
	if a, err := client(t, owner).Submit(soon(t), s.peer, envelope, nil); err != nil || string(a.Stdout) != "a" {
		t.Errorf("its submitter brings it: %+v, %v", a, err)
	}
}

func TestRefusals(t *testing.T) {
	s := open(t, quick{}, nil)
	s.keep(t, module)
	c := client(t, carrier)
	j := newJob(t, module, "a")
	late, err := job.SignSubmission(j, nil, time.Now().Add(-time.Minute), key(owner))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := job.SignSubmission(j, public(stranger), time.Now().Add(time.Hour), key(owner))
	if err != nil {
		t.Fatal(err)
	}
	greedy, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Limits: job.Limits{MemoryBytes: 1 << 40}})
	if err != nil {
		greedy = newJob(t, module, "greedy")
	}
	for name, c2 := range map[string]struct {
		envelope []byte
		want     job.Reason
	}{
		"a stranger's":                    {sign(t, j, stranger), job.Unauthorised},
		"too late":                        {late, job.Expired},
		"for another node":                {elsewhere, job.Unauthorised},
		"bytes":                           {[]byte("{}"), job.Malformed},
		"nothing there":                   {sign(t, newJob(t, []byte("absent")), owner), job.Unavailable},
		"a stranger's, and nothing there": {sign(t, newJob(t, []byte("absent")), stranger), job.Unauthorised},
	} {
		if _, err := c.Submit(soon(t), s.peer, c2.envelope, nil); reason(err) != c2.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	_ = greedy
	if err := c.Cancel(soon(t), s.peer, j.ID()); !errors.Is(err, job.ErrUnknown) {
		t.Errorf("a job that is none: %v", err)
	}
	if _, err := c.Reveal(soon(t), s.peer, j.ID(), []byte("{}")); !errors.Is(err, job.ErrUnknown) {
		t.Errorf("a job that is none: %v", err)
	}
}

func TestPushRefused(t *testing.T) {
	s := open(t, quick{}, nil)
	c := client(t, carrier)
	big := make([]byte, 2<<20)
	mine, bigJob := sign(t, newJob(t, module), owner), sign(t, newJob(t, big), owner)
	wrong := bytes.Repeat([]byte("x"), len(module))
	for name, p := range map[string]struct {
		envelope, bytes []byte
		digest          blob.Digest
		want            job.Reason
	}{
		"a stranger's":   {sign(t, newJob(t, module), stranger), module, blob.Of(module), job.Unauthorised},
		"another module": {mine, wrong, blob.Of(wrong), job.Unauthorised},
		"too big":        {bigJob, big, blob.Of(big), job.TooBig},
		"other bytes":    {mine, wrong, blob.Of(module), job.Malformed},
		"no permission":  {[]byte("{}"), module, blob.Of(module), job.Malformed},
	} {
		err := c.Push(soon(t), s.peer, p.envelope, p.digest, int64(len(p.bytes)), bytes.NewReader(p.bytes))
		if reason(err) != p.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.blobs.Has(blob.Of(module)) || s.blobs.Has(blob.Of(wrong)) {
		t.Error("kept what was refused")
	}
	err := c.Push(soon(t), s.peer, mine, blob.Of(module), int64(len(module)), bytes.NewReader(module[:3]))
	if err == nil || reason(err) != "" {
		t.Errorf("a source that ends: %v", err)
	}
	if err := c.Push(soon(t), s.peer, mine, blob.Of(module), int64(len(module)), bytes.NewReader(module)); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// A job that takes its time: progress, cancelling, a failure that says which.
func TestProgressAndCancel(t *testing.T) {
	begun := make(chan string, 1)
	s := open(t, quick{begun}, func(_ *node.Config, c *jobpeer.Config) { c.BeatEvery = 10 * time.Millisecond })
	s.keep(t, module)
	c := client(t, carrier)
	j := newJob(t, module, "wait")
	var once sync.Once
	told := make(chan job.Stage, 1)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Submit(soon(t), s.peer, sign(t, j, owner), func(s job.Status) {
			if s.Stage == job.Running {
				once.Do(func() { told <- s.Stage })
			}
		})
		failed <- err
	}()
	<-begun
	select {
	case <-told:
	case err := <-failed:
		t.Fatal(err)
	}
	if err := c.Cancel(soon(t), s.peer, j.ID()); err != nil {
		t.Fatal(err)
	}
	var ended *jobpeer.EndedError
	if err := <-failed; !errors.As(err, &ended) || reason(err) != job.Cancelled || ended.Status.ID != j.ID() {
		t.Errorf("%v", err)
	}
}

// Outputs of many frames, over a window that is smaller.
func TestLargeOutput(t *testing.T) {
	s := open(t, quick{}, nil)
	s.keep(t, module)
	c := client(t, carrier)
	a, err := c.Submit(soon(t), s.peer, sign(t, newJob(t, module, "flood"), owner), nil)
	if err != nil || len(a.Stdout) != 800_000 || string(a.Stderr) != "much" {
		t.Fatalf("%d bytes, %v", len(a.Stdout), err)
	}
	c.MaxOutput = 1000
	var e *jobpeer.Error
	if _, err := c.Submit(soon(t), s.peer, sign(t, newJob(t, module, "flood"), owner), nil); !errors.As(err, &e) || e.Kind != jobpeer.Lying {
		t.Errorf("more than is taken: %v", err)
	}
}

// A submission of the largest size, in many frames' worth of bytes.
func TestLargeSubmission(t *testing.T) {
	s := open(t, quick{}, nil)
	s.keep(t, module)
	j, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Args: []string{"a"}, Stdin: make([]byte, job.MaxStdinBytes)})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, carrier)
	if a, err := c.Submit(soon(t), s.peer, sign(t, j, owner), nil); err != nil || string(a.Stdout) != "a" {
		t.Errorf("%q, %v", a.Stdout, err)
	}
	if _, err := c.Submit(soon(t), s.peer, sign(t, j, stranger), nil); reason(err) != job.Unauthorised {
		t.Errorf("a stranger's: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	c := client(t, carrier)
	j := newJob(t, module, "a")
	silent := listen(t, stranger) // answers no jobs
	for name, p := range map[string]peer.Peer{
		"nobody there": {Key: public(9), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}},
		"no address":   {Key: public(9)},
		"takes none":   {Key: public(stranger), Addrs: silent.Addrs()},
		"another key":  {Key: public(9), Addrs: []string{strings.Split(silent.Addrs()[0], "/p2p/")[0]}},
	} {
		var e *jobpeer.Error
		if _, err := c.Submit(soon(t), p, sign(t, j, owner), nil); !errors.As(err, &e) || e.Kind != jobpeer.Unreachable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a whole job costs that does nothing, without a jail: signed before, carried,
// queued, signed for, verified. The processor's time counts where others are busy.
func BenchmarkJob(b *testing.B) {
	s := open(b, quick{}, func(c *node.Config, _ *jobpeer.Config) { c.MaxPerSubmitter = 0 })
	s.keep(b, module)
	c := client(b, carrier)
	var envelopes [][]byte
	for i := range b.N {
		envelopes = append(envelopes, sign(b, newJob(b, module, fmt.Sprint(i)), owner))
	}
	began := spent(b)
	b.ResetTimer()
	for _, envelope := range envelopes {
		a, err := c.Submit(context.Background(), s.peer, envelope, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := receipt.Verify(a.Receipt, public(worker)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((spent(b)-began).Microseconds())/float64(b.N), "cpu-µs/op")
}

// What the least conversation costs: a question and a signed answer.
func BenchmarkCapacity(b *testing.B) {
	s, c := open(b, quick{}, nil), client(b, carrier)
	began := spent(b)
	b.ResetTimer()
	for range b.N {
		if _, err := c.Capacity(context.Background(), s.peer); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((spent(b)-began).Microseconds())/float64(b.N), "cpu-µs/op")
}

// spent is the processor time of this process.
func spent(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
