package p2p

import (
	"net/netip"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// dialable reports whether addr, without /p2p, is of the only form that this
// node dials on the word of others: the IP address of one machine and a TCP port.
func dialable(addr ma.Multiaddr) bool {
	if len(addr) > 0 && addr[0].Code() == ma.P_IP6ZONE {
		addr = addr[1:]
	}
	if len(addr) != 2 || addr[1].Code() != ma.P_TCP || addr[1].Value() == "0" {
		return false
	}
	ip := ipOf(addr)
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// ipOf is the IP address that addr begins with, the zero Addr if it has none.
func ipOf(addr ma.Multiaddr) netip.Addr {
	ip, err := manet.ToIP(addr)
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// reach is how far away an address can be.
type reach uint8

const (
	machine reach = iota // loopback
	nearby               // private (RFC 1918, RFC 4193) or link-local
	anywhere
)

func reachOf(ip netip.Addr) reach {
	switch {
	case ip.IsLoopback():
		return machine
	case ip.IsPrivate(), ip.IsLinkLocalUnicast():
		return nearby
	}
	return anywhere
}

// credible reports whether an address that the peer at by named is worth a try.
// None may be nearer than who named it: a stranger far away knows nothing of our
// own machine and network, and is not to lead us to their ports.
func credible(addr ma.Multiaddr, by netip.Addr) bool {
	return dialable(addr) && by.IsValid() && reachOf(ipOf(addr)) >= reachOf(by)
}

// credibles are those of addrs that are credible.
func credibles(addrs []ma.Multiaddr, by netip.Addr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range addrs {
		if credible(a, by) {
			out = append(out, a)
		}
	}
	return out
}

// networkOf is the network, /24 or for IPv6 /48, that one operator is likely to
// hold whole; the zero Prefix for addresses that are local, where one network is
// all there is.
func networkOf(ip netip.Addr) netip.Prefix {
	if !ip.IsValid() || reachOf(ip) != anywhere {
		return netip.Prefix{}
	}
	bits := 24
	if ip.Is6() {
		bits = 48
	}
	p, _ := ip.WithZone("").Prefix(bits)
	return p
}
