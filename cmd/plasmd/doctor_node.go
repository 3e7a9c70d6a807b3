package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketTimeout is how long a node may take to accept a connection of this machine.
const socketTimeout = 5 * time.Second

// lookAtNode asks whether a node runs here already, by its socket for jobs.
func lookAtNode(cfg config) (_ finding, runs bool) {
	path := cfg.JobSocket
	if path == "" {
		dir, err := socketFolder()
		if err != nil {
			return finding{"node", noted, err.Error(), "Name a socket for jobs in job_socket, or none."}, false
		}
		path = filepath.Join(dir, socketName)
	}
	if path == noSocket {
		return finding{"node", noted, "takes no jobs at this machine", "job_socket is none in the configuration."}, false
	}
	conn, err := net.DialTimeout("unix", path, socketTimeout)
	switch {
	case err == nil:
		conn.Close()
		return finding{"node", fine, "runs and takes jobs at " + path, ""}, true
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return finding{"node", fine, "none runs here now", ""}, false
	case errors.Is(err, os.ErrPermission):
		return finding{"node", noted, err.Error(), "Who gives jobs must be root or a member of the group " + socketGroup + "."}, true
	}
	return finding{"node", noted, err.Error(), ""}, false
}

// lookAtAddr opens a TCP address of this machine that the node would serve something
// on, and closes it.
func lookAtAddr(name, hostPort string, runs bool) finding {
	l, err := net.Listen("tcp", hostPort)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && runs:
		return finding{name, fine, hostPort + " is taken, as a node runs here", ""}
	case errors.Is(err, syscall.EADDRINUSE):
		return finding{name, noted, hostPort + " is taken", "Stop who has it, or choose another address in the configuration: the node works without."}
	case err != nil:
		return finding{name, noted, err.Error(), "Choose another address in the configuration: the node works without."}
	}
	l.Close()
	return finding{name, fine, hostPort + " is free", ""}
}

// summary is one line for people.
func (e examination) summary() string {
	counts := map[verdict]int{}
	for _, f := range e.Findings {
		counts[f.State]++
	}
	switch {
	case !e.OK:
		return fmt.Sprintf("A node cannot work here: %s, marked fault.", count(counts[faulty], "thing"))
	case counts[noted] > 0:
		return fmt.Sprintf("A node can work here, with %s of what it does without.", count(counts[noted], "note"))
	}
	return "A node can work here."
}
