package netup

import (
	"encoding/json"
	"errors"
	"fmt"
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

// Network is a snapshot of what is configured. It goes to the next kernel
// as JSON and holds nothing secret.
type Network struct {
	// Interfaces are sorted by name.
	Interfaces []Link `json:"interfaces"`
	// DNS are the name servers of all interfaces that have a carrier, at most
	// three; so with the rest.
	DNS []netip.Addr `json:"dns"`
	// NTP are the time servers that DHCP servers named (option 42), at most
	// four: strangers' words like the rest of a lease.
	NTP []netip.Addr `json:"ntp"`
	// Search are the domains that short names are looked up in, at most six.
	Search []string `json:"search"`
	// Portal is the address of the captive portal's interface (RFC 8908) that the
	// network told, or "": a stranger's word, an http or https URL of printable
	// ASCII, at most 255 bytes.
	Portal string `json:"portal"`
}

// Link is one interface.
type Link struct {
	Name string `json:"name"`
	MAC  string `json:"mac"` // the one in use
	// Wireless is a Wi-Fi card: its carrier comes when a network was joined.
	Wireless bool `json:"wireless"`
	// VLAN is the tag, or 0; the card is then listed as well.
	VLAN    int  `json:"vlan"`
	Carrier bool `json:"carrier"`
	// Method is how the interface was configured, or "" if it is not.
	Method Method `json:"method"`
	// Addresses starts with the address that Method gave; those of the other
	// family follow.
	Addresses []netip.Prefix `json:"addresses"`
	// Gateway is the default router; the zero value if there is none.
	Gateway netip.Addr `json:"gateway"`
	// Gateway6 is the IPv6 router that advertises itself, if any: an address
	// on this link.
	Gateway6 netip.Addr `json:"gateway6"`
	// DNS are the name servers, at most three. Link-local ones carry the
	// interface's name as their zone.
	DNS []netip.Addr `json:"dns"`
	// NTP are the time servers of the leases, at most four.
	NTP []netip.Addr `json:"ntp"`
	// Search are the domains that the network names, at most six.
	Search []string `json:"search"`
	// Portal is like Network.Portal.
	Portal string `json:"portal"`
	// Server is the DHCP server that gave the lease.
	Server netip.Addr `json:"server"`
	// LeaseSeconds is the lease's length; 0: for ever, or no lease.
	LeaseSeconds int64 `json:"lease_seconds"`
	// MTU in bytes, 0: not asked for by the server.
	MTU int `json:"mtu"`
	// Err is the last failure in words; empty once configured.
	Err string `json:"err"`
}

// Configured reports whether the interface can be used.
func (l Link) Configured() bool { return l.Method != MethodNone }

// Routed reports whether the interface has a default router of either family.
func (l Link) Routed() bool { return l.Gateway.IsValid() || l.Gateway6.IsValid() }

// HasGateway reports whether any interface has a default router.
func (n Network) HasGateway() bool {
	return slices.ContainsFunc(n.Interfaces, Link.Routed)
}

// Static returns the interfaces that were configured by hand, so that the
// next system can repeat them.
func (n Network) Static() []Interface {
	var out []Interface
	for _, l := range n.Interfaces {
		if l.Method == MethodStatic && len(l.Addresses) > 0 {
			out = append(out, Interface{MAC: l.MAC, VLAN: l.VLAN, Address: l.Addresses[0], Gateway: l.Gateway, DNS: l.DNS})
		}
	}
	return out
}

// ParseNetwork reads a Network written by encoding/json in an earlier
// system. It refuses more than 128 KiB and more than this package ever
// writes.
func ParseNetwork(raw []byte) (Network, error) {
	var n Network
	if len(raw) > 128<<10 {
		return n, errors.New("network description larger than 128 KiB")
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return Network{}, fmt.Errorf("network description: %w", err)
	}
	if len(n.Interfaces) > maxLinks || !namesLittle(n.DNS, n.NTP, n.Search, n.Portal) {
		return Network{}, errors.New("network description names too much")
	}
	for _, l := range n.Interfaces {
		if len(l.Addresses) > maxAddresses || !namesLittle(l.DNS, l.NTP, l.Search, l.Portal) || len(l.Name) > 15 || len(l.MAC) > maxMAC || len(l.Err) > maxErr {
			return Network{}, errors.New("network description names too much")
		}
	}
	return n, nil
}

// namesLittle reports whether these are what this package may have written.
func namesLittle(dns, ntp []netip.Addr, search []string, portal string) bool {
	for _, d := range search {
		if len(d) > maxDomain || !isDomain(d) {
			return false
		}
	}
	return len(dns) <= maxDNS && len(ntp) <= maxNTP && len(search) <= maxSearch && parsePortal([]byte(portal)) == portal
}

func (l Link) clone() Link {
	l.Addresses = slices.Clone(l.Addresses)
	l.DNS = slices.Clone(l.DNS)
	l.NTP = slices.Clone(l.NTP)
	l.Search = slices.Clone(l.Search)
	return l
}
