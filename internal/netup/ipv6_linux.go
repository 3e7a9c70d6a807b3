package netup

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ipv6 is what is known of an interface's IPv6, guarded by the manager's lock.
// Router advertisements are the kernel's work: it makes addresses and routes of
// them, and we hear of it by netlink.
type ipv6 struct {
	addresses []netip.Prefix      // usable and global; of DHCPv6 first
	router    netip.Addr          // the default router, a link-local address
	dns       []timed[netip.Addr] // of router advertisements
	search    []timed[string]
	portal    string // of router advertisements; holds as long as the router
	managed   bool   // the routers say that DHCPv6 gives addresses (M),
	other     bool   // or knows more (O)

	lease     lease6       // of DHCPv6; the zero value is none
	applied   []netip.Addr // set by us from leases
	settled   bool         // and all of them are set by now
	duplicate bool         // but another machine has one of them

	ready bool // good enough to be used without IPv4
}

// servers are the name servers that IPv6 brought. A link-local one needs to be
// told the interface.
func (v *ipv6) servers(now time.Time, link string) []netip.Addr {
	var out []netip.Addr
	for _, a := range slices.Concat(current(v.dns, now), v.lease.dns) {
		if a.IsLinkLocalUnicast() {
			a = a.WithZone(link)
		}
		if len(out) < maxDNS && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func (v *ipv6) domains(now time.Time) []string {
	var out []string
	for _, d := range slices.Concat(current(v.search, now), v.lease.search) {
		out = appendDomain(out, d)
	}
	return out
}

// setRouter notes the router; what one said of a portal ends with it.
func (v *ipv6) setRouter(router netip.Addr) {
	if v.router = router; !router.IsValid() {
		v.portal = ""
	}
}

// method says how the first address came.
func (v *ipv6) method() Method {
	if len(v.addresses) > 0 && slices.Contains(v.applied, v.addresses[0].Addr()) {
		return MethodDHCPv6
	}
	return MethodSLAAC
}

// settleIPv6 decides whether IPv6 alone makes the interface usable. It does with
// an address, a router and a name server, whatever DHCP does; once DHCP has been
// given its chance, an address alone will do.
func (i *iface) settleIPv6() {
	var was, is, alone bool
	i.m.update(func() {
		v := &i.v6
		was = v.ready
		complete := v.router.IsValid() && len(v.servers(time.Now(), i.link.Name)) > 0
		v.ready = len(v.addresses) > 0 && (complete || i.fallback)
		is, alone = v.ready, i.link.Method == MethodNone || i.link.Method == MethodLinkLocal
		if is && alone {
			i.link.Err, i.err = "", nil
		}
	})
	switch {
	case is && !was && alone:
		i.emit(Configured, 0, nil)
	case is && !was:
		i.emit(AlsoIPv6, 0, nil)
	case was && !is && alone:
		i.emit(Lost, 0, errors.New("the IPv6 address, its router or its name servers went away"))
	}
}

// expireIPv6 drops what routers said when its time is over, until ctx ends.
func (i *iface) expireIPv6(ctx context.Context) {
	for {
		i.m.mu.Lock()
		changed, now := i.m.changed, time.Now()
		next := earlier(nextEnd(i.v6.dns, now), nextEnd(i.v6.search, now))
		i.m.mu.Unlock()
		var end <-chan time.Time
		if !next.IsZero() {
			end = time.After(time.Until(next))
		}
		select {
		case <-changed:
		case <-end:
			i.settleIPv6() // an update, after which ended entries are not seen
		case <-ctx.Done():
			return
		}
	}
}

// earlier is the earlier of two times, of which a zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// readIPv6 takes the kernel's list of the link's addresses, and its router. It
// is called by Run's goroutine and by the worker, one at a time: of two lists,
// the older one must not be noted last, for no event would correct it.
func (i *iface) readIPv6() {
	i.reading.Lock()
	defer i.reading.Unlock()
	addresses, err := listIPv6(i.index)
	if err != nil {
		return // the link went away in between
	}
	router := routerOf(i.index) // its event may come later than the address's
	i.m.update(func() {
		v := &i.v6
		v.addresses = nil
		v.setRouter(router)
		var own []netip.Prefix
		there := 0
		for _, a := range addresses {
			given := slices.Contains(v.applied, a.prefix.Addr())
			if given && !a.failed {
				there++
			}
			switch {
			case !a.usable || slices.Contains(i.applied, a.prefix): // by hand: in link already
			case given:
				v.addresses = append(v.addresses, a.prefix)
			default:
				own = append(own, a.prefix)
			}
		}
		// The kernel takes back an address with a lifetime that it finds at
		// another machine, and marks one without.
		v.duplicate = v.settled && there < len(v.applied)
		v.addresses = append(v.addresses, own...)
		v.addresses = v.addresses[:min(len(v.addresses), maxAddresses-2)]
	})
	i.settleIPv6()
}

// address6 is one global address of a link.
type address6 struct {
	prefix netip.Prefix
	usable bool
	failed bool // another machine has it
}

// listIPv6 lists the global IPv6 addresses of a link. An optimistic address
// (RFC 4429) may be used while it is still being probed.
func listIPv6(index int) ([]address6, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil, err
	}
	list, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return nil, err
	}
	var out []address6
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok || !ip.Is6() || !ip.IsGlobalUnicast() {
			continue
		}
		bits, _ := a.Mask.Size()
		probing := a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0
		out = append(out, address6{
			prefix: netip.PrefixFrom(ip, bits), failed: a.Flags&unix.IFA_F_DADFAILED != 0,
			usable: !probing && a.Flags&(unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) == 0,
		})
	}
	return out, nil
}

// setting is a file below /proc/sys/net/<family>/conf/<interface>.
type setting struct{ family, name, value string }

// settings are made before an interface is set up.
func settings() []setting {
	return []setting{
		// Packets take the way of another interface when this one's cable is
		// pulled, instead of vanishing.
		{"ipv4", "ignore_routes_with_linkdown", "1"},
		{"ipv6", "ignore_routes_with_linkdown", "1"},
		// IN6_ADDR_GEN_MODE_RANDOM (linux/if_link.h): the kernel derives an
		// interface's own addresses from a secret that it draws when asked,
		// instead of from the hardware address (RFC 7217, with a new secret at
		// each boot), so that no network far away can tell the machine by it.
		{"ipv6", "addr_gen_mode", "3"},
		// An address is used while it is still being probed (RFC 4429), which
		// saves a second. Addresses drawn at random hardly ever collide.
		{"ipv6", "optimistic_dad", "1"},
		{"ipv6", "use_optimistic", "1"},
		// Routers are asked after 1, 2, 4, 8, 16, 24… s instead of after 4, 12,
		// 28, 60…: a port may take 30 to 50 s until it forwards.
		{"ipv6", "router_solicitation_interval", "1"},
		{"ipv6", "router_solicitation_max_interval", "8"},
	}
}

// prepare makes the settings of an interface, and goes on after failures. A kernel
// without IPv6, or without one of the settings, has nothing to set.
func prepare(name string) error {
	var errs []error
	for _, s := range settings() {
		err := writeSetting(filepath.Join("/proc/sys/net", s.family, "conf", name, s.name), s.value)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func writeSetting(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
