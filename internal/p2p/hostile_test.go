// Which tests show what hostile and broken peers cannot do:
//
//	a value of 64 KiB, a foreign namespace, a key and a    TestServerRefusesRecords, TestHostilePeers,
//	value that do not match                                TestPublishRefuses, TestValidate
//	twenty records, one of them the newest, in any order;  TestSelect, TestStaleServers,
//	ties yield the first                                   TestStaleMajority
//	all peers are silent                                   TestAllSilent, TestPeerFallsSilent,
//	                                                       TestSilentBesideLivePeer, TestBlackHoles
//	half of the nodes are gone                             TestHalfBlackHoled, TestChurn
//	all serve yesterday's record, or none                  TestAllServeYesterday, TestAllWithhold
//	a thousand instant liars                               TestThousandLiars, TestForgersDoNotCrowdOut,
//	                                                       TestEndlessReferrals
//	nodes mined around the key                             TestSybils, TestSybilsEverywhere,
//	                                                       TestCrowdInOneNetwork
//	addresses on loopback, 0.0.0.0, multicast, names       TestCredible, TestNobodysAddresses,
//	                                                       TestStrangersNames, TestLocalGater
//	malformed protobuf, unfinished streams                 TestHostilePeers, TestServerSurvivesStreams,
//	                                                       dhtserver: TestFrames, FuzzFrames
//	refused, feigned or unfinished negotiation             TestEagerNeedsConsent, TestEagerConnEnds
//	TXT records that flood, loop or lie                    TestNameLimits, TestNamesThatLeadNowhere,
//	                                                       TestSilentNameServer, FuzzTXT
//	a record confirmed and not kept                        TestSybils (checkAcknowledged)
//	an announced blob that is passed on by nobody          TestAnnouncementNotKept
//	crowds of providers, in one network or with foreign,   TestFinderAmongLiars, TestFinderAddresses,
//	local or no addresses; in Local mode                   TestFinderStaysLocal, dhtserver: TestLedger…
//	providers that are silent or black holes               TestFinderBesideBlackHoles
//	a lender that lies, drips, stalls, breaks off, or      TestStreamHostilePeers, TestStreamUnreachable,
//	sends more than was asked for                          TestStreamStopsWithItsWriter
//	a borrower with malformed or unfinished requests, that TestLendingSurvivesStreams, TestLendingLimits,
//	takes all streams, or does not read                    TestLendingCutsSlowReaders, blobwire: FuzzParse

package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/manifest"
)

func asError[T error](err error, target *T) bool { return errors.As(err, target) }

func putRecord(key string, value []byte) *recpb.Record { return record.MakePutRecord(key, value) }

// liar is a node on the real transport whose DHT handler is ours.
func liar(t testing.TB, handle func(network.Stream)) *Node {
	t.Helper()
	return start(t, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: speaking(handle)})
}

// answering makes a handler that replies to each request.
func answering(reply func(req *pb.Message) *pb.Message) func(network.Stream) {
	return func(s network.Stream) {
		r, w := pbio.NewDelimitedReader(s, network.MessageSizeMax), pbio.NewDelimitedWriter(s)
		for {
			req := new(pb.Message)
			if r.ReadMsg(req) != nil {
				return
			}
			if w.WriteMsg(reply(req)) != nil {
				return
			}
		}
	}
}

// holding answers every request with one value.
func holding(value []byte) func(network.Stream) {
	return answering(func(req *pb.Message) *pb.Message {
		m := pb.NewMessage(req.Type, req.Key, 0)
		m.Record = record.MakePutRecord(string(req.Key), value)
		return m
	})
}

