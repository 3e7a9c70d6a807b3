package sysinit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supervisor starts children and waits for every process that ends.
//
// PID 1 inherits all orphans and has to wait for them, without taking away the
// exit of a child for which somebody else waits. Two waiters cannot be told
// apart afterwards, so there is one: a single loop waits for any process
// (wait4(-1)) and hands each status to the Child that it belongs to. The price
// is a rule: in a process with a running Supervisor nobody uses os/exec or
// os.StartProcess; Start is the only way to a child.
type Supervisor struct {
	log *slog.Logger

	mu       sync.Mutex // held over fork and over wait, so that no exit comes before its Child is known
	children map[int]*Child
}

// NewSupervisor makes a Supervisor; nothing is reaped before Run.
func NewSupervisor(log *slog.Logger) *Supervisor {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Supervisor{log: log, children: make(map[int]*Child)}
}

// Command is a program to start. Its files are real files: nothing is copied.
type Command struct {
	Path  string   // absolute
	Args  []string // without the program's name
	Env   []string
	Dir   string
	Files []*os.File // standard input, output, error; nil entries are /dev/null
	// Session gives the child a session of its own; with TTY, its standard
	// input becomes the terminal that controls it, as a shell needs.
	Session, TTY bool
	// Drop limits the child to a user and group; nil keeps root.
	Drop *syscall.Credential
	// Keep are the only capabilities that the child, and whatever it starts, may ever
	// have; it also gains none by starting a program (no_new_privs). Nil keeps all.
	Keep []uintptr
	// OpenFiles is how many descriptors the child may have; 0 leaves that as it is.
	OpenFiles uint64
}

// Exit is how a child ended: Signal is set if one killed it.
type Exit struct {
	Code   int
	Signal syscall.Signal
}

// OK tells whether the child ended by itself with status 0.
func (e Exit) OK() bool { return e.Code == 0 && e.Signal == 0 }

func (e Exit) String() string {
	if e.Signal != 0 {
		return "killed by " + e.Signal.String()
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Child is a started program.
type Child struct {
	PID  int
	s    *Supervisor
	done chan struct{}
	exit Exit // valid when done is closed
}

// Run reaps until ctx ends. Start may be called before and meanwhile.
func (s *Supervisor) Run(ctx context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	defer signal.Stop(signals)
	for {
		// Reaping comes first: children may have ended before Notify.
		s.reap()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-signals:
		}
	}
}

// reap collects every process that has ended.
func (s *Supervisor) reap() {
	for {
		s.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		child := s.children[pid]
		if pid > 0 {
			delete(s.children, pid)
		}
		s.mu.Unlock()
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid <= 0:
			return
		case child != nil:
			child.end(status)
		default:
			s.log.Debug("orphan ended", "pid", pid)
		}
	}
}

func (c *Child) end(status unix.WaitStatus) {
	if status.Signaled() {
		c.exit = Exit{Code: -1, Signal: status.Signal()}
	} else {
		c.exit = Exit{Code: status.ExitStatus()}
	}
	close(c.done)
}

