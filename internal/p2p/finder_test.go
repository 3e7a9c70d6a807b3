package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
)

// mirror is a source that is no more than its base URL.
type mirror string

func (m mirror) String() string                                  { return string(m) }
func (mirror) Read(context.Context, fetch.Part, io.Writer) error { return fetch.ErrAbsent }

func newMirror(base string) fetch.Source { return mirror(base) }

// finds runs a finder until it has yielded what enough wants, and returns that.
func (f Finder) finds(t testing.TB, d blob.Digest, enough int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	var got []string
	err := f.Find(ctx, d, func(s fetch.Source) {
		mu.Lock()
		defer mu.Unlock()
		if got = append(got, s.String()); len(got) == enough {
			cancel()
		}
	})
	if err != nil {
		t.Errorf("find: %v, with %v", err, got)
	}
	return got
}

// hold makes n announce a blob, and checks who took note.
func hold(t testing.TB, n *Node, d blob.Digest, by ...*Node) {
	t.Helper()
	if err := n.Hold([]blob.Digest{d}); err != nil {
		t.Fatal(err)
	}
	if !n.announceHeld(t.Context(), time.Time{}) {
		t.Fatalf("not announced: %+v", n.Held())
	}
	var want []string
	for _, b := range by {
		want = append(want, b.ID())
	}
	got := slices.Clone(n.Held()[0].AcknowledgedBy)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("acknowledged by %v, want %v", got, want)
	}
}

func TestFinderFinds(t *testing.T) {
	nodes := mesh(t, 3)
	content, silent := random(1000), random(2000)
	d := blob.Of(content)
	lend(t, nodes[2], 8080, content, silent)
	hold(t, nodes[2], d, nodes...)
	if expires := nodes[2].Held()[0].Expires(); time.Until(expires) > time.Hour || time.Until(expires) < 15*time.Minute {
		t.Error(expires)
	}
	c := client(t, addr(t, nodes[0]))
	want := []string{"http://127.0.0.1:8080", "p2p " + nodes[2].ID()}
	if got := (Finder{Node: c, HTTP: newMirror}).finds(t, d, 2); !slices.Equal(got, want) {
		t.Errorf("found %v", got)
	}
	if got := (Finder{Node: c}).finds(t, d, 1); !slices.Equal(got, want[1:]) {
		t.Errorf("without HTTP: %v", got)
	}
	if got := (Finder{Node: nodes[0], HTTP: newMirror}).finds(t, d, 2); !slices.Equal(got, want) {
		t.Errorf("a server found %v", got)
	}
	lend(t, nodes[2], 0, content)
	if got := (Finder{Node: c, HTTP: newMirror}).finds(t, d, 1); !slices.Equal(got, want[1:]) {
		t.Errorf("of who does not speak HTTP: %v", got)
	}
	if err := c.Hold(nil); err == nil {
		t.Error("a node that cannot be dialled announces blobs")
	}
	var unreachable *UnreachableError
	if err := (Finder{Node: client(t)}).Find(t.Context(), d, nil); !errors.As(err, &unreachable) {
		t.Errorf("without anybody to ask: %v", err)
	}
}

// What Hold says, Run announces: at once, and again to nodes that come later.
func TestRunAnnouncesBlobs(t *testing.T) {
	a := server(t)
	a.gather = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	one, two := blob.Of([]byte("1")), blob.Of([]byte("2"))
	acknowledged := func(d blob.Digest, by ...*Node) func() string {
		return func() string {
			for _, h := range a.Held() {
				if h.Blob == d && !h.At.IsZero() && len(h.AcknowledgedBy) == len(by) {
					return ""
				}
			}
			return fmt.Sprintf("%+v", a.Held())
		}
	}
	if err := a.Hold([]blob.Digest{one, one}); err != nil || len(a.Held()) != 1 {
		t.Fatal(err, a.Held())
	}
	waitFor(t, "an announcement to nobody", acknowledged(one, a))
	b := server(t, addr(t, a))
	if connected, failures := b.connect(t.Context()); connected != 1 {
		t.Fatal(failures)
	}
	waitFor(t, "an announcement to the newcomer", acknowledged(one, a, b))
	if err := a.Hold([]blob.Digest{two}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "another announcement", acknowledged(two, a, b))
	if held := a.Held(); len(held) != 1 {
		t.Errorf("%+v", held)
	}
	var many []blob.Digest
	for i := range MaxHeld + 1 {
		many = append(many, blob.Of([]byte{byte(i)}))
	}
	if err := a.Hold(many); err != nil || len(a.Held()) != MaxHeld {
		t.Error(err, len(a.Held()))
	}
}

