// Package pid1 is what the seed's walk and the node's init have in common: the
// early file systems, consoles that cannot hold them up, the report port, drivers
// and children.
//
// Neither should ever end. Signals are taken and logged, work runs under Guard,
// and goroutines of ours under System.Go, so that a panic there is an error to
// show. What remains is a panic in a goroutine that a library started. The walk is
// then started again by phase-pid1. The node's init is PID 1 itself, and the
// kernel panics when that ends: the option panic= of its command line reboots.
package pid1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/timeline"
)

// ReportPort is the virtio-serial port on which a virtual machine's host can
// follow the boot. Real machines have none.
const ReportPort = "org.phase.report"

// RunDir is where the walk leaves its notes for people.
const RunDir = "/run/phase"

// StateDir is the folder on the cache partition of what package trust keeps.
const StateDir = "trust"

// System is a running machine as its PID 1 sees it.
type System struct {
	Console    *term.Console // what people see, on every active console
	Log        *slog.Logger  // the kernel's log
	Timeline   *timeline.Recorder
	Supervisor *sysinit.Supervisor
	Modules    *sysinit.Modules // nil where the system carries none

	consoles []sysinit.Console
	screen   *sysinit.FanOut
	report   *lateWriter
	queue    *sysinit.Queue // before the report port; nil without one
}

// Start does what every PID 1 does first. It goes on after failures, because a
// machine that can still show them is worth more than one that stopped; they
// are joined in the error.
func Start(ctx context.Context, kernel string) (*System, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE)
	mounts := sysinit.RequiredOnly(sysinit.Mount())
	s := &System{report: &lateWriter{}}
	s.Log = slog.New(slog.NewTextHandler(openLog(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	consoles, consoleErr := sysinit.Consoles()
	s.consoles = consoles
	outs := make([]io.Writer, len(consoles))
	for i, c := range consoles {
		outs[i] = c.File
		if err := c.Reset(); err != nil {
			s.Log.Warn("console", "error", err)
		}
	}
	s.screen = sysinit.NewFanOut(outs...)
	s.Console = term.New(term.Config{Out: s.screen, Now: timeline.SinceBoot, ASCII: true})
	s.Timeline = timeline.NewRecorder(timeline.Config{
		Kernel: kernel, Now: timeline.SinceBoot, Dir: RunDir, Events: s.report,
	})
	s.Supervisor = sysinit.NewSupervisor(s.Log)
	s.Go("signals", func() error { return s.logSignals(ctx, signals) })
	s.Go("supervisor", func() error { return s.Supervisor.Run(ctx) })
	quiet := sysinit.QuietKernel(4)
	return s, errors.Join(mounts, consoleErr, quiet, s.plug(ctx))
}

// plug loads the drivers of what is plugged in, and goes on doing so.
func (s *System) plug(ctx context.Context) (err error) {
	stage := s.Timeline.Begin("devices")
	defer func() {
		note := ""
		if s.Modules != nil {
			loaded, _ := s.Modules.Loaded()
			note = fmt.Sprintf("%d drivers", loaded)
		}
		stage.End(note, err)
	}()
	defer s.openReport()
	watcher, err := sysinit.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch for devices: %w", err)
	}
	if s.Modules, err = sysinit.OpenModules("/"); err != nil {
		watcher.Close()
		return fmt.Errorf("read the list of drivers: %w", err)
	}
	sys := os.DirFS("/sys")
	err = s.Modules.ColdPlug(ctx, watcher, sys)
	for _, m := range s.Modules.Missing() {
		s.Log.Warn("driver", "missing", m.String())
	}
	s.Go("hot plug", func() error {
		defer watcher.Close()
		return s.Modules.HotPlug(ctx, watcher, sys)
	})
	return err
}

// logSignals takes the signals that would end a Go program: to PID 1 they are
// somebody's mistake.
func (s *System) logSignals(ctx context.Context, signals <-chan os.Signal) error {
	for {
		select {
		case sig := <-signals:
			s.Log.Warn("signal passed over", "signal", sig.String())
		case <-ctx.Done():
			return nil
		}
	}
}

// Go runs f beside the caller. Its panic or error is logged and shown, and the
// machine goes on without it.
func (s *System) Go(name string, f func() error) {
	go func() {
		if err := Guard(s.Log, f); err != nil {
			s.Log.Error("task ended", "task", name, "error", err)
			s.Console.Linef("WARNING: %s: %v", name, err)
		}
	}()
}

// openReport connects the events so far, and those to come, to the report port
// if this machine has one.
func (s *System) openReport() {
	port, err := sysinit.ReportPort(ReportPort)
	if err != nil {
		s.report.attach(nil)
		return
	}
	s.queue = sysinit.NewQueue(port, sysinit.QueueConfig{Limit: 1 << 20})
	s.report.attach(s.queue)
}

// Consoles are the active consoles, for reading keys.
func (s *System) Consoles() []sysinit.Console { return s.consoles }

// Flush waits, for at most limit, until what was written is on its way.
func (s *System) Flush(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	s.screen.Flush(ctx)
	if s.queue != nil {
		s.queue.Flush(ctx)
	}
}

// Guard runs f and turns a panic into an error: PID 1 must not end.
func Guard(log *slog.Logger, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("panic", "value", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = &PanicError{Value: fmt.Sprint(r)}
		}
	}()
	return f()
}

// PanicError is a defect of this program that was caught.
type PanicError struct{ Value string }

// Error says that this is a defect, not the person's mistake.
func (e *PanicError) Error() string { return "internal error: " + e.Value }

// Code is its number in docs/codes.md.
func (e *PanicError) Code() string { return "BOOT-090" }

// Hint says what to do next.
func (e *PanicError) Hint() string {
	return "this is a defect of Phase Boot; please report it with the kernel log"
}

// openLog is the kernel's log, or nothing where it cannot be opened.
func openLog() io.Writer {
	kmsg, err := sysinit.OpenKmsg("phase")
	if err != nil {
		return io.Discard
	}
	return kmsg
}
