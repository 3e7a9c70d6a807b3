package netup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// baseMetric keeps our routes behind any that a person sets by hand without
// a metric. The interface's index is added, so that several default routes
// live side by side.
const baseMetric = 1024

// bind puts a lease into effect: MTU, address, routes, name servers. An
// earlier address of ours that differs goes away. A router that cannot be
// used costs the route, not the address.
func (i *iface) bind(l lease, method Method) error {
	link, err := netlink.LinkByIndex(i.index)
	if err != nil {
		return &stepError{NotConfigured, "finding the link", err}
	}
	if l.mtu > 0 && l.mtu != link.Attrs().MTU {
		if err := netlink.LinkSetMTU(link, l.mtu); err != nil {
			i.emit(Failed, 0, fmt.Errorf("MTU %d: %w", l.mtu, err))
			l.mtu = 0
		}
	}
	if err := i.setAddress(link, l); err != nil {
		return &stepError{NotConfigured, "address " + l.address.String(), err}
	}
	routeErr := i.setRoutes(link, l)
	i.m.update(func() { i.setLink(l, method, routeErr) })
	if routeErr != nil {
		i.emit(Failed, 0, routeErr)
	}
	return nil
}

// setLink is called with the manager's lock held.
func (i *iface) setLink(l lease, method Method, routeErr error) {
	i.link.Method = method
	i.link.Addresses = []netip.Prefix{l.address}
	i.link.Gateway, i.link.DNS, i.link.NTP, i.link.Server = l.gateway, l.dns, l.ntp, l.server
	i.link.Search, i.link.Portal = l.search, l.portal
	i.link.LeaseSeconds = int64(l.length / time.Second)
	i.link.MTU = l.mtu
	if i.until = (time.Time{}); l.length > 0 {
		i.until = time.Now().Add(l.length)
	}
	i.link.Err, i.err = "", nil
	if routeErr != nil {
		i.link.Gateway = netip.Addr{}
		i.link.Err = bounded(routeErr.Error(), maxErr)
	}
}

// setAddress sets the lease's address with the lease's lifetime: if we
// should die, the kernel itself takes it back in time.
func (i *iface) setAddress(link netlink.Link, l lease) error {
	if err := i.keepOnly(l.address); err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: ipNet(l.address)}
	if l.length > 0 {
		// The seconds are cut, so one more: never before our own clock says so.
		a.ValidLft = int(l.length/time.Second) + 1
		a.PreferedLft = a.ValidLft
	}
	if l.address.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // given by hand; waiting for the probe helps nobody
	}
	if l.address.Addr().IsLinkLocalUnicast() {
		a.Scope = unix.RT_SCOPE_LINK
	}
	if err := netlink.AddrReplace(link, a); err != nil {
		return err
	}
	i.m.update(func() {
		if !slices.Contains(i.applied, l.address) {
			i.applied = append(i.applied, l.address)
		}
	})
	return nil
}

// setRoutes sets the classless routes and the default route. A gateway
// outside the address's network is reached on the link, as hosting
// providers with /32 leases expect.
func (i *iface) setRoutes(link netlink.Link, l lease) error {
	routes := slices.Clone(l.routes)
	if l.gateway.IsValid() {
		routes = append(routes, route{defaultRoute(l.gateway), l.gateway})
	}
	var errs []error
	for _, r := range routes {
		nr := &netlink.Route{
			LinkIndex: link.Attrs().Index,
			Dst:       ipNet(r.dst),
			Priority:  baseMetric + link.Attrs().Index,
			Protocol:  unix.RTPROT_DHCP,
			Src:       l.address.Addr().AsSlice(),
		}
		switch {
		case !r.via.IsValid():
			nr.Scope = unix.RT_SCOPE_LINK
		default:
			// It is on this link, also where the lease's own network does not hold
			// it, and the kernel need not look: behind Guard it finds no way there.
			nr.Flags, nr.Gw = int(netlink.FLAG_ONLINK), r.via.AsSlice()
		}
		if err := netlink.RouteReplace(nr); err != nil {
			errs = append(errs, fmt.Errorf("route to %s via %s: %w", r.dst, r.via, err))
		}
	}
	return errors.Join(errs...)
}

func defaultRoute(gateway netip.Addr) netip.Prefix {
	if gateway.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// unbind takes away what an IPv4 lease brought. Routes go with their address.
func (i *iface) unbind() {
	if err := i.keepOnly(netip.Prefix{}); err != nil {
		i.emit(Failed, 0, err)
	}
	i.m.update(func() {
		l := &i.link
		l.Method, l.Addresses, l.Gateway, l.DNS, l.NTP, l.Server = MethodNone, nil, netip.Addr{}, nil, nil, netip.Addr{}
		l.LeaseSeconds, l.MTU, l.Search, l.Portal = 0, 0, nil, ""
		i.until = time.Time{}
	})
}

// removeAddresses removes every address we set. A link that is already gone is
// no failure.
func (i *iface) removeAddresses() error {
	err := i.keepOnly(netip.Prefix{})
	i.m.mu.Lock()
	leased := i.v6.applied
	i.v6.applied = nil
	i.m.mu.Unlock()
	link, missing := netlink.LinkByIndex(i.index)
	if missing != nil {
		return err
	}
	return errors.Join(err, remove6(link, leased))
}

// keepOnly removes every address we set but the given one. An address or a
// link that is already gone is no failure.
func (i *iface) keepOnly(keep netip.Prefix) error {
	i.m.mu.Lock()
	old := slices.Clone(i.applied)
	i.m.mu.Unlock()
	link, err := netlink.LinkByIndex(i.index)
	if err != nil {
		return nil
	}
	var errs []error
	for _, p := range old {
		if p == keep {
			continue
		}
		err := netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(p)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("removing address %s: %w", p, err))
		}
	}
	i.m.update(func() {
		i.applied = slices.DeleteFunc(i.applied, func(p netip.Prefix) bool { return p != keep })
	})
	return errors.Join(errs...)
}

// lastAddress is the IPv4 address we last had by DHCP, to ask for it again.
func (i *iface) lastAddress() netip.Addr {
	i.m.mu.Lock()
	defer i.m.mu.Unlock()
	for _, p := range i.applied {
		if p.Addr().Is4() && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
