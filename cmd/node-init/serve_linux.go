package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/lines"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

// networkWithin is how long plasmd's start waits for an address. It can do
// without one; its first job then has nobody to report to yet.
const networkWithin = 20 * time.Second

// serve runs plasmd for as long as the machine runs.
func (n *node) serve(ctx context.Context, ephemeral bool, network <-chan struct{}) error {
	events, err := openEvents()
	if err != nil {
		return err
	}
	n.system.Go("events of plasmd", func() error { return n.follow(events) })
	logs, plasmdLogs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe for plasmd's log: %w", err)
	}
	n.system.Go("log of plasmd", func() error { return n.keepLog(logs) })
	select {
	case <-network:
	case <-time.After(networkWithin):
	}
	args, err := n.plasmdArgs(ephemeral)
	if err != nil {
		return err
	}
	args = append([]string{"start", "--config", "/etc/plasm/config.json", "--events", eventsFile}, args...)
	return n.system.Supervisor.Service(ctx, sysinit.Service{
		Name: "plasmd",
		Command: sysinit.Command{
			Path: "/usr/bin/plasmd", Args: args, Dir: "/", Env: []string{"PATH=/usr/bin:/bin", "HOME=/root"},
			Files: []*os.File{nil, plasmdLogs, plasmdLogs}, Session: true,
			Keep: plasmdCapabilities, OpenFiles: plasmdFiles,
		},
		Ended: func(exit sysinit.Exit, err error, again time.Duration) {
			n.system.Console.Linef("plasmd ended (%v); starting it again in %v", errors.Join(err, errors.New(exit.String())), again)
		},
	})
}

// plasmdCapabilities are those that the walls around jobs take, and the same as in
// packaging/systemd/plasmd.service: a user for each job, an empty root, namespaces,
// ending a job, a look from outside at what stands around it.
var plasmdCapabilities = []uintptr{
	unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SYS_CHROOT, unix.CAP_SYS_ADMIN, unix.CAP_KILL, unix.CAP_SYS_PTRACE,
}

// plasmdFiles is how many descriptors plasmd may have, which it cannot raise itself.
const plasmdFiles = 65536

// openEvents makes the pipe on which plasmd tells what happens. It is opened
// for reading and writing, so that it stays open when plasmd is started again.
func openEvents() (*os.File, error) {
	if err := syscall.Mkfifo(eventsFile, 0o600); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make the pipe for plasmd's events: %w", err)
	}
	return os.OpenFile(eventsFile, os.O_RDWR, 0)
}

// keepLog copies plasmd's log into the kernel's, which is bounded.
func (n *node) keepLog(logs io.Reader) error {
	return lines.Read(logs, maxLogLine, func(line []byte) { n.system.Log.Info("plasmd", "line", string(line)) })
}

// maxLogLine is about what one record of the kernel's log can hold.
const maxLogLine = 960

// follow passes plasmd's events on to the report port and shows people those
// that concern them.
func (n *node) follow(events io.Reader) error {
	return lines.Read(events, timeline.MaxEventBytes, func(line []byte) {
		event, err := timeline.ParseEvent(line)
		if err != nil {
			n.system.Log.Warn("event of plasmd", "error", err)
			return
		}
		n.show(event)
		n.system.Timeline.Send(event)
	})
}

func (n *node) show(e timeline.Event) {
	c := n.system.Console
	switch e.Event {
	case timeline.EventNodeReady:
		n.showNode(e)
		n.confirm()
	case timeline.EventAnnounced:
		if e.Text != n.announced { // its data, such as addresses, changes more often
			n.announced = e.Text
			c.Linef("For other machines: %s.", e.Text)
		}
	case timeline.EventStageEnd:
		if name, ok := strings.CutPrefix(e.Stage, "receipt "); ok {
			if e.Code != "" {
				c.Linef("WARNING: %s", e.Text)
				return
			}
			c.Linef("The receipt of job %s was delivered to %s.", name, e.Text)
			n.showTimeline(e)
		}
	case timeline.EventReceipt:
		c.Linef("%s: %s", e.Stage, e.Text)
		c.Linef("Its receipt is signed (%d bytes).", len(e.Data))
	case timeline.EventFailed:
		c.Failure(term.Failure{Title: "The node reports a failure", Code: e.Code, Wrong: pid1.Severity(e.Code) + ": " + e.Text,
			Do: []string{"The node goes on without it. Its log is in the kernel log (dmesg)."}})
	}
}

