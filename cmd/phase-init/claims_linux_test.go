package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/netup"
)

// TestLinkLocalAddressIsHandedOn: the node need not find out again that nobody
// answers DHCP.
func TestLinkLocalAddressIsHandedOn(t *testing.T) {
	s, _ := newSeed(bootcfg.Config{Network: bootcfg.Network{LinkLocal: true}})
	s.clock = boot.NewClock(time.Now(), time.Now(), time.Time{})
	address := netip.MustParsePrefix("169.254.9.9/16")
	network := &netup.Network{Interfaces: []netup.Link{
		{Name: "eth0", MAC: "52:54:00:00:00:0a", Carrier: true, Method: netup.MethodLinkLocal, Addresses: []netip.Prefix{address}},
		{Name: "eth1", MAC: "52:54:00:00:00:0b", Carrier: true, Method: netup.MethodDHCP, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/24")}},
		{Name: "eth2", MAC: "52:54:00:00:00:0c", Method: netup.MethodLinkLocal, Addresses: []netip.Prefix{address}},
	}}
	want := []netup.Claim{{MAC: "52:54:00:00:00:0a", Address: address.Addr()}}
	if got := pid1.ReadClaims(s.info(network).Network); !slices.Equal(got, want) {
		t.Errorf("handed on %+v, want %+v", got, want)
	}
	if got := pid1.ReadClaims(s.info(nil).Network); got != nil {
		t.Errorf("without a network %+v was handed on", got)
	}
}
