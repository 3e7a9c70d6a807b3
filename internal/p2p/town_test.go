package p2p

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/phasebased/phase/internal/discover"
)

// acquainted is how many others each node of a town has heard of.
const acquainted = 80

// A town is a network of servers on real sockets whose members know of one
// another from the start, as they would after hours of traffic. They are connected
// only where somebody asks somebody.
type town struct {
	nodes   []*Node
	started uint64
	random  *rand.Rand
}

// newTown starts servers with fixed identities, so that each run has the same
// distances.
func newTown(t testing.TB, size int) *town {
	t.Helper()
	w := &town{random: rand.New(rand.NewPCG(1, uint64(size)))}
	w.settle(t, size)
	w.acquaint(t, w.nodes)
	return w
}

// settle starts more servers, which nobody knows yet.
func (w *town) settle(t testing.TB, count int) {
	t.Helper()
	for range count {
		w.started++
		w.nodes = append(w.nodes, start(t, Config{
			Key: keyOf("citizen", w.started), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, Log: discard,
		}))
	}
}

// acquaint lets every member of the town hear of some of the others.
func (w *town) acquaint(t testing.TB, others []*Node) {
	t.Helper()
	for _, n := range w.nodes {
		for _, i := range w.random.Perm(len(others))[:min(len(others), acquainted)] {
			introduce(t, n, others[i])
		}
	}
}

// some are count different members.
func (w *town) some(count int) []*Node {
	var out []*Node
	for _, i := range w.random.Perm(len(w.nodes))[:count] {
		out = append(out, w.nodes[i])
	}
	return out
}

// visitor is a client that starts from these nodes.
func visitor(t testing.TB, through ...*Node) *Node {
	t.Helper()
	var bootstrap []string
	for _, n := range through {
		bootstrap = append(bootstrap, addr(t, n))
	}
	return start(t, Config{Bootstrap: bootstrap, Log: discard})
}

// introduce tells a who and where b is.
func introduce(t testing.TB, a, b *Node) {
	t.Helper()
	if a != b {
		meet(t, a, peer.AddrInfo{ID: b.swarm.LocalPeer(), Addrs: b.server.Addrs()})
	}
}

// meet tells n of a peer that speaks the DHT's protocol.
func meet(t testing.TB, n *Node, p peer.AddrInfo) {
	t.Helper()
	n.swarm.Peerstore().AddAddrs(p.ID, p.Addrs, peerstore.PermanentAddrTTL)
	_, err := table(n).TryAddPeer(p.ID, true, false)
	if err != nil && !errors.Is(err, kb.ErrPeerRejectedNoCapacity) {
		t.Error(err)
	}
}

// keyOf is a fixed identity out of many.
func keyOf(kind string, i uint64) ed25519.PrivateKey {
	return keyFrom(sha256.Sum256(binary.BigEndian.AppendUint64([]byte(kind), i)))
}

// mined are count identities whose IDs share at least bits leading bits with a
// key's place, which is what an attacker makes in a second.
func mined(t testing.TB, key string, count, bits int) []ed25519.PrivateKey {
	t.Helper()
	place := sha256.Sum256([]byte(key))
	found := make(chan ed25519.PrivateKey, count)
	stop := make(chan struct{})
	var mining sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		mining.Go(func() {
			for i := uint64(w); ; i += uint64(workers) {
				k := keyOf("sybil", i)
				_, id, err := identity(k)
				if err != nil {
					return
				}
				if h := sha256.Sum256([]byte(id)); commonBits(h, place) < bits {
					continue
				}
				select {
				case found <- k:
				case <-stop:
					return
				}
			}
		})
	}
	var out []ed25519.PrivateKey
	for range count {
		out = append(out, <-found)
	}
	close(stop)
	mining.Wait()
	return out
}

func commonBits(a, b [sha256.Size]byte) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			n := 8 * i
			for ; x&0x80 == 0; x <<= 1 {
				n++
			}
			return n
		}
	}
	return 8 * len(a)
}

// liars are hostile servers anywhere.
func liars(t testing.TB, count int, value func(i int) []byte) []*Node {
	t.Helper()
	var keys []ed25519.PrivateKey
	for i := range count {
		keys = append(keys, keyOf("liar", uint64(i)))
	}
	return gang(t, keys, value)
}

// gang is hostile servers that work together: they refer to one another only,
// confirm every record they are offered and keep none, and answer with whatever
// value gives the i-th of them; nil withholds.
func gang(t testing.TB, keys []ed25519.PrivateKey, value func(i int) []byte) []*Node {
	t.Helper()
	var out []*Node
	var members []*pb.Message_Peer
	for i, k := range keys {
		own := value(i)
		n := start(t, Config{Key: k, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Log: discard, Server: speaking(answering(func(req *pb.Message) *pb.Message {
			if req.Type == pb.Message_PUT_VALUE {
				return req
			}
			m := pb.NewMessage(req.Type, req.Key, 0)
			if own != nil {
				m.Record = putRecord(string(req.Key), own)
			}
			h := sha256.Sum256(fmt.Appendf(nil, "%s %d", req.Key, i))
			at := int(binary.BigEndian.Uint16(h[:])) % len(members)
			m.CloserPeers = append(m.CloserPeers, members[at:min(len(members), at+2*closest)]...)
			return m
		}))})
		out = append(out, n)
		members = append(members, &pb.Message_Peer{Id: []byte(n.swarm.LocalPeer()), Addrs: [][]byte{n.server.Addrs()[0].Bytes()}})
	}
	return out
}

// holders are the members of the town that really hold value.
func (w *town) holders(t testing.TB, value []byte) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, n := range w.nodes {
		if bytes.Equal(n.local(t.Context(), stable.Key()), value) {
			out[n.ID()] = true
		}
	}
	return out
}

// finds searches once and reports whether value was among what was found, after
// what time, and when the search ended.
func finds(t testing.TB, n *Node, value []byte) (found bool, first, whole time.Duration) {
	t.Helper()
	begin := time.Now()
	_ = n.Search(t.Context(), stable, func(c discover.Candidate) {
		if bytes.Equal(c.Pointer, value) {
			found, first = true, time.Since(begin)
		}
	})
	return found, first, time.Since(begin)
}

var discard = slog.New(slog.DiscardHandler)
