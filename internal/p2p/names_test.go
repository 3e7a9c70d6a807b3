package p2p

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/miekg/dns"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
)

// nameServer is a DNS server on loopback.
type nameServer struct {
	addr string

	mu    sync.Mutex
	zone  map[string][]string // records by name; TXT unless they are IP addresses
	mute  map[string]bool     // names about which it says nothing
	asked map[string]bool
}

// newNameServer starts one that knows these records.
func newNameServer(t testing.TB, zone map[string][]string) *nameServer {
	t.Helper()
	s := &nameServer{zone: maps.Clone(zone), mute: map[string]bool{}, asked: map[string]bool{}}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = udp.LocalAddr().String()
	tcp, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: s}, {Listener: tcp, Handler: s}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return s
}

// ServeDNS answers from the zone.
func (s *nameServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.Question[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	s.asked[name] = true
	if s.mute[name] {
		return
	}
	m := new(dns.Msg)
	m.SetReply(r)
	records, ok := s.zone[name]
	if !ok {
		m.Rcode = dns.RcodeNameError
	}
	head := func(rr uint16) dns.RR_Header { return dns.RR_Header{Name: q.Name, Rrtype: rr, Class: dns.ClassINET} }
	for _, v := range records {
		ip := net.ParseIP(v)
		switch {
		case q.Qtype == dns.TypeTXT && ip == nil:
			m.Answer = append(m.Answer, &dns.TXT{Hdr: head(dns.TypeTXT), Txt: chunks(v)})
		case q.Qtype == dns.TypeA && ip.To4() != nil:
			m.Answer = append(m.Answer, &dns.A{Hdr: head(dns.TypeA), A: ip})
		case q.Qtype == dns.TypeAAAA && ip != nil && ip.To4() == nil:
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: head(dns.TypeAAAA), AAAA: ip})
		}
	}
	size := dns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		size = int(opt.UDPSize())
	}
	if w.LocalAddr().Network() == "udp" {
		m.Truncate(size)
	}
	_ = w.WriteMsg(m)
}

// chunks cuts a text into the strings of a TXT record.
func chunks(s string) []string {
	var out []string
	for len(s) > 255 {
		out, s = append(out, s[:255]), s[255:]
	}
	return append(out, s)
}

func (s *nameServer) set(name string, records ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone[name] = records
}

func (s *nameServer) silence(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute[name] = true
}

func (s *nameServer) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.asked))
}

// resolver is Go's own, asking this server.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.addr)
	}}
}

// named is a client that starts from these names.
func named(t testing.TB, s *nameServer, bootstrap ...string) *Node {
	t.Helper()
	return start(t, Config{Bootstrap: bootstrap, Resolver: s.resolver()})
}

// port is the TCP part and what follows of a node's address.
func port(t testing.TB, n *Node) string {
	t.Helper()
	_, rest, ok := strings.Cut(addr(t, n), "/tcp/")
	if !ok {
		t.Fatal("no TCP port")
	}
	return "/tcp/" + rest
}

// Peers behind a name, directly, through another name and by a host name, are
// all found and asked.
func TestBootstrapFromDNS(t *testing.T) {
	var servers []*Node
	for i := range 4 {
		servers = append(servers, server(t))
		plant(t, servers[i], stable, discovertest.Pointer(t, stable, int64(1+i)))
	}
	names := newNameServer(t, map[string][]string{
		"_dnsaddr.boot.test": {
			"dnsaddr=" + addr(t, servers[0]),
			"dnsaddr=/dnsaddr/more.boot.test" + port(t, servers[1]),
			"dnsaddr=/dns4/host.boot.test" + port(t, servers[2]),
			"dnsaddr=/ip4/192.0.2.1/udp/4001/quic-v1/p2p/" + servers[0].ID(), // another node's transport
			"v=spf1 -all",
		},
		"_dnsaddr.more.boot.test": {"dnsaddr=" + addr(t, servers[0]), "dnsaddr=" + addr(t, servers[1]), "dnsaddr=/dns/host.boot.test" + port(t, servers[3])},
		"host.boot.test":          {"127.0.0.1", "::1"},
	})
	for bootstrap, want := range map[string]int{
		"/dnsaddr/boot.test":                             3,
		"/dnsaddr/boot.test/p2p/" + servers[0].ID():      1,
		"/dnsaddr/boot.test/p2p/" + servers[1].ID():      1,
		"/dnsaddr/more.boot.test":                        3,
		"/dns4/host.boot.test" + port(t, servers[3]):     1,
		"/dns/host.boot.test" + port(t, servers[3]):      1,
		"/dnsaddr/more.boot.test" + port(t, servers[1]):  1,
		"/dnsaddr/more.boot.test/p2p/" + servers[3].ID(): 1,
	} {
		if err := CheckBootstrap(bootstrap); err != nil {
			t.Errorf("%s: %v", bootstrap, err)
		}
		c := named(t, names, bootstrap)
		if got, err := search(t, c, stable); err != nil || len(got) != want {
			t.Errorf("%s: found %d, error %v", bootstrap, len(got), err)
		}
		if connected, failed := c.connect(t.Context()); connected != want || len(failed) != 0 {
			t.Errorf("%s: connected %d, failed %v", bootstrap, connected, failed)
		}
	}
}

