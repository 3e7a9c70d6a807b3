package wasm

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// enterJail gives up, in the runner itself, what only the process can give up
// about itself: its directory tree, its user,
// its share of the machine. A step that this machine does
// not permit is left out; the node measures from outside which walls stand
// and reports only those. Sources: chroot(2), setresuid(2), setrlimit(2), prctl(2).
func enterJail(cfg runnerConfig) error {
	if err := os.Chdir(cfg.Root); err != nil {
		return fmt.Errorf("entering the empty directory: %w", err)
	}
	if cfg.UID != 0 && os.Geteuid() == 0 {
		if err := errors.Join(tolerate(unix.Chroot(".")), becomeUser(int(cfg.UID))); err != nil {
			return err
		}
	}
	for _, l := range cfg.Limits {
		limit := unix.Rlimit{Cur: l.Value, Max: l.Value}
		if err := tolerate(unix.Setrlimit(l.Resource, &limit)); err != nil {
			return fmt.Errorf("setting resource limit %d to %d: %w", l.Resource, l.Value, err)
		}
	}
	// Changing the user cleared the signal that the node set up at the start:
	// the runner dies with the node.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("asking to die with the node: %w", err)
	}
	return nil
}

// becomeUser leaves root for good, on every thread; with it go all
// capabilities.
func becomeUser(uid int) error {
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(nil) },
		func() error { return syscall.Setresgid(uid, uid, uid) },
		func() error { return syscall.Setresuid(uid, uid, uid) },
	} {
		if err := step(); err != nil {
			return tolerate(err)
		}
	}
	return nil
}

// tolerate lets pass what a container or a user namespace forbids.
func tolerate(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
