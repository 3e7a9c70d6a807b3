package oneshot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/internal/durable"
)

// loader is the boot loader that started this medium, as far as it starts
// something else once.
type loader interface {
	// partition is the id of the partition that it came from.
	partition() (string, error)
	// takes reports whether it starts entries once.
	takes() bool
	// left reports whether it has seen anything of an earlier start, started whether
	// the running system is our entry, and failed whether it could not start that.
	left() bool
	started() bool
	failed() bool
	// entry is the file by which it starts the new system, and its text.
	entry(cmdline string) (name string, text []byte, err error)
	// arm makes it start our entry at the next boot, disarm undoes that: their errors
	// are *Error. armed is whether it has yet to.
	arm() error
	disarm() error
	armed() bool
}

// loader is what the medium was started by.
func (m *Medium) loader() loader {
	if m.Told.Partition != "" {
		return grub{m}
	}
	return systemdBoot{m, variables{m.Vars}}
}

// systemdBoot takes an entry of the Boot Loader Specification and speaks by
// firmware variables.
type systemdBoot struct {
	m    *Medium
	vars variables
}

func (l systemdBoot) partition() (string, error) { return l.vars.text(varDevice) }
func (l systemdBoot) takes() bool                { return l.vars.takesEntries() }
func (l systemdBoot) left() bool                 { return l.vars.known() || l.vars.oneShot() || l.vars.selected() }
func (l systemdBoot) started() bool              { return l.vars.selected() }
func (l systemdBoot) failed() bool               { return false } // it does not say
func (l systemdBoot) armed() bool                { return l.vars.oneShot() }

func (l systemdBoot) entry(cmdline string) (string, []byte, error) {
	text, err := newEntry(cmdline).marshal()
	return entryFile, text, err
}

func (l systemdBoot) arm() error {
	return notTaken(l.m.writable(func(v variables) error {
		if err := v.write(varOneShot, encodeText(EntryID)); err != nil {
			return fmt.Errorf("LoaderEntryOneShot: %w", err)
		}
		if err := v.startAgain(); err != nil {
			return errors.Join(err, v.remove(varOneShot))
		}
		return nil
	}))
}

func (l systemdBoot) disarm() error {
	return notForgotten(l.m.writable(func(v variables) error {
		var err error
		if v.oneShot() {
			err = v.remove(varOneShot)
		}
		return errors.Join(err, v.forgetNext())
	}))
}

func notTaken(err error) error {
	if err == nil {
		return nil
	}
	return kindFirmware.error(stepArm, err, "the firmware does not take it")
}

func notForgotten(err error) error {
	if err == nil {
		return nil
	}
	return kindFirmware.error(stepClear, err, "the firmware does not forget it")
}

// grub is GRUB with grub.cfg of package media: it sources a file of ours if the
// variable next_entry of its environment block says so, after it has written there
// that it shall not again.
type grub struct{ m *Medium }

const (
	grubEntry       = folder + "/grub.cfg"
	grubEnvironment = "boot/grub/grubenv"
	nextEntry       = "next_entry"
	grubID          = "phase-oneshot"
)

func (l grub) partition() (string, error) { return l.m.Told.Partition, nil }
func (l grub) takes() bool                { return true }
func (l grub) left() bool                 { return l.m.Told.OneShot != "" }
func (l grub) started() bool              { return l.m.Told.OneShot == stateStarted }
func (l grub) failed() bool               { return l.m.Told.OneShot == stateFailed }

// aroundGRUB is what GRUB and the entry add to the command line, in bytes.
const aroundGRUB = len("BOOT_IMAGE=/" + kernelFile + "  loader.partition=01234567-89ab-cdef-0123-456789abcdef loader.oneshot=" + stateStarted)

// entry is a piece of grub.cfg. It boots, or fails and leaves the rest to the menu.
func (l grub) entry(cmdline string) (string, []byte, error) {
	const room = 2047 - aroundGRUB
	switch {
	case len(cmdline) > room:
		return "", nil, fmt.Errorf("%w: the command line has %d bytes, at most %d are possible", ErrEntry, len(cmdline), room)
	case strings.ContainsFunc(cmdline, unprintable) || strings.ContainsAny(cmdline, `'"\`):
		// It would put backslashes before them.
		return "", nil, fmt.Errorf("%w: GRUB passes on neither quotes nor backslashes as they are, and nothing but ASCII", ErrEntry)
	}
	line := "linux /" + kernelFile
	for word := range strings.FieldsSeq(cmdline) {
		line += " '" + word + "'"
	}
	line += " loader.partition=$partition loader.oneshot=" + stateStarted
	return grubEntry, []byte(line + "\nif initrd /" + initrdFile + "; then\n  boot\nfi\n"), nil
}

func (l grub) arm() error {
	if err := l.set(grubID); err != nil {
		return kindWrite.error(stepArm, err, "GRUB's memory on the medium does not take it")
	}
	return notTaken(l.m.writable(variables.startAgain))
}

func (l grub) disarm() error {
	err := notForgotten(l.m.writable(variables.forgetNext))
	if l.armed() {
		if e := l.set(""); e != nil {
			return also(kindWrite.error(stepClear, e, "GRUB's memory on the medium does not forget it"), err)
		}
	}
	return err
}

func (l grub) armed() bool {
	unmount, err := l.m.mount(true)
	if err != nil {
		return false
	}
	list, err := l.read()
	return errors.Join(err, unmount()) == nil && valueOf(list, nextEntry) == grubID
}

func (l grub) read() ([]setting, error) {
	block, err := durable.ReadSmall(filepath.Join(l.m.Dir, grubEnvironment), environmentSize, durable.RefuseLinks)
	if err != nil {
		return nil, err
	}
	return parseEnvironment(block)
}

// set writes next_entry into GRUB's environment, and reads it back from the medium.
func (l grub) set(value string) error {
	unmount, err := l.m.mount(false)
	if err != nil {
		return err
	}
	list, err := l.read()
	if err == nil {
		err = l.write(with(list, nextEntry, value))
	}
	if err = errors.Join(err, unmount()); err != nil {
		return err
	}
	if l.armed() != (value == grubID) {
		return errors.New("other bytes were read than written")
	}
	return nil
}

// write replaces the block's bytes where they are: GRUB finds the file by its
// sectors.
func (l grub) write(list []setting) error {
	block, err := marshalEnvironment(list)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.m.Dir, grubEnvironment), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(block, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// keeps reports whether a file of the boot partition holds these bytes.
func (m *Medium) keeps(name string, text []byte) error {
	kept, err := durable.ReadSmall(filepath.Join(m.Dir, name), maxEntry, durable.RefuseLinks)
	if err == nil && !bytes.Equal(kept, text) {
		err = fmt.Errorf("other bytes were read than written: %w", fs.ErrInvalid)
	}
	return err
}
