package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wallsHere are the walls that this machine can build, found out without the
// code that builds them.
func wallsHere(t *testing.T) []string {
	t.Helper()
	walls := []string{WallWASM, WallProcess, WallFresh, WallDeadline, WallRlimits, WallNoNewPriv, WallUndumpable}
	if os.Getuid() == 0 {
		walls = append(walls, WallUser, WallRoot)
	}
	version := LandlockVersion()
	if err := onAllThreads(unix.SYS_GETPID, 0, 0, 0); err != nil && version < 8 {
		t.Logf("built with C: %v: no Landlock", err)
		version = 0
	}
	for _, w := range []struct {
		since int
		wall  string
	}{{1, WallFiles}, {4, WallTCP}, {6, WallScopes}} {
		if version >= w.since {
			walls = append(walls, w.wall)
		}
	}
	if actions, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail"); err == nil && strings.Contains(string(actions), "kill_process") {
		walls = append(walls, WallSeccomp)
	}
	return walls
}

// jailFor makes a jail without some walls and gives the walls it reports.
func jailFor(t *testing.T, without ...string) []string {
	t.Helper()
	s := testSandbox(t)
	s.without = without
	r, err := s.startAlone(context.Background(), s.largest(), gift{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.end()
	return r.walls
}

// TestEachWallIsMissed: a wall that is not built is not in the report, and all
// others are.
func TestEachWallIsMissed(t *testing.T) {
	all := jailFor(t)
	t.Logf("all: %v", all)
	for _, wall := range []string{
		WallRlimits, WallUser, WallFiles, WallTCP, WallScopes, WallSeccomp, WallNet, WallPID, WallIPC, WallMount, WallUndumpable, WallRoot,
	} {
		t.Run(wall, func(t *testing.T) {
			if !slices.Contains(all, wall) {
				t.Skipf("this machine has no wall %s", wall)
			}
			want := slices.DeleteFunc(slices.Clone(all), func(w string) bool { return w == wall })
			if got := jailFor(t, wall); !slices.Equal(got, want) {
				t.Errorf("without %s the report is %v, want %v", wall, got, want)
			}
		})
	}
}

// attempts are what somebody in a jail may try who has broken out of the engine.
// Each must end the process with SIGSYS if there is a filter, and fail all the
// same if there is none. They are made as raw calls, as an attacker would.
var attempts = map[string]func() error{
	"open":       func() error { return openRaw("/etc/passwd\x00") },
	"open root":  func() error { return openRaw("/\x00") },
	"open here":  func() error { return openRaw(".\x00") },
	"own memory": func() error { return openRaw("/proc/self/mem\x00") },
	"tcp": func() error {
		return connecting(unix.AF_INET, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}})
	},
	"udp":       func() error { return raw(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0) },
	"netlink":   func() error { return raw(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0) },
	"ptrace":    func() error { return raw(unix.SYS_PTRACE, unix.PTRACE_ATTACH, uintptr(os.Getppid()), 0) },
	"fork":      func() error { return raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0) },
	"vfork":     func() error { return raw(unix.SYS_CLONE, unix.CLONE_VFORK|unix.CLONE_VM|uintptr(unix.SIGCHLD), 0, 0) },
	"namespace": func() error { return raw(unix.SYS_CLONE, threadFlags|unix.CLONE_NEWUSER, 0, 0) },
	"unshare":   func() error { return raw(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0) },
	"execve": func() error {
		path := []byte("/bin/true\x00")
		return raw(unix.SYS_EXECVE, uintptr(unsafe.Pointer(&path[0])), 0, 0)
	},
	"mount":           func() error { return raw(unix.SYS_MOUNT, 0, 0, 0) },
	"kill the node":   func() error { return raw(unix.SYS_KILL, uintptr(os.Getppid()), uintptr(unix.SIGKILL), 0) },
	"kill all":        func() error { return raw(unix.SYS_KILL, ^uintptr(0), uintptr(unix.SIGKILL), 0) },
	"signal thread":   func() error { return raw(unix.SYS_TGKILL, 1<<20, 1<<20, uintptr(unix.SIGKILL)) },
	"io_uring":        func() error { return raw(unix.SYS_IO_URING_SETUP, 1, 0, 0) },
	"bpf":             func() error { return raw(unix.SYS_BPF, 0, 0, 0) },
	"perf":            func() error { return raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0) },
	"keyring":         func() error { return raw(unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, 0, 0) },
	"userfaultfd":     func() error { return raw(unix.SYS_USERFAULTFD, 0, 0, 0) },
	"setuid":          func() error { return raw(unix.SYS_SETUID, 0, 0, 0) },
	"raise limits":    func() error { return raw(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, 0) },
	"read others":     func() error { return raw(unix.SYS_PROCESS_VM_READV, 1, 0, 0) },
	"write and run":   func() error { return raw(unix.SYS_MMAP, 0, 4096, writeAndRun|unix.PROT_READ) },
	"map a file":      func() error { return raw(unix.SYS_MMAP, 0, 4096, unix.PROT_READ) },
	"pidfd":           func() error { return raw(unix.SYS_PIDFD_OPEN, 1, 0, 0) },
	"new filter":      func() error { return raw(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, 0) },
	"memory file":     func() error { return raw(unix.SYS_MEMFD_CREATE, 0, 0, 0) },
	"other clock":     func() error { return raw(unix.SYS_CLOCK_SETTIME, 0, 0, 0) },
	"load a module":   func() error { return raw(unix.SYS_INIT_MODULE, 0, 0, 0) },
	"another kernel":  func() error { return raw(unix.SYS_REBOOT, 0, 0, 0) },
	"other processor": func() error { return raw(unix.SYS_SCHED_SETAFFINITY, 0, 0, 0) },
}