// showNode is the banner: who this machine is now, and what it booted.
func (n *node) showNode(e timeline.Event) {
	var ready struct {
		Peer  string   `json:"peer_id"`
		Key   string   `json:"node_key"`
		Addrs []string `json:"p2p_addrs"`
	}
	if err := strictjson.Unmarshal(e.Data, &ready, strictjson.Limits{Bytes: timeline.MaxEventBytes, Depth: 4}); err != nil {
		n.system.Log.Warn("plasmd about itself", "error", err)
		return
	}
	pairs := []term.Pair{{Key: "node key", Value: ready.Key}, {Key: "peer id", Value: ready.Peer}}
	for _, addr := range ready.Addrs {
		if addr, ok := reachable(addr, ready.Peer); ok {
			pairs = append(pairs, term.Pair{Key: "address", Value: addr})
		}
	}
	if m := n.info.Manifest; m.Version != 0 {
		pairs = append(pairs,
			term.Pair{Key: "booted", Value: fmt.Sprintf("release %d of %s for %s, %s mode", m.Version, n.info.Channel, n.info.Arch, n.info.Mode)},
			term.Pair{Key: "manifest", Value: m.Digest.String()})
		for _, id := range m.KeyIDs {
			pairs = append(pairs, term.Pair{Key: "signed by", Value: id})
		}
	}
	n.system.Console.Title("This machine is a Phase node")
	n.system.Console.Pairs(pairs)
}

// confirm tells the medium that what it booted came up, and is good to go back
// to when there is no network. It may be called again.
func (n *node) confirm() {
	n.confirmed.Store(true)
	n.sure()
	m := n.info.Manifest
	if n.state == nil || m.Digest.IsZero() {
		return
	}
	err := n.state.Confirm(manifest.Want{Channel: n.info.Channel, Arch: n.info.Arch}, m.Digest)
	if err != nil {
		n.system.Console.Line("WARNING: " + err.Error())
		return
	}
	// Until then the seed's pin protects it, and the other one what came up before.
	if err := n.keep(); err != nil {
		n.system.Console.Line("WARNING: the cache may lose parts of this release again: " + err.Error())
	}
	n.system.Log.Info("confirmed as good to go back to", "release", m.Version, "manifest", m.Digest)
}

// reachable shortens a libp2p address by the peer id, which has a line of its
// own, and passes over those that only this machine can use.
func reachable(addr, peer string) (string, bool) {
	if strings.HasPrefix(addr, "/ip4/127.") || strings.HasPrefix(addr, "/ip6/::1/") {
		return "", false
	}
	return strings.TrimSuffix(addr, "/p2p/"+peer), true
}

// showTimeline prints the walk once the first receipt is delivered. The
// kernels are laid end to end: what the jump between them took is only known
// to somebody who watched from outside.
func (n *node) showTimeline(last timeline.Event) {
	if n.shown {
		return
	}
	n.shown = true
	var rows []term.Row
	var offset, end time.Duration
	for _, s := range n.info.Timeline {
		start := s.Start
		if s.Kernel == timeline.KernelSeed {
			start += offset
		} else {
			offset = max(offset, s.End) // the firmware's clock starts at power-on
		}
		end = max(end, start+s.Took())
		rows = append(rows, term.Row{Name: s.Name, Group: s.Kernel, Start: start, Took: s.Took()})
	}
	rows = append(rows, term.Row{Name: "to first receipt", Group: timeline.KernelNode, Start: end, Took: time.Duration(last.AtNS)})
	n.system.Console.Title("Timeline")
	n.system.Console.Timeline(rows)
}

// stopped is what a person is told when the node cannot go on.
func stopped(err error) term.Failure {
	f := term.Failure{Title: "The node stopped", Code: cmp.Or(failure.Code(err), "NODE-040"), Wrong: "ERROR: " + err.Error(),
		Do: []string{"Switch the machine off and on to boot again from the medium."}}
	if hint := failure.Hint(err); hint != "" {
		f.Do = append([]string{hint}, f.Do...)
	}
	return f
}
