package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/job"
)

// What a runner may use beside the guest's memory.
const (
	runnerHeap    = 384 << 20 // soft limit of its heap: the module, the compiler
	runnerData    = 1 << 30   // hard limit of its private memory
	runnerSpace   = 4 << 30   // hard limit of its address space; Go reserves far more than it uses
	runnerThreads = 64        // the Go runtime's own threads; guests have none
	spawnTimeout  = 30 * time.Second
	maxDiagnosis  = 8 << 10 // kept of what a failing runner says on stderr
)

// firstUID starts the range from which each runner gets a user of its own, so
// that two guests share nothing, and so that a limit on the number of threads
// counts only one runner. It lies above what systemd and distributions
// allocate (systemd.io/UIDS-GIDS) and below 2^31.
const firstUID = 0x7000_0000

// isolation are the namespaces asked for when the node is root.
const isolation = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWNS

// Sandbox runs each guest in a jailed process of its own. Its zero value is
// not usable; its methods are safe for concurrent use.
type Sandbox struct {
	// Exe and Args start a runner: a program that calls ServeRunner on its
	// standard streams. Usually the node's own executable.
	Exe  string
	Args []string
	// EmptyDir is an absolute path of an existing empty directory that nobody
	// but the node's user can write to. It becomes the runner's root.
	EmptyDir string

	noNamespaces atomic.Bool // this machine refused them once
	lastUID      atomic.Uint32
}

// Run executes a job's module and waits for the end, at most for the job's
// deadline and the time to start a process. The caller has admitted the job
// (job.NodeLimits) and checked the module against its digest.
//
// A module that this sandbox does not run gives a *job.Refusal and State
// Refused. All else is told by the Result alone; a cancelled ctx kills the
// guest and gives InfraError.
func (s *Sandbox) Run(ctx context.Context, j *job.Job, module []byte) (job.Result, error) {
	if err := Inspect(module, j.Limits()); err != nil {
		return job.Result{State: job.Refused, Detail: err.Error()}, err
	}
	type answer struct {
		res job.Result
		err error
	}
	done := make(chan answer, 1)
	go func() {
		// no_new_privs and the parent-death signal belong to this thread: it is
		// never unlocked, so the Go runtime discards it with the goroutine.
		runtime.LockOSThread()
		res, err := s.runLocked(ctx, j, module)
		done <- answer{res, err}
	}()
	a := <-done
	return a.res, a.err
}

func (s *Sandbox) runLocked(ctx context.Context, j *job.Job, module []byte) (job.Result, error) {
	start := time.Now()
	r, err := s.start(j)
	if err != nil {
		return infra("starting the runner: %v", err), nil
	}
	defer r.end()
	if err := r.makeReady(ctx); err != nil {
		return infra("preparing the runner: %v", r.explain(err)), nil
	}
	spawn := time.Since(start)
	res, err := r.work(ctx, module)
	res.Walls = r.walls
	res.Timings.Spawn = spawn
	return res, err
}

func infra(format string, args ...any) job.Result {
	return job.Result{State: job.InfraError, Detail: fmt.Sprintf(format, args...)}
}

// runner is one started process with its pipes.
type runner struct {
	job    *job.Job
	dir    string
	uid    int
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	stderr limitedBuffer
	walls  []string
	waited bool
}

// start starts a process without any right to more than it was born with. If
// this machine forbids namespaces, it does without them from then on.
func (s *Sandbox) start(j *job.Job) (*runner, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("no_new_privs: %w", err)
	}
	dir, err := filepath.EvalSymlinks(s.EmptyDir)
	if err != nil {
		return nil, err
	}
	uid := 0
	if os.Geteuid() == 0 {
		uid = firstUID + int(s.lastUID.Add(1)%(1<<16))
	}
	var flags uintptr
	if uid != 0 && !s.noNamespaces.Load() {
		flags = isolation
	}
	r, err := s.spawn(flags)
	if flags != 0 && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSPC)) {
		s.noNamespaces.Store(true)
		r, err = s.spawn(0)
	}
	if err != nil {
		return nil, err
	}
	r.job, r.dir, r.uid = j, dir, uid
	return r, nil
}

func (s *Sandbox) spawn(namespaces uintptr) (*runner, error) {
	r := &runner{stderr: limitedBuffer{most: maxDiagnosis}}
	r.cmd = exec.Command(s.Exe, s.Args...)
	r.cmd.Env = []string{} // not nil: nil would mean the node's environment
	r.cmd.Dir = s.EmptyDir
	r.cmd.Stderr = &r.stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL, Cloneflags: namespaces}
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if r.out, err = r.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return r, r.cmd.Start()
}

// kill ends the runner and everything it may have started.
func (r *runner) kill() { _ = unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL) }

