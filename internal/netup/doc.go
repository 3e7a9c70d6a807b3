// Package netup brings a machine onto its local network and keeps it
// there: links, addresses, routes and name servers, all set over netlink by
// this process, with no helper programs.
//
// Every interface is worked on at once and by events: the kernel says when
// a link appears or gets its carrier, and no step waits a fixed time for
// something that announces itself. The first usable interface ends Wait;
// the others go on in the background, as do renewals.
//
// "Up" means a lease (or a static or link-local address) and its routes. It
// never means that some public host answered: this package sends DHCP and
// ARP on the local link and nothing else, in any mode.
//
// Trust: everything a DHCP server says is a stranger's word. It is parsed
// within bounds, addresses that no host can have are dropped, and nothing
// but where packets go depends on it. Whoever answers DHCP can misdirect or
// stop a boot; what is then downloaded is verified elsewhere.
//
// Sources: RFC 2131 and 2132 (DHCP), RFC 3442 (classless routes), RFC 3927
// (link-local), RFC 5227 (ARP probes).
package netup
