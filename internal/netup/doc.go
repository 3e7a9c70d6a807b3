// Package netup brings a machine onto its local network and keeps it
// there: links, addresses, routes and name servers, all set over netlink by
// this process, with no helper programs.
//
// Every interface is worked on at once and by events: the kernel says when
// a link appears or gets its carrier, and no step waits a fixed time for
// something that announces itself. The first usable interface ends Wait;
// the others go on in the background, as do renewals.
//
// "Up" means a lease (or a static or link-local address) and its routes, or an
// IPv6 address with a router and name servers: whichever family is first. It
// never means that some public host answered: this package sends DHCP and
// ARP on the local link and nothing else, in any mode; the kernel asks for
// routers there.
//
// IPv6 addresses and routes are the kernel's work. This package hears of them,
// reads from router advertisements what only programs use (name servers), and
// asks by DHCPv6 where the routers say so. The kernel's addresses are drawn at
// random at every boot and say nothing of the hardware. Where a network prefers
// hosts without IPv4 and IPv6 works, no IPv4 address is taken.
//
// With Config.RandomMAC the hardware says nothing of itself either: a card gets
// another address before its link is set up, or is not used.
//
// Trust: everything a DHCP server or a router says is a stranger's word. It is parsed
// within bounds, addresses that no host can have are dropped, and nothing
// but where packets go depends on it. Whoever answers DHCP can misdirect or
// stop a boot; what is then downloaded is verified elsewhere.
//
// Sources: RFC 2131 and 2132 (DHCP), RFC 3442 (classless routes), RFC 3927
// (link-local), RFC 5227 (ARP probes), RFC 4861 and 8106 (router
// advertisements and the names in them), RFC 4429 (optimistic addresses), RFC
// 8415 (DHCPv6), RFC 3397 (search lists), RFC 8910 (captive portals), RFC
// 7844 (who may know a client by its messages).
package netup