// end makes sure that nothing of the runner is left.
func (r *runner) end() {
	if !r.waited {
		r.kill()
		_ = r.wait()
	}
}

func (r *runner) wait() error {
	r.waited = true
	return r.cmd.Wait()
}

// makeReady lets the runner jail itself, limits it from outside and measures
// what it is surrounded by.
func (r *runner) makeReady(ctx context.Context) error {
	stop := r.killAfter(ctx, spawnTimeout)
	defer stop()
	cfg := r.config()
	if err := writeJSON(r.in, frameConfigure, cfg); err != nil {
		return err
	}
	if _, _, err := readFrame(r.out, only(frameReady, 0)); err != nil {
		return err
	}
	r.walls = append([]string{WallWASM, WallProcess, WallDeadline}, measureWalls(r.cmd.Process.Pid, cfg)...)
	return nil
}

// config is the jail of this runner. Threads are bounded only where the
// runner gets a user of its own; the kernel counts them per user.
func (r *runner) config() runnerConfig {
	limits := r.job.Limits()
	memory, seconds := uint64(limits.MemoryBytes), uint64(limits.DeadlineMS/1000)
	cfg := runnerConfig{Root: r.dir, UID: int64(r.uid), HeapBytes: runnerHeap + limits.MemoryBytes}
	cfg.Limits = []resourceLimit{
		{unix.RLIMIT_AS, runnerSpace + 2*memory}, // twice: growing copies
		{unix.RLIMIT_DATA, runnerData + 2*memory},
		{unix.RLIMIT_CPU, seconds + 2},
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_NOFILE, 16},
	}
	if r.uid != 0 {
		cfg.Limits = append(cfg.Limits, resourceLimit{unix.RLIMIT_NPROC, runnerThreads})
	}
	return cfg
}

// killAfter kills the runner when the time is over or ctx is done, unless
// stop is called before. stop reports whether it was.
func (r *runner) killAfter(ctx context.Context, d time.Duration) (stop func() (killed bool)) {
	ctx, cancel := context.WithTimeout(ctx, d)
	unhook := context.AfterFunc(ctx, r.kill)
	return func() bool {
		killed := !unhook()
		cancel()
		return killed
	}
}

// work gives the runner its job and collects what comes of it.
func (r *runner) work(ctx context.Context, module []byte) (job.Result, error) {
	start := time.Now()
	stop := r.killAfter(ctx, r.job.Limits().Deadline())
	go r.feed(module)
	c := newCollector(r.job.Limits())
	msg, err := c.collect(r.out)
	killed := stop()
	res := c.result()
	switch {
	case err == nil:
		err = msg.applyTo(&res)
		return res, err
	case killed && ctx.Err() != nil:
		res.State, res.Detail = job.InfraError, "stopped by the node: "+context.Cause(ctx).Error()
	case killed:
		res.State, res.Detail = job.Deadline, fmt.Sprintf("still running after %s", r.job.Limits().Deadline())
		res.Timings.Run = time.Since(start)
	default:
		r.judgeDeath(&res, err)
	}
	return res, nil
}

// feed writes job and module. If the runner dies meanwhile, the write fails
// and the reading side tells why.
func (r *runner) feed(module []byte) {
	if writeFrame(r.in, frameSpec, r.job.Payload()) == nil {
		_ = writeFrame(r.in, frameModule, module)
	}
	_ = r.in.Close()
}

// judgeDeath names the end of a runner that went without a word.
func (r *runner) judgeDeath(res *job.Result, err error) {
	err = r.explain(err)
	var exit *exec.ExitError
	said := r.stderr.Bytes()
	switch {
	case bytes.Contains(said, []byte("out of memory")), bytes.Contains(said, []byte("cannot allocate memory")):
		res.State, res.Detail = job.OutOfMemory, "the sandbox's process reached its memory limit"
	case errors.As(err, &exit) && exit.ProcessState.SystemTime()+exit.ProcessState.UserTime() >=
		r.job.Limits().Deadline():
		res.State, res.Detail = job.Deadline, "used up its processor time"
	default:
		res.State, res.Detail = job.InfraError, err.Error()
	}
}

// explain waits for a dying runner and adds its last words to err.
func (r *runner) explain(err error) error {
	r.kill()
	died := r.wait()
	if line, _, _ := bytes.Cut(bytes.TrimSpace(r.stderr.Bytes()), []byte("\n")); len(line) > 0 {
		return fmt.Errorf("%w (%w: %s)", err, orNil(died), line)
	}
	return fmt.Errorf("%w (%w)", err, orNil(died))
}

var errEnded = errors.New("it ended")

func orNil(err error) error {
	if err == nil {
		return errEnded
	}
	return err
}