// needs are what the Go runtime does in a runner, if not in every one; a
// fault of memory among it.
var needs = map[string]func() error{
	"sleep": func() error { time.Sleep(3 * time.Millisecond); return nil },
	"timer": func() error { <-time.After(3 * time.Millisecond); return nil },
	"threads": func() error {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() { runtime.LockOSThread(); time.Sleep(time.Millisecond) })
		}
		all.Wait()
		return nil
	},
	"collect": func() error {
		for range 5 {
			_ = make([]byte, 32<<20)
			debug.FreeOSMemory()
		}
		return nil
	},
	"fault": func() (err error) {
		defer func() { _ = recover() }()
		var none *int
		return fmt.Errorf("read %d", *none)
	},
	"random": func() error { _, err := rand.Read(make([]byte, 64)); return err },
	"stack":  func() error { debug.Stack(); buf := make([]byte, 1<<16); runtime.Stack(buf, true); return nil },
	"preempt": func() error {
		stop := time.Now().Add(50 * time.Millisecond)
		go func() {
			for time.Now().Before(stop) {
			}
		}()
		for i := 0; time.Now().Before(stop); i++ {
		}
		return nil
	},
}

func TestRuntimeLivesInTheJail(t *testing.T) {
	for name := range needs {
		t.Run(name, func(t *testing.T) {
			var exit *exec.ExitError
			if err := hostile(t, name); !errors.As(err, &exit) || exit.ExitCode() != 3 {
				t.Errorf("%v, want it to be allowed", err)
			}
		})
	}
}

func raw(nr, a1, a2, a3 uintptr) error {
	if _, _, errno := unix.RawSyscall6(nr, a1, a2, a3, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// openRaw opens a path that ends in a NUL.
func openRaw(path string) error {
	b := []byte(path)
	const here = -100 // AT_FDCWD
	at := here
	return raw(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&b[0])), unix.O_RDONLY)
}

