package sysinit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LeaveNoTrace closes the ways by which a system that writes to no file of a disk
// could still leave something on the machine: swap, core dumps, the kernel's last
// words in the firmware, a crash kernel, the firmware's variables, the hardware
// clock. root is "/". It goes on after a failure and joins the failures, each a
// *TraceError. It may be called again, and holds until the machine restarts; what
// is plugged in or switched on later is not its affair, but nothing here does so.
func LeaveNoTrace(root string) error {
	errs := []error{
		trace("swap", swapOff(root)),
		trace("core dumps", noCores()),
		trace("the kernel's last words", dropLastWords(root)),
		noCrashKernel(root),
		trace("firmware variables", hideVariables(root)),
		trace("hardware clock", keepClock()),
	}
	for _, k := range knobs() {
		errs = append(errs, k.turn(root))
	}
	return errors.Join(errs...)
}

// swapOff takes back what was swapped, and swaps no more.
func swapOff(root string) error {
	names, err := swaps(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		path, err := unix.BytePtrFromString(name)
		if err != nil {
			return err
		}
		if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
			return fmt.Errorf("swapoff %.80q: %w", name, errno)
		}
	}
	return nil
}

// noCores is for this process and all that it will start.
func noCores() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

// lastWordsModule keeps them in the firmware's variables.
const lastWordsModule = "efi_pstore"

// dropLastWords takes out the module that would keep them. What is built into the
// kernel cannot be taken out, and is an error.
func dropLastWords(root string) error {
	backend, err := lastWords(root)
	if err != nil || backend == "" {
		return err
	}
	if err := unix.DeleteModule(lastWordsModule, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%.80q keeps them: %w", backend, err)
	}
	if backend, err = lastWords(root); err == nil && backend != "" {
		err = fmt.Errorf("%.80q keeps them (the kernel option pstore.backend=%s prevents it)", backend, NoBackend)
	}
	return err
}

// hideVariables leaves no file by which a firmware's variable could be written.
func hideVariables(root string) error {
	mounts, err := mountsOf(root, EFIVars().Type)
	if err != nil {
		return err
	}
	for _, target := range mounts {
		if err := Unmount(target); err != nil {
			return err
		}
	}
	return nil
}

// keepClock keeps the kernel from setting the hardware clock by its own, which it
// does every eleven minutes while it takes its own to be in step (adjtimex(2),
// STA_UNSYNC). SetClock alone does not make it so; a program might have.
func keepClock() error {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return err
	}
	if t.Status&unix.STA_UNSYNC != 0 {
		return nil
	}
	_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_STATUS, Status: t.Status | unix.STA_UNSYNC})
	return err
}

// SetDisksReadOnly makes the kernel refuse to write to the disks of this machine
// and their partitions, or allows it again. Files in memory and what is loaded from
// them are not concerned. A drive without a medium is passed over. root is "/".
func SetDisksReadOnly(root string, on bool) error {
	names, err := hardDisks(os.DirFS(filepath.Join(root, "sys")))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, setReadOnly(filepath.Join(root, "dev", name), on))
	}
	return errors.Join(errs...)
}

func setReadOnly(device string, on bool) error {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOMEDIUM) || errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	value := 0
	if on {
		value = 1
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, value); err != nil {
		return fmt.Errorf("set %s read-only %v: %w", device, on, err)
	}
	return nil
}