// A name that leads nowhere is reported like a peer that cannot be reached.
func TestNamesThatLeadNowhere(t *testing.T) {
	stranger := server(t)
	names := newNameServer(t, map[string][]string{
		"_dnsaddr.empty.test":   nil,
		"_dnsaddr.rubbish.test": {"dnsaddr=", "dnsaddr=/", "dnsaddr=/ip4/1.2.3.4", "dnsaddr=/ip4/127.0.0.1/tcp/1", "dnsaddr=x", "DNSADDR=" + addr(t, stranger)},
		"_dnsaddr.zero.test":    {"dnsaddr=/ip4/0.0.0.0" + port(t, stranger), "dnsaddr=/ip4/224.0.0.1" + port(t, stranger), "dnsaddr=/ip4/127.0.0.1/tcp/0/p2p/" + stranger.ID()},
		"_dnsaddr.loop.test":    {"dnsaddr=/dnsaddr/loop.test"},
		"_dnsaddr.deep.test":    {"dnsaddr=/dnsaddr/deep2.test"},
		"_dnsaddr.deep2.test":   {"dnsaddr=/dnsaddr/deep3.test"},
		"_dnsaddr.deep3.test":   {"dnsaddr=/dnsaddr/deep4.test"},
		"_dnsaddr.deep4.test":   {"dnsaddr=" + addr(t, stranger)},
		"_dnsaddr.long.test":    {"dnsaddr=/ip4/127.0.0.1" + strings.Repeat("/tcp/1", 100) + port(t, stranger)},
	})
	for _, name := range []string{"absent.test", "empty.test", "rubbish.test", "zero.test", "loop.test", "deep.test", "long.test"} {
		c := named(t, names, "/dnsaddr/"+name)
		got, err := search(t, c, stable)
		var unreachable *UnreachableError
		if len(got) != 0 || !asError(err, &unreachable) || unreachable.Code() != "DISC-011" {
			t.Errorf("%s: found %d, error %v", name, len(got), err)
			continue
		}
		if len(unreachable.Peers) != 1 || unreachable.Peers[0].Peer != "/dnsaddr/"+name || !strings.Contains(err.Error(), "/dnsaddr/"+name) || !strings.Contains(unreachable.Hint(), "TXT") {
			t.Errorf("%s: %v", name, err)
		}
		if connected, failed := c.connect(t.Context()); connected != 0 || len(failed) != 1 {
			t.Errorf("%s: connected %d, failed %v", name, connected, failed)
		}
	}
	if asked := names.questions(); slices.Contains(asked, "_dnsaddr.deep4.test") {
		t.Errorf("followed too far: %v", asked)
	}
	_, err := search(t, named(t, names, "/dnsaddr/deep2.test"), stable)
	if err != nil {
		t.Errorf("two names behind one: %v", err)
	}
	_, err = search(t, named(t, names, "/dnsaddr/absent.test/p2p/"+stranger.ID()), stable)
	if err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("error %v", err)
	}
}

