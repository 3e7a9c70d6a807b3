package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// keyShell is the key whose turn may last.
const keyShell = 's'

// busybox is the shell and its programs in one, in an image that carries it.
const busybox = "/bin/busybox"

// shellTools is where the shell's programs get their names: all are one file.
const shellTools = pid1.RunDir + "/shell"

// shellGreeting says where a person is, and shellPlaces what is where.
const shellGreeting = "You are root in the seed, a small system in memory: what you change is gone with the next boot, but for what you write to disks. Until this shell ends nothing is tried. After 30 minutes without a key it ends by itself."

var shellPlaces = []term.Pair{
	{Key: "/run/phase", Value: "the stages of this boot, as JSON"},
	{Key: "/run/phase/cache", Value: "the medium's cache, if it is in use"},
	{Key: "/run/phase/seed", Value: "the medium's policy and bootstrap nodes"},
	{Key: "/phase", Value: "root keys and build of this medium"},
	{Key: "dmesg", Value: "the kernel's log; our lines begin with phase:"},
	{Key: "/bin", Value: "phase-discover, phase-verify, phase-fetch: the steps, by hand"},
	{Key: "exit", Value: "back to the menu"},
}

// hasShell reports whether this image carries a shell.
func (s *seed) hasShell() bool {
	info, err := os.Stat(busybox)
	return err == nil && info.Mode().IsRegular()
}

// openShell gives the console on which it was asked for to a shell, until that
// ends. Its terminal is a pseudo one, whose other side is copied from and to the
// console: Ctrl-C reaches what runs in the shell and nothing else, and its end
// hangs up nothing of ours.
func (s *seed) openShell(ctx context.Context, f forms, h *hand) error {
	ctx = context.WithoutCancel(ctx) // a person may stay as long as there are keys
	consoles := s.system.Consoles()
	at := slices.IndexFunc(consoles, func(c sysinit.Console) bool { return c.File == f.ask.From })
	if at < 0 {
		return errors.New("this console is gone")
	}
	console := consoles[at]
	f.console.Title("Shell on " + console.Name)
	f.console.Text(shellGreeting)
	f.console.Pairs(shellPlaces)
	h.letGo()
	defer h.take()
	err := s.installTools(ctx)
	if err == nil {
		err = s.runShell(ctx, console, busybox, "sh")
	}
	for _, c := range consoles { // it may have changed any of them
		s.warn("console", c.Reset())
	}
	f.console.Title("The shell has ended")
	return err
}

// lastOutput bounds the wait for what a shell wrote last.
const lastOutput = 2 * time.Second

func (s *seed) runShell(ctx context.Context, console sysinit.Console, program string, args ...string) error {
	ours, tty, err := sysinit.PTY()
	if err != nil {
		return err
	}
	defer ours.Close()
	kind := "vt102"
	if console.VT {
		kind = "linux"
	}
	// Before the shell says anything: what was typed until then is dropped.
	end := s.typeInto(ctx, console, ours)
	child, err := s.system.Supervisor.Start(sysinit.Command{
		Path: program, Args: args, Dir: "/", Files: []*os.File{tty, tty, tty}, TTY: true,
		Env: []string{"PATH=" + shellTools + ":/bin:/usr/sbin", "HOME=/root", "TERM=" + kind, "TMOUT=1800", `PS1=seed:\w# `},
	})
	tty.Close()
	if err != nil {
		end()
		return err
	}
	shown := make(chan struct{})
	s.system.Go("what the shell shows", func() error {
		defer close(shown)
		_, _ = io.Copy(console.File, ours) // ends with an error when all have closed the other side
		return nil
	})
	exit, err := child.Wait(ctx)
	end()
	select {
	case <-shown:
	case <-time.After(lastOutput): // something still has that terminal, or the console is stuck
	}
	s.system.Log.Info("shell", "console", console.Name, "exit", exit.String())
	return err
}

// typeInto passes on what is typed on a console, until end is called.
func (s *seed) typeInto(ctx context.Context, console sysinit.Console, to io.Writer) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	keys, read, passed := make(chan sysinit.Key), make(chan struct{}), make(chan struct{})
	wait := sysinit.ReadKeys(ctx, []sysinit.Console{console}, keys)
	s.system.Go("keys for the shell", func() error { defer close(read); wait(); return nil })
	s.system.Go("what the shell is told", func() error {
		defer close(passed)
		for {
			select {
			case key := <-keys:
				if _, err := to.Write([]byte{key.Byte}); err != nil {
					return nil // it has ended
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	return func() { cancel(); <-read; <-passed }
}

// installTools gives the programs their names, once.
func (s *seed) installTools(ctx context.Context) error {
	if _, err := os.Lstat(filepath.Join(shellTools, "sh")); err == nil {
		return nil
	}
	if err := os.MkdirAll(shellTools, 0o755); err != nil {
		return err
	}
	child, err := s.system.Supervisor.Start(sysinit.Command{Path: busybox, Args: []string{"--install", "-s", shellTools}, Dir: "/"})
	if err != nil {
		return err
	}
	exit, err := child.Wait(ctx)
	if err == nil && !exit.OK() {
		err = errors.New("name the shell's programs: " + exit.String())
	}
	return err
}
