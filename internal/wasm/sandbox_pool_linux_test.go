package wasm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/job"
)

// serving starts s.Serve and waits until all spare jails are ready; stop ends it.
func serving(t testing.TB, s *Sandbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	waitFor(t, "spare jails", func() bool { return s.Ready() == s.Spare })
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func waitFor(t testing.TB, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// childrenOf are the processes that pid started and that have not been waited for.
func childrenOf(t testing.TB, pid int) []int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, file := range tasks {
		data, _ := os.ReadFile(file)
		for _, f := range strings.Fields(string(data)) {
			var child int
			fmt.Sscan(f, &child)
			all = append(all, child)
		}
	}
	return all
}

func mustRun(t testing.TB, s *Sandbox, submitter string, j *job.Job, module []byte) job.Result {
	t.Helper()
	res, err := s.RunFor(context.Background(), submitter, j, module)
	if err != nil || res.State != job.Exited {
		t.Fatalf("%+v %v", res, err)
	}
	return res
}

func TestSpareJails(t *testing.T) {
	s := testSandbox(t)
	s.Spare = 2
	before := childrenOf(t, os.Getpid())
	stop := serving(t, s)
	spare := childrenOf(t, os.Getpid())
	if len(spare) != len(before)+2 {
		t.Errorf("%d children with two spare jails, %d before", len(spare), len(before))
	}
	module := assemble(t, `(module (func (export "_start")))`)
	for range 6 {
		res := mustRun(t, s, "a", newJob(t, module, nil), module)
		for _, w := range wallsHere(t) {
			if !slices.Contains(res.Walls, w) {
				t.Errorf("in a spare jail wall %s is missing from %v", w, res.Walls)
			}
		}
	}
	waitFor(t, "the spare jails to be filled up", func() bool { return s.Ready() == 2 })
	waitFor(t, "the end of the jails that were used", func() bool {
		left := childrenOf(t, os.Getpid())
		return !slices.ContainsFunc(spare, func(pid int) bool { return slices.Contains(left, pid) })
	})
	stop()
	if left := childrenOf(t, os.Getpid()); len(left) != len(before) {
		t.Errorf("children left: %v, before %v", left, before)
	}
	mustRun(t, s, "a", newJob(t, module, nil), module) // without Serve
}

// TestDeadSpareIsNoticed: somebody, such as the kernel, ended a waiting jail.
func TestDeadSpareIsNoticed(t *testing.T) {
	s := testSandbox(t)
	s.Spare = 2
	serving(t, s)
	s.spares.mu.Lock()
	for _, r := range s.spares.fresh {
		_ = unix.Kill(r.cmd.Process.Pid, unix.SIGKILL)
	}
	for _, r := range s.spares.fresh {
		for r.isAlive() {
			time.Sleep(time.Millisecond)
		}
	}
	s.spares.mu.Unlock()
	module := assemble(t, `(module (func (export "_start")))`)
	mustRun(t, s, "", newJob(t, module, nil), module)
	waitFor(t, "new spare jails", func() bool { return s.Ready() == 2 })
}

func TestBigJobGetsAJailOfItsSize(t *testing.T) {
	s := testSandbox(t)
	s.Spare, s.Largest = 1, job.Limits{MemoryBytes: 1 << 20, DeadlineMS: 1000}
	serving(t, s)
	module := assemble(t, growThen(""))
	j := newJob(t, module, func(spec *job.Spec) { spec.Limits.MemoryBytes = 64 << 20 })
	if res := mustRun(t, s, "", j, module); res.PeakMemoryBytes != 64<<20 || s.Ready() != 1 {
		t.Errorf("peak %d, %d spare jails left", res.PeakMemoryBytes, s.Ready())
	}
}

// TestReuse: only the same submitter gets a used jail, only as often as allowed,
// and the report says that it was used.
func TestReuse(t *testing.T) {
	s := testSandbox(t)
	s.Spare, s.Reuse = 2, 3
	serving(t, s)
	module := assemble(t, `(module (func (export "_start")))`)
	fresh := func(submitter string) bool {
		return slices.Contains(mustRun(t, s, submitter, newJob(t, module, nil), module).Walls, WallFresh)
	}
	for i, c := range []struct {
		submitter string
		fresh     bool
	}{{"a", true}, {"a", false}, {"b", true}, {"a", false}, {"a", true}, {"b", false}, {"", true}, {"", true}} {
		if got := fresh(c.submitter); got != c.fresh {
			t.Errorf("job %d, of %q: fresh jail %v, want %v", i, c.submitter, got, c.fresh)
		}
	}
}

func TestNoReuseUnlessAsked(t *testing.T) {
	s := testSandbox(t)
	s.Spare = 1
	serving(t, s)
	module := assemble(t, `(module (func (export "_start")))`)
	for range 3 {
		if res := mustRun(t, s, "a", newJob(t, module, nil), module); !slices.Contains(res.Walls, WallFresh) {
			t.Fatalf("a used jail: %v", res.Walls)
		}
	}
}

// TestReuseShowsNothing runs guests that look at everything they can see in one
// jail, after others that left as much as they could.
func TestReuseShowsNothing(t *testing.T) {
	s := testSandbox(t)
	s.Spare, s.Reuse = 1, 100
	serving(t, s)
	world := buildWorld(t)
	look := func(submitter, nonce string) string {
		j := newJob(t, world, func(s *job.Spec) { s.Nonce, s.Limits.DeadlineMS = nonce, compileTime })
		return string(mustRun(t, s, submitter, j, world).Stdout)
	}
	// scan fills its memory; its exit code is 1 if a byte of
	// memory was not zero before.
	scan := assemble(t, `(module `+wasiImports+`
		(func (export "_start") (local $p i32)
			i32.const 256 memory.grow drop
			loop $l
				local.get $p i32.load8_u
				if i32.const 1 call $proc_exit end
				local.get $p i32.const 90 i32.store8
				local.get $p i32.const 1 i32.add local.tee $p
				i32.const 16842752 i32.lt_u br_if $l
			end))`)
	first := look("", "n") // in a jail of its own
	for i := range 5 {
		mustRun(t, s, "a", newJob(t, scan, nil), scan)
		if again := look("a", "n"); again != first {
			t.Fatalf("in a used jail, run %d, the guest saw\n%s\nin a fresh one\n%s", i, again, first)
		}
		if other := look("a", fmt.Sprint(i)); other == first {
			t.Errorf("another job in the same jail drew the same random numbers:\n%s", other)
		}
	}
	if res := mustRun(t, s, "a", newJob(t, scan, nil), scan); res.ExitCode != 0 || slices.Contains(res.Walls, WallFresh) {
		t.Errorf("exit code %d, walls %v", res.ExitCode, res.Walls)
	}
}

// TestDeadlineEndsAUsedJail: a guest that hangs takes its jail with it.
func TestDeadlineEndsAUsedJail(t *testing.T) {
	s := testSandbox(t)
	s.Spare, s.Reuse = 1, 10
	serving(t, s)
	good := assemble(t, `(module (func (export "_start")))`)
	bad := assemble(t, `(module (func (export "_start") loop $l br $l end))`)
	mustRun(t, s, "a", newJob(t, good, nil), good)
	j := newJob(t, bad, func(s *job.Spec) { s.Limits.DeadlineMS = 100 })
	if res, err := s.RunFor(context.Background(), "a", j, bad); err != nil || res.State != job.Deadline {
		t.Fatalf("%+v %v", res, err)
	}
	if res := mustRun(t, s, "a", newJob(t, good, nil), good); !slices.Contains(res.Walls, WallFresh) {
		t.Errorf("the jail of a killed guest came back: %v", res.Walls)
	}
}

func TestServeOnlyOnce(t *testing.T) {
	s := testSandbox(t)
	s.Spare = 1
	serving(t, s)
	if err := s.Serve(context.Background()); err != errServed {
		t.Errorf("served twice: %v", err)
	}
}

// TestServeWithBrokenRunner: it neither spins nor stops; jobs say what is wrong.
func TestServeWithBrokenRunner(t *testing.T) {
	s := &Sandbox{Exe: "/bin/true", EmptyDir: os.TempDir(), Spare: 2}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	module := assemble(t, `(module (func (export "_start")))`)
	res, err := s.Run(context.Background(), newJob(t, module, nil), module)
	if err != nil || res.State != job.InfraError || res.Detail == "" {
		t.Errorf("%+v %v", res, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// keepSpares is the node of TestSparesDieWithTheirNode.
func keepSpares(dir string) {
	s := &Sandbox{Exe: os.Args[0], Args: []string{"job-runner"}, EmptyDir: dir, Spare: 3}
	fmt.Fprintln(os.Stderr, s.Serve(context.Background()))
	os.Exit(1)
}

func TestSparesDieWithTheirNode(t *testing.T) {
	s := testSandbox(t)
	node := exec.Command(s.Exe, "keep-spares", s.EmptyDir)
	var said bytes.Buffer
	node.Stdin, node.Stdout, node.Stderr = strings.NewReader(""), &said, &said // no need of /dev/null
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	var spares []int
	waitFor(t, "three jailed children", func() bool {
		spares = slices.DeleteFunc(childrenOf(t, node.Process.Pid), func(pid int) bool {
			return !limitsStand(pid, []resourceLimit{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, maxFiles}})
		})
		return len(spares) == 3
	})
	if err := node.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = node.Wait()
	waitFor(t, "the spare jails to end", func() bool {
		return !slices.ContainsFunc(spares, func(pid int) bool {
			state := procStatus(pid)["State"]
			return state != "" && !strings.HasPrefix(state, "Z")
		})
	})
}

func BenchmarkSpareHello(b *testing.B)  { benchmarkHello(b, 0) }
func BenchmarkReusedHello(b *testing.B) { benchmarkHello(b, 1<<30) }

func benchmarkHello(b *testing.B, reuse int) {
	module, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		b.Fatal(err)
	}
	s := testSandbox(b)
	s.Spare, s.Reuse = 2, reuse
	serving(b, s)
	j := newJob(b, module, func(s *job.Spec) { s.Args = []string{"Hello, World"} })
	for b.Loop() {
		if res := mustRun(b, s, "a", j, module); string(res.Stdout) != "dlroW ,olleH\n" {
			b.Fatalf("%+v", res)
		}
	}
}

// TestSpareJailsWhileAJobRuns: a long job does not keep others from their jails.
func TestSpareJailsWhileAJobRuns(t *testing.T) {
	s := testSandbox(t)
	s.Spare = 2
	serving(t, s)
	module := assemble(t, `(module (func (export "_start") loop $l br $l end))`)
	j := newJob(t, module, func(spec *job.Spec) { spec.Limits.DeadlineMS = 300_000 })
	waiting := func() []*runner {
		s.spares.mu.Lock()
		defer s.spares.mu.Unlock()
		return slices.Clone(s.spares.fresh)
	}
	before := waiting()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan job.Result, 1)
	go func() {
		res, _ := s.RunFor(ctx, "a", j, module)
		ended <- res
	}()
	waitFor(t, "another jail in the place of the one that was taken", func() bool {
		now := waiting()
		return len(now) == 2 && !slices.Equal(now, before)
	})
	cancel()
	if res := <-ended; res.State != job.InfraError {
		t.Errorf("a job that was stopped ended as %+v", res)
	}
}
