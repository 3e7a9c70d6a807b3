// Package dhtserver is the half of a DHT node that answers others: kad-dht as a
// server, on a libp2p host with identify, with bounds that neither has by itself,
// and what lends blobs over streams. It is for programs that stay: kad-dht and the
// host are half of a node's size and of its memory, and who only asks does without.
//
// Nobody who asks is trusted. Records pass the node's validator, keys and
// providers are limited in number, requests in length, connections by libp2p's
// managers; what is lent is limited in streams, and each in bytes and time.
package dhtserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	connmanager "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"

	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/blobwire"
)

const (
	// recordLife is how long a record is kept that nobody renews.
	recordLife = 48 * time.Hour
	// providerLife bounds how long it is believed after its last announcement that
	// a node has a capability, or a blob.
	providerLife = p2p.HoldLife

	// Idle connections are pruned down to lowWater when there are highWater.
	lowWater, highWater = 160, 320
)

// server implements p2p.Server. Its other methods are those of kad-dht.
type server struct {
	*dht.IpfsDHT
	host   host.Host           // without kad-dht's guard
	store  *boundedStore       // the records kad-dht stores
	values *records.ValueStore // the same, by key

	validator record.Validator
}

// New makes a node answer, and store what others publish. It is for
// p2p.Config.Server.
func New(half p2p.Half) (p2p.Server, error) {
	manager, err := connmanager.NewConnManager(lowWater, highWater, connmanager.WithGracePeriod(20*time.Second))
	if err != nil {
		return nil, fmt.Errorf("p2p: connection manager: %w", err)
	}
	h, err := basichost.NewHost(half.Swarm, &basichost.HostOpts{EventBus: half.Bus, UserAgent: "phase", ConnManager: manager})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("p2p: host: %w", err), manager.Close())
	}
	h.Start()
	h.SetStreamHandler(blobwire.Protocol, newLending(half.Offer, half.Log).handle)
	store := newBoundedStore(maxRecords)
	namespaces := record.NamespacedValidator{half.Namespace: half.Validator}
	ledger := newLedger(half, providerLife)
	d, err := dht.New(guardedHost{h},
		// Forced: reachability cannot be measured in a small private network,
		// and a node in client mode refuses to serve.
		dht.Mode(dht.ModeServer),
		dht.ProtocolPrefix(half.Prefix),
		dht.Validator(namespaces),
		dht.ValueDatastore(store),
		dht.ProviderDatastore(newBoundedStore(maxProviders)),
		dht.ProviderManagerOpts(records.ProvideValidity(providerLife), records.ProviderAddrTTL(providerLife), records.CleanupInterval(providerLife/3)),
		dht.MaxRecordAge(recordLife),
		dht.OnRequestHook(func(ctx context.Context, s network.Stream, req *pb.Message) {
			ledger.look(ctx, s, req)
			store.look(ctx, half.Validator, ledger.network(addressOf(s.Conn())), req)
		}),
		// No address or diversity filter: all nodes of a classroom share one
		// network, often one host's loopback.
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("p2p: start DHT: %w", err), h.Close())
	}
	return &server{d, h, store, records.NewValueStore(store, namespaces, recordLife), half.Validator}, nil
}

func (s *server) Addrs() []ma.Multiaddr { return s.Host().Addrs() }

func (s *server) Nearest(place []byte, count int) []peer.ID {
	return s.RoutingTable().NearestPeers(place, count)
}

func (s *server) Records() []string { return s.store.records() }

func (s *server) Record(ctx context.Context, key string) ([]byte, error) {
	rec, err := s.values.Get(ctx, key)
	return rec.GetValue(), err
}

func (s *server) Store(ctx context.Context, key string, value []byte) error {
	if s.validator.Validate(key, value) == nil {
		s.store.admit(ctx, key, netip.Prefix{}) // whatever strangers have brought
	}
	return s.values.Put(ctx, key, record.MakePutRecord(key, value))
}

func (s *server) Provides(ctx context.Context, hash multihash.Multihash) error {
	return s.Provide(ctx, cid.NewCidV1(cid.Raw, hash), false)
}

func (s *server) Providers(ctx context.Context, hash multihash.Multihash) ([]peer.AddrInfo, error) {
	return s.ProviderStore().GetProviders(ctx, hash)
}

// streamWorth is what an open stream adds to the worth of a connection, when idle
// ones are pruned.
const streamWorth = 10

func (s *server) Handle(id protocol.ID, answer func(network.Stream)) {
	worth := func(p peer.ID, more int) {
		s.host.ConnManager().UpsertTag(p, string(id), func(old int) int { return old + more })
	}
	s.host.SetStreamHandler(id, func(st network.Stream) {
		from := st.Conn().RemotePeer()
		worth(from, streamWorth)
		defer worth(from, -streamWorth)
		answer(st)
	})
}

func (s *server) Close() error { return errors.Join(s.IpfsDHT.Close(), s.Host().Close()) }
