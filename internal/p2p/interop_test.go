package p2p

import (
	"bytes"
	"testing"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"

	"github.com/phasebased/phase/internal/discover/discovertest"
)

// stock is kad-dht as it comes, told nothing but its network, on libp2p's host and
// upgrader.
func stock(t *testing.T, mode dht.ModeOpt) *dht.IpfsDHT {
	t.Helper()
	h, err := basichost.NewHost(plainSwarm(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Start()
	t.Cleanup(func() { _ = h.Close() })
	d, err := dht.New(h, dht.Mode(mode), dht.ProtocolPrefix(prefix),
		dht.Validator(record.NamespacedValidator{"phase": validator{now: time.Now}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func at(h host.Host) string { return h.Addrs()[0].String() + "/p2p/" + h.ID().String() }

// A seed publishes to servers that are kad-dht alone, and finds the record there.
func TestStockServers(t *testing.T) {
	a, b := stock(t, dht.ModeServer), stock(t, dht.ModeServer)
	if err := b.Host().Connect(t.Context(), peer.AddrInfo{ID: a.Host().ID(), Addrs: a.Host().Addrs()}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "strangers", func() string {
		if a.RoutingTable().Find(b.Host().ID()) == "" {
			return b.Host().ID().String()
		}
		return ""
	})
	pointer := discovertest.Pointer(t, stable, 3)
	done, err := client(t, at(a.Host())).Publish(t.Context(), pointer)
	if err != nil || len(done.AcknowledgedBy) != 2 {
		t.Fatalf("acknowledged by %v, error %v", done.AcknowledgedBy, err)
	}
	got, err := search(t, client(t, at(b.Host())), stable)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Pointer, pointer) {
		t.Errorf("found %d, error %v", len(got), err)
	}
}

// A client that is kad-dht alone finds on our server what a seed published.
func TestStockClient(t *testing.T) {
	s := server(t)
	pointer := discovertest.Pointer(t, stable, 3)
	if _, err := client(t, addr(t, s)).Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	c := stock(t, dht.ModeClient)
	if err := c.Host().Connect(t.Context(), peer.AddrInfo{ID: s.swarm.LocalPeer(), Addrs: s.server.Addrs()}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "servers unknown to the client", func() string {
		if c.RoutingTable().Find(s.swarm.LocalPeer()) == "" {
			return s.ID()
		}
		return ""
	})
	value, err := c.GetValue(t.Context(), stable.Key())
	if err != nil || !bytes.Equal(value, pointer) {
		t.Errorf("found %.60q, error %v", value, err)
	}
}
