package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/sysinit"
)

// keyShell is the key whose turn may last.
const keyShell = 's'

// busybox is the shell and its programs in one, in an image that carries it.
const busybox = "/bin/busybox"

// shellTools is where the shell's programs get their names: all are one file.
const shellTools = pid1.RunDir + "/shell"

// shellBanner says what is where.
var shellBanner = []string{
	"You are root in the seed: a small system in memory. What you change here is",
	"gone with the next boot, but for what you write to disks. Until this shell",
	"ends, nothing is tried. After 30 minutes without a key it ends by itself.",
	"",
	"/run/phase        the stages of this boot as JSON",
	"/run/phase/cache  the medium's cache, /run/phase/seed its policy, if in use",
	"/phase            root keys and build of this medium",
	"dmesg             the kernel's log; lines of Phase Boot begin with phase:",
	"phase-discover, phase-verify, phase-fetch   the steps of the boot, by hand",
	"exit              back to the menu",
}

// hasShell reports whether this image carries a shell.
func (s *seed) hasShell() bool {
	info, err := os.Stat(busybox)
	return err == nil && info.Mode().IsRegular()
}

// openShell gives the console on which it was asked for to a shell, until that
// ends. It is a session of its own that the console controls, so that Ctrl-C
// reaches what runs in it and nothing else.
func (s *seed) openShell(ctx context.Context, f forms, h *hand) error {
	ctx = context.WithoutCancel(ctx) // a person may stay as long as there are keys
	consoles := s.system.Consoles()
	at := slices.IndexFunc(consoles, func(c sysinit.Console) bool { return c.File == f.ask.From })
	if at < 0 {
		return errors.New("this console is gone")
	}
	console := consoles[at]
	f.console.Title("Shell on " + console.Name)
	for _, line := range shellBanner {
		f.console.Text(line)
	}
	h.letGo()
	defer h.take()
	defer func() { s.warn("console", console.Reset()) }()
	s.warn("console", console.Reset())
	err := s.runShell(ctx, console)
	f.console.Title("The shell has ended")
	return err
}

func (s *seed) runShell(ctx context.Context, console sysinit.Console) error {
	if err := s.installTools(ctx); err != nil {
		return err
	}
	tty, err := console.Terminal()
	if err != nil {
		return err
	}
	defer tty.Close()
	kind := "vt102"
	if console.VT {
		kind = "linux"
	}
	child, err := s.system.Supervisor.Start(sysinit.Command{
		Path: busybox, Args: []string{"sh"}, Dir: "/root", Files: []*os.File{tty, tty, tty}, TTY: true,
		Env: []string{"PATH=" + shellTools + ":/bin:/usr/sbin", "HOME=/root", "TERM=" + kind, "TMOUT=1800", `PS1=seed:\w# `},
	})
	if err != nil {
		return err
	}
	exit, err := child.Wait(ctx)
	s.system.Log.Info("shell", "console", console.Name, "exit", exit.String())
	return err
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
