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
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
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
	maxFiles      = 16      // descriptors: three streams, and what the Go runtime needs for timers
)

// firstUID starts the range from which each runner gets a user of its own, so
// that two guests share nothing, and so that a limit on the number of threads
// counts only one runner. It lies above what systemd and distributions
// allocate (systemd.io/UIDS-GIDS) and below 2^31.
const firstUID = 0x7000_0000

// runnerEnv is all of a runner's environment. Its runtime then does not prepare for
// more than one processor, nor look for how many there are; and the C library of a
// program that has one does not open a file to find out when threads need memory.
var runnerEnv = []string{"GOMAXPROCS=1", "MALLOC_ARENA_MAX=1"}

// isolation are the namespaces asked for; a node that is not root has to begin
// with a user namespace to get them.
const isolation = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWNS

// Sandbox runs each guest in a jailed process. Its zero value is not usable; its
// methods are safe for concurrent use.
type Sandbox struct {
	// Exe and Args start a runner: a program that calls ServeRunner on its
	// standard streams. Usually the node's own executable.
	Exe  string
	Args []string
	// EmptyDir is an absolute path of an existing empty directory that nobody
	// but the node's user can write to. It becomes the runner's root.
	EmptyDir string
	// Cgroup is a cgroup v2 directory in which this process may make groups,
	// from DelegatedCgroup; "" does without.
	Cgroup string
	// Spare jails are kept ready while Serve runs, best as many as jobs run at
	// once. They fit jobs of at most Largest; zero fields mean those of
	// job.DefaultNodeLimits.
	Spare   int
	Largest job.Limits
	// Reuse is how many jobs of one submitter may run in one jail, one after the
	// other. 0 and 1 mean that every job gets a jail that nobody used before.
	// A guest that breaks out of the engine owns its jail: with reuse, it owns
	// the later jobs of its own submitter.
	Reuse int

	// Required are walls without which no guest runs: a jail that lacks one is ended
	// before it gets a job. Those that a used jail cannot have do not go with Reuse.
	Required []string

	without []string                  // walls that a test wants left out
	refuse  func(isolated bool) error // a test's, in place of the kernel's

	namespaces forbidden
	lastID     atomic.Uint32
	spares     pool
}

// Run executes a job's module and waits for the end, at most for the job's
// deadline and the time to start a process. The caller has admitted the job
// (job.NodeLimits) and checked the module against its digest.
//
// A module that this sandbox does not run gives a *job.Refusal and State
// Refused. All else is told by the Result alone; a cancelled ctx kills the
// guest and gives InfraError.
func (s *Sandbox) Run(ctx context.Context, j *job.Job, module []byte) (job.Result, error) {
	return s.RunFor(ctx, "", j, module)
}

// RunFor is Run for a submitter that the caller has authenticated, by whatever
// name it calls it. The name decides which used jail the job may get, if Reuse
// allows any; "" never gets one.
func (s *Sandbox) RunFor(ctx context.Context, submitter string, j *job.Job, module []byte) (job.Result, error) {
	return s.RunWith(ctx, submitter, j, module, nil)
}

// RunWith is RunFor for a job with inputs, whose files the caller has opened for
// reading alone, compared with their digests, and keeps from being changed; it may close
// them afterwards. Those of empty inputs are not needed. Such a job always gets a jail
// that is made for it: its process is born with the files.
func (s *Sandbox) RunWith(ctx context.Context, submitter string, j *job.Job, module []byte, inputs map[string]*os.File) (job.Result, error) {
	if err := Inspect(module, j.Limits()); err != nil {
		return job.Result{State: job.Refused, Detail: err.Error()}, err
	}
	born, err := bornWith(j, inputs)
	if err != nil {
		return infra("%v", err), nil
	}
	start := time.Now()
	r, err := s.take(ctx, submitter, j, born)
	var lacks *WallsError
	if errors.As(err, &lacks) {
		err := &job.Refusal{Reason: job.Internal, Detail: "the job was not started", Err: err}
		return job.Result{State: job.Refused, Detail: err.Error()}, err
	}
	if err != nil {
		return infra("starting the runner: %v", err), nil
	}
	r.replaceLater()
	spawn := time.Since(start)
	res, err := r.work(ctx, j, module)
	res.Walls = r.walls
	res.Timings.Spawn = spawn
	s.giveBack(r, submitter, res.State)
	return res, err
}

