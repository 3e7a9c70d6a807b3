package netup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// raUpdate is one piece of the kernel's news of a router advertisement: which
// link, and what became known. The kernel itself makes addresses and routes.
type raUpdate struct {
	index   int
	options []raOption // RTM_NEWNDUSEROPT
	flags   *uint32    // IFLA_INET6_FLAGS, when they were said
	route   bool       // a default route came or went
}

// Flags of the last router advertisement in IFLA_INET6_FLAGS (net/if_inet6.h).
const (
	raManaged = 0x40 // IF_RA_MANAGED: DHCPv6 gives addresses
	raOther   = 0x80 // IF_RA_OTHERCONF: DHCPv6 knows more than addresses
)

const (
	ndMessageLen = 16 // struct nduseroptmsg
	ifInfoLen    = 16 // struct ifinfomsg
	rtMessageLen = 12 // struct rtmsg
	ndAdvert     = 134
)

// subscribeRA follows the kernel's news of router advertisements until done is
// closed or the kernel ends the subscription, which closes the channel.
func subscribeRA(done <-chan struct{}, failed func(error)) (<-chan raUpdate, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_ND_USEROPT, unix.RTNLGRP_IPV6_IFINFO, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, err
	}
	go func() {
		<-done
		s.Close()
	}()
	out := make(chan raUpdate, 16)
	go func() {
		defer close(out)
		for {
			messages, from, err := s.Receive()
			if err != nil {
				failed(fmt.Errorf("router advertisements: %w", err))
				return
			}
			if from.Pid != nl.PidKernel {
				continue
			}
			for _, m := range messages {
				if u, ok := parseRAMessage(m.Header.Type, m.Data); ok {
					out <- u
				}
			}
		}
	}()
	return out, nil
}

// parseRAMessage reads one netlink message and reports whether it is of use.
func parseRAMessage(kind uint16, data []byte) (raUpdate, bool) {
	switch kind {
	case unix.RTM_NEWNDUSEROPT:
		return parseUserOption(data)
	case unix.RTM_NEWLINK:
		return parseInet6Flags(data)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return parseDefaultRoute(data)
	}
	return raUpdate{}, false
}

// parseUserOption reads struct nduseroptmsg (linux/rtnetlink.h) and the options
// behind it.
func parseUserOption(data []byte) (raUpdate, bool) {
	if len(data) < ndMessageLen || data[0] != unix.AF_INET6 || data[8] != ndAdvert {
		return raUpdate{}, false
	}
	size := int(binary.NativeEndian.Uint16(data[2:]))
	if ndMessageLen+size > len(data) {
		return raUpdate{}, false
	}
	options, err := parseRAOptions(data[ndMessageLen : ndMessageLen+size])
	u := raUpdate{index: int(int32(binary.NativeEndian.Uint32(data[4:]))), options: options}
	return u, err == nil && len(options) > 0
}

// parseInet6Flags finds the flags in IFLA_PROTINFO of an IPv6 link message.
func parseInet6Flags(data []byte) (raUpdate, bool) {
	if len(data) < ifInfoLen || data[0] != unix.AF_INET6 {
		return raUpdate{}, false
	}
	u := raUpdate{index: int(int32(binary.NativeEndian.Uint32(data[4:])))}
	inner, ok := attribute(data[ifInfoLen:], unix.IFLA_PROTINFO)
	if !ok {
		return u, false
	}
	value, ok := attribute(inner, unix.IFLA_INET6_FLAGS)
	if !ok || len(value) != 4 {
		return u, false
	}
	flags := binary.NativeEndian.Uint32(value)
	u.flags = &flags
	return u, true
}

// parseDefaultRoute tells of which link a default route came or went.
func parseDefaultRoute(data []byte) (raUpdate, bool) {
	if len(data) < rtMessageLen || data[0] != unix.AF_INET6 || data[1] != 0 {
		return raUpdate{}, false
	}
	oif, ok := attribute(data[rtMessageLen:], unix.RTA_OIF)
	if !ok || len(oif) != 4 {
		return raUpdate{}, false
	}
	return raUpdate{index: int(int32(binary.NativeEndian.Uint32(oif))), route: true}, true
}

// attribute finds the first netlink attribute of a kind.
func attribute(data []byte, kind uint16) ([]byte, bool) {
	const head, align = unix.SizeofRtAttr, unix.RTA_ALIGNTO
	for len(data) >= head {
		size := int(binary.NativeEndian.Uint16(data))
		if size < head || size > len(data) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(data[2:])&^unix.NLA_F_NESTED == kind {
			return data[head:size], true
		}
		data = data[min((size+align-1)&^(align-1), len(data)):]
	}
	return nil, false
}

// onRA takes in what became known of a link's routers.
func (m *Manager) onRA(u raUpdate) {
	i := m.iface(u.index)
	if i == nil {
		return
	}
	var router netip.Addr
	if u.route {
		router = routerOf(u.index)
	}
	now := time.Now()
	m.update(func() {
		if u.flags != nil {
			i.v6.managed, i.v6.other = *u.flags&raManaged != 0, *u.flags&raOther != 0
		}
		if u.route {
			i.v6.setRouter(router)
		}
		for _, o := range u.options {
			if o.portal != "" && i.v6.router.IsValid() { // a router that leaves says it, too
				i.v6.portal = o.portal
			}
			for _, s := range o.servers {
				i.v6.dns = keepTimed(i.v6.dns, s, now, o.lifetime, maxDNS)
			}
			for _, s := range o.search {
				i.v6.search = keepTimed(i.v6.search, s, now, o.lifetime, maxSearch)
			}
		}
	})
	i.settleIPv6()
}

// routerOf is the default router that advertises itself on a link and that the
// kernel prefers; zero if there is none.
func routerOf(index int) (router netip.Addr) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{LinkIndex: index}, netlink.RT_FILTER_OIF)
	if err != nil {
		return router
	}
	best := 0
	for _, r := range routes {
		gw, ok := netip.AddrFromSlice(r.Gw)
		if !ok || r.Protocol != unix.RTPROT_RA || !isDefault(r) || router.IsValid() && r.Priority >= best {
			continue
		}
		router, best = gw, r.Priority
	}
	return router
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// inet6Flags asks for the flags of the last router advertisement on a link.
func inet6Flags(index int) (*uint32, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_INET6))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return nil, err
	}
	for _, data := range messages {
		if u, ok := parseInet6Flags(data); ok && u.index == index {
			return u.flags, nil
		}
	}
	return nil, errors.New("no IPv6 on this link")
}