// beHostile is a child that enters a jail and then attempts something. Exit
// status 3 means that it was allowed.
func beHostile(args []string) int {
	runtime.GOMAXPROCS(1)
	cfg := runnerConfig{Root: args[1], Limits: limitsFor((&Sandbox{}).largest(), 1, true)}
	if os.Geteuid() == 0 {
		cfg.UID = firstUID - 1
	}
	if args[2] != "" {
		cfg.Without = strings.Split(args[2], ",")
	}
	if _, err := enterJail(cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	attempt := attempts[args[0]]
	if attempt == nil {
		attempt = needs[args[0]]
	}
	if err := attempt(); err == nil {
		return 3
	}
	return 0
}

// hostile starts the child.
func hostile(t *testing.T, attempt string, without ...string) error {
	t.Helper()
	s := testSandbox(t)
	cmd := exec.Command(s.Exe, "hostile", attempt, s.EmptyDir, strings.Join(without, ","))
	cmd.Env, cmd.Stdin = runnerEnv, strings.NewReader("") // no need of /dev/null
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	runtime.LockOSThread() // and never unlocked: no_new_privs would stay
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%v %s", err, out)
	return err
}

func TestHostileChildFails(t *testing.T) {
	if !slices.Contains(wallsHere(t), WallSeccomp) {
		t.Skip("this kernel has no filters for system calls")
	}
	for name := range attempts {
		t.Run(name, func(t *testing.T) {
			var exit *exec.ExitError
			if err := hostile(t, name); !errors.As(err, &exit) || !diedOf(exit, unix.SIGSYS) {
				t.Errorf("%v, want a death by SIGSYS", err)
			}
		})
	}
}

// TestHostileChildFailsBehindTheFilter: files, TCP and other processes are out of
// reach by a second wall, should the filter have a hole. Without either, the
// attempt works: it is the walls that stop it.
func TestHostileChildFailsBehindTheFilter(t *testing.T) {
	here := wallsHere(t)
	for _, c := range []struct{ attempt, wall string }{{"open here", WallFiles}, {"open root", WallFiles}} {
		if !slices.Contains(here, c.wall) {
			t.Skipf("this kernel has no wall %s", c.wall)
		}
		if err := hostile(t, c.attempt, WallSeccomp); err != nil {
			t.Errorf("%s without the filter: %v, want a refusal", c.attempt, err)
		}
		var exit *exec.ExitError
		if err := hostile(t, c.attempt, WallSeccomp, c.wall); !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("%s without any wall: %v, want success", c.attempt, err)
		}
	}
}