// gift are the files that a process is born with.
type gift struct {
	files []*os.File
	sizes []int64
	bytes int64
}

// bornWith puts a job's inputs into the order of their names.
func bornWith(j *job.Job, files map[string]*os.File) (g gift, err error) {
	inputs := j.Inputs()
	for _, name := range job.InputNames(inputs) {
		size := inputs[name].Size
		switch {
		case size == 0:
			continue
		case files[name] == nil:
			return g, fmt.Errorf("input %s is missing", name)
		}
		g.files, g.sizes, g.bytes = append(g.files, files[name]), append(g.sizes, size), g.bytes+size
	}
	return g, nil
}

func infra(format string, args ...any) job.Result {
	return job.Result{State: job.InfraError, Detail: fmt.Sprintf(format, args...)}
}

// runner is one started process with its pipes.
type runner struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     io.ReadCloser
	stderr  limitedBuffer
	cfg     runnerConfig
	group   *cgroup    // nil: none
	fits    job.Limits // what its resource limits leave room for
	born    gift
	must    []string // walls without which it gets no job
	walls   []string
	jobs    int         // that it was given
	module  blob.Digest // of the last of them
	gone    func()      // called once it has ended
	replace func()      // makes another spare jail in its place; nil: it was none
	served  bool        // Serve waits for its end

	ended  sync.Once
	died   error
	mu     sync.Mutex
	reaped bool // its number may be another process's by now
}

// start starts a process without any right to more than it was born with. If
// this machine forbids namespaces, it does without them from then on; if there are too
// many at the moment, for a while. The calling thread must be locked: the process dies
// with it.
func (s *Sandbox) start(fits job.Limits, born gift) (*runner, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("no_new_privs: %w", err)
	}
	dir, err := filepath.EvalSymlinks(s.EmptyDir)
	if err != nil {
		return nil, err
	}
	id := int(s.lastID.Add(1) % (1 << 16))
	r := &runner{fits: fits, born: born, must: s.Required, cfg: runnerConfig{Root: dir, Without: s.without, Inputs: born.sizes}}
	if os.Geteuid() == 0 && !slices.Contains(s.without, WallUser) {
		r.cfg.UID = int64(firstUID + id)
	}
	r.cfg.Limits = limitsFor(fits, max(1, s.Reuse), r.cfg.UID != 0)
	r.cfg.Limits[0].Value += uint64(born.bytes) // of address space
	r.group = makeCgroup(s.Cgroup, fmt.Sprintf("jail-%d-%d", os.Getpid(), id), fits.MemoryBytes)
	err = s.spawnAnyhow(r)
	if err != nil {
		r.group.remove()
		return nil, err
	}
	return r, nil
}

// spawnAnyhow spawns the best kind of process that this machine makes: without
// namespaces where it forbids them, and outside the group where clone3, which puts a
// process into its group from the start, is missing or filtered away.
func (s *Sandbox) spawnAnyhow(r *runner) error {
	group := r.group
	var err, refused error
	for _, inGroup := range []bool{true, false} {
		if inGroup && group == nil {
			continue
		}
		if r.group = group; !inGroup {
			r.group = nil
		}
		for _, isolated := range []bool{true, false} {
			if isolated && s.namespaces.now() {
				continue
			}
			if err = s.spawn(r, isolated); err == nil && !isolated {
				s.namespaces.note(refused)
			}
			if isolated {
				refused = err
			}
			if err == nil || !refusesKind(err) {
				if r.group == nil {
					group.remove()
				}
				return err
			}
		}
	}
	r.group = group
	return err
}

