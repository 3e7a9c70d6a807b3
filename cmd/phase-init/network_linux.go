package main

import (
	"context"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/trust"
)

// bringUp starts the network, or waits for it once more.
func (s *seed) bringUp(ctx context.Context) (*netup.Network, error) {
	if s.network != nil {
		return s.network.Wait(ctx)
	}
	cfg := pid1.NetworkConfig(s.config.Network, s.config.Mode)
	cfg.ResolvConf, cfg.Report, cfg.LoadModule = "/etc/resolv.conf", s.networkEvent, s.system.LoadModule
	manager := netup.New(cfg)
	s.network = manager
	// It outlives ctx, which may only bound this wait; Wait returns its error.
	s.system.Go("network", func() error { _ = manager.Run(context.WithoutCancel(ctx)); return nil })
	return manager.Wait(ctx)
}

// networkEvent logs everything and shows what a person waits for, and how each
// interface is configured: what comes next may take long.
func (s *seed) networkEvent(e netup.Event) {
	s.system.Log.Info("network", "event", e.String())
	switch e.State {
	case netup.NoCarrier, netup.Refused, netup.NoAnswer, netup.Lost, netup.Failed,
		netup.Waiting, netup.Configured, netup.AlsoIPv6:
		s.system.Console.Line(e.String())
	}
}

// info is what the next system is told, but for the release.
func (s *seed) info(*netup.Network) handover.Info {
	now := s.clock.Now()
	if s.clock.State() == trust.Unknown {
		now = time.Time{} // a clock that cannot be believed is not handed on
	}
	info := handover.Info{
		SchemaVersion: handover.SchemaVersion, Mode: s.config.Mode.String(),
		Channel: s.config.Channel, Arch: s.config.Arch, Bootstrap: s.config.Bootstrap,
		Network: pid1.WriteNetwork(s.config.Network), Cache: s.state != nil, Clock: now,
	}
	if info.Cache { // the node can offer what it booted to others
		info.Documents = &handover.Documents{Roots: [][]byte{s.image.file}}
	}
	return info
}
