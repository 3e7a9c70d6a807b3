package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// terminal is a pseudo terminal: what a person holds, and the console's side.
type terminal struct {
	*testing.T
	hand    *os.File
	console sysinit.Console
	seen    bytes.Buffer // since waits found something
	all     bytes.Buffer
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	hand, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("skipped: no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { hand.Close() })
	if err := hand.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var n int
	control(t, hand, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	})
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("skipped: no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	return &terminal{T: t, hand: hand, console: sysinit.Console{Name: "pty", File: screen}}
}

// patience bounds a test that waits for something that does not come.
const patience = 30 * time.Second

// control calls f with a descriptor that stays in the poller.
func control(t *testing.T, file *os.File, f func(fd int) error) {
	t.Helper()
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

// waits reads the screen until a text is on it, behind what was waited for before.
func (term *terminal) waits(text string) {
	term.Helper()
	buf := make([]byte, 256)
	for {
		if at := bytes.Index(term.seen.Bytes(), []byte(text)); at >= 0 {
			term.seen.Next(at + len(text))
			return
		}
		n, err := term.hand.Read(buf)
		if err != nil {
			term.Fatalf("%v; the screen shows\n%s", err, term.seen.String())
		}
		term.seen.Write(buf[:n])
		term.all.Write(buf[:n])
	}
}

func (term *terminal) types(keys string) {
	term.Helper()
	if _, err := term.hand.WriteString(keys); err != nil {
		term.Fatal(err)
	}
}

// waitRaw waits until the console takes keys one by one.
func (term *terminal) waitRaw(ctx context.Context) {
	term.Helper()
	for {
		var modes *unix.Termios
		control(term.T, term.hand, func(fd int) (err error) {
			modes, err = unix.IoctlGetTermios(fd, unix.TCGETS)
			return err
		})
		if modes.Lflag&(unix.ICANON|unix.ECHO) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			term.Fatal("the console was never set to single keys")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestFormOnAConsole fills in a form on one of two terminals, as a person does
// who presses a wrong key, with arrows and all.
func TestFormOnAConsole(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, b := newTerminal(t), newTerminal(t)
	screen := sysinit.NewFanOut(a.console.File, b.console.File)
	console := term.New(term.Config{Out: screen, Now: func() time.Duration { return 0 }, ASCII: true})
	keys, end := dialog.Read(ctx, []sysinit.Console{a.console, b.console}, func(_ string, f func() error) { go f() })
	defer end()
	a.waitRaw(ctx)
	b.waitRaw(ctx)
	f := forms{ask: &dialog.Asker{Keys: keys, Console: console}, console: console, mode: bootcfg.Internet}
	type answer struct {
		proxy bootcfg.Proxy
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		proxy, err := f.proxy(ctx, "")
		done <- answer{proxy, err}
	}()
	b.waits("Proxy, http://host:port")
	b.types("htto\x7fp://p.example:3128\x1b[A\x1b[D\r")
	b.waits("user name")
	a.types("nobody asked this one\r")
	b.types("me\r")
	b.waits("password:")
	b.types("secret\r")
	got := <-done
	if got.err != nil || string(got.proxy) != "http://me:secret@p.example:3128" {
		t.Errorf("%q, %v", string(got.proxy), got.err)
	}
	b.waits("******")
	a.waits("******") // it is shown on both
	if strings.Contains(a.all.String()+b.all.String(), "secret") {
		t.Error("a password is shown")
	}
}
