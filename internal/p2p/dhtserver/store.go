package dhtserver

import (
	"context"
	"encoding/base32"
	"errors"
	"slices"
	"sync"

	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
)

// What a server keeps for others. There is one record per channel and
// architecture, so honest use needs a handful.
const (
	maxRecords   = 64
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
	keys map[ds.Key]struct{}
}

func newBoundedStore(max int) *boundedStore {
	return &boundedStore{
		Batching: dssync.MutexWrap(ds.NewMapDatastore()),
		max:      max,
		keys:     map[ds.Key]struct{}{},
	}
}

// records are the keys of the DHT records that kad-dht keeps here, as
// "/<namespace>/" and the key in base 32.
func (b *boundedStore) records() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for k := range b.keys {
		if key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(k.BaseNamespace()); err == nil {
			out = append(out, string(key))
		}
	}
	slices.Sort(out)
	return out
}

func (b *boundedStore) Put(ctx context.Context, key ds.Key, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.keys[key]; !ok && len(b.keys) >= b.max {
		return errFull
	}
	if err := b.Batching.Put(ctx, key, value); err != nil {
		return err
	}
	b.keys[key] = struct{}{}
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
