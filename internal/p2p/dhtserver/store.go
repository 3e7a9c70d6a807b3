package dhtserver

import (
	"context"
	"encoding/base32"
	"errors"
	"net/netip"
	"slices"
	"sync"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
)

// What a server keeps for others. There is one record per channel, architecture and
// publisher's key. Keys are free, so that where all places are taken, who has fewest
// records gets one of who has most, a network counting as one (admit).
const (
	maxRecords   = 1024
	maxProviders = 4096
)

// errFull refuses a new key; renewals of stored ones still succeed.
var errFull = errors.New("record store is full")

// boundedStore is an in-memory datastore with a limit on its keys: kad-dht has
// none, and strangers choose the keys.
type boundedStore struct {
	ds.Batching
	max int

	mu   sync.Mutex
	keys map[ds.Key]netip.Prefix // from where; the zero Prefix is this node itself, or not known
	next map[string]netip.Prefix // from where the record under a key will be that was let in
}

func newBoundedStore(max int) *boundedStore {
	return &boundedStore{
		Batching: dssync.MutexWrap(ds.NewMapDatastore()),
		max:      max,
		keys:     map[ds.Key]netip.Prefix{},
		next:     map[string]netip.Prefix{},
	}
}

// maxNext bounds what was let in and is not there yet.
const maxNext = 64

// admit makes room for a record that a network brings under key, and reports whether
// there is any. Renewals are always admitted.
func (b *boundedStore) admit(ctx context.Context, key string, from netip.Prefix) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := map[netip.Prefix]int{}
	for k, network := range b.keys {
		if recordKey(k) == key {
			return true
		}
		counts[network]++
	}
	if len(b.keys) >= b.max && !b.evict(ctx, counts, from) {
		return false
	}
	if len(b.next) >= maxNext {
		clear(b.next)
	}
	b.next[key] = from
	return true
}

// look is called with each request before it is handled. A record for which there is no
// room is taken out of it, and who sent it learns that.
func (b *boundedStore) look(ctx context.Context, rules record.Validator, from netip.Prefix, req *pb.Message) {
	if req.GetType() != pb.Message_PUT_VALUE {
		return
	}
	key := string(req.GetKey())
	if rules.Validate(key, req.GetRecord().GetValue()) == nil && !b.admit(ctx, key, from) {
		req.Record = nil
	}
}

// evict removes a record of the network that has most, for one that has fewer.
func (b *boundedStore) evict(ctx context.Context, counts map[netip.Prefix]int, newcomer netip.Prefix) bool {
	var victim ds.Key
	most := counts[newcomer] + 1 // what it will have
	for k, network := range b.keys {
		if network.IsValid() && counts[network] > most {
			victim, most = k, counts[network]
		}
	}
	if victim == (ds.Key{}) || b.Batching.Delete(ctx, victim) != nil {
		return false
	}
	delete(b.keys, victim)
	return true
}

// recordKey is the DHT key of a record that kad-dht keeps as "/<namespace>/" and the key
// in base 32; empty for anything else.
func recordKey(k ds.Key) string {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(k.BaseNamespace())
	if err != nil {
		return ""
	}
	return string(key)
}

// records are the keys of the DHT records that kad-dht keeps here.
func (b *boundedStore) records() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for k := range b.keys {
		if key := recordKey(k); key != "" {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

func (b *boundedStore) Put(ctx context.Context, key ds.Key, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	network, renewal := b.keys[key]
	if !renewal {
		if len(b.keys) >= b.max {
			return errFull
		}
		network = b.next[recordKey(key)]
		delete(b.next, recordKey(key))
	}
	if err := b.Batching.Put(ctx, key, value); err != nil {
		return err
	}
	b.keys[key] = network
	return nil
}

func (b *boundedStore) Delete(ctx context.Context, key ds.Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.Batching.Delete(ctx, key); err != nil {
		return err
	}
	delete(b.keys, key)
	return nil
}

// Batch collects writes that go through Put and Delete on commit. A batch that
// meets the limit keeps what fitted.
func (b *boundedStore) Batch(context.Context) (ds.Batch, error) {
	return &batch{store: b}, nil
}

type batch struct {
	store *boundedStore
	ops   []func(context.Context) error
}

func (b *batch) Put(_ context.Context, key ds.Key, value []byte) error {
	b.ops = append(b.ops, func(ctx context.Context) error { return b.store.Put(ctx, key, value) })
	return nil
}

func (b *batch) Delete(_ context.Context, key ds.Key) error {
	b.ops = append(b.ops, func(ctx context.Context) error { return b.store.Delete(ctx, key) })
	return nil
}

func (b *batch) Commit(ctx context.Context) error {
	for _, op := range b.ops {
		// Refused newcomers are dropped for good: reporting them would make the
		// provider manager keep and retry the whole batch.
		if err := op(ctx); err != nil && !errors.Is(err, errFull) {
			return err
		}
	}
	return nil
}
