package netup

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Priorities of the rules of Guard, before the kernel's own rule for the main table
// (32766) and behind that for the local one (0).
const (
	guardAllowed = 100 + iota
	guardDHCP
	guardNobody
)

// dhcpServer is the port that leases are renewed at (RFC 2131, section 4.1).
const dhcpServer = 67

// Guard lets the kernel send packets to other machines for one user alone, by the
// rules that choose the routing table: for everybody else no destination has a
// route, and connecting fails at once with ENETUNREACH or EHOSTUNREACH. It is
// called before the first interface is up, and holds until Unguard.
//
// What the network itself takes still goes out: DHCP, ARP, neighbour discovery and
// what else has no route but a link, multicast on it included. It is a guard
// against mistakes, in this program and its libraries: root can remove it, and go
// round it with packet sockets or by binding to an interface, as DHCP does.
func Guard(uid uint32) error {
	return eachRule(uid, fmt.Sprintf("let nobody but user %d out", uid), unix.EEXIST, (*netlink.Handle).RuleAdd)
}

// Unguard takes back what Guard has done, if it has.
func Unguard(uid uint32) error {
	return eachRule(uid, fmt.Sprintf("let others than user %d out again", uid), unix.ENOENT, (*netlink.Handle).RuleDel)
}

// eachRule does something with the rules of Guard, and passes over one failure.
func eachRule(uid uint32, what string, but error, do func(*netlink.Handle, *netlink.Rule) error) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer handle.Close()
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		for _, rule := range guardRules(family, uid) {
			if err := do(handle, rule); err != nil && !errors.Is(err, but) {
				errs = append(errs, fmt.Errorf("%s: rule %d: %w", what, rule.Priority, err))
			}
		}
	}
	return errors.Join(errs...)
}

func guardRules(family int, uid uint32) []*netlink.Rule {
	rule := func(priority int) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority = family, priority
		return r
	}
	// What forbids comes first, so that a half of them is not too little.
	nobody := rule(guardNobody)
	nobody.Type = unix.RTN_UNREACHABLE
	allowed := rule(guardAllowed)
	allowed.Table, allowed.UIDRange = unix.RT_TABLE_MAIN, netlink.NewRuleUIDRange(uid, uid)
	if family == netlink.FAMILY_V6 { // DHCPv6 is multicast
		return []*netlink.Rule{nobody, allowed}
	}
	dhcp := rule(guardDHCP)
	dhcp.Table, dhcp.UIDRange = unix.RT_TABLE_MAIN, netlink.NewRuleUIDRange(0, 0)
	dhcp.IPProto, dhcp.Dport = unix.IPPROTO_UDP, netlink.NewRulePortRange(dhcpServer, dhcpServer)
	return []*netlink.Rule{nobody, allowed, dhcp}
}
