package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/tor"
)

// torUser is whom Tor runs as, and the only user whose packets the kernel sends to
// other machines in a boot through Tor. No other process has it.
const torUser = 9050

// torRun is Tor in this boot. The zero value is one that does not run.
type torRun struct {
	client *tor.Client
	stop   context.CancelFunc
	ended  chan struct{}
	said   bool // what is not done in such a boot
}

// viaTor says whether all that is asked must go through Tor. It is decided by the
// configuration, and by nothing that happens.
func (s *seed) viaTor() bool { return s.config.Tor.Allow }

// lostPolicy is of a medium whose policy was not found, and would have decided
// whether this boot goes through Tor.
type lostPolicy struct{}

var errPolicyLost error = lostPolicy{}

func (lostPolicy) Error() string {
	return "this medium carries Tor, and its policy, which may want everything to go through Tor, was not found"
}

// Code is the error's number in docs/codes.md.
func (lostPolicy) Code() string { return "BOOT-031" }

// Hint says what to do next.
func (lostPolicy) Hint() string {
	return "Plug the medium in again and retry, or say phase.tor=on or phase.tor=off among the kernel options; nothing was asked."
}

// torUndecided reports whether a boot without a policy could have gone through Tor
// with one: in an image that carries it, in the mode that uses it, where the kernel's
// command line says neither yes nor no.
func torUndecided(line string, config bootcfg.Config, program string) bool {
	if _, err := os.Stat(program); err != nil {
		return false
	}
	wanted, err := bootcfg.Parse(line, []byte("tor.allow = true"), nil, config.Arch)
	return err == nil && wanted.Tor.Allow != config.Tor.Allow
}

// torDir is a folder in memory. One that an earlier run of this program has left is
// not used again: its Tor may not have ended yet.
func torDir() string { return fmt.Sprintf("/run/tor-%d", os.Getpid()) }

// torDialer dials through Tor, whether or not that runs: where it does not, nobody
// is reached. It fails in an image that does not carry Tor, or cannot use the
// configuration, which refuses the boot before anybody was asked.
func (s *seed) torDialer(purpose string) (*tor.Dialer, error) {
	if err := s.newTor().Check(); err != nil {
		return nil, err
	}
	return tor.NewDialer(tor.Socks(torDir()), purpose)
}

func (s *seed) newTor() *tor.Client {
	return tor.New(tor.Config{
		Dir: torDir(), UID: torUser, Bridges: s.config.Tor.Bridges, Extra: s.config.Tor.Extra,
		Start: s.startTor, Report: s.torEvent, Log: s.system.Log,
	})
}

// onlyTor makes the kernel hold everybody but Tor to it, before the network comes
// up. A kernel that cannot is no reason to boot without. A person may have chosen
// another mode since, in which the others get out again.
func (s *seed) onlyTor() error {
	if !s.viaTor() {
		s.warn("take back the guard of a boot through Tor", netup.Unguard(torUser)) // most kernels had none
		return nil
	}
	return netup.Guard(torUser)
}

// throughTor waits until Tor can be used, and starts it if it does not run.
func (s *seed) throughTor(ctx context.Context) error {
	if !s.viaTor() {
		return nil
	}
	if !s.tor.said {
		s.tor.said = true
		s.system.Console.Line("This boot asks everything through Tor, and nothing in any other way.")
		s.system.Console.Line("Network time is not asked: it cannot go through Tor. The machine's own clock has to be right.")
	}
	stage := s.system.Timeline.Begin("tor")
	if s.tor.client == nil {
		s.runTor(ctx)
	}
	err := s.tor.client.Wait(ctx)
	stage.End("", err)
	if err != nil && ctx.Err() == nil {
		s.stopTor() // the next try begins anew
	}
	return err
}

// runTor starts Tor, which outlives ctx: that may only bound a wait.
func (s *seed) runTor(ctx context.Context) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	client, ended := s.newTor(), make(chan struct{})
	s.tor.client, s.tor.stop, s.tor.ended = client, cancel, ended
	s.system.Go("Tor", func() error {
		defer close(ended)
		_ = client.Run(ctx) // Wait returns its error
		return nil
	})
}

// stopTor ends Tor, and waits until it has.
func (s *seed) stopTor() {
	if s.tor.client == nil {
		return
	}
	s.tor.stop()
	<-s.tor.ended
	s.tor = torRun{said: s.tor.said}
}

// torEvent shows how far Tor is, and what it says of the clock: what is waited for
// may take long.
func (s *seed) torEvent(e tor.Event) {
	switch e.What {
	case tor.Advanced:
		s.system.Console.Linef("Tor: %d%% %s", e.Progress.Percent, e.Progress.Summary)
	case tor.Ended:
		s.system.Console.Linef("WARNING: %v; starting it again", e.Err)
	case tor.WarnedOfClock:
		s.system.Console.Line("WARNING: Tor: " + e.Text)
	}
}

// startTor is a tor.Starter of children that the supervisor reaps.
func (s *seed) startTor(c tor.Command) (wait func() error, signal func(syscall.Signal), err error) {
	child, err := s.system.Supervisor.Start(sysinit.Command{
		Path: c.Path, Args: c.Args, Dir: "/", Files: []*os.File{nil, c.Output, c.Output}, Drop: tor.Credential(c.UID),
	})
	if err != nil {
		return nil, nil, err
	}
	wait = func() error {
		exit, err := child.Wait(context.Background())
		if err == nil && !exit.OK() {
			err = errors.New(exit.String())
		}
		return err
	}
	return wait, func(sig syscall.Signal) { _ = child.Signal(sig) }, nil
}
