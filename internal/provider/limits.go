package provider

import (
	"net/netip"
	"sync"
)

// A client is an IPv4 address or an IPv6 /64, which one host has for itself; on a
// link, where all share one /64, a link-local address.
type client netip.Prefix

func clientOf(remote string) client {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return client{} // all that have no address share one limit
	}
	addr, bits := ap.Addr().Unmap().WithZone(""), 64
	if addr.Is4() || addr.IsLinkLocalUnicast() {
		bits = addr.BitLen()
	}
	prefix, _ := addr.Prefix(bits) // bits fit the address
	return client(prefix)
}

// network is what one operator is likely to hold whole: an IPv6 /48 holds 65536
// clients. Local addresses, and those of IPv4, have none.
func (c client) network() netip.Prefix {
	addr := netip.Prefix(c).Addr()
	if !addr.Is6() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsLoopback() {
		return netip.Prefix{}
	}
	p, _ := addr.Prefix(48)
	return p
}

type verdict int

const (
	admitted verdict = iota
	clientBusy
	networkBusy
	allBusy
)

// A gate counts requests under way, or connections. Its maps hold only clients, and
// networks, that have some. One network has half of the places at most.
type gate struct {
	perClient, total int

	mu       sync.Mutex
	all      int
	open     map[client]int
	networks map[netip.Prefix]int
}

func newGate(perClient, total int) gate {
	return gate{perClient: perClient, total: total, open: map[client]int{}, networks: map[netip.Prefix]int{}}
}

func (g *gate) enter(c client) verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= g.total:
		return allBusy
	case g.open[c] >= g.perClient:
		return clientBusy
	case g.networks[c.network()] >= max(g.perClient, g.total/2):
		return networkBusy
	}
	g.all++
	g.open[c]++
	if n := c.network(); n.IsValid() {
		g.networks[n]++
	}
	return admitted
}

func (g *gate) leave(c client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.open[c]--; g.open[c] <= 0 {
		delete(g.open, c)
	}
	if n := c.network(); n.IsValid() {
		if g.networks[n]--; g.networks[n] <= 0 {
			delete(g.networks, n)
		}
	}
}

// inside is how many there are, and of how many clients.
func (g *gate) inside() (all, clients int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all, len(g.open)
}
