package main

import (
	"context"
	"fmt"

	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/nettime"
	"github.com/phasebased/phase/internal/netup"
)

// timeSource is how this boot asks for the time, or nil if it must ask nobody.
func (s *seed) timeSource() boot.TimeSource {
	if s.viaTor() { // it is asked over UDP
		return nil
	}
	if t := s.config.Time; !t.DHCP && len(t.Servers) == 0 && len(t.NTS) == 0 {
		return nil
	}
	return s.askTime
}

func (s *seed) askTime(ctx context.Context, network *netup.Network) (boot.NetworkTime, error) {
	answer, err := nettime.Ask(ctx, nettime.Query{
		Servers: s.timeServers(network), Now: s.clock.Now, Floor: s.clock.Reading().Floor,
		Roots: s.pool, LocalOnly: !s.config.Mode.MayUseWAN(), Log: s.system.Log,
	})
	if err != nil {
		return boot.NetworkTime{}, err
	}
	return boot.NetworkTime{
		Time: answer.Now(), Authenticated: answer.Authenticated,
		From: fmt.Sprintf("%d of %d time servers", answer.Agreed, answer.Usable),
	}, nil
}

// timeServers are those of the medium, then those that the network names.
func (s *seed) timeServers(network *netup.Network) (servers []nettime.Server) {
	for _, address := range s.config.Time.NTS {
		servers = append(servers, nettime.Server{Address: address, NTS: true})
	}
	for _, address := range s.config.Time.Servers {
		servers = append(servers, nettime.Server{Address: address})
	}
	if s.config.Time.DHCP && network != nil {
		for _, address := range network.NTP {
			servers = append(servers, nettime.Server{Address: address.String()})
		}
	}
	return servers
}
