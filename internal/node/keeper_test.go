package node

import (
	"bytes"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/store"
)

func TestKeeperCountsByOwner(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k := &Keeper{Store: s, Share: 100}
	bring := func(who string, fill byte, size int) blob.Digest {
		t.Helper()
		data := bytes.Repeat([]byte{fill}, size)
		d := blob.Of(data)
		if err := k.PutFor(who, d, int64(size), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	here := func(what string, want bool, d blob.Digest) {
		t.Helper()
		if k.Has(d) != want {
			t.Errorf("%s: here is %v, want %v", what, !want, want)
		}
	}
	own := bytes.Repeat([]byte{'b'}, 60) // of the node itself
	if err := s.Put(blob.Of(own), 60, bytes.NewReader(own)); err != nil {
		t.Fatal(err)
	}
	bring("guest", 'b', 60)
	bring("guest", 'g', 60)
	k.Claim("guest", blob.Of(own))
	bring("guest", 'g', 60)
	here("what nobody has brought", true, blob.Of(own))
	others := bring("other", 'o', 65)
	first := bring("me", '1', 40)
	shared := bring("me", 's', 30)
	k.Claim("other", others)
	k.Claim("other", blob.Of([]byte("not here")))
	k.Claim("other", shared) // 95 of theirs, which a claim without bytes must not hide
	second := bring("me", '2', 30)
	here("within the share", true, first)
	third := bring("me", '3', 30)
	here("the oldest", false, first)
	here("what another claims", true, others)
	here("second", true, second)
	fourth := bring("me", '4', 35)
	here("shared with another", true, shared)
	here("second", true, second)
	bring("me", '3', 30) // again: it is the newest now
	fifth := bring("me", '5', 40)
	here("second", false, second)
	here("fourth", false, fourth)
	here("third, brought again", true, third)
	here("fifth", true, fifth)
	here("others", true, others)
	large := bring("me", 'L', 101)
	here("one that is larger than the share", true, large)
	here("all others of theirs", false, fifth)
	bring("other", 'n', 95)
	here("shared, which nobody claims any more", false, shared)
	if err := k.PutFor("me", blob.Of([]byte("x")), 1, bytes.NewReader([]byte("y"))); err == nil || !k.Has(large) {
		t.Errorf("other bytes: %v", err)
	}
}
