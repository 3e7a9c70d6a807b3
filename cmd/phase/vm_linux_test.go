package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/vm"
)

// person sits at a terminal on which a program runs.
type person struct {
	*testing.T
	screen *os.File // the person's side
	desk   *os.File // the program's
	cmd    *exec.Cmd
	before unix.Termios // the terminal's settings before the program

	mu      sync.Mutex
	shown   []byte
	changed chan struct{}
}

// sit starts a program on a new terminal.
func sit(t *testing.T, env []string, name string, args ...string) *person {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	desk, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { desk.Close() })
	p := &person{T: t, screen: screen, desk: desk, changed: make(chan struct{}, 1)}
	p.before = p.settings()
	p.cmd = exec.CommandContext(t.Context(), name, args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = desk, desk, desk
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.look()
	return p
}

func (p *person) look() {
	buf := make([]byte, 4096)
	for {
		n, err := p.screen.Read(buf)
		p.mu.Lock()
		p.shown = append(p.shown, buf[:n]...)
		p.mu.Unlock()
		select {
		case p.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// sees waits for a text.
func (p *person) sees(text string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	for {
		p.mu.Lock()
		shown := string(p.shown)
		p.mu.Unlock()
		if strings.Contains(shown, text) {
			return
		}
		select {
		case <-p.changed:
		case <-ctx.Done():
			p.Fatalf("%q was not shown; this was: %q", text, shown)
		}
	}
}

func (p *person) types(keys string) {
	p.Helper()
	if _, err := io.WriteString(p.screen, keys); err != nil {
		p.Fatal(err)
	}
}

func (p *person) settings() unix.Termios {
	p.Helper()
	settings, err := unix.IoctlGetTermios(int(p.desk.Fd()), unix.TCGETS)
	if err != nil {
		p.Fatal(err)
	}
	return *settings
}

// playsMachine is an emulator whose machine greets, tries to write into the
// clipboard, and repeats what is typed.
const playsMachine = `#!/bin/sh
echo '{"QMP":{}}' >&4
printf 'the guest speaks \033]52;c;eA==\007on\r\n\033[?25l' >&3
cat <&3 >&3 &
while read -r command <&4; do
	case "$command" in
	*quit*) kill $!; exit ;;
	*system_reset*) printf 'reset pressed\r\n' >&3; printf '{"return":{},"id":1}\n' >&4 ;;
	esac
done
`

// attended starts phase vm run on a terminal.
func attended(t *testing.T, emulator string) *person {
	t.Helper()
	if _, err := vm.FindFirmware(vm.X8664); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	phase, medium := filepath.Join(dir, "phase"), filepath.Join(dir, "medium.img")
	for _, err := range []error{
		os.Symlink(self, phase),
		os.WriteFile(medium, nil, 0o600),
		os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(emulator), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p := sit(t, []string{"PATH=" + dir + ":" + os.Getenv("PATH")}, phase, "vm", "run", "--accel", "tcg", "--state", filepath.Join(dir, "state"), medium)
	return p
}

// TestTerminal: a person types to the machine, Ctrl-C included, resets it, pulls
// the plug, and has the terminal back as it was, with a cursor.
func TestTerminal(t *testing.T) {
	p := attended(t, playsMachine)
	p.sees("the guest speaks ")
	if p.settings().Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Error("the terminal keeps keys to itself")
	}
	p.types("typed\x03\x01a!")
	p.sees("typed\x03\x01!")
	p.types("\x01h")
	p.sees("[phase] Ctrl-A X")
	p.types("\x01r")
	p.sees("reset pressed")
	p.types("\x01x")
	p.sees("machine-1 ")
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v; shown: %q", err, p.shown)
	}
	p.restored()
	if bytes.Contains(p.shown, []byte("52;c")) {
		t.Errorf("the guest reached the clipboard: %q", p.shown)
	}
}

// restored asserts that the terminal is as it was.
func (p *person) restored() {
	p.Helper()
	p.sees("\x1b[?25h")
	if after := p.settings(); after != p.before {
		p.Errorf("the terminal was %+v and is %+v", p.before, after)
	}
}

// TestTerminalIsRestored when the machine ends, QEMU refuses, or phase is told to
// end.
func TestTerminalIsRestored(t *testing.T) {
	for name, tt := range map[string]struct {
		emulator string
		signal   os.Signal
		ok       bool
	}{
		"the machine ends": {"#!/bin/sh\necho '{\"QMP\":{}}' >&4\necho the guest speaks >&3\n", nil, true},
		"QEMU fails":       {"#!/bin/sh\necho '{\"QMP\":{}}' >&4\necho the guest speaks >&3\necho broken >&2; exit 1\n", nil, false},
		"SIGTERM":          {playsMachine, syscall.SIGTERM, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := attended(t, tt.emulator)
			p.sees("the guest speaks")
			if tt.signal != nil {
				if err := p.cmd.Process.Signal(tt.signal); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.cmd.Wait(); (err == nil) != tt.ok {
				t.Errorf("%v; shown: %q", err, p.shown)
			}
			p.restored()
		})
	}
}
