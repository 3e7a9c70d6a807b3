package main

import (
	"context"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/sysinit"
)

// TestShellOnAConsole: commands one after the other, Ctrl-C, a terminal of its
// own, and a console that is as before when it has ended.
func TestShellOnAConsole(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	terminal := newTerminal(t)
	s, _ := newSeed(bootcfg.Config{})
	s.system.Supervisor = sysinit.NewSupervisor(s.system.Log)
	reaping, stop := context.WithCancel(context.Background())
	reaped := make(chan struct{})
	go func() { _ = s.system.Supervisor.Run(reaping); close(reaped) }()
	defer func() { stop(); <-reaped }()
	done := make(chan error, 1)
	go func() { done <- s.runShell(ctx, terminal.console, "/bin/sh") }()
	terminal.waits("seed:")
	terminal.types("tty; echo $((6*7)) answers\r")
	terminal.waits("/dev/pts/")
	terminal.waits("42 answers")
	terminal.types("for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; echo all $((1+1))\r")
	terminal.waits("all 2")
	// What runs says so: a key that comes while the shell still reads its line is input.
	terminal.types("sh -c 'echo runs $((3+3)); exec sleep 1000'\r")
	terminal.waits("runs 6")
	terminal.types("\x03")
	terminal.waits("seed:")
	terminal.types("echo again $((2+2)); exit\r")
	terminal.waits("again 4")
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("it does not end")
	}
	if _, err := terminal.console.File.WriteString("still there\n"); err != nil {
		t.Errorf("the console was hung up: %v", err)
	}
	terminal.waits("still there")
	if strings.Contains(terminal.all.String(), "can't access tty") {
		t.Errorf("no job control:\n%s", terminal.all.String())
	}
}
