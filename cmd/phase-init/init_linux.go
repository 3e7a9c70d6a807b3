package main

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/oneshot"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const (
	// retryAfter is the least time until the boot is tried again by itself. A
	// random part is added, so that a fleet does not return as one.
	retryAfter  = 60 * time.Second
	retrySpread = 15 * time.Second
	syncLimit   = 10 * time.Second
)

// runInit is the seed's whole life. It does not return. This machine may have been
// through another one already, which ended in the middle of something: drivers are
// loaded, file systems mounted, the network is up. All but the mounts is taken as
// it is found.
func runInit() {
	ctx := context.Background()
	left := errors.Join(sysinit.UnmountBelow(pid1.RunDir), sysinit.UnmountBelow("/mnt"))
	system, err := pid1.Start(ctx, timeline.KernelSeed)
	s := &seed{system: system, observer: newObserver(system), reminded: make(chan struct{}, 1)}
	s.warn("what an earlier run has left", left)
	if err != nil {
		system.Console.Line("WARNING: " + err.Error())
	}
	for {
		err := pid1.Guard(system.Log, func() error { return s.walk(ctx) })
		err = pid1.Guard(system.Log, func() error { s.after(ctx, err); return nil })
		if err != nil { // showing the failure failed: do not spin
			time.Sleep(retryAfter)
		}
	}
}

// seed is what survives from one try to the next. Each part is prepared once
// and kept; what the jump has closed is prepared again should the jump fail.
type seed struct {
	system   *pid1.System
	observer *observer
	stages   int // in the timeline when the walk begins

	image       *image          // set by trustAnchors
	config      *bootcfg.Config // set by configure
	seedDisk    string          // the disk this medium is, where known
	disc        bool            // it is a disc in an optical drive
	booted      *booted         // how the medium is told, set by configure
	doubt       error           // set by alone, and kept: a machine that saw two media is started anew
	pool        *x509.CertPool  // set by equip, and what follows
	fetcher     *fetch.Fetcher
	state       *trust.State // nil: no cache
	cacheDevice string       // the partition that it is on
	cacheID     string       // of the cache's file system; "": no cache, or the next system could not find it
	roots       *boot.Roots  // set by recall, and kept as the clock is
	clock       *boot.Clock
	network     *netup.Manager  // set by networkManager
	radios      *pid1.Radios    // set by radio
	medium      *oneshot.Medium // set by bootMedium
	tor         torRun          // of a boot through Tor
	noPortal    string          // the network that has no captive portal, as whichNetwork tells; "": none is known

	told      term.Failure            // what a person was told last
	reminded  chan struct{}           // the network is waited for, and a person was told
	interrupt context.CancelCauseFunc // ends the walk
}

// walk prepares what is not prepared yet, then walks the corridor.
func (s *seed) walk(ctx context.Context) error {
	if s.fetcher == nil {
		stage := s.system.Timeline.Begin("medium")
		err := s.prepare(ctx)
		stage.End("", err)
		if err != nil {
			return err
		}
		s.stages = len(s.system.Timeline.Stages())
	}
	s.system.Timeline.Forget(s.stages)
	if err := s.probe(); err != nil {
		return err
	}
	corridor := &boot.Corridor{
		Config: *s.config, Roots: s.roots, Log: s.image.log, State: s.state, Fetcher: s.fetcher,
		Floor: manifest.Floor{
			ManifestVersion: max(s.image.build.MinVersion, s.config.MinVersion), RootVersion: s.image.root.Version(),
		},
		Network: s.bringUp, Time: s.timeSource(), Portal: s.askPortal, Sources: s.sources, Fits: s.fits,
		Info: s.info, Load: s.load, Leave: s.leave, Clock: s.clock, SetClock: s.setClock,
		Stages: s.system.Timeline.Stages, Observe: s.observer, Keep: s.cacheID != "",
	}
	ctx, s.interrupt = context.WithCancelCause(ctx)
	defer s.interrupt(nil)
	err := corridor.Run(ctx)
	var asked *wish
	if errors.As(context.Cause(ctx), &asked) {
		return asked
	}
	return err
}

// warn logs what does not stop the boot.
func (s *seed) warn(what string, err error) {
	if err != nil {
		s.system.Log.Warn(what, "error", err)
	}
}

// after does what a walk that ended asks for.
func (s *seed) after(ctx context.Context, err error) {
	var asked *wish
	if errors.As(err, &asked) {
		s.grant(ctx, asked)
		return
	}
	s.fail(ctx, err)
}

// fail shows what went wrong and waits for a key or for the next try.
func (s *seed) fail(ctx context.Context, err error) {
	if err == nil {
		err = errors.New("the walk ended without a result")
	}
	stage, failure := s.observer.failure(err)
	failure.Tried = append(failure.Tried, s.why(err)...)
	failure.Do = append(failure.Do, s.choices(err)...)
	s.system.Log.Error("boot failed", "error", err)
	h := s.hand(ctx) // before a person sees which keys
	defer h.letGo()
	s.told = failure
	s.system.Console.Failure(failure)
	s.system.Timeline.Send(timeline.Event{Event: timeline.EventFailed, Stage: stage, Code: failure.Code, Text: failure.Wrong})
	s.system.Flush(2 * time.Second)
	s.wait(ctx, h)
}
