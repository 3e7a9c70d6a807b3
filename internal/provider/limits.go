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

type verdict int

const (
	admitted verdict = iota
	clientBusy
	allBusy
)

// A gate counts requests under way, or connections. Its map holds only clients that have some.
type gate struct {
	perClient, total int

	mu   sync.Mutex
	all  int
	open map[client]int
}

func (g *gate) enter(c client) verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= g.total:
		return allBusy
	case g.open[c] >= g.perClient:
		return clientBusy
	}
	g.all++
	g.open[c]++
	return admitted
}

func (g *gate) leave(c client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.open[c]--; g.open[c] <= 0 {
		delete(g.open, c)
	}
}

// inside is how many there are, and of how many clients.
func (g *gate) inside() (all, clients int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all, len(g.open)
}
