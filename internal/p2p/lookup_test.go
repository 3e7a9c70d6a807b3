package p2p

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// strangerIDs are count made-up peers.
func strangerIDs(t testing.TB, count int) []peer.ID {
	t.Helper()
	var out []peer.ID
	for i := range count {
		_, id, err := identity(keyOf("stranger", uint64(i)))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, id)
	}
	return out
}

// A few peers are asked at once, and more when those take their time, up to the
// limit: that most of them are gone does not make a search slow.
func TestWalkHastensSlowly(t *testing.T) {
	n, peers := client(t), strangerIDs(t, 2*parallel)
	synctest.Test(t, func(t *testing.T) {
		leads := make(chan hint, len(peers))
		for _, p := range peers {
			leads <- hint{peer: peer.AddrInfo{ID: p, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/1")}}}
		}
		close(leads)
		ctx, cancel := context.WithCancel(t.Context())
		var asked atomic.Int32
		ended := make(chan []peer.ID)
		go func() {
			ended <- n.walk(ctx, plan{key: []byte("key"), leads: leads, heard: func(reply) {}, ask: func(ctx context.Context, _ peer.ID) reply {
				asked.Add(1)
				<-ctx.Done()
				return reply{err: ctx.Err()}
			}})
		}()
		for _, want := range []int32{atOnce, 2 * atOnce, 3 * atOnce, parallel, parallel, parallel} {
			synctest.Wait()
			if got := asked.Load(); got != want {
				t.Errorf("asked %d, want %d", got, want)
			}
			time.Sleep(soon)
		}
		cancel()
		if answered := <-ended; len(answered) != 0 {
			t.Errorf("answered: %v", answered)
		}
	})
}

// Peers that answer make room at once: no timer is waited for.
func TestWalkOfQuickPeers(t *testing.T) {
	n, peers := client(t), strangerIDs(t, closest)
	synctest.Test(t, func(t *testing.T) {
		leads := make(chan hint, len(peers))
		for _, p := range peers {
			leads <- hint{peer: peer.AddrInfo{ID: p, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/1")}}}
		}
		close(leads)
		begin := time.Now()
		answered := n.walk(t.Context(), plan{key: []byte("key"), leads: leads, heard: func(reply) {}, ask: func(context.Context, peer.ID) reply {
			time.Sleep(time.Millisecond)
			return reply{}
		}})
		if took := time.Since(begin); len(answered) != closest || took != closest/atOnce*time.Millisecond {
			t.Errorf("%d answered after %v", len(answered), took)
		}
	})
}

// A walk is idle when somebody answered and all others take their time.
func TestWalkIdle(t *testing.T) {
	n, peers := client(t), strangerIDs(t, 2)
	synctest.Test(t, func(t *testing.T) {
		leads := make(chan hint, len(peers))
		for _, p := range peers {
			leads <- hint{peer: peer.AddrInfo{ID: p, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/1")}}}
		}
		close(leads)
		begin, idle := time.Now(), time.Duration(0)
		n.walk(t.Context(), plan{key: []byte("key"), leads: leads, heard: func(reply) {},
			ask: func(_ context.Context, p peer.ID) reply {
				if p == peers[0] {
					time.Sleep(4 * soon)
				} else {
					time.Sleep(2 * soon)
				}
				return reply{}
			},
			idle: func() {
				if idle == 0 {
					idle = time.Since(begin)
				}
			},
		})
		if idle != 2*soon {
			t.Errorf("idle after %v", idle)
		}
	})
}

// The other places are asked once there is a record.
func TestOtherPlacesWait(t *testing.T) {
	n, peers := client(t), strangerIDs(t, 3)
	f := &fetching{node: n, keys: []string{stable.Key()}, held: func(peer.ID, string, []byte) {}, begun: make(chan struct{}), failed: failures{}, told: map[peer.ID]bool{}}
	begun := func() bool {
		select {
		case <-f.begun:
			return true
		default:
			return false
		}
	}
	f.hear(reply{from: peers[0]})
	f.tell(peers[0], nil)
	if begun() {
		t.Error("begun without a record")
	}
	for _, p := range peers {
		f.tell(p, [][]byte{[]byte("record")})
	}
	if !begun() {
		t.Error("not begun")
	}
}