// refusesKind: the machine does not make processes of that kind.
func refusesKind(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) ||
		errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EBADF)
}

// namespacePause is how long a machine on which there were too many namespaces is not
// asked for more.
const namespacePause = 5 * time.Second

// forbidden is for how long namespaces need not be asked for.
type forbidden struct {
	mu    sync.Mutex
	ever  bool
	until time.Time
}

func (f *forbidden) now() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ever || time.Now().Before(f.until)
}

// note keeps why a process came without them. That there are as many as there may be
// (ENOSPC, user.max_net_namespaces and its like) passes; a machine that forbids them goes
// on doing so. Nil says nothing new: they were not asked for.
func (f *forbidden) note(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case why == nil:
	case errors.Is(why, unix.ENOSPC):
		f.until = time.Now().Add(namespacePause)
	default:
		f.ever = true
	}
}

func (s *Sandbox) spawn(r *runner, isolated bool) error {
	if s.refuse != nil {
		if err := s.refuse(isolated); err != nil {
			return err
		}
	}
	r.stderr = limitedBuffer{most: maxDiagnosis}
	r.cmd = exec.Command(s.Exe, s.Args...)
	r.cmd.Env = runnerEnv
	r.cmd.Dir = s.EmptyDir
	r.cmd.Stderr = &r.stderr
	r.cmd.ExtraFiles = r.born.files
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if isolated {
		isolate(r.cmd.SysProcAttr, s.without)
	}
	if fd := r.group.fd(); fd >= 0 {
		r.cmd.SysProcAttr.UseCgroupFD, r.cmd.SysProcAttr.CgroupFD = true, fd
	}
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return err
	}
	if r.out, err = r.cmd.StdoutPipe(); err != nil {
		return err
	}
	return r.cmd.Start()
}

// isolate asks for namespaces. Without root they come in a user namespace, in
// which the process is nobody in particular.
func isolate(attr *syscall.SysProcAttr, without []string) {
	attr.Cloneflags = isolation
	for wall, flag := range map[string]uintptr{
		WallNet: unix.CLONE_NEWNET, WallPID: unix.CLONE_NEWPID, WallIPC: unix.CLONE_NEWIPC, WallMount: unix.CLONE_NEWNS,
	} {
		if slices.Contains(without, wall) {
			attr.Cloneflags &^= flag
		}
	}
	if os.Geteuid() == 0 || attr.Cloneflags == 0 {
		return
	}
	const nobody = 65534
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getegid(), Size: 1}}
}

// kill ends the runner and everything it may have started.
func (r *runner) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.reaped {
		r.group.kill()
		_ = unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL)
	}
}

// end makes sure that nothing of the runner is left, and tells how it died.
func (r *runner) end() error {
	r.ended.Do(func() {
		r.kill()
		r.mu.Lock()
		r.reaped = true
		r.mu.Unlock()
		r.died = r.cmd.Wait()
		r.group.remove()
		r.gone()
	})
	return r.died
}

// release ends the runner for good. Nothing of it runs any more when release
// returns; Serve waits until the system has cleared away what is left, so that a
// job's answer does not.
func (r *runner) release() {
	if !r.served {
		_ = r.end()
		return
	}
	r.kill()
	go func() { _ = r.end() }()
}

// isAlive is false once the process has died, whoever killed it.
func (r *runner) isAlive() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, r.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo == 0
}

