package dhtserver

import (
	"context"
	"errors"
	"testing"

	ds "github.com/ipfs/go-datastore"
)

func TestBoundedStore(t *testing.T) {
	ctx := context.Background()
	s := newBoundedStore(2)
	a, b, c := ds.NewKey("a"), ds.NewKey("b"), ds.NewKey("c")
	for _, k := range []ds.Key{a, b, a} { // renewing is no new key
		if err := s.Put(ctx, k, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(ctx, c, nil); !errors.Is(err, errFull) {
		t.Errorf("third key: %v", err)
	}
	batch, err := s.Batch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(batch.Put(ctx, c, []byte("1")), batch.Delete(ctx, a), batch.Put(ctx, c, []byte("2")), batch.Commit(ctx)); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(ctx, c); err != nil || string(v) != "2" {
		t.Errorf("got %q, error %v", v, err)
	}
	if has, err := s.Has(ctx, a); has || err != nil {
		t.Errorf("deleted key is there: %v, error %v", has, err)
	}
}
