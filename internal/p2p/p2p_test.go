package p2p

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/manifest"
)

var stable = discover.Query{Channel: "stable", Arch: manifest.ArchX8664}

// key is a fixed identity, so that the distances of a test network are too.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// start makes a node that lives until the test ends.
func start(t testing.TB, cfg Config) *Node {
	t.Helper()
	if testing.Verbose() && cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func server(t testing.TB, bootstrap ...string) *Node {
	t.Helper()
	return start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Bootstrap: bootstrap})
}

func client(t testing.TB, bootstrap ...string) *Node {
	t.Helper()
	return start(t, Config{Bootstrap: bootstrap})
}

// addr is where a node can be dialled.
func addr(t testing.TB, n *Node) string {
	t.Helper()
	addrs := n.Addrs()
	if len(addrs) == 0 {
		t.Fatal("node has no address")
	}
	return addrs[0]
}

// search collects what a node finds.
func search(t testing.TB, n *Node, q discover.Query) ([]discover.Candidate, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []discover.Candidate
	err := n.Search(ctx, q, func(c discover.Candidate) { got = append(got, c) })
	return got, err
}

// mesh makes servers that know one another.
func mesh(t testing.TB, count int) []*Node {
	t.Helper()
	first := server(t)
	nodes := []*Node{first}
	for len(nodes) < count {
		n := server(t, addr(t, first))
		if connected, failures := n.connect(t.Context()); connected != 1 {
			t.Fatalf("bootstrap: %v", failures)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if n != first {
			waitKnown(t, first, n)
			waitKnown(t, n, first)
		}
	}
	return nodes
}

// waitKnown waits until a's routing table contains b.
func waitKnown(t testing.TB, a, b *Node) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for table(a).Find(b.swarm.LocalPeer()) == "" {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not know %s", a.ID(), b.ID())
		}
		time.Sleep(time.Millisecond)
	}
}