// recommending is a DHT node that names providers, whoever asks for what.
func recommending(t testing.TB, infos ...peer.AddrInfo) *Node {
	t.Helper()
	return liar(t, answering(func(req *pb.Message) *pb.Message {
		m := pb.NewMessage(req.Type, req.Key, 0)
		for _, p := range infos {
			named := &pb.Message_Peer{Id: []byte(p.ID)}
			for _, a := range p.Addrs {
				named.Addrs = append(named.Addrs, a.Bytes())
			}
			m.ProviderPeers = append(m.ProviderPeers, named)
		}
		return m
	}))
}

func infoOf(n *Node) peer.AddrInfo {
	return peer.AddrInfo{ID: n.swarm.LocalPeer(), Addrs: n.server.Addrs()}
}

// A crowd of providers that are not, or that hold nothing, or that never answer,
// costs a bounded number of questions and hides nobody whom an honest node names.
func TestFinderAmongLiars(t *testing.T) {
	content := random(1000)
	d := blob.Of(content)
	honest := mesh(t, 2)
	lend(t, honest[1], 0, content)
	hold(t, honest[1], d, honest...)

	var asked sync.Map // by address of the connection
	hollow := speaks(t, func(s network.Stream) { asked.Store(s.Conn().ID(), true); _ = s.Reset() })
	crowd := []peer.AddrInfo{infoOf(hollow), infoOf(speaks(t, nil)), infoOf(speaks(t, func(s network.Stream) { _, _ = s.Read(make([]byte, 1)) }))}
	for _, id := range strangerIDs(t, 900) {
		crowd = append(crowd, peer.AddrInfo{ID: id, Addrs: hollow.server.Addrs()}) // somebody else's address
	}
	c := client(t, addr(t, recommending(t, crowd...)), addr(t, recommending(t, crowd...)), addr(t, honest[0]))
	if got := (Finder{Node: c}).finds(t, d, 1); !slices.Equal(got, []string{"p2p " + honest[1].ID()}) {
		t.Errorf("found %v", got)
	}
	s := &finding{finder: Finder{Node: c}, blob: d, slots: make(chan struct{}), tried: map[peer.ID]bool{}, crowd: map[netip.Prefix]int{}, room: maxTried}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		s.take(ended, crowd)
		if len(s.tried) > maxTried {
			t.Fatalf("%d peers are tried", len(s.tried))
		}
	}
	s.asking.Wait()
}

// Of one network few are tried, and addresses that are no machine's, or nearer
// than who named them, are not even looked at.
func TestFinderAddresses(t *testing.T) {
	ids := strangerIDs(t, 32)
	at := func(addrs ...string) []peer.AddrInfo {
		var infos []peer.AddrInfo
		for i, a := range addrs {
			infos = append(infos, peer.AddrInfo{ID: ids[i], Addrs: []ma.Multiaddr{ma.StringCast(a)}})
		}
		return infos
	}
	var neighbours, block []string
	for i := range 8 {
		neighbours = append(neighbours, fmt.Sprintf("/ip4/192.168.0.%d/tcp/1", i+1))
		block = append(block, fmt.Sprintf("/ip4/8.8.8.%d/tcp/1", i+1))
	}
	for name, c := range map[string]struct {
		infos []peer.AddrInfo
		want  int
	}{
		"one network":        {at(block...), perNetwork},
		"the neighbourhood":  {at(neighbours...), maxPerReply},
		"the same one twice": {append(at(neighbours[0]), at(neighbours[0])...), 1},
	} {
		s := &finding{finder: Finder{Node: client(t)}, slots: make(chan struct{}), tried: map[peer.ID]bool{}, crowd: map[netip.Prefix]int{}, room: maxTried}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		s.take(ended, c.infos)
		s.asking.Wait()
		if len(s.tried) != c.want {
			t.Errorf("%s: %d tried, want %d", name, len(s.tried), c.want)
		}
	}

	wrong := recommending(t, append(at("/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001", "/ip4/255.255.255.255/tcp/1", "/ip4/224.0.0.1/tcp/1",
		"/dns4/localhost/tcp/4001", "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/4001"), peer.AddrInfo{ID: ids[20]})...)
	c := client(t, addr(t, wrong))
	_, err := c.providers(t.Context(), mustHash(t, blob.Of(nil)), func(infos []peer.AddrInfo) { t.Errorf("named: %v", infos) })
	if err != nil {
		t.Error(err)
	}
}

