package dhtserver

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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

// Where all places are taken, who brings few records gets one of who has brought most.
func TestStoreIsShared(t *testing.T) {
	ctx := context.Background()
	s := newBoundedStore(8)
	put := func(key string, from netip.Prefix) bool {
		if !s.admit(ctx, key, from) {
			return false
		}
		name := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte(key))
		return s.Put(ctx, ds.NewKey("/phase/"+name), []byte(key)) == nil
	}
	held := func(key string) bool { return slices.Contains(s.records(), key) }
	own, crowd, lone := netip.Prefix{}, netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")
	put("own", own)
	for i := range 20 {
		if ok := put(fmt.Sprint("crowd", i), crowd); ok != (i < 7) {
			t.Errorf("crowd's record %d: %v", i, ok)
		}
	}
	for i := range 10 {
		if ok := put(fmt.Sprint("lone", i), lone); ok != (i < 3) {
			t.Errorf("lone record %d: %v", i, ok)
		}
	}
	if !held("own") || !held("lone0") || !held("lone2") || len(s.records()) != 8 {
		t.Errorf("it holds %q", s.records())
	}
	if !put("own too", own) || !held("own too") || !held("own") || len(s.records()) != 8 {
		t.Errorf("with another of its own it holds %q", s.records())
	}
	if !put("lone0", crowd) || !put("own", crowd) {
		t.Error("a renewal is refused")
	}
	for i := range maxNext + 10 { // let in, and never there
		s.admit(ctx, fmt.Sprint("ghost", i), netip.MustParsePrefix("203.0.113.0/24"))
	}
	if len(s.next) > maxNext {
		t.Errorf("%d are awaited", len(s.next))
	}
}
