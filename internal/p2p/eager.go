package p2p

import (
	"context"
	"errors"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	manet "github.com/multiformats/go-multiaddr/net"
	msmux "github.com/multiformats/go-multistream"
)

// eagerUpgrader proposes Noise to the peers it dials together with Noise's first
// message, as libp2p does with the protocols of streams. Nodes of this network
// speak nothing else, so waiting for consent, a round trip for each peer, would be
// for nothing. What is sent and received is the same, and consent is still read and
// compared before anything that comes after it.
type eagerUpgrader struct{ transport.Upgrader }

func (u eagerUpgrader) Upgrade(ctx context.Context, t transport.Transport, c manet.Conn, dir network.Direction, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	if dir == network.DirOutbound {
		c = newEager(c)
	}
	return u.Upgrader.Upgrade(ctx, t, c, dir, p, scope)
}

// greeting is what either side of a multistream negotiation of Noise says when
// it succeeds.
const greeting = "\x13/multistream/1.0.0\n\x07" + noise.ID + "\n"

// errProposal is of an upgrader that negotiates something else than Noise.
var errProposal = errors.New("another protocol than Noise is proposed")

// eagerConn is a connection whose upgrader negotiates with nobody: its proposal
// is kept back, and consent is there at once. All that follows goes through peer,
// which negotiates with the other end, lazily. Closing and deadlines are the
// connection's, so they end what waits in peer too.
type eagerConn struct {
	manet.Conn
	peer     msmux.LazyConn
	proposal string // what the upgrader has yet to write
	consent  string // what it has yet to read
}

func newEager(c manet.Conn) *eagerConn {
	return &eagerConn{Conn: c, peer: msmux.NewMSSelect[protocol.ID](c, noise.ID), proposal: greeting, consent: greeting}
}

func (c *eagerConn) Read(b []byte) (int, error) {
	if c.consent == "" {
		return c.peer.Read(b)
	}
	n := copy(b, c.consent)
	c.consent = c.consent[n:]
	return n, nil
}

func (c *eagerConn) Write(b []byte) (int, error) {
	if c.proposal == "" {
		return c.peer.Write(b)
	}
	if !strings.HasPrefix(c.proposal, string(b)) {
		return 0, errProposal
	}
	c.proposal = c.proposal[len(b):]
	return len(b), nil
}
