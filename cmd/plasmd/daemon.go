package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/dhtserver"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/wasm"
	"github.com/phasebased/phase/receipt"
)

// daemon is a node at work.
type daemon struct {
	cfg     config
	state   *state
	key     ed25519.PrivateKey
	booted  *node.Booted // nil if unknown
	limits  limits       // of the mode
	shared  sharing
	proxy   proxy // to the providers; nil: none
	speak   func(mdns.Announcement) (announcer, error)
	manager *service // that started this process
	rec     *timeline.Recorder
	log     *slog.Logger

	net     *network
	modules *node.Keeper // and inputs
	box     *wasm.Sandbox
	node    *node.Node
	jobs    *jobService
}

// setup makes the node out of its parts. It contacts nobody.
func (d *daemon) setup() error {
	if err := d.openBox(); err != nil {
		return err
	}
	var err error
	if d.modules, err = d.state.modules(d.cfg.nodeLimits()); err != nil {
		return err
	}
	d.net = newNetwork(d.bases(), d.limits.local, d.proxy, d.log)
	d.net.receivers = d.receivers()
	var booted *receipt.Booted
	if d.booted != nil {
		booted = d.booted.Receipt()
	}
	modules := &node.Modules{
		Stores: []*store.Store{d.modules.Store}, Keep: d.modules.Store, MaxBytes: job.MaxModuleBytes, Log: d.log,
		Download: func(ctx context.Context, digest blob.Digest) ([]byte, error) {
			return d.net.module(ctx, moduleName(ctx), digest)
		},
	}
	inputs := &node.Inputs{Store: d.modules.Store, Log: d.log, Download: func(ctx context.Context, digest blob.Digest, size int64) error {
		return d.net.input(ctx, d.modules.Store, digest, size)
	}}
	d.node, err = node.New(node.Config{
		Key: d.key, Runner: d.box, Module: modules.Get, Input: inputs.Open, Limits: d.cfg.nodeLimits(),
		MaxConcurrent: d.cfg.MaxConcurrentJobs, MaxQueued: queuePerSlot * d.cfg.MaxConcurrentJobs,
		MaxPerSubmitter: d.cfg.MaxPerSubmitter, Booted: booted, Log: d.log,
	})
	if err == nil {
		d.jobs, err = d.newJobService()
	}
	return err
}

// openBox makes the sandbox, with a jail ready for each job that may run.
func (d *daemon) openBox() (err error) {
	if d.box, err = sandbox(d.state.empty()); err != nil {
		return err
	}
	d.box.Spare, d.box.Largest = d.cfg.MaxConcurrentJobs, d.cfg.nodeLimits().Limits
	d.box.Reuse = d.cfg.JobsPerJail
	d.box.Required = d.cfg.requiredWalls()
	if d.box.Cgroup, err = wasm.DelegatedCgroup(); err != nil {
		d.log.Info("jobs are not bounded by control groups", "err", err)
	}
	return nil
}

// bases are the providers that served the boot, then the configured ones.
func (d *daemon) bases() []string {
	if d.booted == nil {
		return d.cfg.Providers
	}
	return append(append([]string{}, d.booted.Bases...), d.cfg.Providers...)
}

// receivers take receipts: the configured ones, and only if none of them does, those
// that served the boot. These may be anybody's, as what they served was checked.
func (d *daemon) receivers() [][]string {
	groups := [][]string{d.cfg.Providers}
	if d.booted != nil {
		groups = append(groups, d.booted.Bases)
	}
	return groups
}