// A flood of records, names and addresses is cut.
func TestNameLimits(t *testing.T) {
	var many, names, where []string
	id := idOf(t, 1)
	for i := range 100 {
		many = append(many, fmt.Sprintf("dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/%s", idOf(t, byte(i+1))))
		names = append(names, fmt.Sprintf("dnsaddr=/dnsaddr/n%d.test", i))
		where = append(where, fmt.Sprintf("127.1.0.%d", i+1))
	}
	s := newNameServer(t, map[string][]string{
		"_dnsaddr.many.test": many, "_dnsaddr.names.test": names, "host.test": where,
	})
	count := func(name string) (peers, addrs int) {
		seen := map[peer.ID]bool{}
		_ = resolve(t.Context(), s.resolver(), ma.StringCast(name), func(info peer.AddrInfo) {
			seen[info.ID] = true
			addrs++
		})
		return len(seen), addrs
	}
	if peers, _ := count("/dnsaddr/many.test"); peers != maxRecordsTXT {
		t.Errorf("%d peers of one name", peers)
	}
	if peers, addrs := count("/dns4/host.test/tcp/1/p2p/" + id); peers != 1 || addrs != maxPeerAddrs {
		t.Errorf("%d peers, %d addresses", peers, addrs)
	}
	count("/dnsaddr/names.test")
	if asked := len(s.questions()); asked > maxRecordsTXT+4 {
		t.Errorf("%d names looked up", asked)
	}
	// All peers to start from together keep to the limit as well.
	c := named(t, s, "/dnsaddr/many.test", "/ip4/127.0.0.1/tcp/1/p2p/"+idOf(t, 200), "/ip4/127.0.0.1/tcp/1/p2p/"+idOf(t, 201))
	if connected, failed := c.connect(t.Context()); connected != 0 || len(failed) != maxBootstrap {
		t.Errorf("connected %d, failed %d", connected, len(failed))
	}
	if n := len(c.starters()); n != maxBootstrap {
		t.Errorf("%d peers to start from", n)
	}
}

func idOf(t testing.TB, seed byte) string {
	t.Helper()
	_, id, err := identity(key(seed))
	if err != nil {
		t.Fatal(err)
	}
	return id.String()
}

// A name server that says nothing about some names holds up neither the peers
// that are known nor those behind other names, and the end only for so long.
func TestSilentNameServer(t *testing.T) {
	t.Parallel() // it mostly waits
	a, b := server(t), server(t)
	plant(t, a, stable, discovertest.Pointer(t, stable, 1))
	plant(t, b, stable, discovertest.Pointer(t, stable, 2))
	s := newNameServer(t, map[string][]string{
		"_dnsaddr.boot.test": {"dnsaddr=/dnsaddr/dead.test", "dnsaddr=" + addr(t, b)},
	})
	s.silence("_dnsaddr.dead.test")
	begin := time.Now()
	var found []time.Duration
	err := named(t, s, "/dnsaddr/boot.test", "/dnsaddr/dead.test", addr(t, a)).
		Search(t.Context(), stable, func(discover.Candidate) { found = append(found, time.Since(begin)) })
	whole := time.Since(begin)
	t.Logf("answers after %v, end after %v", found, whole)
	if err != nil || len(found) != 2 || found[1] > resolveTimeout-time.Second {
		t.Errorf("answers after %v, error %v", found, err)
	}
	if whole > searchBudget {
		t.Errorf("search took %v", whole)
	}
}

// A node of the local network asks no name server.
func TestLocalOnlyLooksUpNothing(t *testing.T) {
	a := server(t)
	s := newNameServer(t, map[string][]string{"_dnsaddr.boot.test": {"dnsaddr=" + addr(t, a)}, "host.test": {"127.0.0.1"}})
	n := start(t, Config{LocalOnly: true, Resolver: s.resolver(), Bootstrap: []string{
		"/dnsaddr/boot.test", "/dnsaddr/boot.test/p2p/" + a.ID(), "/dns4/host.test/tcp/1/p2p/" + idOf(t, 1),
	}})
	if got, err := search(t, n, stable); len(got) != 0 || err == nil || !strings.Contains(err.Error(), errNotLocal.Error()) {
		t.Errorf("found %d, error %v", len(got), err)
	}
	if connected, failed := n.connect(t.Context()); connected != 0 || len(failed) != 3 {
		t.Errorf("connected %d, failed %v", connected, failed)
	}
	if asked := s.questions(); len(asked) != 0 {
		t.Errorf("asked for %v", asked)
	}
}

