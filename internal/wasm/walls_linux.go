package wasm

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Walls that a receipt may name. Each is measured on the running process
// before it gets to see a foreign byte.
const (
	WallWASM      = "wasm"              // the engine's validation and bounds checks
	WallProcess   = "process"           // a process of its own
	WallDeadline  = "wall-deadline"     // killed from outside with its whole group
	WallRlimits   = "rlimits"           // memory, processor time, files, core dumps; with an own user also threads
	WallNoNewPriv = "no-new-privs"      // cannot gain rights by executing something
	WallUser      = "unprivileged-user" // not the node's user, no capabilities
	WallRoot      = "empty-root"        // its directory tree is an empty directory
	WallNet       = "network-namespace" // no network interface but its own loopback, which is down
	WallPID       = "pid-namespace"     // sees no other process
	WallIPC       = "ipc-namespace"     // shares no System V or POSIX queues
	WallMount     = "mount-namespace"   // mounts do not reach the machine
)

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

// measureWalls reads from /proc which walls stand around the process pid.
// What cannot be read does not count.
func measureWalls(pid int, cfg runnerConfig) []string {
	var walls []string
	if limitsStand(pid, cfg.Limits) {
		walls = append(walls, WallRlimits)
	}
	status := procStatus(pid)
	if status["NoNewPrivs"] == "1" {
		walls = append(walls, WallNoNewPriv)
	}
	uid, _, _ := strings.Cut(status["Uid"], "\t")
	noCaps := strings.Trim(status["CapEff"]+status["CapPrm"], "0") == "" && status["CapEff"] != ""
	if noCaps && uid != "" && uid != fmt.Sprint(os.Getuid()) {
		walls = append(walls, WallUser)
	}
	if root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid)); err == nil && root == cfg.Root {
		walls = append(walls, WallRoot)
	}
	for _, ns := range []struct{ file, wall string }{
		{"net", WallNet}, {"pid", WallPID}, {"ipc", WallIPC}, {"mnt", WallMount},
	} {
		theirs, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns.file))
		ours, err2 := os.Readlink("/proc/self/ns/" + ns.file)
		if err1 == nil && err2 == nil && theirs != ours {
			walls = append(walls, ns.wall)
		}
	}
	return walls
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