// run works until ctx ends. Joining the network does not delay the boot jobs.
func (d *daemon) run(ctx context.Context) error {
	defer d.modules.Close()
	defer d.net.close()
	defer d.jobs.close()
	stage := d.rec.Begin("plasmd")
	if err := d.tryWalls(ctx); err != nil {
		stage.End("", err)
		return err
	}
	peer, err := d.openPeer()
	if err != nil {
		stage.End("", err)
		return err
	}
	defer peer.Close()
	d.jobs.reach.node, d.jobs.reach.caller = peer, asCaller(peer.ID(), d.node.Public())
	if err := errors.Join(d.answerJobs(peer), d.jobs.open()); err != nil {
		stage.End("", err)
		return err
	}
	key := "ed25519:" + hex.EncodeToString(d.node.Public())
	stage.End(peer.ID(), nil)
	d.rec.Send(event(timeline.EventNodeReady, peer.ID(), map[string]any{
		"peer_id": peer.ID(), "node_key": key, "p2p_addrs": nonNil(peer.Addrs()),
	}))
	d.log.Info("node is up", "peer", peer.ID(), "key", key, "addrs", peer.Addrs())

	var tasks sync.WaitGroup
	peerErr := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	tasks.Go(func() { peerErr <- peer.Run(ctx); cancel() })
	tasks.Go(func() { d.announce(ctx, peer) })
	tasks.Go(func() {
		if err := d.box.Serve(ctx); err != nil {
			d.log.Error("no jails are kept ready", "err", err)
		}
	})
	tasks.Go(func() {
		if err := d.jobs.run(ctx); err != nil {
			d.fail(err)
		}
		cancel()
	})
	offered := d.openShare(peer)
	if offered != nil {
		tasks.Go(func() { d.share(ctx, offered) })
	}
	if figures := d.openFigures(peer); figures != nil {
		tasks.Go(func() {
			if err := figures.run(ctx); err != nil {
				d.log.Error("no more figures for Prometheus", "err", err)
			}
		})
	}
	if page := d.openPage(peer, offered); page != nil {
		tasks.Go(func() {
			if err := page.run(ctx); err != nil {
				d.log.Error("no more status page", "err", err)
			}
		})
	}
	now := func() string { return status(d.node.Load(), peer.Peers()) }
	d.manager.said(d.manager.notify.Ready(now())) // every socket is open
	tasks.Go(func() { d.manager.watch(ctx, d.parts(peer, offered), now) })
	tasks.Go(func() { <-ctx.Done(); d.manager.said(d.manager.notify.Stopping("ends its jobs")) })
	for _, path := range d.cfg.BootJobs {
		d.bootJob(ctx, path)
	}
	<-ctx.Done()
	cancel()
	tasks.Wait()
	d.log.Info("node stops")
	return <-peerErr
}

// openPeer opens the sockets of this node's place on the network. A node that
// listens also serves the DHT.
func (d *daemon) openPeer() (*p2p.Node, error) {
	bootstrap := d.cfg.bootstrap()
	if d.booted != nil {
		for _, addr := range d.booted.Bootstrap {
			if err := p2p.CheckBootstrap(addr); err != nil {
				d.log.Warn("bootstrap peer of the seed not usable", "addr", addr, "err", err)
				continue
			}
			bootstrap = append(bootstrap, addr)
		}
	}
	cfg := p2p.Config{
		Key: d.key, Listen: d.cfg.ListenAddrs, Bootstrap: bootstrap, LocalOnly: d.limits.local, Log: d.log,
	}
	if len(cfg.Listen) > 0 {
		cfg.Server = dhtserver.New
	}
	return p2p.New(cfg)
}

// moduleNameKey carries a job's name to the messages about its module.
type moduleNameKey struct{}

func moduleName(ctx context.Context) string {
	if name, ok := ctx.Value(moduleNameKey{}).(string); ok {
		return name
	}
	return "module"
}

