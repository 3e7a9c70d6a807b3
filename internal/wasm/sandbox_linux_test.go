package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
)

// TestMain lets the test binary be its own runner.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "job-runner" {
		if err := ServeRunner(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == ProtocolCommand {
		fmt.Println(Protocol("this release"))
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "run-for-ever" {
		runForEver(os.Args[2])
	}
	if len(os.Args) == 3 && os.Args[1] == "keep-spares" {
		keepSpares(os.Args[2])
	}
	if len(os.Args) == 5 && os.Args[1] == "hostile" {
		os.Exit(beHostile(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// testSandbox keeps its empty directory outside t.TempDir: that one is below
// a directory that only its owner may enter.
func testSandbox(t testing.TB) *Sandbox {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Skipf("/proc is not mounted here, and without it no program finds itself: %v", err)
	}
	dir, err := os.MkdirTemp("", "empty")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	return &Sandbox{Exe: exe, Args: []string{"job-runner"}, EmptyDir: dir}
}

func assemble(t testing.TB, text string) []byte {
	t.Helper()
	module, err := wasmtest.Assemble(text)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func newJob(t testing.TB, module []byte, change func(*job.Spec)) *job.Job {
	t.Helper()
	spec := job.Spec{Version: job.SpecVersion, Module: blob.Of(module)}
	if change != nil {
		change(&spec)
	}
	j, err := job.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

const wasiImports = `
	(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
	(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
	(memory (export "memory") 1)`

// flood writes 1 MiB at a time to file descriptor fd, for ever.
func flood(fd int) string {
	return fmt.Sprintf(`(module %s
	(func (export "_start")
		i32.const 16 memory.grow drop
		i32.const 0 i32.const 64 i32.store
		i32.const 4 i32.const 1048576 i32.store
		loop $more
			i32.const %d i32.const 0 i32.const 1 i32.const 8 call $fd_write drop
			br $more
		end))`, wasiImports, fd)
}

// growThen asks for memory page by page until it is refused.
func growThen(end string) string {
	return `(module (memory 1) (func (export "_start")
		loop $more
			i32.const 1 memory.grow
			i32.const -1 i32.ne
			br_if $more
		end ` + end + `))`
}

func TestEndStates(t *testing.T) {
	short := func(s *job.Spec) { s.Limits.DeadlineMS = 300 }
	for _, c := range []struct {
		name   string
		wat    string
		change func(*job.Spec)
		state  job.State
		code   int
		detail string
	}{
		{"returns", `(module (func (export "_start")))`, nil, job.Exited, 0, ""},
		{"exit 0", `(module ` + wasiImports + `(func (export "_start") i32.const 0 call $proc_exit))`, nil, job.Exited, 0, ""},
		{"exit 7", `(module ` + wasiImports + `(func (export "_start") i32.const 7 call $proc_exit))`, nil, job.Exited, 7, ""},
		{"trap", `(module (func (export "_start") unreachable))`, nil, job.Trapped, 0, "unreachable"},
		{"out of bounds", `(module (memory 1) (func (export "_start") i32.const -1 i32.load drop))`, nil, job.Trapped, 0, "out of bounds memory access"},
		{"endless recursion", `(module (func $f (export "_start") call $f))`, nil, job.Trapped, 0, "stack overflow"},
		{"endless loop", `(module (func (export "_start") loop $l br $l end))`, short, job.Deadline, 0, "still running after 300ms"},
		{"endless loop in start", `(module (func $f loop $l br $l end) (func (export "_start")) (start $f))`, short, job.Deadline, 0, "still running"},
		{"grow and trap", growThen("unreachable"), nil, job.OutOfMemory, 0, "refused more memory"},
		{"grow and cope", growThen(""), nil, job.Exited, 0, ""},
		{"grow for ever", growThen("loop $l i32.const 1 memory.grow drop br $l end"), short, job.Deadline, 0, ""},
		{"stdout flood", flood(1), nil, job.OutputCap, 0, "limit to stdout"},
		{"stderr flood", flood(2), nil, job.OutputCap, 0, "limit to stderr"},
	} {
		t.Run(c.name, func(t *testing.T) {
			module := assemble(t, c.wat)
			res, err := testSandbox(t).Run(context.Background(), newJob(t, module, c.change), module)
			if err != nil {
				t.Fatal(err)
			}
			if res.State != c.state || res.ExitCode != c.code || !strings.Contains(res.Detail, c.detail) {
				t.Fatalf("%s, exit code %d, %q; want %s, %d, %q", res.State, res.ExitCode, res.Detail, c.state, c.code, c.detail)
			}
			if c.detail == "" && c.state == job.Exited && res.Detail != "" {
				t.Errorf("detail %q of a job without trouble", res.Detail)
			}
		})
	}
}

// TestMachineWithoutMemory: that a node has no more memory is not how a job ends. Others
// have it, and the node's receipt of it would contradict theirs.
func TestMachineWithoutMemory(t *testing.T) {
	module := assemble(t, growThen(""))
	j := newJob(t, module, func(s *job.Spec) { s.Limits.MemoryBytes = 2 << 30 })
	fits := j.Limits()
	fits.MemoryBytes = PageBytes // the process may have less than the job
	r, err := testSandbox(t).startAlone(t.Context(), fits, gift{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	res, err := r.work(t.Context(), j, module)
	if err != nil || res.State != job.InfraError || res.FuelUsed != 0 || !strings.Contains(res.Detail, "memory for the guest") {
		t.Errorf("%s, fuel %d, %q, %v", res.State, res.FuelUsed, res.Detail, err)
	}
}

func TestOutputIsCutAtTheLimit(t *testing.T) {
	for fd, name := range map[int]string{1: "stdout", 2: "stderr"} {
		module := assemble(t, flood(fd))
		j := newJob(t, module, func(s *job.Spec) { s.Limits.StdoutBytes, s.Limits.StderrBytes = 3<<20+1, 100 })
		res, err := testSandbox(t).Run(context.Background(), j, module)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{"stdout": len(res.Stdout), "stderr": len(res.Stderr)}
		want := map[int]int{1: 3<<20 + 1, 2: 100}[fd]
		if got[name] != want || got["stdout"]+got["stderr"] != want {
			t.Errorf("%s: kept %v, want %d of it alone", name, got, want)
		}
		if res.StdoutTruncated != (fd == 1) || res.StderrTruncated != (fd == 2) {
			t.Errorf("%s: truncated %v %v", name, res.StdoutTruncated, res.StderrTruncated)
		}
	}
}

// TestPartialOutputSurvivesTheDeadline: what a guest wrote before it hung is
// the best explanation of why it did.
func TestPartialOutputSurvivesTheDeadline(t *testing.T) {
	module := assemble(t, `(module `+wasiImports+`
		(data (i32.const 64) "so far so good\n")
		(func (export "_start")
			i32.const 0 i32.const 64 i32.store
			i32.const 4 i32.const 15 i32.store
			i32.const 1 i32.const 0 i32.const 1 i32.const 8 call $fd_write drop
			loop $l br $l end))`)
	j := newJob(t, module, func(s *job.Spec) { s.Limits.DeadlineMS = 3000 }) // its start counts too
	res, err := testSandbox(t).Run(context.Background(), j, module)
	if err != nil || res.State != job.Deadline || string(res.Stdout) != "so far so good\n" {
		t.Errorf("%s %q %v", res.State, res.Stdout, err)
	}
}

func TestMemoryPeakIsTheLimit(t *testing.T) {
	module := assemble(t, growThen(""))
	j := newJob(t, module, func(s *job.Spec) { s.Limits.MemoryBytes = 10*PageBytes + 5 })
	res, err := testSandbox(t).Run(context.Background(), j, module)
	if err != nil || res.PeakMemoryBytes != 10*PageBytes {
		t.Errorf("peak %d, want %d (%v)", res.PeakMemoryBytes, 10*PageBytes, err)
	}
}

// compileTime is enough, in milliseconds, to compile Go's runtime on a busy machine.
const compileTime = 300_000

func TestGuestSeesOnlyItsSpecification(t *testing.T) {
	module := buildWorld(t)
	run := func(nonce string) string {
		j := newJob(t, module, func(s *job.Spec) {
			s.Args = []string{"one", "zwei drei", ""}
			s.Env = map[string]string{"B": "2", "A": "1=1"}
			s.Stdin = []byte("input\n")
			s.Nonce = nonce
			s.Limits.DeadlineMS = compileTime
		})
		res, err := testSandbox(t).Run(context.Background(), j, module)
		if err != nil || res.State != job.Exited || res.ExitCode != 0 {
			t.Fatalf("%s %d %s %v %s", res.State, res.ExitCode, res.Detail, err, res.Stderr)
		}
		return string(res.Stdout)
	}
	first := run("a")
	want := `args ["job" "one" "zwei drei" ""]
env ["A=1=1" "B=2"]
stdin "input\n" <nil>
read /: true
read .: true
read /etc/passwd: true
read ../../etc/passwd: true
read /proc/self/environ: true
create: true
dial: true
time 2022-01-01
random `
	if !strings.HasPrefix(first, want) {
		t.Errorf("the guest saw\n%s\nwant\n%s", first, want)
	}
	if again := run("a"); again != first {
		t.Errorf("the same job saw another world:\n%s\n%s", first, again)
	}
	if other := run("b"); other == first {
		t.Errorf("another job drew the same random numbers:\n%s", other)
	}
}

func buildWorld(t *testing.T) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: builds a module with the Go compiler")
	}
	path := filepath.Join(t.TempDir(), "world.wasm")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./testdata/world")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	module, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func TestWallsAreMeasured(t *testing.T) {
	module := assemble(t, `(module (func (export "_start")))`)
	res, err := testSandbox(t).Run(context.Background(), newJob(t, module, nil), module)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wallsHere(t) {
		if !slices.Contains(res.Walls, w) {
			t.Errorf("wall %s is missing from %v", w, res.Walls)
		}
	}
	t.Logf("walls: %v", res.Walls)
	if got := measureWalls(os.Getpid(), runnerConfig{Root: "/empty", Limits: []resourceLimit{{unix.RLIMIT_AS, 1}}}, nil); len(slices.DeleteFunc(got, isNoNewPriv)) != 0 {
		t.Errorf("the test itself seems jailed: %v", got)
	}
}

// isNoNewPriv: a node's own thread may have that one by now.
func isNoNewPriv(wall string) bool { return wall == WallNoNewPriv }

func TestCancelKills(t *testing.T) {
	module := assemble(t, `(module (func (export "_start") loop $l br $l end))`)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	res, err := testSandbox(t).Run(ctx, newJob(t, module, nil), module)
	if err != nil || res.State != job.InfraError || time.Since(start) > time.Minute {
		t.Errorf("%s after %s: %v", res.State, time.Since(start), err)
	}
}

// TestCompilingCountsAgainstTheDeadline: a module can be made to take long
// before its first instruction runs.
func TestCompilingCountsAgainstTheDeadline(t *testing.T) {
	slow := "(module " + strings.Repeat("(func "+strings.Repeat("i32.const 1 drop ", 500)+")", 2000) + `(func (export "_start")))`
	module := assemble(t, slow)
	j := newJob(t, module, func(s *job.Spec) { s.Limits.DeadlineMS = 1 })
	res, err := testSandbox(t).Run(context.Background(), j, module)
	if err != nil || res.State != job.Deadline {
		t.Errorf("%s after compiling for %s: %v", res.State, res.Timings.Compile, err)
	}
}

// runForEver is the node of TestRunnerDiesWithItsNode.
func runForEver(dir string) {
	module, err := wasmtest.Assemble(`(module (func (export "_start") loop $l br $l end))`)
	if err == nil {
		var j *job.Job
		if j, err = job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Limits: job.Limits{DeadlineMS: 60_000}}); err == nil {
			s := &Sandbox{Exe: os.Args[0], Args: []string{"job-runner"}, EmptyDir: dir}
			_, err = s.Run(context.Background(), j, module)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestRunnerDiesWithItsNode(t *testing.T) {
	sandbox := testSandbox(t)
	node := exec.Command(sandbox.Exe, "run-for-ever", sandbox.EmptyDir)
	var said bytes.Buffer
	node.Stdin, node.Stdout, node.Stderr = strings.NewReader(""), &said, &said // no need of /dev/null
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	busy := waitForRunner(t, node.Process.Pid)
	if err := node.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = node.Wait()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if state := procStatus(busy)["State"]; state == "" || strings.HasPrefix(state, "Z") {
			return
		}
	}
	t.Errorf("runner %d outlived its node", busy)
	_ = unix.Kill(busy, unix.SIGKILL)
}

// waitForRunner waits until a child of pid has become a jailed runner.
func waitForRunner(t *testing.T, pid int) int {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range tasks {
			var child int
			data, _ := os.ReadFile(file)
			if _, err := fmt.Sscan(string(data), &child); err == nil && limitsStand(child, []resourceLimit{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 16}}) {
				return child
			}
		}
	}
	t.Fatal("no runner appeared")
	return 0
}

func TestBrokenRunner(t *testing.T) {
	module := assemble(t, `(module (func (export "_start")))`)
	for name, s := range map[string]*Sandbox{
		"missing program": {Exe: "/nonexistent", EmptyDir: os.TempDir()},
		"missing folder":  {Exe: "/bin/true", EmptyDir: "/nonexistent"},
		"silent program":  {Exe: "/bin/true", EmptyDir: os.TempDir()},
		"other program":   {Exe: "/bin/echo", Args: []string{"hello, this is not a runner"}, EmptyDir: os.TempDir()},
	} {
		res, err := s.Run(context.Background(), newJob(t, module, nil), module)
		if err != nil || res.State != job.InfraError || res.Detail == "" {
			t.Errorf("%s: %+v %v", name, res, err)
		}
	}
}

func TestRefusedModules(t *testing.T) {
	hello := assemble(t, `(module (func (export "_start")))`)
	for _, c := range []struct {
		name   string
		module []byte
		reason job.Reason
	}{
		{"empty", nil, job.Malformed},
		{"text", []byte("#!/bin/sh\necho hello\n"), job.Malformed},
		{"magic alone", []byte("\x00asm"), job.Malformed},
		{"version 2", []byte("\x00asm\x02\x00\x00\x00"), job.Unsupported},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), job.Unsupported},
		{"truncated", hello[:len(hello)-3], job.Malformed},
		{"bad body", append(slices.Clone(hello[:len(hello)-2]), 0xff, 0x0b), job.Malformed},
		{"a million functions", append([]byte("\x00asm\x01\x00\x00\x00\x03\x04"), 0xc0, 0x84, 0x3d, 0), job.TooBig},
		{"a million sections", append([]byte("\x00asm\x01\x00\x00\x00"), make([]byte, 2_000_000)...), job.TooBig},
		{"a million types", append([]byte("\x00asm\x01\x00\x00\x00\x01\x04"), 0xc0, 0x84, 0x3d, 0), job.TooBig},
		{"a million imports", append([]byte("\x00asm\x01\x00\x00\x00\x02\x04"), 0xc0, 0x84, 0x3d, 0), job.TooBig},
		{"a million segments", append([]byte("\x00asm\x01\x00\x00\x00\x0b\x04"), 0xc0, 0x84, 0x3d, 0), job.TooBig},
		{"foreign import", assemble(t, `(module (import "env" "system" (func (param i32) (result i32))) (func (export "_start")))`), job.Unsupported},
		{"unknown WASI function", assemble(t, `(module (import "wasi_snapshot_preview1" "fork" (func)) (func (export "_start")))`), job.Unsupported},
		{"WASI function of another type", assemble(t, `(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))`), job.Unsupported},
		{"library", assemble(t, `(module (func (export "add")))`), job.Unsupported},
		{"memory over the limit", assemble(t, `(module (memory 1025) (func (export "_start")))`), job.TooBig},
		{"shared memory", []byte("\x00asm\x01\x00\x00\x00\x05\x04\x01\x03\x01\x02"), job.Unsupported},
		{"64-bit memory", []byte("\x00asm\x01\x00\x00\x00\x05\x03\x01\x04\x01"), job.Unsupported},
		{"huge table", []byte("\x00asm\x01\x00\x00\x00\x04\x08\x01\x70\x00\xff\xff\xff\xff\x0f"), job.TooBig},
		{"exceptions", []byte("\x00asm\x01\x00\x00\x00\x0d\x01\x00"), job.Unsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := testSandbox(t).Run(context.Background(), newJob(t, append(c.module, 0)[:len(c.module)], nil), c.module)
			var r *job.Refusal
			if !errors.As(err, &r) || r.Reason != c.reason || res.State != job.Refused {
				t.Fatalf("%v (state %s), want %s", err, res.State, c.reason)
			}
			if r.Code() == "" || r.Hint() == "" {
				t.Errorf("%v: code %q hint %q", r, r.Code(), r.Hint())
			}
		})
	}
}

// TestOthersAreServed runs a hundred good jobs beside bad ones.
func TestOthersAreServed(t *testing.T) {
	sandbox := testSandbox(t)
	bad := assemble(t, `(module (func (export "_start") loop $l br $l end))`)
	good := assemble(t, `(module (func (export "_start")))`)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan job.State, 2)
	for range cap(ended) {
		go func() {
			res, _ := sandbox.Run(ctx, newJob(t, bad, nil), bad)
			ended <- res.State
		}()
	}
	for range 20 {
		if res, err := sandbox.Run(context.Background(), newJob(t, good, nil), good); err != nil || res.State != job.Exited {
			t.Fatalf("%+v %v", res, err)
		}
	}
	stop()
	for range cap(ended) {
		if state := <-ended; state != job.InfraError {
			t.Errorf("stopped job ended as %s", state)
		}
	}
}

