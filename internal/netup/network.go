package netup

import (
	"net/netip"
	"slices"
)

// Method says how an interface got its address.
type Method string

// The methods.
const (
	MethodNone      Method = ""
	MethodDHCP      Method = "dhcp"
	MethodStatic    Method = "static"
	MethodLinkLocal Method = "link-local"
	MethodSLAAC     Method = "slaac" // IPv6 by router advertisements only
	MethodDHCPv6    Method = "dhcpv6"
)

// Network is a snapshot of what is configured.
type Network struct {
	// Interfaces are sorted by name.
	Interfaces []Link
	// DNS are the name servers of all interfaces that have a carrier, at most
	// three; so with the rest.
	DNS []netip.Addr
	// NTP are the time servers that DHCP servers named (option 42), at most
	// four: strangers' words like the rest of a lease.
	NTP []netip.Addr
	// Search are the domains that short names are looked up in, at most six.
	Search []string
	// Portal is the address of the captive portal's interface (RFC 8908) that the
	// network told, or "": a stranger's word, an http or https URL of printable
	// ASCII, at most 255 bytes.
	Portal string
}

// Link is one interface.
type Link struct {
	Name string
	MAC  string // the one in use
	// Wireless is a Wi-Fi card: its carrier comes when a network was joined.
	Wireless bool
	// VLAN is the tag, or 0; the card is then listed as well.
	VLAN    int
	Carrier bool
	// Method is how the interface was configured, or "" if it is not.
	Method Method
	// Addresses starts with the address that Method gave; those of the other
	// family follow.
	Addresses []netip.Prefix
	// Gateway is the default router; the zero value if there is none.
	Gateway netip.Addr
	// Gateway6 is the IPv6 router that advertises itself, if any: an address
	// on this link.
	Gateway6 netip.Addr
	// DNS are the name servers, at most three. Link-local ones carry the
	// interface's name as their zone.
	DNS []netip.Addr
	// NTP are the time servers of the leases, at most four.
	NTP []netip.Addr
	// Search are the domains that the network names, at most six.
	Search []string
	// Portal is like Network.Portal.
	Portal string
	// Server is the DHCP server that gave the lease.
	Server netip.Addr
	// LeaseSeconds is the lease's length; 0: for ever, or no lease.
	LeaseSeconds int64
	// MTU in bytes, 0: not asked for by the server.
	MTU int
	// Err is the last failure in words; empty once configured.
	Err string
}

// Claims are the link-local IPv4 addresses in use, for Config.Claims.
func (n Network) Claims() []Claim {
	var claims []Claim
	for _, l := range n.Interfaces {
		if l.Carrier && l.Method == MethodLinkLocal && len(l.Addresses) > 0 {
			claims = append(claims, Claim{MAC: l.MAC, VLAN: l.VLAN, Address: l.Addresses[0].Addr()})
		}
	}
	return claims
}

// Configured reports whether the interface can be used.
func (l Link) Configured() bool { return l.Method != MethodNone }

// Routed reports whether the interface has a default router of either family.
func (l Link) Routed() bool { return l.Gateway.IsValid() || l.Gateway6.IsValid() }

func (l Link) clone() Link {
	l.Addresses = slices.Clone(l.Addresses)
	l.DNS = slices.Clone(l.DNS)
	l.NTP = slices.Clone(l.NTP)
	l.Search = slices.Clone(l.Search)
	return l
}
