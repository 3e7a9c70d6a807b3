package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/phasebased/phase/internal/vm"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// rawTerminal is a person's terminal that a machine's serial port is on.
type rawTerminal struct {
	in, out *os.File
	saved   *term.State
	filter  *consoleFilter
}

// newRawTerminal gives every key to the machine, Ctrl-C among them, until restore.
func newRawTerminal(in, out *os.File) (*rawTerminal, error) {
	saved, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("give the terminal to the machine: %w", err)
	}
	return &rawTerminal{in: in, out: out, saved: saved, filter: &consoleFilter{out: out}}, nil
}

// undo makes a terminal usable whatever a guest did to it: the ordinary screen, all
// of it scrolling, lines that wrap, a visible cursor, plain text, no bracketed paste
// and no reports of the mouse.
const undo = "\x1b[?1049l\x1b[r\x1b[?7h\x1b[?25h\x1b[0m\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b>\x1b(B\r\x1b[999;1H\n"

// restore is safe to call twice.
func (t *rawTerminal) restore() error {
	if t.saved == nil {
		return nil
	}
	saved := t.saved
	t.saved = nil
	t.filter.close()
	_, err := t.out.WriteString(undo)
	return errors.Join(err, term.Restore(int(t.in.Fd()), saved))
}

// say shows a line of our own, in the middle of the machine's.
func (t *rawTerminal) say(text string) { t.filter.own("\r\n[phase] " + text + "\r\n") }

// keysHelp is what Ctrl-A H shows.
const keysHelp = "Ctrl-A X: pull the plug   Ctrl-A P: power button   Ctrl-A R: reset   Ctrl-A A: type Ctrl-A"

// serve passes keys on to the machine until the machine or the keys end.
func (t *rawTerminal) serve(ctx context.Context, m *vm.Machine) {
	var keys keyReader
	buf := make([]byte, 1024)
	for {
		n, err := t.in.Read(buf)
		typed, actions := keys.read(buf[:n])
		if len(typed) > 0 {
			_ = m.SendConsole(typed) // a guest that takes no keys misses them
		}
		for _, action := range actions {
			t.act(ctx, m, action)
		}
		if err != nil {
			return
		}
	}
}

// act does what a key after Ctrl-A says.
func (t *rawTerminal) act(ctx context.Context, m *vm.Machine, action byte) {
	var err error
	switch action {
	case 'x':
		m.Quit(ctx)
	case 'p':
		t.say("power button pressed")
		err = m.PressPower(ctx)
	case 'r':
		t.say("reset")
		err = m.Reset(ctx)
	case 'h':
		t.say(keysHelp)
	}
	if err != nil {
		t.say(err.Error())
	}
}

// prefixKey is Ctrl-A, as in QEMU and screen.
const prefixKey = 0x01

// keyReader tells what is typed for the machine from what is typed for us.
type keyReader struct{ prefixed bool }

// read returns the machine's keys, and the actions asked for: x, p, r or h.
func (k *keyReader) read(in []byte) (typed, actions []byte) {
	for _, b := range in {
		switch {
		case !k.prefixed && b == prefixKey:
			k.prefixed = true
			continue
		case !k.prefixed:
			typed = append(typed, b)
		case b == prefixKey || b == 'a' || b == 'A':
			typed = append(typed, prefixKey)
		case b == '?':
			actions = append(actions, 'h')
		case b|0x20 == 'x' || b|0x20 == 'p' || b|0x20 == 'r' || b|0x20 == 'h':
			actions = append(actions, b|0x20)
		}
		k.prefixed = false
	}
	return typed, actions
}

// consoleFilter passes a machine's console on to a terminal, without the control
// strings (ECMA-48, 5.6) through which a guest could reach beyond the screen: into
// the clipboard, the window's title or what is typed. What moves the cursor and
// paints stays. It may be used by several goroutines.
type consoleFilter struct {
	out io.Writer

	mu     sync.Mutex
	state  filterState
	closed bool
}

type filterState int

const (
	filterText   filterState = iota
	filterEscape             // after ESC
	filterC1                 // after the first byte of a C1 control in UTF-8
	filterString             // inside a control string
	filterEnding             // inside one, after ESC
)

// Write implements io.Writer for the machine's bytes.
func (f *consoleFilter) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return len(p), nil
	}
	var out []byte
	for _, b := range p {
		out = f.next(out, b)
	}
	if _, err := f.out.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// next appends what b lets through.
func (f *consoleFilter) next(out []byte, b byte) []byte {
	switch f.state {
	case filterEscape:
		f.state = filterText
		switch b {
		case 'P', ']', 'X', '^', '_': // DCS, OSC, SOS, PM, APC
			f.state = filterString
			return out
		case 0x1b:
			f.state = filterEscape
			return out
		}
		return append(out, 0x1b, b)
	case filterC1:
		f.state = filterText
		switch b {
		case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // the same five
			f.state = filterString
			return out
		}
		return append(out, 0xc2, b)
	case filterString, filterEnding:
		return f.inString(out, b)
	}
	switch b {
	case 0x1b:
		f.state = filterEscape
	case 0xc2:
		f.state = filterC1
	case 0x05: // ENQ: a terminal may answer with what somebody configured
	default:
		out = append(out, b)
	}
	return out
}

// inString drops a control string up to its end: ST, BEL, or CAN and SUB that
// abandon it. A line's end gives up as well, so that nothing but the string is lost
// where a guest began one by mistake.
func (f *consoleFilter) inString(out []byte, b byte) []byte {
	ending := f.state == filterEnding
	f.state = filterString
	switch {
	case b == 0x1b:
		f.state = filterEnding
	case b == 0x07 || b == 0x18 || b == 0x1a || b == 0x9c || ending && b == '\\':
		f.state = filterText
	case b == '\n':
		f.state = filterText
		return append(out, '\r', '\n')
	case ending: // another sequence ended the string
		f.state = filterEscape
		return f.next(out, b)
	}
	return out
}

// own writes text of ours.
func (f *consoleFilter) own(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		_, _ = io.WriteString(f.out, text)
	}
}

// close keeps what comes late off the terminal.
func (f *consoleFilter) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}
