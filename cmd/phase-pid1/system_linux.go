package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/sysinit"
)

// walk is the program that is kept running. Its argument tells it by whom.
var walk = sysinit.Command{
	Path: "/bin/phase-init", Args: []string{"walk"}, Dir: "/", Session: true,
	Env: []string{"PATH=/bin:/usr/bin:/usr/sbin", "HOME=/root", "TERM=linux"},
}

const syncLimit = 10 * time.Second

// Scores of the kernel's choice of what to kill when there is no memory left
// (proc(5), oom_score_adj).
const (
	neverKill = "-1000"
	killFirst = "1000"
)

// signals are all that would end a Go program, or that its runtime would make a
// crash of when somebody sends them. To PID 1 each is somebody's mistake.
var signals = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGUSR1,
	unix.SIGSEGV, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGSTKFLT, unix.SIGXCPU, unix.SIGXFSZ,
	unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO, unix.SIGPWR, unix.SIGSYS,
}

// start makes the machine ready. Failures are logged: a machine that can still
// show something is worth more than one that stopped.
func start() *keeper {
	taken := make(chan os.Signal, 8)
	signal.Notify(taken, signals...)
	mountErr := sysinit.RequiredOnly(sysinit.Mount())
	k := &keeper{
		kernelLog: openLog(), program: walk, consoles: sysinit.Consoles,
		pauses:  pauses{first: time.Second, most: 30 * time.Second, settled: 10 * time.Minute, again: 5 * time.Minute},
		killAll: func() error { return unix.Kill(-1, unix.SIGKILL) },
		protect: func(pid int) error { return oomScore(fmt.Sprint(pid), killFirst) },
		reboot:  func() error { return sysinit.Reboot(syncLimit) }, powerOff: func() error { return sysinit.PowerOff(syncLimit) },
	}
	k.log = slog.New(slog.NewTextHandler(k.kernelLog, nil))
	k.supervisor = sysinit.NewSupervisor(k.log)
	k.warn("mount", mountErr)
	k.warn("stay when memory is short", oomScore("self", neverKill))
	k.keep("signals", func() error {
		for sig := range taken {
			k.log.Warn("signal passed over", "signal", sig.String())
		}
		return nil
	})
	k.keep("reaping", func() error { return k.supervisor.Run(context.Background()) })
	return k
}

func oomScore(process, score string) error {
	return os.WriteFile("/proc/"+process+"/oom_score_adj", []byte(score), 0)
}

// openLog is the kernel's log, or nothing where it cannot be opened.
func openLog() io.Writer {
	kmsg, err := sysinit.OpenKmsg("phase-pid1")
	if err != nil {
		return io.Discard
	}
	return kmsg
}

// warn logs what is gone on without.
func (k *keeper) warn(what string, err error) {
	if err != nil {
		k.log.Warn(what, "error", err)
	}
}

// keep runs f beside the caller, again and again.
func (k *keeper) keep(name string, f func() error) {
	go func() {
		for {
			k.guard(name, f)
			time.Sleep(breath)
		}
	}()
}

// beside runs f beside the caller, once.
func (k *keeper) beside(name string, f func() error) {
	go k.guard(name, f)
}

// guard runs f; its panic is logged.
func (k *keeper) guard(name string, f func() error) {
	defer func() {
		if r := recover(); r != nil {
			k.log.Error("panic", "in", name, "value", fmt.Sprint(r))
			for line := range strings.Lines(string(debug.Stack())) {
				_, _ = io.WriteString(k.kernelLog, line)
			}
		}
	}()
	k.warn(name, f())
}

// exitName is how a program ended, in words.
func exitName(e sysinit.Exit) string {
	if e.Signal == syscall.SIGKILL {
		return "killed (SIGKILL)"
	}
	return e.String()
}