// A long-running node that lost all peers looks the names up again, and forgets
// whom they no longer name.
func TestNamesAreLookedUpAgain(t *testing.T) {
	t.Parallel() // it mostly waits
	a, b := server(t), server(t)
	s := newNameServer(t, map[string][]string{"_dnsaddr.boot.test": {"dnsaddr=" + addr(t, a)}})
	n := named(t, s, "/dnsaddr/boot.test")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	waitConnected(t, n, a)
	s.set("_dnsaddr.boot.test", "dnsaddr="+addr(t, b))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	waitConnected(t, n, b)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n.knows(a.swarm.LocalPeer()) || !n.knows(b.swarm.LocalPeer()) {
		t.Errorf("starts from %v", n.starters())
	}
}

// waitConnected waits until n is connected to other.
func waitConnected(t testing.TB, n, other *Node) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for n.swarm.Connectedness(other.swarm.LocalPeer()) != network.Connected {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not connected to %s", n.ID(), other.ID())
		}
		time.Sleep(time.Millisecond)
	}
}

// The names in addresses that peers give are not looked up.
func TestStrangersNames(t *testing.T) {
	honest := server(t)
	pointer := discovertest.Pointer(t, stable, 6)
	if _, err := honest.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	s := newNameServer(t, map[string][]string{"evil.test": {"127.0.0.1"}, "_dnsaddr.evil.test": {"dnsaddr=" + addr(t, honest)}})
	bad := liar(t, answering(func(req *pb.Message) *pb.Message {
		m := pb.NewMessage(req.Type, req.Key, 0)
		for i, a := range []string{"/dns4/evil.test/tcp/1", "/dnsaddr/evil.test", "/dns/evil.test/tcp/1"} {
			m.CloserPeers = append(m.CloserPeers, &pb.Message_Peer{Id: []byte(mustID(t, byte(i+1))), Addrs: [][]byte{ma.StringCast(a).Bytes()}})
		}
		return m
	}))
	got, err := search(t, named(t, s, addr(t, bad), addr(t, honest)), stable)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Pointer, pointer) {
		t.Errorf("found %d, error %v", len(got), err)
	}
	if asked := s.questions(); len(asked) != 0 {
		t.Errorf("looked up %v", asked)
	}
}

func mustID(t testing.TB, seed byte) peer.ID {
	t.Helper()
	id, err := peer.Decode(idOf(t, seed))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// recited is a resolver that gives the same records for every name.
type recited []string

func (r recited) LookupTXT(context.Context, string) ([]string, error) { return r, nil }
func (r recited) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}, {IP: net.IPv4zero}, {IP: net.IPv6loopback}, {}}, nil
}

// Whatever a TXT record says, only peers with an IP address and a TCP port come
// out, and few enough.
func FuzzTXT(f *testing.F) {
	id := idOf(f, 1)
	for _, s := range []string{
		"", "dnsaddr=", "dnsaddr=/ip4/127.0.0.1/tcp/4001/p2p/" + id, "dnsaddr=/ip6zone/eth0/ip6/fe80::1/tcp/4001/p2p/" + id,
		"dnsaddr=/dnsaddr/a", "dnsaddr=/dnsaddr/a/tcp/4001/p2p/" + id, "dnsaddr=/dns4/a/tcp/4001/p2p/" + id, "dnsaddr=/dns6/a/dns4/b/tcp/1/ipfs/" + id,
		"dnsaddr=/ip4/0.0.0.0/tcp/4001/p2p/" + id, "dnsaddr=/ip4/1.2.3.4/tcp/1/p2p/" + id + "/p2p-circuit/p2p/" + id,
	} {
		f.Add(s, s, "/dnsaddr/boot.test")
		f.Add(s, "", "/dnsaddr/boot.test/p2p/"+id)
	}
	f.Fuzz(func(t *testing.T, one, two, from string) {
		l, err := parseLead(from)
		if err != nil || len(l.names) == 0 {
			return
		}
		addrs := map[peer.ID]int{}
		err = resolve(context.Background(), recited{one, two, one}, l.names[0], func(info peer.AddrInfo) {
			addrs[info.ID]++
			if len(info.Addrs) != 1 || !dialable(info.Addrs[0]) || info.ID.Validate() != nil || addrs[info.ID] > maxPeerAddrs {
				t.Errorf("yields %v", info)
			}
			if l.id != "" && info.ID != l.id {
				t.Errorf("yields %s for %s", info.ID, l.id)
			}
		})
		if (err == nil) != (len(addrs) > 0) || len(addrs) > maxRecordsTXT {
			t.Errorf("%d peers, error %v", len(addrs), err)
		}
	})
}