// One network that says yes for all its addresses leaves room for holders elsewhere;
// of the local network, which is all there is, all are welcome.
func TestFinderLeavesRoom(t *testing.T) {
	s := &finding{networks: map[netip.Prefix]int{}}
	for i := range 4 * maxHolders {
		if in := s.admit(networkOf(netip.AddrFrom4([4]byte{8, 8, 8, byte(i)}))); in != (i < perNetwork) {
			t.Errorf("holder %d of one network: %t", i, in)
		}
	}
	for i := range 2 * maxHolders {
		if in := s.admit(networkOf(netip.AddrFrom4([4]byte{192, 168, 0, byte(i)}))); in != (i < maxHolders-perNetwork) {
			t.Errorf("holder %d of the local network: %t", i, in)
		}
	}
}

func mustHash(t testing.TB, d blob.Digest) []byte {
	t.Helper()
	hash, err := blobHash(d)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// In Local mode nobody beyond the local network is asked, whoever is named.
func TestFinderStaysLocal(t *testing.T) {
	content := random(1000)
	lender := server(t)
	lend(t, lender, 8080, content)
	far := peer.AddrInfo{ID: strangerIDs(t, 1)[0], Addrs: []ma.Multiaddr{ma.StringCast("/ip4/93.184.216.34/tcp/4001")}}
	c := start(t, Config{LocalOnly: true, Bootstrap: []string{addr(t, recommending(t, far, infoOf(lender)))}})
	got := (Finder{Node: c, HTTP: newMirror}).finds(t, blob.Of(content), 2)
	if !slices.Equal(got, []string{"http://127.0.0.1:8080", "p2p " + lender.ID()}) {
		t.Errorf("found %v", got)
	}
	s := &finding{finder: Finder{Node: c}}
	for base, want := range map[string]bool{"http://192.168.0.1:80": true, "http://93.184.216.34:80": false, "http://example.org": false} {
		if s.usable(base) != want {
			t.Errorf("%s: %t", base, !want)
		}
	}
}

// Peers whose packets are dropped, or that accept and are silent, hold up nobody.
func TestFinderBesideBlackHoles(t *testing.T) {
	t.Parallel() // it mostly waits
	content := random(1000)
	lender := server(t)
	lend(t, lender, 0, content)
	infos := []peer.AddrInfo{infoOf(lender)}
	for i, a := range []string{blackHole(t), silentPeer(t)} {
		where, _, _ := strings.Cut(a, "/p2p/")
		infos = append(infos, peer.AddrInfo{ID: strangerIDs(t, 2)[i], Addrs: []ma.Multiaddr{ma.StringCast(where)}})
	}
	c := client(t, addr(t, recommending(t, infos...)))
	if got := (Finder{Node: c}).finds(t, blob.Of(content), 1); !slices.Equal(got, []string{"p2p " + lender.ID()}) {
		t.Errorf("found %v", got)
	}
}

// A node that takes announcements and passes none on acknowledges nothing.
func TestAnnouncementNotKept(t *testing.T) {
	forgetful := liar(t, answering(func(req *pb.Message) *pb.Message { return pb.NewMessage(req.Type, req.Key, 0) }))
	n := server(t, addr(t, forgetful))
	hold(t, n, blob.Of([]byte("x")), n)
}
