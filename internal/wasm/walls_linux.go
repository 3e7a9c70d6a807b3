package wasm

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Walls that a receipt may name. Each is measured on the running process
// before it gets to see a foreign byte: by the process, which tries it, and by
// the node, which looks at the process from outside.
const (
	WallWASM       = "wasm"              // the engine's validation and bounds checks
	WallProcess    = "process"           // a process of its own
	WallFresh      = "fresh-process"     // no other job ran in that process before
	WallDeadline   = "wall-deadline"     // killed from outside with its whole group
	WallRlimits    = "rlimits"           // memory, processor time, files, core dumps; with an own user also threads
	WallNoNewPriv  = "no-new-privs"      // cannot gain rights by executing something
	WallUndumpable = "undumpable"        // no debugger, no core dump, no look into its memory
	WallUser       = "unprivileged-user" // not the node's user, no capabilities
	WallRoot       = "empty-root"        // its directory tree is an empty directory
	WallFiles      = "landlock-files"    // can open no file at all
	WallTCP        = "landlock-tcp"      // can neither listen on TCP nor connect
	WallScopes     = "landlock-scopes"   // reaches no abstract socket and signals no process outside
	WallSeccomp    = "seccomp"           // dies on a system call that it does not need
	WallNet        = "network-namespace" // no network interface but its own loopback, which is down
	WallPID        = "pid-namespace"     // sees no other process
	WallIPC        = "ipc-namespace"     // shares no System V or POSIX queues
	WallMount      = "mount-namespace"   // mounts do not reach the machine
	WallMemory     = "cgroup-memory"     // the kernel counts its memory, and ends it over the limit
	WallPIDs       = "cgroup-pids"       // the kernel counts its threads
	WallCPU        = "cgroup-cpu"        // the kernel gives it one processor's time at most
)

// AllWalls are all of them, in the order of reports. What a report lacks, this
// machine could not build.
var AllWalls = [...]string{
	WallWASM, WallProcess, WallFresh, WallDeadline, WallRlimits, WallNoNewPriv, WallUndumpable, WallUser, WallRoot,
	WallFiles, WallTCP, WallScopes, WallSeccomp, WallNet, WallPID, WallIPC, WallMount, WallMemory, WallPIDs, WallCPU,
}

// Lacking are those of required that do not stand.
func Lacking(required, walls []string) (lacks []string) {
	for _, w := range required {
		if !slices.Contains(walls, w) {
			lacks = append(lacks, w)
		}
	}
	return lacks
}

// WallsError says that a jail lacks walls without which it may not be used.
type WallsError struct{ Lacks []string }

func (e *WallsError) Error() string {
	return "the machine does not build walls that this node requires: " + strings.Join(e.Lacks, ", ")
}

// Code is NODE-014.
func (e *WallsError) Code() string { return "NODE-014" }

// Hint says what to do next.
func (e *WallsError) Hint() string {
	return "Run plasmd doctor as the node's user, which says why each wall is missing; mend that, or take the wall out of required_walls."
}

// rlimitNames are the rows of /proc/PID/limits. Source: proc_pid_limits(5).
var rlimitNames = map[int]string{
	unix.RLIMIT_AS:     "Max address space",
	unix.RLIMIT_DATA:   "Max data size",
	unix.RLIMIT_CPU:    "Max cpu time",
	unix.RLIMIT_CORE:   "Max core file size",
	unix.RLIMIT_FSIZE:  "Max file size",
	unix.RLIMIT_NOFILE: "Max open files",
	unix.RLIMIT_NPROC:  "Max processes",
}

// limitsStand reports whether every one of limits is the hard limit of the
// process pid, or a lower one is.
func limitsStand(pid int, limits []resourceLimit) bool {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return false
	}
	hard := map[string]uint64{}
	for line := range strings.Lines(string(table)) {
		for _, name := range rlimitNames {
			if rest, ok := strings.CutPrefix(line, name); ok {
				if f := strings.Fields(rest); len(f) >= 2 && f[1] != "unlimited" {
					hard[name], err = strconv.ParseUint(f[1], 10, 64)
				}
			}
		}
	}
	for _, l := range limits {
		if v, known := hard[rlimitNames[l.Resource]]; !known || v > l.Value || err != nil {
			return false
		}
	}
	return true
}

// view is what the node sees of a wall from outside.
type view int

const (
	unseen view = iota // /proc does not tell, here or to this user
	stands
	missing
)

func seen(known, yes bool) view {
	switch {
	case !known:
		return unseen
	case yes:
		return stands
	}
	return missing
}

// measureWalls joins what the process pid tried with what can be seen of it from
// outside. A wall counts if one of them found it and the other does not deny it.
// Only the process can try Landlock, and a filter that it never ran against may
// allow anything: these count only if they were tried.
func measureWalls(pid int, cfg runnerConfig, tried []string) []string {
	outside := lookFromOutside(pid, cfg)
	var walls []string
	for _, w := range AllWalls {
		found := slices.Contains(tried, w)
		view, looked := outside[w]
		switch {
		case !looked || view == unseen:
		case view == missing:
			found = false
		case w != WallSeccomp:
			found = true
		}
		if found {
			walls = append(walls, w)
		}
	}
	return walls
}

// lookFromOutside reads from /proc which walls stand around the process pid.
func lookFromOutside(pid int, cfg runnerConfig) map[string]view {
	status := procStatus(pid)
	uid, _, _ := strings.Cut(status["Uid"], "\t")
	noCaps := strings.Trim(status["CapEff"]+status["CapPrm"], "0") == ""
	known := len(status) > 0
	// Not by name: to a node that is in a chroot itself, the kernel gives the name
	// of a root in another mount namespace from the machine's root on.
	root, err := os.Stat(fmt.Sprintf("/proc/%d/root", pid))
	empty, err2 := os.Stat(cfg.Root)
	views := map[string]view{
		WallNoNewPriv: seen(known, status["NoNewPrivs"] == "1"),
		WallSeccomp:   seen(known && status["Seccomp"] != "", status["Seccomp"] == "2"),
		WallUser:      seen(known, noCaps && uid != fmt.Sprint(os.Getuid())),
		WallRoot:      seen(err == nil && err2 == nil, os.SameFile(root, empty)),
		WallRlimits:   seen(known, limitsStand(pid, cfg.Limits)),
	}
	for _, ns := range []struct{ file, wall string }{
		{"net", WallNet}, {"pid", WallPID}, {"ipc", WallIPC}, {"mnt", WallMount},
	} {
		theirs, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns.file))
		ours, err2 := os.Readlink("/proc/self/ns/" + ns.file)
		views[ns.wall] = seen(err1 == nil && err2 == nil, theirs != ours)
	}
	return views
}

// procStatus reads /proc/PID/status. Source: proc_pid_status(5).
func procStatus(pid int) map[string]string {
	fields := map[string]string{}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return fields
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":\t"); ok {
			fields[name] = value
		}
	}
	return fields
}
