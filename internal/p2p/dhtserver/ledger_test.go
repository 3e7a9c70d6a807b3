package dhtserver

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/phasebased/phase/internal/p2p"
)

// halfOf is what a ledger asks of its node: here every /24 is one operator's, and
// only addresses on the port 4001 are believed.
func halfOf() p2p.Half {
	return p2p.Half{
		Network: func(a netip.Addr) netip.Prefix {
			if a.IsPrivate() {
				return netip.Prefix{}
			}
			p, _ := a.Prefix(24)
			return p
		},
		Believe: func(addrs []ma.Multiaddr, _ netip.Addr) (out []ma.Multiaddr) {
			for _, a := range addrs {
				if port, err := a.ValueForProtocol(ma.P_TCP); err == nil && port == "4001" {
					out = append(out, a)
				}
			}
			return out
		},
	}
}

func newTestLedger() (*ledger, *time.Time) {
	now := time.Unix(1e9, 0)
	l := newLedger(halfOf(), time.Hour)
	l.now = func() time.Time { return now }
	return l, &now
}

func prefix(third, fourth int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("8.8.%d.%d/24", third, fourth))
}

func TestLedgerBounds(t *testing.T) {
	l, now := newTestLedger()
	admitted, id := 0, 0
	for range 100 { // one network, any number of IDs
		id++
		if l.admit("key", peer.ID(fmt.Sprint(id)), prefix(0, 0).Masked()) {
			admitted++
		}
	}
	if admitted != maxNetworkProviders {
		t.Errorf("%d of one network", admitted)
	}
	for i := range 100 { // many networks
		if l.admit("key", peer.ID(fmt.Sprint("n", i)), prefix(i+1, 0).Masked()) {
			admitted++
		}
	}
	if admitted != maxKeyProviders {
		t.Errorf("%d of one key", admitted)
	}
	if !l.admit("key", "1", prefix(0, 0).Masked()) {
		t.Error("a renewal is refused")
	}
	if !l.admit("other", "1", prefix(0, 0).Masked()) {
		t.Error("another key is full as well")
	}
	*now = now.Add(time.Hour + time.Second)
	if !l.admit("key", "late", prefix(0, 0).Masked()) || len(l.keys["key"]) != 1 || l.size != 2 {
		t.Errorf("after all have expired: %d of the key, %d of all", len(l.keys["key"]), l.size)
	}
}

func TestLedgerIsBounded(t *testing.T) {
	l, now := newTestLedger()
	for i := range maxProviders + 100 {
		l.admit(fmt.Sprint("key", i), "id", prefix(i/(maxProviders/16), 0).Masked())
	}
	if l.size != maxProviders || len(l.keys) != maxProviders {
		t.Errorf("%d entries of %d keys", l.size, len(l.keys))
	}
	*now = now.Add(time.Hour + time.Second)
	if !l.admit("new", "id", prefix(0, 0).Masked()) || l.size != 1 || len(l.keys) != 1 || len(l.networks) != 1 {
		t.Errorf("after all have expired: %d entries of %d keys, %d networks", l.size, len(l.keys), len(l.networks))
	}
}

// TestLedgerKeepsRoom: keys are as free as IDs, and yet one network does not keep
// the others out.
func TestLedgerKeepsRoom(t *testing.T) {
	l, now := newTestLedger()
	for i := range 2 * maxProviders {
		l.admit(fmt.Sprint("key", i), peer.ID(fmt.Sprint(i)), prefix(0, 0).Masked())
	}
	if l.size != maxNetworkEntries || len(l.keys) != maxNetworkEntries {
		t.Errorf("one network has %d entries of %d keys", l.size, len(l.keys))
	}
	if !l.admit("key", "honest", prefix(1, 0).Masked()) {
		t.Error("another network is kept out")
	}
	if !l.admit("key0", "0", prefix(1, 0).Masked()) || l.networks[prefix(0, 0).Masked()] != maxNetworkEntries-1 || l.networks[prefix(1, 0).Masked()] != 2 {
		t.Errorf("after a node has moved: %v", l.networks)
	}
	// What has expired makes room, but is not looked for each time.
	*now = now.Add(time.Hour - time.Second)
	l.admit("again", "1", prefix(0, 0).Masked())
	if l.admit("more", "1", prefix(0, 0).Masked()) {
		t.Error("there is room for more")
	}
	*now = now.Add(2 * time.Second)
	if l.admit("more", "1", prefix(0, 0).Masked()) {
		t.Error("it looked again at once")
	}
	*now = now.Add(forgetEvery)
	if !l.admit("more", "1", prefix(0, 0).Masked()) {
		t.Error("what has expired makes no room")
	}
}

