package wasm

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A call that the runner may make once it is jailed. It needs to read its job and
// write its answer, to get and give back memory, to start, stop and wake its own
// threads, and to end; everything it needs a file for has happened before.
type allowedCall struct {
	nr     uint32
	checks []check // all must hold; a call that fails one ends the process
}

// check compares the lower half of one argument. Of all that is checked here the
// kernel, too, takes only that half.
type check struct {
	arg  int // 0 to 5
	mask uint32
	want uint32
	kind checkKind
}

type checkKind int

const (
	equals  checkKind = iota // arg & mask == want
	differs                  // arg & mask != want
)

// threadFlags of clone are those of a thread; leaveFlags would put it into
// another namespace or give it a descriptor of the new process. Source: clone(2).
const (
	threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD
	leaveFlags  = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
		unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME | unix.CLONE_PTRACE | unix.CLONE_PIDFD
	writeAndRun = unix.PROT_WRITE | unix.PROT_EXEC
)

// allowedCalls are ordered by how often they happen. pid is the process's own.
func allowedCalls(pid int) []allowedCall {
	notWriteAndRun := check{2, writeAndRun, writeAndRun, differs}
	calls := []allowedCall{
		{nr: unix.SYS_READ}, {nr: unix.SYS_WRITE}, {nr: unix.SYS_FUTEX}, {nr: unix.SYS_MADVISE},
		{unix.SYS_MMAP, []check{notWriteAndRun, {3, unix.MAP_ANONYMOUS, unix.MAP_ANONYMOUS, equals}}},
		{unix.SYS_MPROTECT, []check{notWriteAndRun}},
		{nr: unix.SYS_MUNMAP},
		{nr: unix.SYS_EPOLL_PWAIT}, {nr: unix.SYS_NANOSLEEP}, {nr: unix.SYS_SCHED_YIELD},
		{nr: unix.SYS_CLOCK_GETTIME}, {nr: unix.SYS_GETTIMEOFDAY}, {nr: unix.SYS_CLOCK_NANOSLEEP},
		{nr: unix.SYS_RT_SIGRETURN}, {nr: unix.SYS_RT_SIGPROCMASK}, {nr: unix.SYS_RT_SIGACTION}, {nr: unix.SYS_SIGALTSTACK},
		{nr: unix.SYS_GETPID}, {nr: unix.SYS_GETTID}, {nr: unix.SYS_GETRANDOM}, {nr: unix.SYS_RESTART_SYSCALL},
		{unix.SYS_TGKILL, []check{{0, ^uint32(0), uint32(pid), equals}}},
		{unix.SYS_CLONE, []check{{0, threadFlags, threadFlags, equals}, {0, leaveFlags, 0, equals}}},
		// Of threads made by a C library, in programs that have one.
		{nr: unix.SYS_SET_ROBUST_LIST}, {nr: unix.SYS_RSEQ},
		{nr: unix.SYS_EXIT}, {nr: unix.SYS_EXIT_GROUP},
	}
	return calls
}

// excusedCalls fail with an error instead of ending the process: runtimes try
// them and go on without. clone3 hides its flags in memory, where no filter sees
// them; the runtime names its memory with prctl.
var excusedCalls = map[uint32]unix.Errno{
	unix.SYS_CLONE3: unix.ENOSYS,
	unix.SYS_PRCTL:  unix.EINVAL,
}

// Offsets in struct seccomp_data. Source: seccomp(2).
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16 // little-endian on both architectures: the lower half comes first
)

// filterProgram is the filter in classic BPF: allowed calls pass, excused ones
// fail, and anything else, or a call of another architecture, ends the process
// with SIGSYS.
func filterProgram(arch uint32, calls []allowedCall, excused map[uint32]unix.Errno) []unix.SockFilter {
	p := []unix.SockFilter{
		load(offArch), skipUnless(unix.BPF_JEQ, arch, 1, false), answer(unix.SECCOMP_RET_KILL_PROCESS),
		load(offNumber),
	}
	for _, c := range calls {
		body := []unix.SockFilter{}
		for _, k := range c.checks {
			body = append(body, load(uint32(offArgs+8*k.arg)),
				unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k.mask},
				skipUnless(unix.BPF_JEQ, k.want, 1, k.kind == differs), answer(unix.SECCOMP_RET_KILL_PROCESS))
		}
		body = append(body, answer(unix.SECCOMP_RET_ALLOW))
		p = append(p, onlyFor(c.nr, len(body)))
		p = append(p, body...)
	}
	for nr, errno := range excused {
		p = append(p, onlyFor(nr, 1), answer(unix.SECCOMP_RET_ERRNO|uint32(errno)))
	}
	return append(p, answer(unix.SECCOMP_RET_KILL_PROCESS))
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func answer(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// skipUnless jumps over n instructions if the comparison with k holds, or, with
// negate, if it does not.
func skipUnless(op uint16, k uint32, n uint8, negate bool) unix.SockFilter {
	f := unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: n}
	if negate {
		f.Jt, f.Jf = 0, n
	}
	return f
}

// onlyFor jumps over n instructions unless the call is nr.
func onlyFor(nr uint32, n int) unix.SockFilter {
	return skipUnless(unix.BPF_JEQ, nr, uint8(n), true)
}

// restrictCalls installs the filter on all threads, if the kernel has filters.
func restrictCalls() error {
	program := filterProgram(auditArch, allowedCalls(os.Getpid()), excusedCalls)
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	switch errno {
	case 0, unix.ENOSYS, unix.EINVAL, unix.EACCES, unix.EPERM:
		return nil
	}
	return fmt.Errorf("restricting system calls: %w", errno)
}

// tryFilter makes a call that the filter answers and that the kernel would
// answer in another way: clone3 without arguments.
func tryFilter() bool {
	_, _, errno := unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	if errno != unix.ENOSYS {
		return false
	}
	_, _, errno = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0)
	return errno == unix.EINVAL
}
