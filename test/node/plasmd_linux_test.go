// Package node_test attacks running nodes: the real plasmd, with a state folder and
// a socket of its own, which has honest work to do all the while.
package node_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/nettest"
)

// patience is how long any single event may take to come; machines that run tests
// are busy.
const patience = time.Minute

// programs are built once for all tests.
var programs struct{ dir, plasmd, phase string }

// builtVar names their folder in a process that a test has started for itself.
const builtVar = "PHASE_NODE_PROGRAMS"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == badCommand {
		err := beBad(os.Args[2:])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if dir := os.Getenv(builtVar); dir != "" {
		programs.dir, programs.plasmd, programs.phase = dir, filepath.Join(dir, "plasmd"), filepath.Join(dir, "phase")
		os.Exit(m.Run())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "phase-node-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Guests run as users of their own, who must be able to reach the program.
	err = os.Chmod(dir, 0o755)
	programs.dir, programs.plasmd, programs.phase = dir, filepath.Join(dir, "plasmd"), filepath.Join(dir, "phase")
	for _, name := range []string{"plasmd", "plasm-jail", "phase"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), "../../cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, failed := build.CombinedOutput(); failed != nil {
			err = errors.Join(err, fmt.Errorf("%w\n%s", failed, out))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// newKey makes somebody who submits jobs.
func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	nettest.Check(t, err)
	return key
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// A node is a plasmd with what it keeps. It can be killed and started again.
type node struct {
	testing.TB
	dir, socket string
	client      *jobapi.Client
	key         ed25519.PublicKey // its identity, once it was up
	host        *nettest.Host     // the machine it is on; nil: this one

	pid   int
	log   *tail
	ended chan struct{} // closed when the process has ended
}

// start starts a node that runs jobs of these submitters, changed by change, and
// ends it with the test.
func start(t testing.TB, change map[string]any, submitters ...ed25519.PrivateKey) *node {
	t.Helper()
	n := newNode(t, change, submitters...)
	n.start()
	return n
}

// newNode is a node that is not started yet.
func newNode(t testing.TB, change map[string]any, submitters ...ed25519.PrivateKey) *node {
	t.Helper()
	dir, err := os.MkdirTemp("", "phase-n") // short: the path of a socket is
	nettest.Check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	nettest.Check(t, os.Chmod(dir, 0o755)) // guests' root is below it
	n := &node{TB: t, dir: dir, socket: filepath.Join(dir, "s"), log: &tail{}}
	n.client = jobapi.NewClient(n.socket)
	t.Cleanup(n.client.Close)
	keys := []string{}
	for _, key := range submitters {
		keys = append(keys, job.FormatKey(publicOf(key)))
	}
	config := map[string]any{"listen_addrs": []string{}, "job_socket": n.socket, "serve_port": 0, "metrics_addr": "", "page_addr": "", "submitters": keys}
	for name, value := range change {
		config[name] = value
	}
	raw, err := json.Marshal(config)
	nettest.Check(t, err)
	nettest.Check(t, os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644))
	t.Cleanup(func() {
		if n.ended == nil {
			return
		}
		n.end(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the node's last words:\n%s", n.log)
		}
	})
	return n
}

// state is the folder of what the node keeps.
func (n *node) state() string { return filepath.Join(n.dir, "state") }

// start starts the process and returns when it takes jobs.
func (n *node) start() {
	n.Helper()
	cmd := exec.Command(programs.plasmd, "start", "-c", filepath.Join(n.dir, "config.json"), "--state", n.state())
	cmd.Env = []string{"HOME=" + n.dir, "PATH=" + os.Getenv("PATH")}
	n.run(cmd)
	n.await()
}

// run starts a process that dies with this one, whose thread therefore stays.
func (n *node) run(cmd *exec.Cmd) {
	n.Helper()
	r, w, err := os.Pipe()
	nettest.Check(n, err)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended, started := make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if n.host == nil {
			err = cmd.Start()
		} else {
			n.host.Do(func() { err = cmd.Start() })
		}
		w.Close()
		started <- err
		if err == nil {
			n.log.follow(r)
			_ = cmd.Wait()
		}
		r.Close()
		close(ended)
	}()
	nettest.Check(n, <-started)
	n.pid, n.ended = cmd.Process.Pid, ended
}