// TestNothingIsLeft: no process, no file, no descriptor.
func TestNothingIsLeft(t *testing.T) {
	sandbox := testSandbox(t)
	module := assemble(t, `(module (func (export "_start")))`)
	j := newJob(t, module, nil)
	count := func() int {
		fds, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	run := func() {
		if res, err := sandbox.Run(context.Background(), j, module); err != nil || res.State != job.Exited {
			t.Fatalf("%+v %v", res, err)
		}
	}
	run()
	before := count()
	for range 20 {
		run()
	}
	if after := count(); after > before {
		t.Errorf("%d file descriptors became %d", before, after)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err == nil && len(children) > 0 {
		t.Errorf("children left: %s", children)
	}
	if left, err := os.ReadDir(sandbox.EmptyDir); err != nil || len(left) != 0 {
		t.Errorf("left in the empty directory: %v %v", left, err)
	}
}

func BenchmarkHello(b *testing.B) {
	module, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		b.Fatal(err)
	}
	sandbox := testSandbox(b)
	j := newJob(b, module, func(s *job.Spec) { s.Args = []string{"Hello, World"} })
	for b.Loop() {
		res, err := sandbox.Run(context.Background(), j, module)
		if err != nil || string(res.Stdout) != "dlroW ,olleH\n" {
			b.Fatalf("%+v %v", res, err)
		}
	}
}

// TestSandboxWithoutItsGroup: where no process can be put into its group, jobs run
// without that wall, and do not claim it; the other walls stand.
func TestSandboxWithoutItsGroup(t *testing.T) {
	j, module := helloJob(t)
	here := wallsHere(t)
	s := testSandbox(t)
	s.Cgroup = t.TempDir() // no group can be made of it
	res := mustRun(t, s, "", j, module)
	for _, w := range here {
		if strings.HasPrefix(w, "cgroup-") == slices.Contains(res.Walls, w) {
			t.Errorf("wall %s: jail has %q", w, res.Walls)
		}
	}
}

func TestSpeaks(t *testing.T) {
	exe := testSandbox(t).Exe
	if !Speaks(t.Context(), exe, "this release") {
		t.Error("a program of the same release is not known as one")
	}
	for _, c := range []struct{ path, release string }{
		{exe, "that release"}, {exe + " (deleted)", "this release"}, {"/bin/true", "this release"}, {"/", "this release"},
	} {
		if Speaks(t.Context(), c.path, c.release) {
			t.Errorf("%s speaks for %s", c.path, c.release)
		}
	}
}