// Start starts a program. The child gets no signal when PID 1 does, and none of
// its descriptors but Files.
func (s *Supervisor) Start(cmd Command) (*Child, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer null.Close()
	fds := make([]uintptr, max(3, len(cmd.Files)))
	for i := range fds {
		fds[i] = null.Fd()
		if i < len(cmd.Files) && cmd.Files[i] != nil {
			fds[i] = cmd.Files[i].Fd()
		}
	}
	attr := &syscall.ProcAttr{
		Dir: cmd.Dir, Env: cmd.Env, Files: fds,
		Sys: &syscall.SysProcAttr{Setsid: cmd.Session || cmd.TTY, Setctty: cmd.TTY, Credential: cmd.Drop},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err := fork(cmd, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	child := &Child{PID: pid, s: s, done: make(chan struct{})}
	s.children[pid] = child
	return child, nil
}

// fork starts the program, from a thread that has given up what the child shall not
// have.
func fork(cmd Command, attr *syscall.ProcAttr) (pid int, err error) {
	args := append([]string{cmd.Path}, cmd.Args...)
	if cmd.Keep == nil {
		return syscall.ForkExec(cmd.Path, args, attr)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine, and no other code runs on it.
		runtime.LockOSThread()
		if err = bound(cmd.Keep); err == nil {
			pid, err = syscall.ForkExec(cmd.Path, args, attr)
		}
	}()
	<-done
	if err == nil && cmd.OpenFiles > 0 {
		limit := unix.Rlimit{Cur: cmd.OpenFiles, Max: cmd.OpenFiles}
		_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil) // it gets by with fewer
	}
	return pid, err
}

// bound takes all capabilities but keep from the calling thread, out of all sets, for
// good. Sources: capabilities(7), prctl(2) PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS.
func bound(keep []uintptr) error {
	for c := uintptr(0); c < 64; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break // one above the last that the kernel knows
		} else if err != nil {
			return fmt.Errorf("bound capability %d: %w", c, err)
		}
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&head, &sets[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for i := range sets {
		var mask uint32
		for _, c := range keep {
			if int(c/32) == i {
				mask |= 1 << (c % 32)
			}
		}
		sets[i].Permitted &= mask
		sets[i].Effective &= mask
		sets[i].Inheritable = 0
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	if err := unix.Capset(&head, &sets[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return nil
}

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Wait waits for the child to end, or for ctx; it does not kill.
func (c *Child) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-c.done:
		return c.exit, nil
	case <-ctx.Done():
		return Exit{}, context.Cause(ctx)
	}
}

// Signal sends a signal to the child. If it has ended, nothing is sent: its
// number may already be another process.
func (c *Child) Signal(sig syscall.Signal) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.children[c.PID] != c {
		return os.ErrProcessDone
	}
	return unix.Kill(c.PID, sig)
}

// Stop asks the child to end, and kills it when ctx ends before it has.
func (c *Child) Stop(ctx context.Context) Exit {
	_ = c.Signal(unix.SIGTERM)
	if exit, err := c.Wait(ctx); err == nil {
		return exit
	}
	_ = c.Signal(unix.SIGKILL)
	<-c.done
	return c.exit
}

// Service is a program that is started again when it ends.
type Service struct {
	Name    string
	Command Command
	// First is the pause after the first end (1 s if 0); it doubles up to Most
	// (30 s if 0), and starts anew after a run that was longer than Most.
	First, Most time.Duration
	// Grace is how long the program may take to end when it is told to (5 s if 0).
	Grace time.Duration
	// Started and Ended are told about each run; they may be nil.
	Started func(pid int)
	Ended   func(exit Exit, err error, again time.Duration)
}

// Service runs a service until ctx ends, then stops it. Run must be running.
func (s *Supervisor) Service(ctx context.Context, svc Service) error {
	svc.First, svc.Most, svc.Grace = orElse(svc.First, time.Second), orElse(svc.Most, 30*time.Second), orElse(svc.Grace, 5*time.Second)
	pause := svc.First
	for {
		began := time.Now()
		exit, err := s.runOnce(ctx, svc)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(began) > svc.Most {
			pause = svc.First
		}
		s.log.Warn("service ended", "service", svc.Name, "exit", exit.String(), "err", err, "again_in", pause)
		if svc.Ended != nil {
			svc.Ended(exit, err, pause)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(2*pause, svc.Most)
	}
}

func (s *Supervisor) runOnce(ctx context.Context, svc Service) (Exit, error) {
	child, err := s.Start(svc.Command)
	if err != nil {
		return Exit{Code: -1}, err
	}
	if svc.Started != nil {
		svc.Started(child.PID)
	}
	exit, err := child.Wait(ctx)
	if err != nil {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), svc.Grace)
		defer cancel()
		exit = child.Stop(grace)
	}
	return exit, nil
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
