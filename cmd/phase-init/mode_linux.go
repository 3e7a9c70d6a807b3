package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// modeFile holds the mode that a person has chosen for this boot. It is in memory,
// and outlives this program: who asked for Private mode must not get another
// because something ended.
const modeFile = pid1.RunDir + "/mode"

// withMode is the kernel's command line with the mode that was chosen at the
// console, if one was. Of several the last counts. What cannot be read counts as
// Private, whatever else was asked for.
func withMode(cmdline, file string) string {
	chosen, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cmdline
	case err != nil:
		return cmdline + " phase.mode=" + bootcfg.Private.String()
	}
	mode, err := bootcfg.ParseMode(string(chosen))
	if err != nil { // it must say a mode, and nothing else
		mode = bootcfg.Private
	}
	return cmdline + " phase.mode=" + mode.String()
}

// modes are those to choose from, each with what it means.
var modes = []struct {
	mode bootcfg.Mode
	text string
}{
	{bootcfg.Internet, "everything is asked; cache and receipts are written"},
	{bootcfg.Local, "only the local network; cache and receipts are written"},
	{bootcfg.Private, "nothing is written, nothing identifies this machine"},
}

// askFirst lets a person choose the mode before the first step, on media whose boot
// loader has no menu, and keeps what was chosen: nobody is asked twice.
func (s *seed) askFirst(ctx context.Context, c bootcfg.Config) error {
	if _, err := os.Lstat(modeFile); c.Menu == 0 || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	h := s.hand(ctx)
	defer h.letGo()
	f := forms{ask: &dialog.Asker{Keys: h.keys, Console: s.system.Console}, console: s.system.Console, mode: c.Mode}
	mode := f.firstMode(ctx, c.Menu)
	if err := os.WriteFile(modeFile, []byte(mode.String()), 0o600); err != nil {
		return fmt.Errorf("keep the mode: %w", err)
	}
	return nil
}

// firstMode shows the modes for a while: one digit chooses, Enter takes the usual one
// at once, and any other key gives a person who reads slowly the time of a question.
// Only keys that come alone count: noise on a line neither chooses nor waits.
func (f forms) firstMode(ctx context.Context, wait time.Duration) bootcfg.Mode {
	f.console.Title("Phase Boot: in which mode?")
	f.console.Pairs(f.modeList("default"))
	f.console.Linef("Keys: 1 to %d a mode, Enter the default, any other to wait. Without a key %s starts after %v.", len(modes), f.mode.Title(), wait)
	timer, held := time.NewTimer(wait), false
	defer timer.Stop()
	for {
		select {
		case key := <-f.ask.Keys:
			n := int(key.Byte) - '1'
			switch alone := dialog.Alone(ctx, f.ask.Keys, key); {
			case !alone:
			case n >= 0 && n < len(modes):
				return modes[n].mode
			case key.Byte == '\r' || key.Byte == '\n':
				return f.mode
			case !held:
				held = true
				timer.Reset(cmp.Or(f.ask.Idle, dialog.DefaultIdle))
				f.console.Line("Waiting for a key.")
			}
		case <-timer.C:
			return f.mode
		case <-ctx.Done():
			return f.mode
		}
	}
}

// askMode begins this boot anew in another mode. There is no way back but the
// same way.
func (s *seed) askMode(ctx context.Context, f forms, _ *hand) error {
	mode, err := f.chooseMode(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(modeFile, []byte(mode.String()), 0o600); err != nil {
		return fmt.Errorf("keep the mode: %w", err)
	}
	s.system.Console.Linef("This boot begins anew, in %s.", mode.Title())
	return s.beginAnew()
}

// chooseMode asks for a mode, and makes sure that a person knows what a change
// into Private mode cannot undo.
func (f forms) chooseMode(ctx context.Context) (bootcfg.Mode, error) {
	f.console.Title("Another mode, for this boot (Escape leaves)")
	f.console.Pairs(f.modeList("now"))
	n, err := f.number(ctx, "Mode", "", len(modes))
	if err != nil {
		return f.mode, err
	}
	mode := modes[n-1].mode
	switch {
	case mode == f.mode:
		f.console.Line("That is the mode of this boot.")
		return mode, dialog.ErrLeft
	case mode == bootcfg.Private:
		return mode, f.confirmPrivate(ctx)
	case f.mode == bootcfg.Private:
		return mode, f.confirm(ctx, "From then on this boot writes to the medium, and others can tell this machine from all others.")
	}
	return mode, nil
}

// modeList is the modes, with a note on the one that holds.
func (f forms) modeList(note string) (list []term.Pair) {
	for i, m := range modes {
		text := m.text
		if m.mode == f.mode {
			text += " (" + note + ")"
		}
		list = append(list, term.Pair{Key: fmt.Sprintf("%2d  %s", i+1, m.mode.Title()), Value: text})
	}
	return list
}

// confirmPrivate says what was done already.
func (f forms) confirmPrivate(ctx context.Context) error {
	f.console.Line("This boot was not private until now: it may have written to the medium, and the network has seen this machine's hardware addresses. That is not undone.")
	f.console.Line("To be private from the start, leave this with Escape, reboot (b), and choose Private Mode in the boot menu.")
	return f.confirm(ctx, "From now on nothing more is written, and the addresses are made up.")
}

// confirm wants a clear yes.
func (f forms) confirm(ctx context.Context, what string) error {
	f.console.Line(what)
	answer, err := f.ask.Ask(ctx, dialog.Question{Text: "Type yes to go on", Default: "no", Check: oneOf("yes", "no")})
	if err == nil && answer != "yes" {
		err = dialog.ErrLeft
	}
	return err
}

// beginAnew puts this program in its own place: nothing that was learned or opened
// in one mode is there in the next. It returns only if that fails.
func (s *seed) beginAnew() error {
	s.letGo()
	s.warn("unmount", sysinit.UnmountBelow(pid1.RunDir))
	s.system.Flush(syncLimit)
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, []string{filepath.Base(self), walkArgument}, os.Environ())
	}
	return fmt.Errorf("begin anew: %w", err)
}
