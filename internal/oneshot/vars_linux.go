package oneshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Firmware variables by their names in efivarfs.
const (
	loaderGUID = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	globalGUID = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"

	varFeatures = "LoaderFeatures" + loaderGUID       // what the loader can do, as bits
	varDevice   = "LoaderDevicePartUUID" + loaderGUID // the partition it came from
	varEntries  = "LoaderEntries" + loaderGUID        // every entry it has found
	varSelected = "LoaderEntrySelected" + loaderGUID  // the one it has started
	varOneShot  = "LoaderEntryOneShot" + loaderGUID   // the one to start once
	varCurrent  = "BootCurrent" + globalGUID          // the firmware's entry that was used
	varNext     = "BootNext" + globalGUID             // the one to use once
	varSecure   = "SecureBoot" + globalGUID
)

// featureOneShot is the bit of LoaderFeatures for LoaderEntryOneShot.
const featureOneShot = 1 << 3

// attributes are those of what is written: kept without power, and there before
// and after the operating system starts (UEFI 2.10, 8.2).
const attributes = 1 | 2 | 4

// variables is efivarfs: each file holds four bytes of attributes and the value.
type variables struct{ dir string }

// read gives a variable's value of at most limit bytes. An error that wraps
// fs.ErrNotExist means that there is none.
func (v variables) read(name string, limit int) ([]byte, error) {
	f, err := os.Open(filepath.Join(v.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, int64(limit)+5))
	if err != nil {
		return nil, err
	}
	if len(raw) < 4 || len(raw) > limit+4 {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrValue, name, len(raw))
	}
	return raw[4:], nil
}

func (v variables) text(name string) (string, error) {
	raw, err := v.read(name, maxValue)
	if err != nil {
		return "", err
	}
	return decodeText(raw)
}

// write sets a variable and reads it back.
func (v variables) write(name string, value []byte) error {
	path := filepath.Join(v.dir, name)
	if err := unprotect(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	// One write is one call of the firmware; in parts it would be several.
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, attributes), value...))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	kept, err := v.read(name, len(value))
	if err == nil && !bytes.Equal(kept, value) {
		err = errors.New("the firmware keeps another value than the one that was written")
	}
	return err
}

// remove deletes a variable, if it is there.
func (v variables) remove(name string) error {
	path := filepath.Join(v.dir, name)
	err := unprotect(path)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// unprotect takes the mark away by which efivarfs keeps variables from being
// deleted by accident: some firmware does not survive that. Ours are not needed
// by any. File systems of tests have no such mark.
func unprotect(path string) error {
	const immutable = 0x10 // FS_IMMUTABLE_FL of linux/fs.h
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || err == nil && flags&immutable == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}

// oneShot reports whether the firmware still remembers our entry.
func (v variables) oneShot() bool {
	id, err := v.text(varOneShot)
	return err == nil && id == EntryID
}

// known reports whether the loader has found our entry at this start.
func (v variables) known() bool {
	list, err := v.read(varEntries, maxList)
	return err == nil && hasText(list, EntryID)
}

// selected reports whether the loader has started our entry this time.
func (v variables) selected() bool {
	id, err := v.text(varSelected)
	return err == nil && id == EntryID
}

// takesEntries reports whether the loader obeys LoaderEntryOneShot.
func (v variables) takesEntries() bool {
	raw, err := v.read(varFeatures, 8)
	return err == nil && len(raw) == 8 && binary.LittleEndian.Uint64(raw)&featureOneShot != 0
}

func (v variables) secureBoot() bool {
	raw, err := v.read(varSecure, 1)
	return err == nil && len(raw) == 1 && raw[0] == 1
}

// startAgain makes the firmware start, once, what it has started this time.
func (v variables) startAgain() error {
	current, err := v.read(varCurrent, 2)
	if err != nil || len(current) != 2 {
		return nil // then the firmware goes by its own order, as it did this time
	}
	if err := v.write(varNext, current); err != nil {
		return fmt.Errorf("BootNext: %w", err)
	}
	return nil
}

// forgetNext leaves a BootNext alone that is not what startAgain writes.
func (v variables) forgetNext() error {
	current, err := v.read(varCurrent, 2)
	next, err2 := v.read(varNext, 2)
	if err == nil && err2 == nil && bytes.Equal(current, next) {
		return v.remove(varNext)
	}
	return nil
}
