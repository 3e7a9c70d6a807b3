package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
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

func helloModule(t testing.TB) []byte {
	t.Helper()
	module, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// newNode is a node with the real sandbox that has the given modules.
func newNode(t testing.TB, change func(*Config), modules ...[]byte) *Node {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	key, err := EphemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Key: key, Limits: job.DefaultNodeLimits, MaxConcurrent: 2, MaxQueued: 4,
		Runner: &wasm.Sandbox{Exe: exe, Args: []string{"job-runner"}, EmptyDir: empty},
		Module: func(_ context.Context, d blob.Digest) ([]byte, error) {
			for _, m := range modules {
				if blob.Of(m) == d {
					return m, nil
				}
			}
			return nil, os.ErrNotExist
		},
	}
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newJob(t testing.TB, spec job.Spec) *job.Job {
	t.Helper()
	spec.Version = job.SpecVersion
	j, err := job.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestReceiptSaysWhatHappened(t *testing.T) {
	hello := helloModule(t)
	booted := &receipt.Booted{ManifestVersion: 7, ManifestDigest: blob.Of([]byte("manifest")), Channel: "stable", Arch: "x86_64"}
	n := newNode(t, func(c *Config) { c.Booted = booted }, hello)
	j := newJob(t, job.Spec{Module: blob.Of(hello), Args: []string{"Hello, World"}, Stdin: []byte("unread")})
	before := time.Now().Add(-time.Second)
	report, err := n.Execute(context.Background(), j)
	if err != nil {
		t.Fatal(err)
	}
	if string(report.Result.Stdout) != "dlroW ,olleH\n" || report.Result.ExitCode != 0 || report.JobID != j.ID() {
		t.Errorf("%+v", report.Result)
	}
	s, err := receipt.Verify(report.Receipt, n.Public())
	if err != nil {
		t.Fatal(err)
	}
	r, o := s.Result, s.Observation
	if r.JobID != j.ID() || r.Module != blob.Of(hello) || !slices.Equal(r.Args, []string{"Hello, World"}) ||
		r.Stdin != blob.Of([]byte("unread")) || r.EndState != receipt.Exited || r.Trap != "" ||
		r.Stdout != receipt.OutputOf([]byte("dlroW ,olleH\n"), false) || r.Stderr != receipt.OutputOf(nil, false) ||
		r.Limits != receipt.Limits(job.DefaultLimits) {
		t.Errorf("result %+v", r)
	}
	if !strings.HasPrefix(o.Engine, "wazero ") || !slices.Contains(o.Walls, wasm.WallProcess) || *o.Booted != *booted ||
		o.Timings.StartedAt.Before(before) || o.Timings.Compile <= 0 || o.Timings.Run <= 0 {
		t.Errorf("observation %+v", o)
	}
	stranger, err := EphemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := receipt.Verify(report.Receipt, stranger.Public().(ed25519.PublicKey)); !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("against another key: %v", err)
	}
}

func TestFailedJobsHaveReceiptsToo(t *testing.T) {
	for state, wat := range map[job.State]string{
		job.Trapped:     `(module (func (export "_start") unreachable))`,
		job.OutOfMemory: `(module (memory 1) (func (export "_start") i32.const 65535 memory.grow drop unreachable))`,
		job.Deadline:    `(module (func (export "_start") loop $l br $l end))`,
	} {
		module, err := wasmtest.Assemble(wat)
		if err != nil {
			t.Fatal(err)
		}
		n := newNode(t, nil, module)
		limits := job.Limits{DeadlineMS: 60_000}
		if state == job.Deadline {
			limits.DeadlineMS = 500
		}
		report, err := n.Execute(context.Background(), newJob(t, job.Spec{Module: blob.Of(module), Limits: limits}))
		if err != nil {
			t.Fatal(err)
		}
		s, err := receipt.Verify(report.Receipt, n.Public())
		if err != nil || s.Result.EndState != receipt.EndState(state) || (s.Result.Trap != "") != (state == job.Trapped) {
			t.Errorf("%s: %+v %v", state, s.Result, err)
		}
	}
}

func TestTurnedAway(t *testing.T) {
	hello := helloModule(t)
	garbage := []byte("garbage")
	small := func(c *Config) { c.Limits.MemoryBytes = 1 << 20 }
	for _, c := range []struct {
		name   string
		change func(*Config)
		module blob.Digest
		reason job.Reason
	}{
		{"more memory than the node's", small, blob.Of(hello), job.TooBig},
		{"module too large", func(c *Config) { c.Limits.ModuleBytes = 10 }, blob.Of(hello), job.TooBig},
		{"unknown module", nil, blob.Of([]byte("unknown")), job.Unavailable},
		{"not a module", nil, blob.Of(garbage), job.Malformed},
		{"wrong bytes", func(c *Config) {
			c.Module = func(context.Context, blob.Digest) ([]byte, error) { return garbage, nil }
		}, blob.Of(hello), job.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, c.change, hello, garbage)
			report, err := n.Execute(context.Background(), newJob(t, job.Spec{Module: c.module}))
			var r *job.Refusal
			if !errors.As(err, &r) || r.Reason != c.reason || report.Receipt != nil {
				t.Errorf("%v, want %s", err, c.reason)
			}
			var mismatch *blob.MismatchError
			if c.name == "wrong bytes" && !errors.As(err, &mismatch) {
				t.Errorf("%v does not say which bytes came", err)
			}
		})
	}
}

