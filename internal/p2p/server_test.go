package p2p

import (
	"context"
	"testing"

	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/multiformats/go-multihash"
	msmux "github.com/multiformats/go-multistream"
)

// testServer is dhtserver.New.
var testServer func(Half) (Server, error)

// SetTestServer is called before all tests.
func SetTestServer(new func(Half) (Server, error)) { testServer = new }

// table is a server's routing table.
func table(n *Node) *kb.RoutingTable {
	return n.server.(interface{ RoutingTable() *kb.RoutingTable }).RoutingTable()
}

// libp2pHost is the host of a node in tests that speak by hand.
type libp2pHost struct{ host.Host }

func (libp2pHost) Nearest([]byte, int) []peer.ID                       { return nil }
func (libp2pHost) Records() []string                                   { return nil }
func (libp2pHost) Record(context.Context, string) ([]byte, error)      { return nil, nil }
func (libp2pHost) Store(context.Context, string, []byte) error         { return nil }
func (libp2pHost) Provides(context.Context, multihash.Multihash) error { return nil }
func (libp2pHost) Providers(context.Context, multihash.Multihash) ([]peer.AddrInfo, error) {
	return nil, nil
}

func (h libp2pHost) Handle(id protocol.ID, answer func(network.Stream)) {
	h.SetStreamHandler(id, answer)
}

// speaking makes a server of a stream handler.
func speaking(handle func(network.Stream)) func(Half) (Server, error) {
	return func(half Half) (Server, error) {
		h, err := basichost.NewHost(half.Swarm, &basichost.HostOpts{EventBus: half.Bus})
		if err != nil {
			return nil, err
		}
		h.Start()
		h.SetStreamHandler(protoKad, func(s network.Stream) {
			defer s.Close()
			handle(s)
		})
		return libp2pHost{h}, nil
	}
}

// openStream opens a stream of the DHT's protocol to a peer that n is connected
// to.
func openStream(t testing.TB, n *Node, to peer.ID) network.Stream {
	t.Helper()
	s, err := n.swarm.NewStream(t.Context(), to)
	if err == nil {
		err = msmux.SelectProtoOrFail[protocol.ID](protoKad, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}
