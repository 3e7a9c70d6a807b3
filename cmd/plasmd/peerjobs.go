package main

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/manifest"
)

// takesPeerJobs reports whether other nodes can bring jobs: somebody's are run, and
// the node can be called.
func (d *daemon) takesPeerJobs() bool {
	return len(d.cfg.Submitters) > 0 && len(d.cfg.ListenAddrs) > 0
}

// answerJobs takes jobs from other nodes from now on, if anybody's are run here, and
// from those at the socket who ask this node as one of several. It is for before the
// peer runs and the socket is served.
func (d *daemon) answerJobs(peer *p2p.Node) error {
	if len(d.cfg.Submitters) == 0 {
		return nil
	}
	keys, err := d.cfg.submitters()
	if err != nil {
		return err
	}
	server, err := jobpeer.New(jobpeer.Config{
		Key: d.key, Desk: d.jobs.desk, Rounds: d.jobs.desk, Blobs: d.modules, Submitters: keys,
		Describe: d.capacity(), MaxModuleBytes: d.cfg.nodeLimits().ModuleBytes, MaxInputBytes: d.cfg.nodeLimits().InputBytes, Log: d.log,
	})
	if err != nil {
		return err
	}
	d.jobs.reach.own = server
	if !d.takesPeerJobs() {
		return nil
	}
	if err := peer.Handle(jobpeer.JobProtocol, server.ServeJob); err != nil {
		return err
	}
	if err := peer.Handle(jobpeer.BlobProtocol, server.ServeBlob); err != nil {
		return err
	}
	d.log.Info("jobs are taken from other nodes", "submitters", len(keys))
	return nil
}

// capacity describes the node to others. What runs its jobs, and within which
// walls, is tried out once.
func (d *daemon) capacity() func() jobpeer.Capacity {
	limits := d.cfg.nodeLimits()
	still := jobpeer.Capacity{
		Version: version.Version, Arch: canonicalArch(), CostTable: fuel.CostTable,
		MaxRunning: int64(d.cfg.MaxConcurrentJobs), MaxWaiting: int64(queuePerSlot * d.cfg.MaxConcurrentJobs),
		MemoryBytes: limits.MemoryBytes, DeadlineMS: limits.DeadlineMS, StdoutBytes: limits.StdoutBytes,
		StderrBytes: limits.StderrBytes, Fuel: limits.Fuel, ModuleBytes: limits.ModuleBytes, InputBytes: limits.InputBytes,
	}
	tried := sync.OnceValue(d.tryOut)
	return func() jobpeer.Capacity {
		c, load, res := still, d.node.Load(), tried()
		c.Engine, c.Walls = res.Engine, res.Walls
		c.Running, c.Waiting = int64(load.Running), int64(load.Waiting)
		return c
	}
}

// tryOut runs a job that does nothing.
func (d *daemon) tryOut() job.Result {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := node.Probe(ctx, d.box, d.cfg.nodeLimits())
	if err != nil {
		d.log.Error("this node runs no jobs", "err", err)
	}
	return res
}

// canonicalArch is this machine's architecture, "" for one that has no name on this
// network.
func canonicalArch() string {
	arch, err := manifest.ParseArch(runtime.GOARCH)
	if err != nil {
		return ""
	}
	return arch
}

// How often the node says that it takes jobs, and how soon it tries again while
// nobody listens. Announcements are believed for p2p.HoldLife.
const (
	announceEvery = 20 * time.Minute
	announceRetry = 5 * time.Second
)

// announce tells the network that this node takes WASM jobs, if it does.
func (d *daemon) announce(ctx context.Context, peer *p2p.Node) {
	if !d.takesPeerJobs() || canonicalArch() == "" {
		return
	}
	key, err := p2p.CapabilityKey(canonicalArch())
	if err != nil {
		d.log.Error("capability not announced", "err", err)
		return
	}
	for wait := announceRetry; ; wait = min(2*wait, announceEvery) {
		noted, err := peer.Provide(ctx, key)
		switch {
		case err != nil || len(noted) == 0:
			d.log.Debug("capability not announced", "key", key, "err", err)
		case len(noted) == 1: // by this node alone: others may come
			d.log.Debug("capability announced to nobody yet", "key", key)
		default:
			d.log.Info("capability announced", "key", key, "noted_by", noted)
			wait = announceEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
