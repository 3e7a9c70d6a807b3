package mdns

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
)

// base is a source that is no more than its name.
type base string

func (b base) String() string                                  { return string(b) }
func (base) Read(context.Context, fetch.Part, io.Writer) error { return fetch.ErrAbsent }

// village is a local network that says what a test wants.
type village struct {
	t      *testing.T
	finder *Finder
	hears  chan announced
	began  chan struct{} // one for each browsing that began
	ended  chan struct{} // one for each that ended
}

func newVillage(t *testing.T, outcome error) *village {
	v := &village{t: t, hears: make(chan announced), began: make(chan struct{}, 8), ended: make(chan struct{}, 8)}
	v.finder = NewFinder(discover.Query{Channel: "stable", Arch: "x86_64"}, func(b string) fetch.Source { return base(b) })
	v.finder.browse = func(ctx context.Context, hear func(announced)) error {
		v.began <- struct{}{}
		defer func() { v.ended <- struct{}{} }()
		for {
			select {
			case a := <-v.hears:
				hear(a)
			case <-ctx.Done():
				return outcome
			}
		}
	}
	return v
}

// find runs Find until end is called, which returns its error.
func (v *village) find() (got <-chan string, end func() error) {
	ctx, cancel := context.WithCancel(v.t.Context())
	found, done := make(chan string, 2*maxBases), make(chan error, 1)
	go func() {
		done <- v.finder.Find(ctx, blob.Of(nil), func(s fetch.Source) { found <- s.String() })
	}()
	return found, func() error { cancel(); return <-done }
}

// say announces a provider on these addresses.
func (v *village) say(channel string, addrs ...string) {
	a := announced{from: netip.MustParseAddr(addrs[0]), port: 8080, text: []string{"channel=" + channel, "arch=x86_64"}}
	for _, addr := range addrs {
		a.addrs = append(a.addrs, netip.MustParseAddr(addr))
	}
	v.hears <- a
}

func await[T any](t *testing.T, what string, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("no ", what)
	}
	return got
}

// A neighbour that appears while a transfer runs is found by it, and by the next
// one, which shares the browsing; the last one ends it.
func TestFinderHearsLate(t *testing.T) {
	v := newVillage(t, nil)
	first, endFirst := v.find()
	await(t, "browsing", v.began)
	v.say("testing", "192.0.2.6") // serves something else
	v.say("stable", "192.0.2.7")
	if got := await(t, "neighbour", first); got != "http://192.0.2.7:8080" {
		t.Error(got)
	}
	second, endSecond := v.find()
	if got := await(t, "neighbour heard before", second); got != "http://192.0.2.7:8080" {
		t.Error(got)
	}
	v.say("stable", "192.0.2.8", "192.0.2.7")
	for _, c := range []<-chan string{first, second} {
		if got := await(t, "late neighbour", c); got != "http://192.0.2.8:8080" {
			t.Error(got)
		}
	}
	if err := endFirst(); err != nil {
		t.Error(err)
	}
	v.say("stable", "192.0.2.9")
	if got := await(t, "neighbour for who is left", second); got != "http://192.0.2.9:8080" {
		t.Error(got)
	}
	if err := endSecond(); err != nil {
		t.Error(err)
	}
	await(t, "end of the browsing", v.ended)
	third, endThird := v.find()
	await(t, "another browsing", v.began)
	v.say("stable", "192.0.2.9")
	await(t, "neighbour, heard again", third)
	if err := endThird(); err != nil || len(v.began) != 0 {
		t.Error(err, len(v.began))
	}
}

// A crowd on the network costs a bounded number of sources.
func TestFinderBounds(t *testing.T) {
	v := newVillage(t, nil)
	found, end := v.find()
	for i := range 3 * maxBases {
		v.say("stable", netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}).String())
	}
	for range maxBases {
		await(t, "source", found)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if len(found) > 0 {
		t.Errorf("%d sources too many", len(found))
	}
}

// Where nobody can listen, Find says so at once and to each transfer.
func TestFinderFails(t *testing.T) {
	f := NewFinder(discover.Query{Channel: "stable", Arch: "x86_64"}, func(b string) fetch.Source { return base(b) })
	f.browse = func(context.Context, func(announced)) error { return ErrNoLink }
	var finding sync.WaitGroup
	for range 4 {
		finding.Go(func() {
			if err := f.Find(t.Context(), blob.Of(nil), func(fetch.Source) {}); !errors.Is(err, ErrNoLink) {
				t.Error(err)
			}
		})
	}
	finding.Wait()
	f = NewFinder(discover.Query{Channel: "../x", Arch: "x86_64"}, nil)
	if err := f.Find(t.Context(), blob.Of(nil), nil); err == nil {
		t.Error("a query that is none")
	}
}
