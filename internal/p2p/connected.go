package p2p

import (
	"cmp"
	"slices"
)

// Connection is what this node sees of a node that it is connected to.
type Connection struct {
	ID   string // proven by the handshake
	Addr string // multiaddr of the far end, as this node sees it
}

// Connections are the nodes this one is connected to, each once, in the order of
// their IDs.
func (n *Node) Connections() []Connection {
	var out []Connection
	for _, c := range n.swarm.Conns() {
		out = append(out, Connection{c.RemotePeer().String(), c.RemoteMultiaddr().String()})
	}
	slices.SortFunc(out, func(a, b Connection) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Addr, b.Addr)) })
	return slices.CompactFunc(out, func(a, b Connection) bool { return a.ID == b.ID })
}