// waitFor waits until nothing is left.
func waitFor(t testing.TB, what string, left func() string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		rest := left()
		if rest == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s remain: %s", what, rest)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// plant stores a record on one server only, as a stale or malicious node would
// hold it.
func plant(t testing.TB, n *Node, q discover.Query, value []byte) {
	t.Helper()
	if err := n.server.Store(t.Context(), q.Key(), value); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	discovertest.Run(t, discovertest.World{
		Source: func(t *testing.T, pointers ...[]byte) discover.Source {
			s := server(t)
			for _, p := range pointers {
				if _, err := s.Publish(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			return client(t, addr(t, s))
		},
		Silent: func(t *testing.T) discover.Source { return client(t, silentPeer(t)) },
	})
}

// silentPeer accepts TCP connections and never says a word.
func silentPeer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return bootstrapAddr(t, l.Addr(), 0xee)
}

// bootstrapAddr is the multiaddr of a made-up peer behind a TCP address.
func bootstrapAddr(t testing.TB, a net.Addr, seed byte) string {
	t.Helper()
	id, err := PeerID(key(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/ip4/%s/tcp/%s/p2p/%s", host, port, id)
}

// A server that is alone stores what it publishes, says so honestly, and a
// client that knows only this server finds it.
func TestLoneServer(t *testing.T) {
	s := server(t)
	pointer := discovertest.Pointer(t, stable, 3)
	done, err := s.Publish(t.Context(), pointer)
	if err != nil {
		t.Fatal(err)
	}
	if len(done.AcknowledgedBy) != 1 || done.AcknowledgedBy[0] != s.ID() {
		t.Errorf("acknowledged by %v, want only %s", done.AcknowledgedBy, s.ID())
	}
	if done.Key != "/phase/stable/x86_64/manifest" || done.Size != len(pointer) || done.At.IsZero() {
		t.Errorf("published %+v", done)
	}
	got, err := search(t, client(t, addr(t, s)), stable)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !bytes.Equal(got[0].Pointer, pointer) || got[0].Origin != "dht "+s.ID() {
		t.Errorf("found %+v", got)
	}
	if own, err := search(t, s, stable); err != nil || len(own) != 1 {
		t.Errorf("the server itself found %d, error %v", len(own), err)
	}
}

// A seed asks and publishes, and does not serve: nobody takes it into a routing
// table, or names it to others.
func TestSeedIsNobodysPeer(t *testing.T) {
	nodes := mesh(t, 3)
	c := client(t, addr(t, nodes[0]), addr(t, nodes[1]), addr(t, nodes[2]))
	refused, err := nodes[0].bus.Subscribe(new(event.EvtPeerIdentificationFailed))
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	if connected, failures := c.connect(t.Context()); connected != 3 {
		t.Fatal(failures)
	}
	if _, err := c.Publish(t.Context(), discovertest.Pointer(t, stable, 1)); err != nil {
		t.Fatal(err)
	}
	for seen := false; !seen; {
		select {
		case e := <-refused.Out():
			seen = e.(event.EvtPeerIdentificationFailed).Peer == c.swarm.LocalPeer()
		case <-time.After(time.Minute):
			t.Fatal("the server did not try to identify the seed")
		}
	}
	// What the server makes of its peers it does in order: when one that came later
	// is in the table, the seed would be.
	late := server(t, addr(t, nodes[0]))
	if connected, failures := late.connect(t.Context()); connected != 1 {
		t.Fatal(failures)
	}
	waitKnown(t, nodes[0], late)
	for _, n := range nodes {
		if table(n).Find(c.swarm.LocalPeer()) != "" {
			t.Errorf("the seed ended up in the routing table of %s", n.ID())
		}
	}
	ask := client(t, addr(t, nodes[0]))
	ask.walk(t.Context(), plan{key: []byte(c.swarm.LocalPeer()), leads: ask.leads(t.Context()), heard: func(reply) {}, ask: func(ctx context.Context, p peer.ID) (r reply) {
		messenger, err := pb.NewProtocolMessenger(sender{ask.swarm, &r.at, requestTimeout})
		if err != nil {
			t.Error(err)
			return reply{err: err}
		}
		r.closer, r.err = messenger.GetClosestPeers(ctx, p, "another")
		for _, info := range r.closer {
			if info.ID == c.swarm.LocalPeer() {
				t.Errorf("%s names the seed", p)
			}
		}
		return r
	}})
}

// Of five servers four hold yesterday's record; the newest is found, together
// with the stale ones, by clients that know only a stale server.
func TestStaleServers(t *testing.T) {
	nodes := mesh(t, 5)
	old, newest := discovertest.Pointer(t, stable, 10), discovertest.Pointer(t, stable, 11)
	for i, n := range nodes {
		if i == 3 {
			plant(t, n, stable, newest)
		} else {
			plant(t, n, stable, old)
		}
	}
	got, err := search(t, client(t, addr(t, nodes[0])), stable)
	if err != nil {
		t.Fatal(err)
	}
	var versions []int64
	for _, c := range got {
		p, err := manifest.InspectPointer(c.Pointer)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, p.ManifestVersion)
	}
	if len(versions) != 2 || versions[0]+versions[1] != 21 {
		t.Errorf("found versions %v, want 10 and 11 once each", versions)
	}
}

// Publishing reaches every server of a small network, replaces older records,
// and reports who holds the new one. Publishing the same again is accepted;
// publishing the older one is not.
func TestPublishToMany(t *testing.T) {
	nodes := mesh(t, 5)
	first, second := discovertest.Pointer(t, stable, 1), discovertest.Pointer(t, stable, 2)
	for _, tt := range []struct {
		name    string
		pointer []byte
	}{{"first", first}, {"newer", second}, {"the same again", second}} {
		done, err := nodes[1].Publish(t.Context(), tt.pointer)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if len(done.AcknowledgedBy) != len(nodes) {
			t.Errorf("%s: acknowledged by %d of %d", tt.name, len(done.AcknowledgedBy), len(nodes))
		}
		for _, n := range nodes {
			if held := n.local(t.Context(), stable.Key()); !bytes.Equal(held, tt.pointer) {
				t.Errorf("%s: %s holds other bytes", tt.name, n.ID())
			}
		}
	}
	if _, err := nodes[1].Publish(t.Context(), first); err == nil {
		t.Error("an older pointer was published over a newer one")
	}
	if p := nodes[1].Publications(); len(p) != 1 || len(p[0].Last.AcknowledgedBy) != len(nodes) || p[0].Err != nil {
		t.Errorf("publications %+v", p)
	}
}

// A node that does not serve publishes through those that do.
func TestClientPublishes(t *testing.T) {
	s := server(t)
	pointer := discovertest.Pointer(t, stable, 4)
	done, err := client(t, addr(t, s)).Publish(t.Context(), pointer)
	if err != nil {
		t.Fatal(err)
	}
	if len(done.AcknowledgedBy) != 1 || done.AcknowledgedBy[0] != s.ID() {
		t.Errorf("acknowledged by %v", done.AcknowledgedBy)
	}
	if got, err := search(t, client(t, addr(t, s)), stable); err != nil || len(got) != 1 {
		t.Errorf("found %d, error %v", len(got), err)
	}
}

func TestPublishRefuses(t *testing.T) {
	s := server(t)
	good := discovertest.Pointer(t, stable, 1)
	for name, bad := range map[string][]byte{
		"empty":     {},
		"text":      []byte("hello"),
		"cut":       good[:len(good)-1],
		"too large": append(bytes.Clone(good), bytes.Repeat([]byte(" "), 64<<10)...),
		"expired":   discovertest.PointerAt(t, stable, 1, time.Now().Add(-72*time.Hour), 24*time.Hour),
	} {
		if done, err := s.Publish(t.Context(), bad); err == nil {
			t.Errorf("%s: published %+v", name, done)
		}
	}
	if held := s.local(t.Context(), stable.Key()); held != nil {
		t.Errorf("a refused record was stored: %.60q", held)
	}
}

// A bootstrap peer that accepts connections and then says nothing does not delay
// the answer of a live one, and the whole search ends within the dial's bound.
func TestSilentBesideLivePeer(t *testing.T) {
	t.Parallel() // it mostly waits
	s := server(t)
	if _, err := s.Publish(t.Context(), discovertest.Pointer(t, stable, 5)); err != nil {
		t.Fatal(err)
	}
	c := client(t, silentPeer(t), addr(t, s))
	begin := time.Now()
	var first time.Duration
	err := c.Search(t.Context(), stable, func(discover.Candidate) { first = time.Since(begin) })
	whole := time.Since(begin)
	t.Logf("first answer after %v, end after %v", first, whole)
	if err != nil || first == 0 {
		t.Fatalf("not found: %v", err)
	}
	if first > dialTimeout-time.Second {
		t.Errorf("first answer took %v", first)
	}
	if whole > searchBudget {
		t.Errorf("search took %v", whole)
	}
}

func TestNobodyAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := bootstrapAddr(t, l.Addr(), 0xdd)
	l.Close()
	c := client(t, closed)
	for range 2 { // the second time is a real attempt, not a memory of the first
		_, err = search(t, c, stable)
		var unreachable *UnreachableError
		if !asError(err, &unreachable) || unreachable.Code() != "DISC-011" || unreachable.Hint() == "" {
			t.Fatalf("error %v", err)
		}
		if !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "\n") {
			t.Errorf("text %q", err)
		}
	}
	_, err = search(t, client(t), stable)
	var unreachable *UnreachableError
	if !asError(err, &unreachable) || unreachable.Code() != "DISC-010" || unreachable.Hint() == "" {
		t.Errorf("without bootstrap: %v", err)
	}
	if _, err := c.Publish(t.Context(), discovertest.Pointer(t, stable, 1)); !asError(err, &unreachable) {
		t.Errorf("publish: %v", err)
	}
}

// A peer that answers under another identity than asked for is not believed.
func TestImpostor(t *testing.T) {
	s := server(t)
	if _, err := s.Publish(t.Context(), discovertest.Pointer(t, stable, 5)); err != nil {
		t.Fatal(err)
	}
	real, err := peer.AddrInfoFromString(addr(t, s))
	if err != nil {
		t.Fatal(err)
	}
	id, err := PeerID(key(0xab).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	got, err := search(t, client(t, real.Addrs[0].String()+"/p2p/"+id), stable)
	if err == nil || len(got) != 0 {
		t.Errorf("found %d, error %v", len(got), err)
	}
}

// Nodes that Run find each other and keep records alive when peers arrive.
func TestRunConnects(t *testing.T) {
	a := server(t)
	b := server(t, addr(t, a))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, n := range []*Node{a, b} {
		go func() { ended <- n.Run(ctx) }()
	}
	waitKnown(t, a, b)
	waitKnown(t, b, a)
	if a.Peers() != 1 || b.Peers() != 1 {
		t.Errorf("peers %d and %d", a.Peers(), b.Peers())
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestRepublish(t *testing.T) {
	now := time.Now()
	clock := func() time.Time { return now }
	a := start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Now: clock})
	pointer := discovertest.Pointer(t, stable, 8)
	if _, err := a.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	b := server(t, addr(t, a))
	if connected, failures := b.connect(t.Context()); connected != 1 {
		t.Fatal(failures)
	}
	waitKnown(t, a, b)
	if held := b.local(t.Context(), stable.Key()); held != nil {
		t.Fatal("newcomer already holds the record")
	}
	a.republish(t.Context())
	if held := b.local(t.Context(), stable.Key()); !bytes.Equal(held, pointer) {
		t.Error("newcomer was not given the record")
	}
	if p := a.Publications(); len(p) != 1 || len(p[0].Last.AcknowledgedBy) != 2 {
		t.Errorf("publications %+v", p)
	}
	now = now.Add(30 * 24 * time.Hour)
	a.republish(t.Context())
	if p := a.Publications(); len(p) != 0 {
		t.Errorf("expired record is kept alive: %+v", p)
	}
}

func TestCapability(t *testing.T) {
	nodes := mesh(t, 3)
	key, err := CapabilityKey(manifest.ArchX8664)
	if err != nil || key != "/phase/capability/x86_64/wasm" {
		t.Fatalf("key %q, error %v", key, err)
	}
	noted, err := nodes[2].Provide(t.Context(), key)
	if err != nil || len(noted) != 3 {
		t.Fatalf("noted by %v, error %v", noted, err)
	}
	c := client(t, addr(t, nodes[0]))
	found, err := c.FindProviders(t.Context(), key)
	if err != nil || len(found) != 1 || found[0].ID != nodes[2].ID() || len(found[0].Addrs) == 0 {
		t.Errorf("found %+v, error %v", found, err)
	}
	arm, err := CapabilityKey(manifest.ArchARM64)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := c.FindProviders(t.Context(), arm); err != nil || len(found) != 0 {
		t.Errorf("for another architecture: %+v, error %v", found, err)
	}
	if _, err := c.Provide(t.Context(), key); err == nil {
		t.Error("a node that cannot be dialled announced itself")
	}
	if _, err := CapabilityKey("amd64"); err == nil {
		t.Error("alias accepted as key")
	}
}

func TestConfigRefused(t *testing.T) {
	id, err := PeerID(key(1).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, maxBootstrap+1)
	for i := range many {
		many[i] = "/ip4/192.0.2.1/tcp/1/p2p/" + id
	}
	for name, cfg := range map[string]Config{
		"short key":            {Key: ed25519.PrivateKey{1, 2, 3}},
		"server without place": {Server: testServer},
		"place without server": {Listen: []string{"/ip4/127.0.0.1/tcp/0"}},
		"listen":               {Listen: []string{"127.0.0.1:4001"}, Server: testServer},
		"listen on quic":       {Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Server: testServer},
		"bootstrap":            {Bootstrap: []string{"127.0.0.1:4001"}},
		"bootstrap without id": {Bootstrap: []string{"/ip4/127.0.0.1/tcp/4001"}},
		"bootstrap only id":    {Bootstrap: []string{"/p2p/" + id}},
		"only a name":          {Bootstrap: []string{"/dns4/boot.example.org/tcp/4001"}},
		"name without peer":    {Bootstrap: []string{"/dnsaddr/boot.example.org/tcp/4001"}},
		"no name":              {Bootstrap: []string{"/dnsaddr/"}},
		"too many":             {Bootstrap: many},
	} {
		if n, err := New(cfg); err == nil {
			n.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	for _, good := range []string{
		"/ip4/192.0.2.1/tcp/4001/p2p/" + id, "/dnsaddr/boot.example.org", "/dnsaddr/boot.example.org/p2p/" + id,
		"/dns4/boot.example.org/tcp/4001/p2p/" + id, "/dns6/boot.example.org/tcp/4001/p2p/" + id, "/dns/boot.example.org/tcp/4001/p2p/" + id,
	} {
		if err := CheckBootstrap(good); err != nil {
			t.Error(err)
		}
	}
}

func TestPeerID(t *testing.T) {
	n := start(t, Config{Key: key(7)})
	id, err := PeerID(key(7).Public().(ed25519.PublicKey))
	if err != nil || id != n.ID() || !strings.HasPrefix(id, "12D3Koo") {
		t.Errorf("id %q, node %q, error %v", id, n.ID(), err)
	}
	if _, err := PeerID(ed25519.PublicKey{1}); err == nil {
		t.Error("short key accepted")
	}
	if a, b := start(t, Config{}), start(t, Config{}); a.ID() == b.ID() {
		t.Error("fresh identities are equal")
	}
	if len(n.Addrs()) != 0 {
		t.Errorf("a node that does not listen claims %v", n.Addrs())
	}
}

// A node that listens everywhere names addresses that can be dialled.
func TestListensEverywhere(t *testing.T) {
	n := start(t, Config{Listen: []string{"/ip4/0.0.0.0/tcp/0"}, Server: testServer})
	if len(n.Addrs()) == 0 {
		t.Fatal("no address")
	}
	for _, a := range n.Addrs() {
		if strings.Contains(a, "/0.0.0.0/") || strings.Contains(a, "/tcp/0/") || CheckBootstrap(a) != nil {
			t.Errorf("address %s", a)
		}
	}
}
