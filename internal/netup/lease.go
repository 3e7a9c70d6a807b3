package netup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// lease is what a DHCP acknowledgement means, checked.
type lease struct {
	address netip.Prefix
	gateway netip.Addr // zero: none
	routes  []route    // besides the one the address brings with it
	dns     []netip.Addr
	ntp     []netip.Addr
	search  []string
	portal  string
	server  netip.Addr
	mtu     int           // 0: not given
	length  time.Duration // 0: for ever
	t1, t2  time.Duration // renew from the same server, then from any
}

// route is a destination and the router to it; a zero router means that the
// destination is on the link itself.
type route struct {
	dst netip.Prefix
	via netip.Addr
}

// Bounds on times and sizes a server may ask for.
const (
	defaultLease = time.Hour       // for servers that name none
	minLease     = 2 * time.Second // below, renewals would be all we do
	infinite     = 0xffffffff      // seconds: RFC 2131, section 3.3
	minMTU       = 1280            // below, the kernel takes IPv6 off the link (RFC 8200, section 5)
	maxMTU       = 9216
)

// parseLease reads an acknowledgement (or an offer). It drops what no host
// can use and fails only where there is no address to take.
func parseLease(m *dhcpv4.DHCPv4) (lease, error) {
	addr := hostAddr(m.YourIPAddr)
	if !addr.IsValid() {
		return lease{}, fmt.Errorf("offered address %v cannot be used", m.YourIPAddr)
	}
	bits, err := prefixLength(m, addr)
	if err != nil {
		return lease{}, err
	}
	l := lease{
		address: netip.PrefixFrom(addr, bits),
		server:  hostAddr(m.ServerIdentifier()),
		dns:     hostAddrs(m.DNS(), maxDNS),
		ntp:     hostAddrs(m.NTPServers(), maxNTP),
		search:  parseDomains(m),
		portal:  parsePortal(m.Options.Get(dhcpv4.OptionURL)), // its name before RFC 8910
		mtu:     parseMTU(m),
	}
	if !l.server.IsValid() {
		return lease{}, errors.New("no server identifier")
	}
	l.gateway, l.routes = parseRoutes(m)
	l.length, l.t1, l.t2 = parseTimes(m)
	return l, nil
}

// parseDomains reads options 119, which is the list to search, and 15, the domain
// of this machine.
func parseDomains(m *dhcpv4.DHCPv4) []string {
	list, err := parseSearchList(m.Options.Get(dhcpv4.OptionDNSDomainSearchList))
	if err != nil {
		list = nil
	}
	return appendDomain(list, strings.TrimRight(string(m.Options.Get(dhcpv4.OptionDomainName)), "\x00"))
}

// prefixLength reads the subnet mask; a server that names none means the
// address's class (RFC 2132, section 3.3 makes it optional).
func prefixLength(m *dhcpv4.DHCPv4, addr netip.Addr) (int, error) {
	mask := m.SubnetMask()
	if mask == nil {
		if m.Options.Has(dhcpv4.OptionSubnetMask) {
			return 0, errors.New("malformed subnet mask")
		}
		mask = net.IP(addr.AsSlice()).DefaultMask()
	}
	ones, size := mask.Size()
	if size != 32 || ones == 0 {
		return 0, fmt.Errorf("subnet mask %s cannot be used", mask)
	}
	return ones, nil
}

// parseRoutes reads options 3 and 121. When 121 is there, 3 is ignored
// (RFC 3442, page 5). The first default route is the gateway.
func parseRoutes(m *dhcpv4.DHCPv4) (gateway netip.Addr, routes []route) {
	if !m.Options.Has(dhcpv4.OptionClasslessStaticRoute) {
		if routers := hostAddrs(m.Router(), 1); len(routers) > 0 {
			gateway = routers[0]
		}
		return gateway, nil
	}
	for _, r := range m.ClasslessStaticRoute() {
		if len(routes) == maxRoutes {
			break
		}
		dst, via, ok := usableRoute(r)
		switch {
		case !ok:
		case dst.Bits() > 0:
			routes = append(routes, route{dst, via})
		case !gateway.IsValid():
			gateway = via
		}
	}
	return gateway, routes
}

func usableRoute(r *dhcpv4.Route) (dst netip.Prefix, via netip.Addr, ok bool) {
	base, good := netip.AddrFromSlice(r.Dest.IP.To4())
	ones, _ := r.Dest.Mask.Size()
	if !good {
		return dst, via, false
	}
	dst = netip.PrefixFrom(base, ones).Masked()
	onLink := r.Router.IsUnspecified() // RFC 3442: a local subnet route
	if via = hostAddr(r.Router); !via.IsValid() && !onLink {
		return dst, via, false
	}
	if ones == 0 {
		return dst, via, via.IsValid()
	}
	return dst, via, !base.IsLoopback() && !base.IsMulticast() && base.As4()[0] != 0
}

func parseMTU(m *dhcpv4.DHCPv4) int {
	raw := m.Options.Get(dhcpv4.OptionInterfaceMTU)
	if len(raw) != 2 {
		return 0
	}
	mtu := int(raw[0])<<8 | int(raw[1])
	if mtu < minMTU || mtu > maxMTU {
		return 0
	}
	return mtu
}

// parseTimes reads options 51, 58 and 59, with the defaults of RFC 2131,
// section 4.4.5. An infinite lease is never renewed.
func parseTimes(m *dhcpv4.DHCPv4) (length, t1, t2 time.Duration) {
	length = m.IPAddressLeaseTime(defaultLease)
	if length >= infinite*time.Second {
		return 0, 0, 0
	}
	length = max(length, minLease)
	t2 = m.IPAddressRebindingTime(length / 8 * 7)
	if t2 <= 0 || t2 >= length {
		t2 = length / 8 * 7
	}
	t1 = m.IPAddressRenewalTime(length / 2)
	if t1 <= 0 || t1 >= t2 {
		t1 = t2 / 7 * 4
	}
	return length, t1, t2
}

// hostAddr returns ip if one machine can have it, else the zero address.
func hostAddr(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.As4()[0] == 0 || a.As4()[0] >= 240 {
		return netip.Addr{}
	}
	return a
}

func hostAddrs(ips []net.IP, limit int) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a := hostAddr(ip); a.IsValid() && len(out) < limit {
			out = append(out, a)
		}
	}
	return out
}
