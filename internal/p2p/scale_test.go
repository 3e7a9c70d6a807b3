package p2p

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/manifest"
)

// searchBudget is what a boot gives the whole search (boot.SearchBudget).
const searchBudget = 30 * time.Second

// In networks of 3, 50 and 300 nodes a client that knows three of them finds the
// newest pointer, and the publisher knows exactly who stores it.
func TestScale(t *testing.T) {
	for _, size := range []int{3, 50, 300} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := newTown(t, size)
			old, newest := discovertest.Pointer(t, stable, 1), discovertest.Pointer(t, stable, 2)
			for _, pointer := range [][]byte{old, newest} {
				begin := time.Now()
				done, err := w.nodes[size/2].Publish(t.Context(), pointer)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("published in %v, held by %d", time.Since(begin).Round(time.Millisecond), len(done.AcknowledgedBy))
				w.checkAcknowledged(t, done, pointer)
			}
			for range 5 {
				found, first, whole := finds(t, visitor(t, w.some(3)...), newest)
				t.Logf("found after %v, search ended after %v", first.Round(time.Millisecond), whole.Round(time.Millisecond))
				if !found || whole > searchBudget {
					t.Errorf("found: %t, after %v", found, whole)
				}
			}
		})
	}
}

// checkAcknowledged compares a publisher's account with what the nodes store.
func (w *town) checkAcknowledged(t testing.TB, done Published, pointer []byte) {
	t.Helper()
	holders := w.holders(t, pointer)
	for _, id := range done.AcknowledgedBy {
		if !holders[id] {
			t.Errorf("acknowledged by %s, which does not hold it", id)
		}
	}
	if len(done.AcknowledgedBy) != len(holders) {
		t.Errorf("acknowledged by %d, held by %d", len(done.AcknowledgedBy), len(holders))
	}
}

// With 40 of 50 nodes holding yesterday's record, whoever they are, each of 30
// clients finds the newest.
func TestStaleMajority(t *testing.T) {
	old, newest := discovertest.Pointer(t, stable, 10), discovertest.Pointer(t, stable, 11)
	missed := 0
	for try := range 3 { // each time other nodes are up to date
		w := newTown(t, 0)
		w.random = rand.New(rand.NewPCG(2, uint64(try)))
		w.settle(t, 50)
		w.acquaint(t, w.nodes)
		for i, n := range w.some(len(w.nodes)) {
			if i < 10 {
				plant(t, n, stable, newest)
			} else {
				plant(t, n, stable, old)
			}
		}
		missed += w.missed(t, 10, newest, func() []*Node { return w.some(3) })
	}
	if missed > 0 {
		t.Errorf("%d of 30 searches missed the newest", missed)
	}
}

// Twenty-four mined nodes sit around the key, in everybody's routing table before
// anybody honest is, and hide what is stored there. It is found at its other
// places, also by clients that know one peer only.
func TestSybils(t *testing.T) {
	forged := func(i int) []byte { return discovertest.Pointer(t, stable, int64(1000+i)) }
	old := discovertest.Pointer(t, stable, 1)
	keys := mined(t, stable.Key(), 24, 9)
	for name, value := range map[string]func(int) []byte{
		"withhold": func(int) []byte { return nil },
		"stale":    func(int) []byte { return old },
		"forge":    forged,
	} {
		t.Run(name, func(t *testing.T) {
			w := besieged(t, gang(t, keys, value))
			pointer := discovertest.Pointer(t, stable, 2)
			done, err := w.nodes[0].Publish(t.Context(), pointer)
			if err != nil {
				t.Fatal(err)
			}
			w.checkAcknowledged(t, done, pointer)
			for _, known := range []int{1, 3} {
				if missed := w.missed(t, 5, pointer, func() []*Node { return w.some(known) }); missed > 0 {
					t.Errorf("%d of 5 clients that know %d peers missed the record", missed, known)
				}
			}
		})
	}
}

