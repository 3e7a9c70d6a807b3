package main

import (
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/provider"
)

// serveLimits are what a server allows its clients. The zero value leaves it to
// this machine and the provider's defaults.
type serveLimits struct {
	requests  int   // under way in all; 0: what the machine has room for, see capacity
	perClient int   // of one address; 0: the provider's default
	rate      int64 // bytes per second in all; 0: no limit
}

func (l serveLimits) total() int {
	if l.requests > 0 {
		return l.requests
	}
	return capacity(openFiles(), memory())
}

// What a machine keeps back from its clients.
const (
	otherFiles   = 512      // descriptors for everything else
	clientMemory = 32 << 10 // bytes that one takes
	memoryShare  = 16       // part of the memory that all may take
)

// capacity is how many requests a machine has room for. A request takes a socket
// and a file, and a quarter as many connections are idle.
func capacity(files, memory uint64) int {
	byFiles := (max(files, otherFiles) - otherFiles) * 4 / 9
	byMemory := memory / memoryShare / clientMemory
	return int(max(16, min(provider.DefaultTotal, byFiles, byMemory)))
}

// openFiles is how many descriptors this process may have. A kernel gives its
// first processes no more than 4096, which root may change.
func openFiles() uint64 {
	const enough = provider.DefaultTotal*9/4 + otherFiles
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return otherFiles
	}
	if now.Cur >= enough {
		return now.Cur
	}
	more := unix.Rlimit{Cur: enough, Max: max(now.Max, enough)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
		return more.Cur
	}
	more = unix.Rlimit{Cur: now.Max, Max: now.Max}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
		return more.Cur
	}
	return now.Cur
}

// memory is how much this machine has, in bytes.
func memory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}
