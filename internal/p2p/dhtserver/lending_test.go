package dhtserver

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Whoever owns one IPv6 /48, and any number of IDs, leaves streams to others.
func TestLendingLeavesStreams(t *testing.T) {
	l := newLending(nil, nil)
	in := 0
	for i := range 2 * lendTotal {
		at := netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%x::1", i))
		if l.enter(peer.ID(fmt.Sprint(i)), placeOf(at)) {
			in++
		}
	}
	if in != lendAddress {
		t.Errorf("one network has %d streams", in)
	}
	for _, at := range []string{"192.0.2.1", "2001:db8:2::1"} {
		if !l.enter("honest", placeOf(netip.MustParseAddr(at))) {
			t.Errorf("%s is kept out", at)
		}
	}
	for _, local := range []string{"fd00:1:1:1::1", "fe80::1", "::1", "10.0.0.1"} {
		if at := netip.MustParseAddr(local); placeOf(at) != at {
			t.Errorf("%s is counted as %s", local, placeOf(at))
		}
	}
}
