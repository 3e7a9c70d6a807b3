package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// childEnv makes this test binary play the program that is kept running.
const childEnv = "PHASE_PID1_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "panic": // in a goroutine that nobody guards
		go func() { var none []int; _ = none[len(os.Args)] }()
		select {}
	case "exit":
		fmt.Fprintln(os.Stderr, "\x1b[2Jwhat it said")
		os.Exit(3)
	case "killed":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	os.Exit(m.Run())
}

// patience bounds a test that waits for something that does not come.
const patience = time.Minute

// machine is a keeper with a console of a test.
type machine struct {
	*testing.T
	*keeper
	hand *os.File
	seen bytes.Buffer
	log  syncBuffer

	mu     sync.Mutex
	asked  []string // "reboot", "power off"
	killed int
	spared []int
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newMachine(t *testing.T, child string) *machine {
	m := &machine{T: t}
	console := m.pty()
	m.keeper = &keeper{
		kernelLog: &m.log, log: slog.New(slog.NewTextHandler(&m.log, nil)),
		program:  sysinit.Command{Path: "/proc/self/exe", Args: []string{"-test.run=^$"}, Env: []string{childEnv + "=" + child}},
		pauses:   pauses{first: time.Millisecond, most: 4 * time.Millisecond, settled: time.Hour, again: time.Hour},
		consoles: func() ([]sysinit.Console, error) { return []sysinit.Console{m.open(console)}, nil },
		killAll:  func() error { m.mu.Lock(); m.killed++; m.mu.Unlock(); return nil },
		protect:  func(pid int) error { m.mu.Lock(); m.spared = append(m.spared, pid); m.mu.Unlock(); return nil },
		reboot:   func() error { m.ask("reboot"); return errors.New("not in a test") },
		powerOff: func() error { m.ask("power off"); select {} },
	}
	m.supervisor = sysinit.NewSupervisor(m.keeper.log)
	ctx, cancel := context.WithCancel(context.Background())
	reaped := make(chan struct{})
	go func() { _ = m.supervisor.Run(ctx); close(reaped) }()
	t.Cleanup(func() { cancel(); <-reaped })
	return m
}

func (m *machine) ask(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, what)
}

// pty makes a pseudo terminal; it returns the path of the console's side.
func (m *machine) pty() string {
	m.Helper()
	hand, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		nettest.Lacking(m.T, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("no pseudo terminals here: %v", err))
	}
	m.Cleanup(func() { hand.Close() })
	nettest.Check(m.T, hand.SetDeadline(time.Now().Add(patience)))
	raw, err := hand.SyscallConn()
	nettest.Check(m.T, err)
	var n int
	nettest.Check(m.T, raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}))
	nettest.Check(m.T, err)
	m.hand = hand
	return fmt.Sprintf("/dev/pts/%d", n)
}

// open ends the keeper where its test has ended: it would never do so itself.
func (m *machine) open(path string) sysinit.Console {
	if m.Context().Err() != nil {
		runtime.Goexit()
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		m.Error(err)
	}
	return sysinit.Console{Name: "pty", File: f}
}

// waits reads the screen until a text is on it.
func (m *machine) waits(text string) {
	m.Helper()
	buf := make([]byte, 512)
	for !strings.Contains(m.seen.String(), text) {
		n, err := m.hand.Read(buf)
		if err != nil {
			m.Fatalf("%v; waiting for %q, the screen shows\n%s\nthe log is\n%s", err, text, m.seen.String(), m.log.String())
		}
		m.seen.Write(buf[:n])
	}
}

func (m *machine) start() { go m.guard("the supervisor", m.run) }

func TestProgramThatKeepsEnding(t *testing.T) {
	for child, want := range map[string]struct{ how, words string }{
		"exit":   {"exit status 3", "?[2Jwhat it said"},
		"killed": {"killed (SIGKILL)", ""},
		"panic":  {"exit status 2", "panic: runtime error: index out of range"},
	} {
		t.Run(child, func(t *testing.T) {
			m := newMachine(t, child)
			m.start()
			m.waits("Without a key it is tried again after 1h0m0s")
			screen := m.seen.String()
			if n := strings.Count(screen, "the boot program has ended: "+want.how); n != patient-1 {
				t.Errorf("%d ends are told of:\n%s", n, screen)
			}
			for _, text := range []string{want.words, "started again in 4ms", "has ended 5 times", "[" + codeEnded + "]", "Keys: r try again, b reboot, p power off."} {
				if !strings.Contains(screen, text) {
					t.Errorf("not shown: %q\n%s", text, screen)
				}
			}
			if strings.Contains(screen, "\x1b") {
				t.Error("the program's own control characters reach the screen")
			}
			for line := range strings.Lines(screen) {
				if len(strings.TrimRight(line, "\r\n")) > 78 {
					t.Errorf("too wide: %q", line)
				}
			}
			if log := m.log.String(); !strings.Contains(log, strings.TrimPrefix(want.words, "?[2J")) {
				t.Errorf("the kernel's log lacks the last words:\n%s", log)
			}
			m.mu.Lock()
			if m.killed != patient || len(slices.Compact(m.spared)) != patient {
				t.Errorf("killed what was left %d times, of programs %v", m.killed, m.spared)
			}
			m.mu.Unlock()
		})
	}
}

