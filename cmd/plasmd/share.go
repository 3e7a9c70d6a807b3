package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/timeline"
)

// sharing is what a node lends to others.
type sharing struct {
	folder string // the published folder of what this machine booted; empty: there is none

	mu      sync.Mutex
	modules map[blob.Digest]bool // of boot jobs, which the release is not complete without
}

// allow lends a boot job's module to others. Those of other jobs are nobody's
// business.
func (s *sharing) allow(module blob.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.modules == nil {
		s.modules = map[blob.Digest]bool{}
	}
	s.modules[module] = true
}

var errNotShared = errors.New("not shared")

// module opens a module that others may have. Who asked verifies it.
func (d *daemon) module(digest blob.Digest) (*os.File, error) {
	d.shared.mu.Lock()
	defer d.shared.mu.Unlock()
	if !d.shared.modules[digest] {
		return nil, errNotShared
	}
	info, err := os.Lstat(d.modules.Path(digest))
	if err != nil {
		return nil, err
	}
	return d.modules.OpenUnverified(digest, info.Size())
}

// offer is what others may have, and who.
func (d *daemon) offer() offer {
	o := offer{
		folder: d.shared.folder, channel: d.booted.Channel, arch: d.booted.Arch, port: int(d.cfg.ServePort),
		lookEvery: lookEvery, checked: true, blob: d.module, speak: d.speak, metrics: d.node.WriteMetrics,
	}
	if d.limits.local {
		o.serves = fetch.LocalAddr
	}
	return o
}

// openShare opens the server of what this machine booted; nil if it offers nothing. A
// private node shares nothing, and one in Local mode nothing with anybody beyond the
// local network.
func (d *daemon) openShare(peer *p2p.Node) *server {
	if d.shared.folder == "" || d.cfg.ServePort == 0 || d.limits.quiet {
		d.log.Info("nothing is offered to other machines", "folder", d.shared.folder, "port", d.cfg.ServePort, "private", d.limits.quiet)
		return nil
	}
	s, err := openServer(d.offer(), d.log)
	if err != nil {
		d.notOffered(err)
		return nil
	}
	if len(d.cfg.ListenAddrs) > 0 {
		s.peer = peer
		peer.SetRoot(s.root)
	}
	s.report = func(t told) error {
		d.rec.Send(event(timeline.EventAnnounced, t.String(), t))
		return nil
	}
	return s
}

// share offers to others what this machine booted, until ctx ends.
func (d *daemon) share(ctx context.Context, s *server) {
	defer s.close()
	if err := s.run(ctx); err != nil {
		d.notOffered(err)
	}
}

func (d *daemon) notOffered(err error) {
	d.fail(fmt.Errorf("what this machine booted is not offered to others: %w", err))
}