// caller is a stream of a peer at an address, and its connection.
type caller struct {
	network.Stream
	conn
}

type conn struct {
	network.Conn
	id peer.ID
	at string
}

func (c caller) Conn() network.Conn          { return c.conn }
func (c conn) RemotePeer() peer.ID           { return c.id }
func (c conn) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast(c.at) }

func TestLedgerLooks(t *testing.T) {
	l, _ := newTestLedger()
	said := func(id string, addrs ...string) *pb.Message_Peer {
		p := &pb.Message_Peer{Id: []byte(id)}
		for _, a := range addrs {
			p.Addrs = append(p.Addrs, ma.StringCast(a).Bytes())
		}
		return p
	}
	good, bad := "/ip4/8.8.8.8/tcp/4001", "/ip4/8.8.8.8/tcp/1"
	from := caller{conn: conn{id: "me", at: good}}
	for name, c := range map[string]struct {
		peers []*pb.Message_Peer
		addrs int // that are left
	}{
		"itself":                 {[]*pb.Message_Peer{said("me", good)}, 1},
		"itself, among others":   {[]*pb.Message_Peer{said("you", good), said("me", good), said("me", good, good)}, 1},
		"somebody else":          {[]*pb.Message_Peer{said("you", good)}, 0},
		"nobody":                 {nil, 0},
		"without address":        {[]*pb.Message_Peer{said("me")}, 0},
		"with wrong addresses":   {[]*pb.Message_Peer{said("me", bad, bad)}, 0},
		"with some addresses":    {[]*pb.Message_Peer{said("me", bad, good, bad, good)}, 2},
		"with no address at all": {[]*pb.Message_Peer{{Id: []byte("me"), Addrs: [][]byte{{0xff, 0xff}}}}, 0},
		"with many addresses":    {[]*pb.Message_Peer{said("me", good, good, good, good, good, good, good, good, good, good)}, maxProviderAddrs},
	} {
		req := &pb.Message{Type: pb.Message_ADD_PROVIDER, Key: []byte(name), ProviderPeers: c.peers}
		l.look(t.Context(), from, req)
		left := 0
		for _, p := range req.ProviderPeers {
			if string(p.Id) != "me" {
				t.Errorf("%s: %q passes", name, p.Id)
			}
			left += len(p.Addrs)
		}
		if left != c.addrs {
			t.Errorf("%s: %d addresses are left, want %d", name, left, c.addrs)
		}
	}
	for i := range 2 * maxNetworkProviders {
		id := fmt.Sprint(i)
		req := &pb.Message{Type: pb.Message_ADD_PROVIDER, Key: []byte("crowd"), ProviderPeers: []*pb.Message_Peer{said(id, good)}}
		l.look(t.Context(), caller{conn: conn{id: peer.ID(id), at: good}}, req)
		if admitted := len(req.ProviderPeers) == 1; admitted != (i < maxNetworkProviders) {
			t.Errorf("announcement %d of one network: %t", i, admitted)
		}
	}
	other := &pb.Message{Type: pb.Message_GET_PROVIDERS, ProviderPeers: []*pb.Message_Peer{said("you", bad)}}
	if l.look(t.Context(), from, other); len(other.ProviderPeers) != 1 {
		t.Error("another kind of request was changed")
	}
}
