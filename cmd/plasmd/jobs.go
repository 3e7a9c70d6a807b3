package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/version"
)

// socketGroup is the group whose members may use the socket, if there is one.
const socketGroup = "plasm"

// noSocket is the value of job_socket that stands for none.
const noSocket = "none"

// jobService takes jobs from people and programs on this machine.
type jobService struct {
	d        *daemon
	desk     *node.Desk
	receipts *node.ReceiptLog // nil in Private mode
	outputs  *store.Store     // nil in Private mode
	server   *jobapi.Server
	reach    *reach       // to other nodes
	socket   net.Listener // nil: none
}

// newJobService reads what earlier starts owe. A private node writes none of it.
func (d *daemon) newJobService() (_ *jobService, err error) {
	s := &jobService{d: d, reach: new(reach)}
	cfg := node.DeskConfig{Node: d.node, RequireSigned: d.cfg.RequireSigned, Log: d.log}
	if cfg.Submitters, err = d.cfg.submitters(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if !d.limits.quiet {
		if s.receipts, err = d.state.receipts(); err != nil {
			return nil, err
		}
		if s.outputs, err = d.state.outputs(); err != nil {
			return nil, err
		}
		cfg.Dir, cfg.Receipts, cfg.Outputs = d.state.jobs(), s.receipts, s.outputs
	}
	if s.desk, err = node.NewDesk(cfg); err != nil {
		return nil, err
	}
	s.server, err = jobapi.New(jobapi.Config{
		Desk: s.desk, Blobs: d.modules, Node: s.describe, Caller: jobapi.PeerCaller, Network: s.reach,
		MaxUploadBytes: d.cfg.nodeLimits().MaxUpload(), Log: d.log,
	})
	return s, err
}

// describe is what the node says about itself.
func (s *jobService) describe() jobapi.Node {
	load, cfg := s.d.node.Load(), s.d.cfg
	limits := cfg.nodeLimits()
	return jobapi.Node{
		Key: job.FormatKey(s.d.node.Public()), Version: version.Version, Local: true,
		Running: int64(load.Running), Waiting: int64(load.Waiting),
		MaxRunning: int64(cfg.MaxConcurrentJobs), MaxWaiting: int64(queuePerSlot * cfg.MaxConcurrentJobs),
		MemoryBytes: limits.MemoryBytes, DeadlineMS: limits.DeadlineMS, ModuleBytes: limits.ModuleBytes, InputBytes: limits.InputBytes,
		Signed: cfg.RequireSigned,
	}
}

// open opens the socket. That the usual place cannot be had does not stop a
// node; that a named one cannot, does.
func (s *jobService) open() error {
	path, named := s.d.cfg.JobSocket, s.d.cfg.JobSocket != ""
	if path == noSocket {
		return nil
	}
	var err error
	if !named {
		path, err = usualSocket()
	}
	if err == nil {
		s.socket, err = jobapi.Listen(path, groupID())
	}
	switch {
	case err == nil:
		s.d.log.Info("jobs are taken", "socket", path, "signed_only", s.d.cfg.RequireSigned, "submitters", len(s.d.cfg.Submitters))
	case named:
		return err
	default:
		s.d.log.Warn("no job socket", "err", err)
	}
	return nil
}

// socketName is the socket's name in its usual folder.
const socketName = "plasmd.sock"

// socketFolder is the usual folder of the socket: the service manager's, root's, or
// that of the user who is logged in.
func socketFolder() (string, error) {
	switch dir := os.Getenv("RUNTIME_DIRECTORY"); {
	case dir != "":
		return dir, nil
	case os.Geteuid() == 0:
		return "/run/plasm", nil
	case os.Getenv("XDG_RUNTIME_DIR") != "":
		return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "plasm"), nil
	}
	return "", errors.New("there is no folder for it: XDG_RUNTIME_DIR is not set")
}

// usualSocket makes the folder of the socket.
func usualSocket() (string, error) {
	dir, err := socketFolder()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return filepath.Join(dir, socketName), nil
}

// groupID is the group of the socket, -1 for the process's own.
func groupID() int {
	group, err := user.LookupGroup(socketGroup)
	if err != nil {
		return -1
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return -1
	}
	mine, err := os.Getgroups()
	if err != nil {
		return -1
	}
	for _, g := range append(mine, os.Getegid()) {
		if g == gid {
			return gid
		}
	}
	if os.Geteuid() == 0 {
		return gid
	}
	return -1
}

// run works until ctx ends.
func (s *jobService) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var served error
	var serving sync.WaitGroup
	if s.socket != nil {
		serving.Go(func() {
			defer cancel()
			served = s.server.Serve(ctx, s.socket)
		})
	}
	err := s.desk.Run(ctx)
	cancel()
	serving.Wait()
	if err := errors.Join(err, served); err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	return nil
}

// log notes a receipt of the node's own jobs.
func (s *jobService) log(signed []byte) error {
	if s.receipts == nil {
		return nil
	}
	return s.receipts.Add(signed)
}

func (s *jobService) close() {
	if s.socket != nil {
		s.socket.Close()
	}
	if s.desk != nil {
		s.desk.Close()
	}
	if s.receipts != nil {
		s.receipts.Close()
	}
	if s.outputs != nil {
		s.outputs.Close()
	}
}
