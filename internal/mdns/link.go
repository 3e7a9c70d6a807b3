package mdns

import (
	"net/netip"
	"slices"
)

// Bounds on what one machine uses: interfaces, by the kernel's order, and
// addresses of one interface.
const (
	maxLinks     = 16
	maxLinkAddrs = 8
)

// link is one interface with one version of IP. Multicast DNS treats each as a
// network of its own (RFC 6762, section 14 and 20).
type link struct {
	index  int
	device string
	v6     bool
	// addrs are all addresses of the interface, of both versions, each with the
	// length of the prefix that is reached without a router.
	addrs []netip.Prefix
}

// linkID tells links apart.
type linkID struct {
	index int
	v6    bool
}

func (l link) id() linkID { return linkID{l.index, l.v6} }

// near reports whether an address is on the link, as far as our own addresses
// tell. It refuses what can never be another machine's: loopback, unspecified,
// multicast, broadcast.
func (l link) near(a netip.Addr) bool {
	if !possible(a) {
		return false
	}
	if a.Is6() && a.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return onLink(p).Contains(a.WithZone("")) })
}

// onLink is the prefix that an address of ours shows to be on its link. DHCPv6
// gives addresses without one (RFC 8415, section 6.3), and a network that hands
// them out has 64 bits like any other.
func onLink(p netip.Prefix) netip.Prefix {
	if p.Addr().Is6() && p.Bits() > 64 {
		p = netip.PrefixFrom(p.Addr(), 64)
	}
	return p.Masked()
}

// has reports whether a is an address of this interface.
func (l link) has(a netip.Addr) bool {
	return slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return p.Addr() == a.WithZone("") })
}

// possible refuses addresses that cannot be another machine's.
func possible(a netip.Addr) bool {
	switch {
	case !a.IsValid(), a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), a.Is4In6():
		return false
	case a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240): // "this network", reserved, broadcast
		return false
	}
	return true
}