// Whoever mines 24 nodes for each place hides the record from clients that know
// arbitrary peers. Peers that the publisher starts from as well, as those that
// images carry, hold it nevertheless, and one of them is enough.
func TestSybilsEverywhere(t *testing.T) {
	var keys []ed25519.PrivateKey
	for i := range places {
		keys = append(keys, mined(t, placeOf(stable.Key(), i), 24, 9)...)
	}
	w := besieged(t, gang(t, keys, func(int) []byte { return nil }))
	pointer := discovertest.Pointer(t, stable, 2)
	common := w.nodes[:3]
	publisher := visitor(t, common...)
	done, err := publisher.Publish(t.Context(), pointer)
	if err != nil {
		t.Fatal(err)
	}
	w.checkAcknowledged(t, done, pointer)
	const tries = 6
	for _, known := range []int{1, 3} {
		missed := w.missed(t, tries, pointer, func() []*Node { return w.some(known) })
		t.Logf("knowing %d peers, any: %d of %d clients missed the record, which %d nodes hold", known, missed, tries, len(done.AcknowledgedBy))
		missed = w.missed(t, tries/2, pointer, func() []*Node { return append(w.some(known-1), common[1]) })
		if missed > 0 {
			t.Errorf("knowing %d peers, one of them the publisher's: %d of %d clients missed the record", known, missed, tries/2)
		}
	}
}

// besieged is a town of 50 in which the attackers came first and took their
// corner of every routing table.
func besieged(t testing.TB, attackers []*Node) *town {
	t.Helper()
	w := newTown(t, 0)
	w.settle(t, 50)
	w.acquaint(t, attackers)
	w.acquaint(t, w.nodes)
	return w
}

