package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/portal"
	"github.com/phasebased/phase/internal/trust"
)

// bringUp starts the network, or waits for it once more. A person may ask for
// something else meanwhile.
func (s *seed) bringUp(ctx context.Context) (*netup.Network, error) {
	if err := s.onlyTor(); err != nil {
		return nil, err
	}
	manager := s.networkManager(ctx)
	select {
	case <-s.reminded: // of an earlier wait
	default:
	}
	keys, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	s.system.Go("keys while the network comes", func() error {
		defer close(ended)
		s.listen(keys)
		return nil
	})
	defer func() { cancel(); <-ended }()
	network, err := manager.Wait(ctx)
	if err == nil {
		err = s.throughTor(ctx)
	}
	return network, err
}

// networkManager starts the network, once.
func (s *seed) networkManager(ctx context.Context) *netup.Manager {
	if s.network != nil {
		return s.network
	}
	ctx = context.WithoutCancel(ctx) // it outlives ctx, which may only bound a wait
	radios := s.radio()
	s.tell(radios.Check())
	cfg := pid1.NetworkConfig(s.config.Network, s.config.Mode)
	cfg.LoadModule = s.system.LoadModule
	if !s.viaTor() { // which needs no name server
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	cfg.Report = func(e netup.Event) {
		if e.State == netup.Found {
			radios.Found(ctx, e.Interface)
		}
		s.networkEvent(e)
	}
	s.network = netup.New(cfg)
	manager := s.network
	s.system.Go("network", func() error { _ = manager.Run(ctx); return nil }) // Wait returns its error
	return manager
}

// restartNetwork takes the network down, so that the next try begins anew.
func (s *seed) restartNetwork() {
	s.stopTor()
	if s.radios != nil {
		s.radios.Stop()
	}
	if s.network != nil {
		s.warn("network down", s.network.Down())
	}
	s.network, s.radios, s.noPortal = nil, nil, ""
}

// networkEvent logs everything and shows what a person waits for, and how each
// interface is configured: what comes next may take long.
func (s *seed) networkEvent(e netup.Event) {
	s.system.Log.Info("network", "event", e.String())
	switch e.State {
	case netup.Refused, netup.NoAnswer, netup.Lost, netup.Failed,
		netup.Waiting, netup.Configured, netup.AlsoIPv6:
		s.system.Console.Line(e.String())
	}
	if e.State == netup.Waiting {
		select {
		case s.reminded <- struct{}{}:
		default: // told already
		}
	}
}

// askPortal asks for a captive portal: once on each network that has none, as the
// question tells others that a machine is here. Through a proxy nobody has to
// log in, and in a boot through Tor nobody is asked.
func (s *seed) askPortal(ctx context.Context, network *netup.Network) (login portal.Login, err error) {
	check, api, here := s.config.Network.PortalCheck, network.Portal, whichNetwork(network)
	if s.viaTor() || s.noPortal == here || s.config.Network.Proxy != "" || check == "" && api == "" {
		return login, nil
	}
	login, err = portal.Ask(ctx, portal.Config{CheckURL: check, API: api, Roots: s.pool})
	if s.noPortal = ""; err == nil && !login.Found() {
		s.noPortal = here
	}
	s.system.Log.Info("captive portal", "url", login.URL, "from", login.From, "error", err)
	return login, err
}

// whichNetwork tells one network from the next, into which a person has plugged
// the cable meanwhile. IPv6 addresses come and go, and say nothing.
func whichNetwork(n *netup.Network) string {
	var b strings.Builder
	for _, l := range n.Interfaces {
		if !l.Carrier {
			continue
		}
		own := slices.DeleteFunc(slices.Clone(l.Addresses), func(p netip.Prefix) bool { return p.Addr().Is6() })
		fmt.Fprint(&b, l.Name, own, l.Gateway, l.Gateway6, l.Server)
	}
	return "on " + b.String()
}

// info is what the next system is told, but for the release.
func (s *seed) info(network *netup.Network) handover.Info {
	var claims []netup.Claim
	if network != nil {
		claims = network.Claims()
	}
	now := s.clock.Now()
	if s.clock.State() == trust.Unknown {
		now = time.Time{} // a clock that cannot be believed is not handed on
	}
	info := handover.Info{
		SchemaVersion: handover.SchemaVersion, Mode: s.config.Mode.String(),
		Channel: s.config.Channel, Arch: s.config.Arch, Bootstrap: s.config.Bootstrap,
		Network: pid1.WriteNetwork(s.config.Network, claims...), Cache: s.state != nil, Clock: now,
	}
	if info.Cache { // the node can offer what it booted to others
		info.CacheID, info.Overlay = s.cacheID, s.overlay()
		info.Documents = &handover.Documents{Roots: [][]byte{s.image.file}}
	}
	return info
}
