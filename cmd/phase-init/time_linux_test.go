package main

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/nettime"
	"github.com/phasebased/phase/internal/netup"
)

func TestTimeServers(t *testing.T) {
	network := &netup.Network{NTP: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	for _, c := range []struct {
		name    string
		config  bootcfg.Time
		network *netup.Network
		want    []nettime.Server
		asks    bool
	}{
		{"all", bootcfg.Time{DHCP: true, Servers: []string{"ntp.example"}, NTS: []string{"nts.example:4460"}}, network, []nettime.Server{
			{Address: "nts.example:4460", NTS: true}, {Address: "ntp.example"}, {Address: "10.0.0.1"}, {Address: "fd00::1"}}, true},
		{"not those of the network", bootcfg.Time{Servers: []string{"ntp.example"}}, network, []nettime.Server{{Address: "ntp.example"}}, true},
		{"no network", bootcfg.Time{DHCP: true}, nil, nil, true},
		{"nobody", bootcfg.Time{}, network, nil, false},
	} {
		s := &seed{config: &bootcfg.Config{Time: c.config}}
		if got := s.timeServers(c.network); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if asks := s.timeSource() != nil; asks != c.asks {
			t.Errorf("%s: asks %v, want %v", c.name, asks, c.asks)
		}
	}
}