// TestKeysOfPID1: the failure screen's keys work, each on its own, and another
// end leads back to it.
func TestKeysOfPID1(t *testing.T) {
	m := newMachine(t, "exit")
	m.start()
	m.waits("has ended 5 times")
	m.waits("Without a key")
	m.seen.Reset()
	for _, step := range []struct{ typed, shown string }{
		{"x", ""}, {"B", "This did not work: not in a test"}, {"r", "has ended 6 times"},
	} {
		_, err := m.hand.WriteString(step.typed)
		nettest.Check(t, err)
		if step.shown == "" { // it must be alone to count at all
			time.Sleep(300 * time.Millisecond)
			continue
		}
		m.waits(step.shown)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.asked, []string{"reboot"}) {
		t.Errorf("asked for %v", m.asked)
	}
}

// TestProgramThatIsNotThere: an image that lacks it says so.
func TestProgramThatIsNotThere(t *testing.T) {
	m := newMachine(t, "")
	m.program.Path = "/nonexistent/phase-init"
	m.start()
	m.waits("no such file or directory")
}

// TestRunWithoutConsoles: the kernel's log is all there is.
func TestRunWithoutConsoles(t *testing.T) {
	m := newMachine(t, "exit")
	m.consoles = func() ([]sysinit.Console, error) { return nil, errors.New("console: none is active") }
	m.start()
	for deadline := time.Now().Add(patience); !strings.Contains(m.log.String(), "times=5"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log is\n%s", m.log.String())
		}
	}
}

// TestPanicOfTheSupervisor: whatever fails in here is logged, and left.
func TestPanicOfTheSupervisor(t *testing.T) {
	m := newMachine(t, "exit")
	m.consoles = func() ([]sysinit.Console, error) { panic("a defect") }
	m.guard("the supervisor", m.run)
	if log := m.log.String(); !regexp.MustCompile(`panic.*the supervisor.*a defect`).MatchString(log) || !strings.Contains(log, "keeper_linux.go") {
		t.Errorf("the log is\n%s", log)
	}
}

func TestLastWordsAreBounded(t *testing.T) {
	var log bytes.Buffer
	w := &lastWords{log: &log}
	text := "chatter\n" + strings.Repeat("x", 3*maxLine) + "\n" + "panic: it is over\n\ngoroutine 1 [running]:\n" + strings.Repeat("main.f()\n", 2*maxLogged)
	if err := w.readFrom(io.MultiReader(strings.NewReader(text), strings.NewReader("no end"))); err != nil {
		t.Fatal(err)
	}
	if got := w.first(); len(got) != maxShown || got[0] != "panic: it is over" || got[1] != "goroutine 1 [running]:" {
		t.Errorf("%q", got)
	}
	if n := strings.Count(log.String(), "\n"); n != maxLogged {
		t.Errorf("%d lines in the log", n)
	}
	if strings.Contains(log.String(), strings.Repeat("x", maxLine+1)) {
		t.Error("a line without end is in the log")
	}
}

func TestExitName(t *testing.T) {
	if got := exitName(sysinit.Exit{Code: -1, Signal: syscall.SIGSEGV}); got != "killed by segmentation fault" {
		t.Error(got)
	}
}

// TestScreenOfPID1 holds what a person sees in the end to a file, on a serial line of
// 80 columns.
func TestScreenOfPID1(t *testing.T) {
	var screen bytes.Buffer
	k := &keeper{ends: patient}
	console := term.New(term.Config{Out: &screen, ASCII: true, Now: func() time.Duration { return 0 }})
	console.Failure(k.failure(ending{how: "killed by segmentation fault", words: []string{
		"panic: runtime error: invalid memory address or nil pointer dereference [recovered, repanicked]", "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x8f2c1a]", "goroutine 1 [running]:",
	}}, 5*time.Minute))
	want, err := os.ReadFile("testdata/boot-091.golden")
	if err != nil || screen.String() != string(want) {
		t.Errorf("%v; the screen is\n%s", err, screen.String())
	}
}