// TestFilterByItsProgram runs the filter as the kernel would, for both
// architectures' numbers of this machine and for a foreign one.
func TestFilterByItsProgram(t *testing.T) {
	program := filterProgram(auditArch, allowedCalls(77), excusedCalls)
	for _, c := range []struct {
		name string
		arch uint32
		nr   uint32
		args [6]uint32
		want uint32
	}{
		{"read", auditArch, unix.SYS_READ, [6]uint32{}, unix.SECCOMP_RET_ALLOW},
		{"read, other architecture", 0x40000003, unix.SYS_READ, [6]uint32{}, unix.SECCOMP_RET_KILL_PROCESS},
		{"read, other numbering", auditArch, 0x40000000 | unix.SYS_READ, [6]uint32{}, unix.SECCOMP_RET_KILL_PROCESS},
		{"openat", auditArch, unix.SYS_OPENAT, [6]uint32{}, unix.SECCOMP_RET_KILL_PROCESS},
		{"own thread", auditArch, unix.SYS_TGKILL, [6]uint32{77, 78}, unix.SECCOMP_RET_ALLOW},
		{"other's thread", auditArch, unix.SYS_TGKILL, [6]uint32{78, 78}, unix.SECCOMP_RET_KILL_PROCESS},
		{"new thread", auditArch, unix.SYS_CLONE, [6]uint32{threadFlags | unix.CLONE_SYSVSEM}, unix.SECCOMP_RET_ALLOW},
		{"new process", auditArch, unix.SYS_CLONE, [6]uint32{unix.CLONE_VM}, unix.SECCOMP_RET_KILL_PROCESS},
		{"thread elsewhere", auditArch, unix.SYS_CLONE, [6]uint32{threadFlags | unix.CLONE_NEWNET}, unix.SECCOMP_RET_KILL_PROCESS},
		{"memory", auditArch, unix.SYS_MMAP, [6]uint32{0, 1, unix.PROT_WRITE, unix.MAP_ANONYMOUS}, unix.SECCOMP_RET_ALLOW},
		{"code", auditArch, unix.SYS_MPROTECT, [6]uint32{0, 1, unix.PROT_EXEC | unix.PROT_READ}, unix.SECCOMP_RET_ALLOW},
		{"code that writes itself", auditArch, unix.SYS_MPROTECT, [6]uint32{0, 1, 7}, unix.SECCOMP_RET_KILL_PROCESS},
		{"clone3", auditArch, unix.SYS_CLONE3, [6]uint32{}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	} {
		if got := interpret(t, program, c.arch, c.nr, c.args); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

// interpret executes the four instructions that filters here are made of.
func interpret(t *testing.T, program []unix.SockFilter, arch, nr uint32, args [6]uint32) uint32 {
	t.Helper()
	var acc uint32
	for pc := 0; pc < len(program); pc++ {
		switch in := program[pc]; in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = map[uint32]uint32{0: nr, 4: arch}[in.K]
			if in.K >= offArgs {
				acc = args[(in.K-offArgs)/8]
			}
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if acc == in.K {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %#x at %d", in.Code, pc)
		}
	}
	t.Fatal("the program ran past its end")
	return 0
}

func TestUnifiedPath(t *testing.T) {
	for _, c := range []struct{ table, want string }{
		{"0::/system.slice/plasmd.service\n", "/system.slice/plasmd.service"},
		{"4:memory:/x\n0::/user.slice\n", "/user.slice"},
		{"0::/\n", ""}, {"4:memory:/x\n", ""}, {"", ""}, {"0::/../../etc\n", ""},
	} {
		if got, err := unifiedPath(c.table); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q %v, want %q", c.table, got, err, c.want)
		}
	}
}

func TestLandlockRules(t *testing.T) {
	for version, want := range map[int]unix.LandlockRulesetAttr{
		1: {Handled_access_fs: 0x1fff},
		2: {Handled_access_fs: 0x3fff},
		3: {Handled_access_fs: 0x7fff},
		4: {Handled_access_fs: 0x7fff, Handled_access_net: 3},
		6: {Handled_access_fs: 0xffff, Handled_access_net: 3, Scoped: 3},
		9: {Handled_access_fs: 0xffff, Handled_access_net: 3, Scoped: 3},
	} {
		if got := landlockRules(version); got != want {
			t.Errorf("version %d: %+v, want %+v", version, got, want)
		}
	}
}

// TestPageOfWalls: docs/jobs.md says what each wall is for.
func TestPageOfWalls(t *testing.T) {
	page, err := os.ReadFile("../../docs/jobs.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, wall := range AllWalls {
		if !strings.Contains(string(page), "\n| `"+wall+"` | ") {
			t.Errorf("docs/jobs.md has no row for the wall %s", wall)
		}
	}
}

// TestCgroup puts a jail into a group of its own. Which of the three walls that
// makes depends on the controllers that this machine gives to cgroup v2.
func TestCgroup(t *testing.T) {
	parent := ownCgroup(t)
	want := []string{}
	enabled, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range controllers {
		if slices.Contains(strings.Fields(string(enabled)), c.name) {
			want = append(want, c.wall)
		}
		_ = os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+c.name), 0)
	}
	s := testSandbox(t)
	s.Cgroup = parent
	r, err := s.startAlone(context.Background(), s.largest(), gift{})
	if err != nil {
		t.Fatal(err)
	}
	if !r.group.has(r.cmd.Process.Pid) {
		t.Error("the jail is not in its group")
	}
	got := slices.DeleteFunc(slices.Clone(r.walls), func(w string) bool { return !strings.HasPrefix(w, "cgroup-") })
	if !slices.Equal(got, want) {
		t.Errorf("walls %v, want %v", got, want)
	}
	_ = r.end()
	if left, _ := filepath.Glob(filepath.Join(parent, "jail-*")); len(left) > 0 {
		t.Errorf("groups left: %v", left)
	}
}

func TestDelegatedByMark(t *testing.T) {
	dir := ownCgroup(t)
	if isDelegated(dir) {
		t.Error("a group without a mark")
	}
	if err := unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Skipf("this kernel keeps no marks on groups: %v", err)
	}
	if !isDelegated(dir) {
		t.Error("a group with its mark is not seen as delegated")
	}
}

// ownCgroup makes a cgroup v2 group for a test.
func ownCgroup(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("PHASE_REQUIRE_ROOT_TESTS") == "1" {
			t.Fatal("not root")
		}
		t.Skip("needs root to make a cgroup")
	}
	for _, mount := range []string{cgroupRoot, cgroupRoot + "/unified"} {
		dir := fmt.Sprintf("%s/phase-test-%d", mount, os.Getpid())
		if _, err := os.Stat(mount + "/cgroup.controllers"); err != nil || os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	t.Skip("no writable cgroup v2 on this machine")
	return ""
}