// missed is how many of so many clients do not find value.
func (w *town) missed(t testing.TB, tries int, value []byte, through func() []*Node) (missed int) {
	t.Helper()
	for range tries {
		c := visitor(t, through()...)
		if found, _, _ := finds(t, c, value); !found {
			missed++
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	return missed
}

// Nodes leave, the publisher first; the rest, who know nothing of that, still
// lead to the record. One of those that hold it renews it for newcomers.
func TestChurn(t *testing.T) {
	root := timestampRoot(t, 1, discovertest.Key())
	w := newTown(t, 50)
	for _, n := range w.nodes {
		n.SetRoot(root)
	}
	pointer := discovertest.Pointer(t, stable, 2)
	if _, err := w.nodes[0].Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	leaving, staying := w.nodes[:25], w.nodes[25:]
	for _, n := range leaving {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.nodes = staying
	for range 3 {
		if found, _, whole := finds(t, visitor(t, w.some(3)...), pointer); !found || whole > searchBudget {
			t.Errorf("found: %t, after %v", found, whole)
		}
	}
	w.settle(t, 10)
	newcomers := w.nodes[25:]
	w.acquaint(t, w.nodes)
	for _, n := range newcomers {
		n.SetRoot(root)
	}
	for _, n := range staying {
		if bytes.Equal(n.local(t.Context(), stable.Key()), pointer) {
			n.renewHeld(t.Context())
			break
		}
	}
	given := 0
	for _, n := range newcomers {
		if bytes.Equal(n.local(t.Context(), stable.Key()), pointer) {
			given++
		}
	}
	if given < len(newcomers)/2 {
		t.Errorf("%d of %d newcomers were given the record", given, len(newcomers))
	}
}

// A node renews only what it can verify, and takes over what is newer.
func TestRenewHeld(t *testing.T) {
	root := timestampRoot(t, 1, discovertest.Key())
	old, newest := discovertest.Pointer(t, stable, 1), discovertest.Pointer(t, stable, 2)
	a, b, c := server(t), server(t), server(t)
	holder := server(t, addr(t, a), addr(t, b), addr(t, c))
	plant(t, holder, stable, old)
	plant(t, b, stable, newest)
	p, err := manifest.InspectPointer(newest)
	if err != nil {
		t.Fatal(err)
	}
	p.ManifestVersion = 1 << 40
	forged, err := manifest.SignPointer(p, key(9))
	if err != nil {
		t.Fatal(err)
	}
	plant(t, c, stable, forged)
	holder.renewHeld(t.Context())
	if a.local(t.Context(), stable.Key()) != nil {
		t.Error("a node without a root renewed a record")
	}
	holder.SetRoot(root)
	holder.renewHeld(t.Context())
	for _, n := range []*Node{holder, a, b} {
		if held := n.local(t.Context(), stable.Key()); !bytes.Equal(held, newest) {
			t.Errorf("%s does not hold the newest: %.60q", n.ID(), held)
		}
	}
	if p := holder.Publications(); len(p) != 0 {
		t.Errorf("what others published became its own: %+v", p)
	}
}

// A network that was cut in two: one half heard of the newest record, and while
// the cut lasts, who asks in the other gets the older one. Nodes of that half keep
// trying to reach their bootstrap peer in the first; when that succeeds again, the
// record comes over.
func TestPartitionHeals(t *testing.T) {
	here, there := newTown(t, 10), newTown(t, 0)
	there.started = 100
	there.settle(t, 9)
	old, newest := discovertest.Pointer(t, stable, 1), discovertest.Pointer(t, stable, 2)
	cut := newCable(t, here.nodes[0])
	border := start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Bootstrap: []string{cut.addr}, Log: discard})
	there.nodes = append(there.nodes, border)
	there.acquaint(t, there.nodes)
	for _, n := range append(slices.Clone(here.nodes), there.nodes...) {
		plant(t, n, stable, old)
	}
	publisher := here.nodes[0]
	publisher.gather = 100 * time.Millisecond
	if _, err := publisher.Publish(t.Context(), newest); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, n := range []*Node{publisher, border} {
		go func() { ended <- n.Run(ctx) }()
	}
	ask := func() bool {
		found, _, _ := finds(t, visitor(t, there.some(3)...), newest)
		return found
	}
	if ask() {
		t.Error("found across the cut")
	}
	cut.mend()
	for deadline := time.Now().Add(searchBudget); len(there.holders(t, newest)) < len(there.nodes)/2; {
		if time.Now().After(deadline) {
			t.Fatalf("after mending, %d of %d nodes hold the newest", len(there.holders(t, newest)), len(there.nodes))
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !ask() {
		t.Error("not found after mending")
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A cable leads to a node, and starts out cut: what comes in is hung up.
type cable struct {
	addr  string
	whole atomic.Bool
}

func newCable(t testing.TB, to *Node) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	host, err := manet.ToNetAddr(to.server.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{addr: fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", l.Addr().(*net.TCPAddr).Port, to.ID())}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(in, host.String())
		}
	}()
	return c
}

func (c *cable) mend() { c.whole.Store(true) }

func (c *cable) carry(in net.Conn, to string) {
	defer in.Close()
	if !c.whole.Load() {
		return
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		defer out.Close()
		_, _ = io.Copy(out, in)
	}()
	_, _ = io.Copy(in, out)
}

// A crowd that answers at once and lies, a thousand of them, neither hides the
// record of a bootstrap peer nor makes the search long.
func TestThousandLiars(t *testing.T) {
	honest := server(t)
	pointer := discovertest.Pointer(t, stable, 6)
	if _, err := honest.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	crowd := liars(t, 1000, func(i int) []byte { return discovertest.Pointer(t, stable, int64(1000+i)) })
	c := visitor(t, crowd[0], crowd[1], honest)
	begin, got, real := time.Now(), 0, false
	err := c.Search(t.Context(), stable, func(c discover.Candidate) {
		got++
		real = real || bytes.Equal(c.Pointer, pointer)
	})
	whole := time.Since(begin)
	t.Logf("%d candidates, search ended after %v", got, whole.Round(time.Millisecond))
	if err != nil || !real || got > maxStrangers+3 || whole > searchBudget {
		t.Errorf("found: %t among %d, error %v, after %v", real, got, err, whole)
	}
}

// Peers who all withhold are an answer, "nothing found", and what a mirror beside
// them has is used.
func TestAllWithhold(t *testing.T) {
	crowd := liars(t, 50, func(int) []byte { return nil })
	c := visitor(t, crowd[0], crowd[1], crowd[2])
	pointer := discovertest.Pointer(t, stable, 6)
	mirror := discover.HTTP{Base: "http://mirror.test", Get: func(context.Context, string, int64) ([]byte, error) { return pointer, nil }}
	var got []discover.Candidate
	answers := discover.Search(t.Context(), stable, searchBudget, []discover.Source{c, mirror}, func(c discover.Candidate) { got = append(got, c) })
	if len(got) != 1 || got[0].Source != mirror.Name() || !bytes.Equal(got[0].Pointer, pointer) {
		t.Errorf("found %+v", got)
	}
	for _, a := range answers {
		t.Logf("%s: %d candidates after %v, error %v", a.Source, a.Candidates, a.Took.Round(time.Millisecond), a.Err)
		if a.Err != nil || a.Took > searchBudget {
			t.Errorf("%s: %v after %v", a.Source, a.Err, a.Took)
		}
	}
}

// All serve yesterday's record: it is found, for there is nothing better.
func TestAllServeYesterday(t *testing.T) {
	old := discovertest.Pointer(t, stable, 1)
	crowd := liars(t, 50, func(int) []byte { return old })
	got, err := search(t, visitor(t, crowd[0], crowd[1], crowd[2]), stable)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Pointer, old) {
		t.Errorf("found %d, error %v", len(got), err)
	}
}