// Peers that answer with rubbish, with too much, under another key, or not at
// all, change nothing about what an honest peer gives.
func TestHostilePeers(t *testing.T) {
	honest := server(t)
	pointer := discovertest.Pointer(t, stable, 6)
	if _, err := honest.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	other := discover.Query{Channel: "testing", Arch: stable.Arch}
	wrongKey := answering(func(req *pb.Message) *pb.Message {
		m := pb.NewMessage(req.Type, req.Key, 0)
		m.Record = record.MakePutRecord(other.Key(), pointer)
		return m
	})
	for name, handle := range map[string]func(network.Stream){
		"garbage":         holding([]byte("not a pointer")),
		"64 KiB":          holding(bytes.Repeat([]byte("x"), 64<<10)),
		"other channel":   holding(discovertest.Pointer(t, other, 99)),
		"other arch":      holding(discovertest.Pointer(t, discover.Query{Channel: "stable", Arch: manifest.ArchARM64}, 99)),
		"other key":       wrongKey,
		"empty value":     holding(nil),
		"closes at once":  func(network.Stream) {},
		"resets":          func(s network.Stream) { _ = s.Reset() },
		"malformed":       func(s network.Stream) { _, _ = s.Write([]byte{5, 0xff, 0xff, 0xff, 0xff, 0xff}) },
		"unfinished":      func(s network.Stream) { _, _ = s.Write([]byte{200, 1, 8, 4}) },
		"endless length":  func(s network.Stream) { _, _ = s.Write(bytes.Repeat([]byte{0xff}, 64)) },
		"announces 4 MiB": func(s network.Stream) { _, _ = s.Write(binary.AppendUvarint(nil, 4<<20)) },
		"strange peers": answering(func(req *pb.Message) *pb.Message {
			m := pb.NewMessage(req.Type, req.Key, 0)
			for i := range 50 {
				m.CloserPeers = append(m.CloserPeers, &pb.Message_Peer{Id: []byte{byte(i)}, Addrs: [][]byte{{1, 2, 3}}})
			}
			return m
		}),
	} {
		t.Run(name, func(t *testing.T) {
			bad := liar(t, handle)
			got, err := search(t, client(t, addr(t, bad), addr(t, honest)), stable)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || !bytes.Equal(got[0].Pointer, pointer) || got[0].Origin != "dht "+honest.ID() {
				t.Errorf("found %d: %+v", len(got), got)
			}
		})
	}
}

// A peer that falls silent after the handshake costs a bounded time.
func TestPeerFallsSilent(t *testing.T) {
	stop := make(chan struct{})
	bad := liar(t, func(network.Stream) { <-stop })
	defer close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := client(t, addr(t, bad)).Search(ctx, stable, func(discover.Candidate) { t.Error("found") })
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begin); took >= dialTimeout {
		t.Errorf("took %v", took)
	}
}

// A crowd that names ever more peers that do not exist cannot make a search
// endless, nor hide what a bootstrap peer holds.
func TestEndlessReferrals(t *testing.T) {
	honest := server(t)
	pointer := discovertest.Pointer(t, stable, 6)
	if _, err := honest.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	nowhere := ma.StringCast("/ip4/127.0.0.1/tcp/1").Bytes()
	random := rand.NewChaCha8([32]byte{1})
	referring := answering(func(req *pb.Message) *pb.Message {
		m := pb.NewMessage(req.Type, req.Key, 0)
		for range 40 {
			var seed [32]byte
			_, _ = random.Read(seed[:])
			_, id, err := identity(keyFrom(seed))
			if err != nil {
				t.Error(err)
				return m
			}
			m.CloserPeers = append(m.CloserPeers, &pb.Message_Peer{Id: []byte(id), Addrs: [][]byte{nowhere}})
		}
		return m
	})
	bad := liar(t, referring)
	begin := time.Now()
	got, err := search(t, client(t, addr(t, bad), addr(t, honest)), stable)
	if err != nil || len(got) != 1 {
		t.Errorf("found %d, error %v", len(got), err)
	}
	if took := time.Since(begin); took > searchBudget {
		t.Errorf("took %v", took)
	}
}

// Addresses that are no machine's are not dialled: on Linux 0.0.0.0 would be our
// own, on whatever port a stranger likes.
func TestNobodysAddresses(t *testing.T) {
	hidden := server(t)
	plant(t, hidden, stable, discovertest.Pointer(t, stable, 6))
	_, port, ok := strings.Cut(hidden.server.Addrs()[0].String(), "/tcp/")
	if !ok {
		t.Fatal("no port")
	}
	refer := func(where string) *Node {
		return liar(t, answering(func(req *pb.Message) *pb.Message {
			m := pb.NewMessage(req.Type, req.Key, 0)
			m.CloserPeers = []*pb.Message_Peer{{Id: []byte(hidden.swarm.LocalPeer()), Addrs: [][]byte{ma.StringCast(where + port).Bytes()}}}
			return m
		}))
	}
	for where, want := range map[string]int{
		"/ip4/127.0.0.1/tcp/":       1, // the liar is on this machine as well
		"/ip4/0.0.0.0/tcp/":         0,
		"/ip6/::/tcp/":              0,
		"/ip6/::ffff:0:0/tcp/":      0,
		"/ip4/255.255.255.255/tcp/": 0,
	} {
		if got, err := search(t, client(t, addr(t, refer(where))), stable); err != nil || len(got) != want {
			t.Errorf("%s: found %d, error %v", where, len(got), err)
		}
	}
}

