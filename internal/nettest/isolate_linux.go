package nettest

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childVar is set in the process that Isolated starts.
const childVar = "PHASE_NETTEST"

// Config says what a test needs. The zero value is useful.
type Config struct {
	Programs []string      // that must be installed, by name
	Env      []string      // more variables for the process that runs the test
	Timeout  time.Duration // how long the test may take; default two minutes
}

// Isolated reports true in the process that shall run the test: it has a network
// and mounts of its own. Outside, Isolated marks the test as parallel, runs that
// process, takes over its outcome, and reports false; the test then returns.
//
// The process runs the test function from its beginning, so that Isolated comes
// first in it, or in the subtest.
func Isolated(t *testing.T, cfg Config) bool {
	t.Helper()
	if os.Getenv(childVar) != "" {
		if err := settle(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	t.Parallel()
	Require(t, cfg.Programs...)
	attr, err := namespaces()
	if err != nil {
		Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("needs root, or user namespaces, to make networks: %v", err))
	}
	timeout := cmp.Or(cfg.Timeout, 2*time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), timeout+10*time.Second)
	defer cancel()
	name := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run="+name, "-test.v", "-test.count=1", "-test.timeout="+timeout.String())
	cmd.Env = append(append(os.Environ(), childVar+"=1", "PATH="+searchPath()), cfg.Env...)
	cmd.SysProcAttr = attr
	cmd.WaitDelay = 10 * time.Second // for a program that keeps its output open
	out, err := cmd.CombinedOutput()
	takeOver(t, string(out), err)
	return false
}

// takeOver makes the outcome of the process ours.
func takeOver(t *testing.T, out string, err error) {
	t.Helper()
	switch said := func(what string) bool { return strings.Contains(out, "--- "+what+": "+t.Name()+" (") }; {
	case err == nil && said("SKIP"):
		Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "in its namespace: "+out)
	case err != nil || !said("PASS"):
		t.Fatalf("in its namespace: %v\n%s", err, out)
	case testing.Verbose():
		t.Logf("%s", out)
	}
}

// namespaces returns what starts a process in new namespaces: as root if we are
// root and may, else as the root of a user namespace.
var namespaces = sync.OnceValues(func() (*syscall.SysProcAttr, error) {
	const own = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS
	user := &syscall.SysProcAttr{
		Cloneflags:  own | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if os.Geteuid() == 0 {
		root := &syscall.SysProcAttr{Cloneflags: own}
		if try(root) == nil {
			return root, nil
		}
	}
	return user, try(user)
})

func try(attr *syscall.SysProcAttr) error {
	cmd := exec.Command("/bin/true")
	copied := *attr // a process's own
	cmd.SysProcAttr = &copied
	return cmd.Run()
}

// settle makes the new process's mounts its own, once.
var settle = sync.OnceValue(func() error {
	if err := onLostThread(func() error { return propagate(unix.MS_PRIVATE) }); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	// A /sys that shows the interfaces of this network. It is not everywhere
	// allowed, and few tests look.
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return nil
})

// propagate says who else sees what is mounted and unmounted here: MS_PRIVATE,
// nobody. Where a process's root is a folder in another system, and no mount
// point, it cannot name the mount that it is on. Hence this thread leaves for the
// root of the namespace; it is of no other use afterwards.
func propagate(how uintptr) error {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(self)
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // the other threads stay
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(self, unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("setns", err)
	}
	return unix.Mount("", "/", "", unix.MS_REC|how, "")
}

// onLostThread runs f on a thread that ends with it.
func onLostThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock
		done <- f()
	}()
	return <-done
}

// onThread runs f on a thread of its caller's, whose network may be changed
// meanwhile; it is as before afterwards.
func onThread(f func() error) error {
	runtime.LockOSThread()
	own, err := threadNetwork()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		defer own.Close()
		if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("back to the own network: %v", err)) // nothing would be where it seems to be
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

func threadNetwork() (*os.File, error) {
	return os.Open("/proc/thread-self/ns/net")
}
