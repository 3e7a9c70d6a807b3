// Command look is the init of a root file system that has nothing else. It says
// what the system that started it has left behind: processes, what they hold, mounts
// and memory.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	look()
	fmt.Println("LOOK END")
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func look() {
	mounts := map[uint64]bool{}
	for line := range lines("/proc/self/mountinfo") {
		// See proc_pid_mountinfo(5): the first field is the mount, the fifth its
		// place; behind the dash comes the type.
		fields := strings.Fields(line)
		_, rest, _ := strings.Cut(line, " - ")
		kind, _, _ := strings.Cut(rest, " ")
		fmt.Printf("LOOK mount %s %s\n", fields[4], kind)
		id, _ := strconv.ParseUint(fields[0], 10, 64) // the kernel wrote it
		mounts[id] = true
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		exe, err := os.Readlink(p + "/exe")
		if err != nil {
			continue // the kernel's own
		}
		fmt.Printf("LOOK process %s %s\n", filepath.Base(p), exe)
		held, _ := filepath.Glob(p + "/fd/*")
		for _, path := range append(held, p+"/exe", p+"/root", p+"/cwd") {
			holds(path, mounts)
		}
		for line := range lines(p + "/maps") {
			if strings.HasSuffix(line, " (deleted)") {
				fmt.Printf("LOOK gone %s maps %s\n", p, line)
			}
		}
	}
	for line := range lines("/proc/meminfo") {
		if name, value, _ := strings.Cut(line, ":"); name == "Shmem" {
			fmt.Printf("LOOK memory %s\n", strings.Fields(value)[0])
		}
	}
}

// holds says whether a process holds what nobody else can reach: a deleted file, or
// one below a mount that is nowhere.
func holds(path string, mounts map[uint64]bool) {
	target, err := os.Readlink(path)
	if err != nil || !strings.HasPrefix(target, "/") {
		return // closed meanwhile; a pipe, a socket
	}
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st)
	if err == nil && mounts[st.Mnt_id] && !strings.HasSuffix(target, " (deleted)") {
		fmt.Printf("LOOK holds %s %s\n", path, target)
		return
	}
	fmt.Printf("LOOK gone %s %s\n", path, target)
}

func lines(path string) func(func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(path)
		if err != nil {
			fmt.Printf("LOOK gone %s %v\n", path, err)
			return
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}