// bootJob runs one job file and delivers its receipt. A failure is told to
// the log and the events; the node goes on.
func (d *daemon) bootJob(ctx context.Context, path string) {
	name := strings.TrimSuffix(filepath.Base(path), ".json")
	stage := d.rec.Begin("job " + name)
	report, err := d.executeFile(context.WithValue(ctx, moduleNameKey{}, name), path)
	if err != nil {
		err = headline(err)
		stage.End("", err)
		d.fail(err)
		return
	}
	res := report.Result
	note := fmt.Sprintf("%s %d", res.State, res.ExitCode)
	if res.State != job.Exited {
		note = fmt.Sprintf("%s: %s", res.State, res.Detail)
	}
	stage.End(note, nil)
	d.log.Info("boot job ended", "name", name, "job", report.JobID, "state", res.State, "exit_code", res.ExitCode,
		"stdout", excerpt(res.Stdout), "engine", res.Engine, "walls", res.Walls,
		"spawn", res.Timings.Spawn, "compile", res.Timings.Compile, "run", res.Timings.Run)
	d.handOut(ctx, name, report)
}

func (d *daemon) executeFile(ctx context.Context, path string) (node.Report, error) {
	raw, err := readBounded(path, job.MaxSpecBytes)
	if err != nil {
		return node.Report{}, err
	}
	j, err := job.Parse(raw)
	if err != nil {
		return node.Report{}, fmt.Errorf("%s: %w", path, err)
	}
	d.shared.allow(j.Module())
	return d.node.Execute(ctx, j)
}

// handOut keeps the receipt, shows it to whoever watches, and delivers it,
// which a private node does not.
func (d *daemon) handOut(ctx context.Context, name string, r node.Report) {
	path, err := d.state.saveReceipt(r)
	if err != nil {
		d.fail(fmt.Errorf("keeping the receipt of %s: %w", name, err))
	} else {
		d.log.Info("receipt signed", "name", name, "file", path)
	}
	if err := d.jobs.log(r.Receipt); err != nil {
		d.fail(err)
	}
	e := timeline.Event{Event: timeline.EventReceipt, Stage: "job " + name, Text: excerpt(r.Result.Stdout)}
	if len(r.Receipt) < timeline.MaxEventBytes*3/4 {
		e.Data = r.Receipt
	}
	d.rec.Send(e)
	if len(d.net.bases) == 0 || d.limits.quiet {
		d.log.Info("receipt stays here", "name", name, "private", d.limits.quiet)
		return
	}
	stage := d.rec.Begin("receipt " + name)
	taker, err := d.net.deliver(ctx, r.Receipt)
	if err != nil {
		err = &deliveryError{name, err}
		stage.End("", err)
		d.log.Error(err.Error())
		return
	}
	stage.End(taker, nil)
	d.log.Info("receipt delivered", "name", name, "to", taker)
}

// fail tells people and machines about something that will not happen now.
func (d *daemon) fail(err error) {
	d.log.Error(severity(err) + ": " + err.Error())
	d.rec.Send(failed(err))
}

// severity is FATAL for bytes that are not what was signed for, which nobody
// must use, and ERROR for what may go well another time.
func severity(err error) string {
	if isMismatch(err) || strings.HasPrefix(failure.Code(err), "VFY-") {
		return "FATAL"
	}
	return "ERROR"
}

// headline gives the sentence that people know for a module that could not be
// fetched, without the refusal around it.
func headline(err error) error {
	var fetched *fetch.Error
	if errors.As(err, &fetched) {
		return fetched
	}
	return err
}

// deliveryError says that no provider took a receipt.
type deliveryError struct {
	name string
	err  error
}

func (e *deliveryError) Error() string {
	return fmt.Sprintf("the receipt of %s was not delivered: %v", e.name, e.err)
}
func (e *deliveryError) Unwrap() error { return e.err }

// Code is NODE-030.
func (e *deliveryError) Code() string { return "NODE-030" }

// excerpt is the start of an output, for one line.
func excerpt(b []byte) string {
	const most = 200
	text := strings.TrimRight(strings.ToValidUTF8(string(b[:min(len(b), most)]), "�"), "\n")
	if len(b) > most {
		text += "…"
	}
	return text
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
