package wasm

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// firstInput is the descriptor of the first input: what exec.Cmd.ExtraFiles has first.
const firstInput = 3

// mapInputs puts the files that the process was born with into its memory, where
// nothing can be written, and closes them: reading one then needs no system call, and
// the jail has no file open. The node has compared them with their digests, through the
// same descriptors. A byte that the disk does not give any more ends the process.
func mapInputs(sizes []int64) (inputs [][]byte, err error) {
	for i, size := range sizes {
		fd := firstInput + i
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != size || size < 1 {
			return nil, fmt.Errorf("input %d is no file of %d bytes", i, size)
		}
		data, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		if err := unix.Close(fd); err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		inputs = append(inputs, data)
	}
	return inputs, nil
}

// enterJail gives up, in the runner itself, what only the process can give up
// about itself: its directory tree, its user, its share of the machine, its
// files, and in the end nearly all system calls. It returns the walls that it
// ran against: what it tried and was refused.
//
// A step that this machine does not permit is left out; the probes and the node,
// which looks from outside, find out which walls stand. Nothing foreign has been
// read before it returns. Sources: chroot(2), setresuid(2), setrlimit(2),
// prctl(2), landlock(7), seccomp(2).
func enterJail(cfg runnerConfig) (tried []string, err error) {
	// The runtime opens what it needs for timers at the first that is set.
	time.AfterFunc(time.Hour, func() {}).Stop()
	if err := os.Chdir(cfg.Root); err != nil {
		return nil, fmt.Errorf("entering the empty directory: %w", err)
	}
	if err := leaveRoot(cfg); err != nil {
		return nil, err
	}
	if isEmptyRoot() {
		tried = append(tried, WallRoot)
	}
	if err := setLimits(cfg); err != nil {
		return nil, err
	}
	closeFiles()
	dumpable := uintptr(0)
	if cfg.leaves(WallUndumpable) {
		dumpable = 1 // a change of user has cleared it
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, dumpable, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("giving up core dumps and debuggers: %w", err)
	}
	// Changing the user cleared the signal that the node set up at the start:
	// the runner dies with the node.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return nil, fmt.Errorf("asking to die with the node: %w", err)
	}
	tried = append(tried, tryPlainWalls(cfg)...)
	locked, err := closeWithLandlock(cfg)
	if err != nil {
		return nil, err
	}
	tried = append(tried, locked...)
	if !cfg.leaves(WallSeccomp) {
		if err := restrictCalls(); err != nil {
			return nil, err
		}
	}
	if tryFilter() {
		tried = append(tried, WallSeccomp)
	}
	return tried, nil
}

// leaveRoot leaves the directory tree and the user of root, where the node is root.
func leaveRoot(cfg runnerConfig) error {
	if os.Geteuid() == 0 && !cfg.leaves(WallRoot) {
		if err := tolerate(unix.Chroot(".")); err != nil {
			return fmt.Errorf("making the empty directory the root: %w", err)
		}
	}
	if os.Geteuid() == 0 && cfg.UID != 0 {
		return becomeUser(int(cfg.UID))
	}
	return nil
}

func setLimits(cfg runnerConfig) error {
	if cfg.leaves(WallRlimits) {
		return nil
	}
	for _, l := range cfg.Limits {
		limit := unix.Rlimit{Cur: l.Value, Max: l.Value}
		if err := tolerate(unix.Setrlimit(l.Resource, &limit)); err != nil {
			return fmt.Errorf("setting resource limit %d to %d: %w", l.Resource, l.Value, err)
		}
	}
	return nil
}

// leaves says that a test wants this wall left out.
func (cfg runnerConfig) leaves(wall string) bool {
	for _, w := range cfg.Without {
		if w == wall {
			return true
		}
	}
	return false
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

// closeFiles closes what the process was born with beside its three streams,
// and what the runtime read at its start. Pipes, and the runtime's own
// descriptors, which are of no file, stay.
func closeFiles() {
	for fd := 3; fd < maxFiles; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG, unix.S_IFDIR, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
			_ = unix.Close(fd)
		}
	}
}

// isEmptyRoot looks for anything below the root directory.
func isEmptyRoot() bool {
	entries, err := os.ReadDir("/")
	return err == nil && len(entries) == 0
}

// tryPlainWalls tries the walls that need no rules of their own. A wall that
// is tried here may still be denied by what the node sees from outside.
func tryPlainWalls(cfg runnerConfig) []string {
	var walls []string
	stands := func(wall string, yes bool) {
		if yes {
			walls = append(walls, wall)
		}
	}
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	stands(WallNoNewPriv, err == nil && nnp == 1)
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	stands(WallUndumpable, err == nil && dumpable == 0)
	stands(WallUser, cfg.UID != 0 && os.Getuid() == int(cfg.UID) && syscall.Setuid(0) != nil && unix.Chroot(".") != nil)
	stands(WallPID, os.Getpid() == 1)
	stands(WallRlimits, ownLimitsStand(cfg.Limits))
	return walls
}

// ownLimitsStand: each limit is in force.
func ownLimitsStand(limits []resourceLimit) bool {
	for _, l := range limits {
		var have unix.Rlimit
		if unix.Getrlimit(l.Resource, &have) != nil || have.Max > l.Value || have.Cur > l.Value {
			return false
		}
	}
	return len(limits) > 0
}

// onAllThreads makes a system call on every thread of the process. Programs
// with C in them cannot do that; the error is then ENOTSUP.
func onAllThreads(trap, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3); errno != 0 {
		return errno
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