// await waits until the node takes jobs, and learns its key.
func (n *node) await() {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), patience)
	defer cancel()
	for {
		nodes, err := n.client.Nodes(ctx)
		if err == nil && len(nodes) > 0 {
			n.key, err = job.ParseKey(nodes[0].Key)
			nettest.Check(n, err)
			return
		}
		select {
		case <-n.ended:
			n.Fatalf("plasmd ended:\n%s", n.log)
		case <-ctx.Done():
			n.Fatalf("plasmd does not answer: %v\n%s", err, n.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end sends a signal and waits for the process's end.
func (n *node) end(signal syscall.Signal) {
	n.Helper()
	select {
	case <-n.ended:
		return
	default:
	}
	_ = syscall.Kill(n.pid, signal)
	kill := time.AfterFunc(patience/2, func() { _ = syscall.Kill(n.pid, syscall.SIGKILL) })
	defer kill.Stop()
	<-n.ended
	n.client.Close()
}

// memory is a line of the process's status, such as VmRSS or VmHWM, in bytes.
func (n *node) memory(line string) int64 {
	n.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid))
	nettest.Check(n, err)
	_, after, ok := strings.Cut(string(raw), line+":")
	fields := strings.Fields(after)
	if !ok || len(fields) < 2 {
		n.Fatalf("no %s of process %d", line, n.pid)
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	nettest.Check(n, err)
	return kib << 10
}

// resetPeak begins to measure VmHWM anew (proc(5), clear_refs).
func (n *node) resetPeak() {
	n.Helper()
	nettest.Check(n, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.pid), []byte("5"), 0))
}

// tail keeps the end of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) follow(r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		t.mu.Lock()
		t.lines = append(t.lines, lines.Text())
		t.lines = t.lines[max(0, len(t.lines)-60):]
		t.mu.Unlock()
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// A submitter asks as somebody who has a key.
type submitter struct {
	*node
	key ed25519.PrivateKey
}

func (n *node) as(key ed25519.PrivateKey) submitter { return submitter{n, key} }

// newJob is a job of a module, with a nonce of its own.
func newJob(t testing.TB, module blob.Digest, change func(*job.Spec)) *job.Job {
	t.Helper()
	spec := job.Spec{Version: job.SpecVersion, Module: module, Nonce: nonce()}
	if change != nil {
		change(&spec)
	}
	j, err := job.New(spec)
	nettest.Check(t, err)
	return j
}

// envelope signs a job for this node.
func (s submitter) envelope(j *job.Job) []byte {
	s.Helper()
	raw, err := job.SignSubmission(j, s.node.key, time.Now().Add(time.Hour), s.key)
	nettest.Check(s, err)
	return raw
}

// submit hands a job in, signed.
func (s submitter) submit(ctx context.Context, j *job.Job) (job.Status, error) {
	return s.client.Submit(ctx, jobapi.TypeEnvelope, s.envelope(j))
}

// wait is how a job ended.
func (n *node) wait(id blob.Digest) *job.End {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), patience)
	defer cancel()
	status, err := n.client.Watch(ctx, id, func(job.Status) {})
	nettest.Check(n, err)
	return status.End
}

// upload gives the node a module.
func (n *node) upload(module []byte) blob.Digest {
	n.Helper()
	nettest.Check(n, n.client.Upload(n.Context(), module))
	return blob.Of(module)
}

// reasonOf is why a node refused, "" if it did not.
func reasonOf(err error) job.Reason {
	var refused *jobapi.RefusedError
	if errors.As(err, &refused) {
		return refused.Failure.Reason
	}
	return ""
}

// hello is a job whose output is known.
func hello(t testing.TB, word string) *job.Job {
	t.Helper()
	return newJob(t, blob.Of(examples.Hello), func(s *job.Spec) { s.Args = []string{word} })
}

// reversed is what the hello job makes of a word.
func reversed(word string) []byte {
	out := []byte(word)
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return append(out, '\n')
}

// same compares an output with what it must be.
func same(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the output is %.80q, want %.80q", got, want)
	}
	return nil
}
