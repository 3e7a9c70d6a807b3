package wasm

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock lets a process give up files, TCP and, later, signals and abstract
// sockets, without being root. Each version of the kernel's interface knows more
// of them. Source: landlock(7), "Features".
const (
	landlockFiles   = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1 // version 1: all kinds of access up to MAKE_SYM
	landlockV2Files = landlockFiles | unix.LANDLOCK_ACCESS_FS_REFER
	landlockV3Files = landlockV2Files | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	landlockV5Files = landlockV3Files | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	landlockTCP     = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	landlockScopes  = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
)

// landlockRules forbid everything that version of the kernel's interface can
// forbid: no rule allows anything.
func landlockRules(version int) unix.LandlockRulesetAttr {
	rules := unix.LandlockRulesetAttr{Handled_access_fs: landlockFiles}
	if version >= 2 {
		rules.Handled_access_fs = landlockV2Files
	}
	if version >= 3 {
		rules.Handled_access_fs = landlockV3Files
	}
	if version >= 4 {
		rules.Handled_access_net = landlockTCP
	}
	if version >= 5 {
		rules.Handled_access_fs = landlockV5Files
	}
	if version >= 6 {
		rules.Scoped = landlockScopes
	}
	return rules
}

// LandlockVersion is that of the kernel's Landlock, 0 where it has none, or was
// started without.
func LandlockVersion() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// closeWithLandlock gives up files, TCP, signals and abstract sockets, and
// tries each.
func closeWithLandlock(cfg runnerConfig) (tried []string, err error) {
	openBefore := canOpenHere() // else a refusal afterwards would prove nothing
	listener, name := listenAbstract()
	if listener >= 0 {
		defer unix.Close(listener)
	}
	if version := LandlockVersion(); version > 0 {
		rules := landlockRules(version)
		if cfg.leaves(WallFiles) {
			rules.Handled_access_fs = 0
		}
		if cfg.leaves(WallTCP) {
			rules.Handled_access_net = 0
		}
		if cfg.leaves(WallScopes) {
			rules.Scoped = 0
		}
		if err := restrictWith(rules); err != nil {
			return nil, fmt.Errorf("landlock version %d: %w", version, err)
		}
	}
	if openBefore && !canOpenHere() {
		tried = append(tried, WallFiles)
	}
	if connecting(unix.AF_INET, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}) == unix.EACCES {
		tried = append(tried, WallTCP)
	}
	if name != nil && connecting(unix.AF_UNIX, name) == unix.EPERM {
		tried = append(tried, WallScopes)
	}
	return tried, nil
}

// canOpenHere tries the empty directory, which everybody may read.
func canOpenHere() bool {
	fd, err := unix.Open(".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}

// restrictWith puts all threads under rules. A program with C in it needs a
// kernel that does so itself (version 8); without, the wall is missing.
func restrictWith(rules unix.LandlockRulesetAttr) error {
	if rules == (unix.LandlockRulesetAttr{}) {
		return nil
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(fd))
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, unix.LANDLOCK_RESTRICT_SELF_TSYNC, 0); errno == 0 {
		return nil
	}
	err := onAllThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return tolerate(err)
}

// listenAbstract opens an abstract socket under a name of the kernel's choice.
func listenAbstract() (fd int, name unix.Sockaddr) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{}); err == nil {
		err = unix.Listen(fd, 1)
	}
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, nil
	}
	return fd, name
}

// connecting tells what the kernel says to a connection to addr.
func connecting(family int, addr unix.Sockaddr) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, addr)
}