// makeReady lets the runner jail itself and measures what it is surrounded by.
func (r *runner) makeReady(ctx context.Context) error {
	stop := r.killAfter(ctx, spawnTimeout)
	defer stop()
	if err := writeJSON(r.in, frameConfigure, r.cfg); err != nil {
		return r.explain(err)
	}
	_, body, err := readFrame(r.out, only(frameReady, maxControl))
	var ready readyMessage
	if err == nil {
		err = readJSON(body, &ready)
	}
	if err != nil {
		return r.explain(err)
	}
	tried := append(ready.Tried, WallWASM, WallProcess, WallFresh, WallDeadline)
	tried = append(tried, r.group.walls(r.cmd.Process.Pid)...)
	r.walls = measureWalls(r.cmd.Process.Pid, r.cfg, tried)
	if lacks := Lacking(r.must, r.walls); len(lacks) > 0 {
		_ = r.end()
		return &WallsError{lacks}
	}
	return nil
}

// limitsFor are the resource limits of a runner for so many jobs of at most l.
// Threads are bounded only where the runner gets a user of its own; the kernel counts
// them per user.
func limitsFor(l job.Limits, jobs int, ownUser bool) []resourceLimit {
	memory, seconds := uint64(l.MemoryBytes), uint64(l.DeadlineMS/1000+2)*uint64(jobs)
	limits := []resourceLimit{
		{unix.RLIMIT_AS, runnerSpace + memory},
		{unix.RLIMIT_DATA, runnerData + memory},
		{unix.RLIMIT_CPU, seconds},
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_NOFILE, maxFiles},
	}
	if ownUser {
		limits = append(limits, resourceLimit{unix.RLIMIT_NPROC, runnerThreads})
	}
	return limits
}

// tighten lowers what a spare runner may use to what its only job may, as far
// as this node may do that to another user's process.
func (r *runner) tighten(l job.Limits) {
	for _, limit := range limitsFor(l, 1, false)[:3] {
		have := unix.Rlimit{Cur: limit.Value, Max: limit.Value}
		_ = unix.Prlimit(r.cmd.Process.Pid, limit.Resource, &have, nil)
	}
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

// work gives the runner a job and collects what comes of it.
func (r *runner) work(ctx context.Context, j *job.Job, module []byte) (job.Result, error) {
	start := time.Now()
	r.jobs++
	kind := frameModule
	if r.module == j.Module() {
		kind, module = frameSame, nil
	}
	r.module = j.Module()
	limits := j.Limits()
	stop := r.killAfter(ctx, limits.Deadline())
	go r.feed(j, kind, module)
	c := newCollector(limits)
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
		res.State, res.Detail = job.Deadline, fmt.Sprintf("still running after %s", limits.Deadline())
		res.Timings.Run = time.Since(start)
	default:
		r.judgeDeath(&res, limits, err)
	}
	return res, nil
}

// feed writes job and module. If the runner dies meanwhile, the write fails
// and the reading side tells why.
func (r *runner) feed(j *job.Job, kind frameKind, module []byte) {
	if writeFrame(r.in, frameSpec, j.Payload()) == nil {
		_ = writeFrame(r.in, kind, module)
	}
}

// judgeDeath names the end of a runner that went without a word.
func (r *runner) judgeDeath(res *job.Result, limits job.Limits, err error) {
	err = r.explain(err)
	var exit *exec.ExitError
	said := r.stderr.Bytes()
	switch {
	case bytes.Contains(said, []byte("out of memory")), bytes.Contains(said, []byte("cannot allocate memory")), r.group.outOfMemory():
		res.State, res.Detail = job.OutOfMemory, "the sandbox's process reached its memory limit"
	case errors.As(err, &exit) && diedOf(exit, unix.SIGSYS):
		res.State, res.Detail = job.InfraError, "the sandbox's process made a system call that it may not make, and was killed for it"
	case errors.As(err, &exit) && r.jobs == 1 && exit.ProcessState.SystemTime()+exit.ProcessState.UserTime() >= limits.Deadline():
		res.State, res.Detail = job.Deadline, "used up its processor time"
	default:
		res.State, res.Detail = job.InfraError, err.Error()
	}
}

func diedOf(exit *exec.ExitError, signal syscall.Signal) bool {
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == signal
}

// explain waits for a dying runner and adds its last words to err.
func (r *runner) explain(err error) error {
	died := r.end()
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