// heldRunner runs jobs until they are let go.
type heldRunner struct{ started, release chan struct{} }

func (h heldRunner) Run(context.Context, *job.Job, []byte) (job.Result, error) {
	h.started <- struct{}{}
	<-h.release
	return job.Result{State: job.Exited, Engine: "none", Walls: []string{}}, nil
}

func TestQueueIsBounded(t *testing.T) {
	hello := helloModule(t)
	held := heldRunner{make(chan struct{}, 8), make(chan struct{})}
	n := newNode(t, func(c *Config) { c.Runner, c.MaxConcurrent, c.MaxQueued = held, 2, 1 }, hello)
	j := newJob(t, job.Spec{Module: blob.Of(hello)})
	done := make(chan error, 3)
	execute := func(ctx context.Context) { _, err := n.Execute(ctx, j); done <- err }
	go execute(context.Background())
	go execute(context.Background())
	<-held.started
	<-held.started
	impatient, cancel := context.WithCancel(context.Background())
	go execute(impatient)
	for _, waiting := n.gate.counts(); waiting != 1; _, waiting = n.gate.counts() {
		time.Sleep(time.Millisecond)
	}
	_, err := n.Execute(context.Background(), j)
	var r *job.Refusal
	if !errors.As(err, &r) || r.Reason != job.Busy || r.RetryAfter <= 0 || r.Code() != "NODE-004" {
		t.Errorf("the fourth job: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the impatient one: %v", err)
	}
	close(held.release)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := n.Execute(context.Background(), j); err != nil {
		t.Errorf("after the rush: %v", err)
	}
}

// TestMemoryStaysFlat runs a thousand jobs; a leak of one page each would show.
func TestMemoryStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: runs a thousand jobs")
	}
	hello := helloModule(t)
	n := newNode(t, nil, hello)
	run := func(jobs int) {
		for i := range jobs {
			j := newJob(t, job.Spec{Module: blob.Of(hello), Args: []string{"x"}, Nonce: fmt.Sprint(i)})
			if report, err := n.Execute(context.Background(), j); err != nil || report.Result.State != job.Exited {
				t.Fatalf("job %d: %+v %v", i, report.Result, err)
			}
		}
	}
	run(100)
	before := residentKiB(t)
	run(1000)
	if after := residentKiB(t); after > before+4<<10 {
		t.Errorf("resident memory grew from %d to %d KiB", before, after)
	}
}

func residentKiB(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int
	if _, err := fmt.Sscanf(rest, "%d", &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func TestNewRefuses(t *testing.T) {
	key, err := EphemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	good := Config{
		Key: key, Runner: heldRunner{}, MaxConcurrent: 1,
		Module: func(context.Context, blob.Digest) ([]byte, error) { return nil, nil },
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"no key":         func(c *Config) { c.Key = nil },
		"no runner":      func(c *Config) { c.Runner = nil },
		"no modules":     func(c *Config) { c.Module = nil },
		"no slots":       func(c *Config) { c.MaxConcurrent = 0 },
		"negative queue": func(c *Config) { c.MaxQueued = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkHelloWithReceipt(b *testing.B) {
	hello := helloModule(b)
	n := newNode(b, nil, hello)
	j := newJob(b, job.Spec{Module: blob.Of(hello), Args: []string{"Hello, World"}})
	for b.Loop() {
		if _, err := n.Execute(context.Background(), j); err != nil {
			b.Fatal(err)
		}
	}
}

func TestBootedFile(t *testing.T) {
	digest := blob.Of([]byte("payload")).String()
	good := `{"schema_version":1,"mode":"internet","channel":"stable","arch":"x86_64","manifest":{"version":3,"digest":"` + digest +
		`","key_ids":["k"]},"bases":["http://10.0.2.2:8080"],"bootstrap":["/ip4/10.0.2.2/tcp/4001/p2p/x"],"timeline":[{"name":"network"}],"network":{"a":null}}`
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "handover.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b, err := ReadBooted(write(good))
	if err != nil {
		t.Fatal(err)
	}
	want := receipt.Booted{ManifestVersion: 3, ManifestDigest: blob.Of([]byte("payload")), Channel: "stable", Arch: "x86_64"}
	if *b.Receipt() != want || len(b.Bases) != 1 || len(b.Bootstrap) != 1 {
		t.Errorf("%+v", b)
	}
	for name, text := range map[string]string{
		"empty": "", "text": "hello", "no manifest": `{"channel":"stable","arch":"x86_64"}`,
		"version 0":   strings.Replace(good, `"version":3`, `"version":0`, 1),
		"bare digest": strings.Replace(good, "sha256:", "", 1),
		"no channel":  strings.Replace(good, `"stable"`, `""`, 1),
		"twice":       strings.Replace(good, `"arch":"x86_64"`, `"arch":"x86_64","arch":"arm64"`, 1),
		"huge":        good + strings.Repeat(" ", maxBooted),
	} {
		if _, err := ReadBooted(write(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ReadBooted("/nonexistent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
