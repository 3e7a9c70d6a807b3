package wasm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where cgroup v2 is mounted. Source: cgroups(7).
const cgroupRoot = "/sys/fs/cgroup"

// controllers are what jails are bounded by, each where it is delegated.
var controllers = [...]struct{ name, file, wall string }{
	{"memory", "memory.max", WallMemory},
	{"pids", "pids.max", WallPIDs},
	{"cpu", "cpu.max", WallCPU},
}

// DelegatedCgroup is the cgroup v2 directory below which this process may make
// groups for jails, made ready for it: the group the process was started in, if
// systemd marked that as its own (Delegate=). The process itself moves into a group
// below, called "node", because a group with members has no bounded children.
//
// An error says why there is none; the jails then do without.
func DelegatedCgroup() (string, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	path, err := unifiedPath(string(own))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cgroupRoot, path)
	if filepath.Base(dir) == "node" { // a second start, or systemd's DelegateSubgroup=
		dir = filepath.Dir(dir)
	}
	if !isDelegated(dir) {
		return "", errNoCgroup
	}
	if err := openCgroup(dir); err != nil {
		return "", err
	}
	return dir, nil
}

// isDelegated looks for the mark that systemd puts on a group whose inside is
// the service's own. Source: systemd's CGROUP_DELEGATION, "Three Scenarios".
func isDelegated(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		var value [2]byte
		if n, err := unix.Getxattr(dir, name, value[:]); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

var errNoCgroup = errors.New("this process is in no cgroup v2 of its own")

// unifiedPath takes the v2 group out of /proc/self/cgroup.
func unifiedPath(table string) (string, error) {
	for line := range strings.Lines(table) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && path != "/" && filepath.IsLocal("."+path) {
			return path, nil
		}
	}
	return "", errNoCgroup
}

// openCgroup empties dir of processes and passes its controllers on.
func openCgroup(dir string) error {
	node := filepath.Join(dir, "node")
	if err := os.Mkdir(node, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(node, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	for _, c := range controllers {
		// One by one: what is not delegated is a missing wall, not an error.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c.name), 0)
	}
	return nil
}

// cgroup is the group of one jail. A nil one is none.
type cgroup struct {
	path string
	dir  *os.File
}

// makeCgroup makes a group below parent, bounded as far as it can be. What the
// process may use beside the guest's memory is bounded with it.
func makeCgroup(parent, name string, guestBytes int64) *cgroup {
	if parent == "" {
		return nil
	}
	path := filepath.Join(parent, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil
	}
	for file, value := range map[string]string{
		"memory.max":       strconv.FormatInt(runnerData+guestBytes, 10),
		"memory.swap.max":  "0",
		"memory.oom.group": "1",
		"pids.max":         strconv.Itoa(runnerThreads),
		"cpu.max":          "100000 100000", // one processor
	} {
		_ = os.WriteFile(filepath.Join(path, file), []byte(value), 0)
	}
	dir, err := os.Open(path)
	if err != nil {
		_ = os.Remove(path)
		return nil
	}
	return &cgroup{path, dir}
}

// fd is the group for clone3, or -1.
func (g *cgroup) fd() int {
	if g == nil {
		return -1
	}
	return int(g.dir.Fd())
}

// walls reads back which bounds stand around the process pid.
func (g *cgroup) walls(pid int) []string {
	if g == nil || !g.has(pid) {
		return nil
	}
	var walls []string
	for _, c := range controllers {
		value, err := os.ReadFile(filepath.Join(g.path, c.file))
		if err == nil && len(value) > 0 && !strings.HasPrefix(string(value), "max") {
			walls = append(walls, c.wall)
		}
	}
	return walls
}

// has says whether pid is a member.
func (g *cgroup) has(pid int) bool {
	procs, err := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
	return err == nil && strings.TrimSpace(string(procs)) == strconv.Itoa(pid)
}

// outOfMemory says whether the kernel ended a member for its memory.
func (g *cgroup) outOfMemory() bool {
	if g == nil {
		return false
	}
	events, err := g.eventsOf("memory.events")
	return err == nil && events["oom_kill"] != "" && events["oom_kill"] != "0"
}

func (g *cgroup) eventsOf(file string) (map[string]string, error) {
	data, err := os.ReadFile(filepath.Join(g.path, file))
	events := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			events[name] = value
		}
	}
	return events, err
}

// kill ends all members at once, where the kernel can (5.14).
func (g *cgroup) kill() {
	if g != nil {
		_ = os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0)
	}
}

// remove takes the group away; its members have ended.
func (g *cgroup) remove() {
	if g != nil {
		_ = g.dir.Close()
		_ = unix.Rmdir(g.path)
	}
}
