package sysinit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// TraceError is a way to leave traces on the machine that could not be closed.
type TraceError struct {
	What string // "swap", "core dumps", …
	Err  error
}

func (e *TraceError) Error() string {
	return fmt.Sprintf("private mode cannot rule out traces on this machine: %s: %v", e.What, e.Err)
}

// Unwrap returns the cause.
func (e *TraceError) Unwrap() error { return e.Err }

// Code is the error's number in docs/codes.md.
func (e *TraceError) Code() string { return "BOOT-030" }

// Hint says what to do next.
func (e *TraceError) Hint() string {
	return "Use a medium with its own kernel and boot entries, or another mode."
}

// trace names what an error is about; nil stays nil.
func trace(what string, err error) error {
	if err == nil {
		return nil
	}
	return &TraceError{What: what, Err: err}
}

// A knob is a setting of the kernel that closes one way. A kernel without it does
// not have that way either.
type knob struct{ what, file, value string }

// knobs are the settings of Private mode. core(5): with an empty pattern, and no
// process id behind it, no core is dumped at all.
func knobs() []knob {
	return []knob{
		{"core dumps", "proc/sys/kernel/core_uses_pid", "0"},
		{"core dumps", "proc/sys/kernel/core_pattern", ""},
		{"core dumps", "proc/sys/fs/suid_dumpable", "0"},
		{"crash kernel", "sys/kernel/kexec_crash_size", "0"},
	}
}

// turn sets the knob below root, unless it is as it should be, and looks whether
// the kernel took it.
func (k knob) turn(root string) error {
	path := filepath.Join(root, k.file)
	is, err := readKnob(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && is == k.value {
		return nil
	}
	if err == nil {
		err = writeKnob(path, k.value)
	}
	if err == nil {
		is, err = readKnob(path)
	}
	if err == nil && is != k.value {
		err = fmt.Errorf("%s stays %.80q", k.file, is)
	}
	return trace(k.what, err)
}

// readKnob reads a setting without its line break.
func readKnob(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	return strings.TrimRight(string(data), "\n"), err
}

// writeKnob writes to a file that exists. The line break makes an empty value
// something to write.
func writeKnob(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value + "\n")
	return errors.Join(err, f.Close())
}

// noCrashKernel reports a kernel that stands by for a panic: what it would do then
// is its own affair.
func noCrashKernel(root string) error {
	loaded, err := readKnob(filepath.Join(root, "sys/kernel/kexec_crash_loaded"))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && loaded == "0":
		return nil
	case err == nil:
		err = errors.New("one is loaded")
	}
	return trace("crash kernel", err)
}

// lastWords names who keeps a panicking kernel's last words (pstore), such as the
// firmware's variables; "" for nobody. Media for Private mode name a backend that
// does not exist, so that none is taken.
func lastWords(root string) (string, error) {
	backend, err := readKnob(filepath.Join(root, "sys/module/pstore/parameters/backend"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case backend == "(null)" || backend == NoBackend:
		return "", err
	}
	return backend, err
}

// NoBackend is the value of the kernel option pstore.backend that lets nobody keep
// the kernel's last words: no backend has that name.
const NoBackend = "none"

// hardDisks lists the block devices that hold something when the machine is off, and
// their partitions, by name: those that some hardware stands behind. Drives that
// move when they are opened are left out.
func hardDisks(sys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(sys, "class/block")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		name := parseEnv(readLine(sys, "class/block/"+e.Name()+"/uevent"))["DEVNAME"]
		if plainName(name) && !inMemory(name) {
			out = append(out, name)
		}
	}
	return out, nil
}

func inMemory(name string) bool {
	for _, prefix := range []string{"loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			return true
		}
	}
	return false
}