// Forgers who are not bootstrap peers cannot use up the candidates.
func TestForgersDoNotCrowdOut(t *testing.T) {
	var forgers []*pb.Message_Peer
	for i := range 40 {
		f := liar(t, holding(discovertest.Pointer(t, stable, int64(1000+i))))
		info, err := peer.AddrInfoFromString(addr(t, f))
		if err != nil {
			t.Fatal(err)
		}
		forgers = append(forgers, &pb.Message_Peer{Id: []byte(info.ID), Addrs: [][]byte{info.Addrs[0].Bytes()}})
	}
	referring := liar(t, answering(func(req *pb.Message) *pb.Message {
		m := pb.NewMessage(req.Type, req.Key, 0)
		m.CloserPeers = forgers
		return m
	}))
	honest := server(t)
	pointer := discovertest.Pointer(t, stable, 6)
	if _, err := honest.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	got, err := search(t, client(t, addr(t, referring), addr(t, honest)), stable)
	if err != nil {
		t.Fatal(err)
	}
	real := 0
	for _, c := range got {
		if bytes.Equal(c.Pointer, pointer) {
			real++
		}
	}
	if real != 1 || len(got) > maxStrangers+1 {
		t.Errorf("%d candidates, %d of them real", len(got), real)
	}
}

// What strangers may store at a server.
func TestServerRefusesRecords(t *testing.T) {
	s := server(t)
	stranger := client(t, addr(t, s))
	messenger, err := pb.NewProtocolMessenger(sender{swarm: stranger.swarm, limit: requestTimeout})
	if err != nil {
		t.Fatal(err)
	}
	if connected, failures := stranger.connect(t.Context()); connected != 1 {
		t.Fatal(failures)
	}
	put := func(key string, value []byte) error {
		return messenger.PutValue(t.Context(), s.swarm.LocalPeer(), record.MakePutRecord(key, value))
	}
	good := discovertest.Pointer(t, stable, 5)
	other := discover.Query{Channel: "testing", Arch: stable.Arch}
	for name, r := range map[string]struct {
		key   string
		value []byte
	}{
		"64 KiB":            {stable.Key(), bytes.Repeat([]byte("x"), 64<<10)},
		"2 KiB + 1":         {stable.Key(), bytes.Repeat([]byte("x"), MaxRecord+1)},
		"empty":             {stable.Key(), nil},
		"garbage":           {stable.Key(), []byte("{}")},
		"key of other":      {other.Key(), good},
		"foreign namespace": {"/ipns/stable/x86_64/manifest", good},
		"no namespace":      {"stable", good},
		"unknown arch":      {"/phase/stable/riscv64/manifest", good},
		"longer key":        {stable.Key() + "/x", good},
		"path in key":       {"/phase/../x86_64/manifest", good},
		"expired":           {stable.Key(), discovertest.PointerAt(t, stable, 9, time.Now().Add(-30*24*time.Hour), 24*time.Hour)},
	} {
		if err := put(r.key, r.value); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if held := s.local(t.Context(), stable.Key()); held != nil {
		t.Errorf("stored %.60q", held)
	}
	if err := put(stable.Key(), good); err != nil {
		t.Errorf("good record: %v", err)
	}
	if err := put(stable.Key(), good); err != nil {
		t.Errorf("the same record again: %v", err)
	}
	if err := put(stable.Key(), discovertest.Pointer(t, stable, 4)); err == nil {
		t.Error("older record accepted")
	}
	if held := s.local(t.Context(), stable.Key()); !bytes.Equal(held, good) {
		t.Errorf("holds %.60q", held)
	}
}

// A server survives malformed and unfinished requests.
func TestServerSurvivesStreams(t *testing.T) {
	s := server(t)
	stranger := client(t, addr(t, s))
	if connected, failures := stranger.connect(t.Context()); connected != 1 {
		t.Fatal(failures)
	}
	for name, raw := range map[string][]byte{
		"malformed":       {3, 0xff, 0xff, 0xff},
		"announces 4 MiB": binary.AppendUvarint(nil, 4<<20),
		"endless length":  bytes.Repeat([]byte{0x80}, 64),
		"wrong type":      {2, 8, 99},
		"no key":          {2, 8, 1},
	} {
		stream := openStream(t, stranger, s.swarm.LocalPeer())
		if _, err := stream.Write(raw); err != nil {
			t.Fatal(err)
		}
		_ = stream.SetReadDeadline(time.Now().Add(time.Minute))
		if b, err := io.ReadAll(stream); err == nil || len(b) != 0 {
			t.Errorf("%s: answered with %d bytes, error %v", name, len(b), err)
		}
		_ = stream.Reset()
	}
	var open []network.Stream // unfinished, and left open
	for range 10 {
		stream := openStream(t, stranger, s.swarm.LocalPeer())
		if _, err := stream.Write([]byte{100, 8}); err != nil {
			t.Fatal(err)
		}
		open = append(open, stream)
	}
	pointer := discovertest.Pointer(t, stable, 5)
	if _, err := s.Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	if got, err := search(t, client(t, addr(t, s)), stable); err != nil || len(got) != 1 {
		t.Errorf("found %d, error %v", len(got), err)
	}
	for _, stream := range open {
		_ = stream.Reset()
	}
}
