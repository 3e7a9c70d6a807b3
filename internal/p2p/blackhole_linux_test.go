package p2p

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
)

// blackHole is a peer whose packets nobody answers: a listener whose queue is
// full, for which Linux drops further SYNs.
func blackHole(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	where := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}
	for range 8 {
		c, err := net.DialTimeout("tcp", where.String(), 100*time.Millisecond)
		if err != nil {
			return bootstrapAddr(t, where, 0xbb)
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("a full listener does not become a black hole on this kernel")
	return ""
}

// Bootstrap peers are asked in parallel: those that drop every packet, or accept
// and say nothing, delay nothing but the end of the search, and that only by their
// time-outs.
func TestBlackHoles(t *testing.T) {
	t.Parallel() // it mostly waits
	s := server(t)
	if _, err := s.Publish(t.Context(), discovertest.Pointer(t, stable, 5)); err != nil {
		t.Fatal(err)
	}
	c := client(t, blackHole(t), silentPeer(t), addr(t, s))
	begin := time.Now()
	var first time.Duration
	err := c.Search(t.Context(), stable, func(discover.Candidate) { first = time.Since(begin) })
	whole := time.Since(begin)
	t.Logf("first answer after %v, end after %v", first, whole)
	if err != nil || first == 0 {
		t.Fatalf("not found: %v", err)
	}
	if first >= connectTimeout {
		t.Errorf("first answer took %v", first)
	}
	if whole < connectTimeout {
		t.Errorf("the black hole was not waited for: %v", whole)
	}
	if whole > searchBudget {
		t.Errorf("search took %v", whole)
	}
}

// Half of 50 nodes are gone: some drop every packet, some accept and say nothing.
// The rest still name them, here and where each round trip takes 100 ms.
func TestHalfBlackHoled(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, latency := range map[string]time.Duration{"near": 0, "far": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTown(t, 0)
			w.settle(t, 25)
			var bootstrap []string
			for _, there := range w.nodes {
				at := there.server.Addrs()
				if latency > 0 {
					at = []ma.Multiaddr{farAway(t, at[0], latency)}
				}
				bootstrap = append(bootstrap, at[0].String()+"/p2p/"+there.ID())
				for _, n := range w.nodes {
					if n != there {
						meet(t, n, peer.AddrInfo{ID: there.swarm.LocalPeer(), Addrs: at})
					}
				}
			}
			w.bury(t, 25)
			old, newest := discovertest.Pointer(t, stable, 1), discovertest.Pointer(t, stable, 2)
			for i, n := range w.nodes {
				if i%5 == 4 {
					plant(t, n, stable, newest)
				} else {
					plant(t, n, stable, old)
				}
			}
			found, first, whole := finds(t, start(t, Config{Bootstrap: bootstrap[:3], Log: discard}), newest)
			t.Logf("found after %v, search ended after %v", first.Round(time.Millisecond), whole.Round(time.Millisecond))
			if !found || whole > searchBudget {
				t.Errorf("found: %t, after %v", found, whole)
			}
		})
	}
}

// bury tells the town of peers that are gone.
func (w *town) bury(t testing.TB, count int) {
	t.Helper()
	gone := []string{blackHole(t), silentPeer(t)}
	for i := range count {
		_, id, err := identity(keyOf("gone", uint64(i)))
		if err != nil {
			t.Fatal(err)
		}
		where, err := ma.NewMultiaddr(strings.Split(gone[i%2], "/p2p/")[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range w.nodes {
			meet(t, n, peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{where}})
		}
	}
}

// farAway is an address that leads to another one, and what is said takes latency
// in each direction, the handshake of TCP included.
func farAway(t testing.TB, to ma.Multiaddr, latency time.Duration) ma.Multiaddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := manet.Dial(to)
			if err != nil {
				in.Close()
				continue
			}
			go delayed(out, in, latency, 3*latency) // in believes to be connected a round trip too early
			go delayed(in, out, latency, latency)
		}
	}()
	at, err := manet.FromNetAddr(l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// delayed carries what from says to another end, later; the first of it more.
func delayed(to, from net.Conn, latency, first time.Duration) {
	type piece struct {
		due  time.Time
		data []byte
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer to.Close()
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			_, _ = to.Write(p.data)
		}
	}()
	defer close(pieces)
	open := time.Now().Add(first)
	for {
		b := make([]byte, 4096)
		n, err := from.Read(b)
		if n > 0 {
			due := time.Now().Add(latency)
			if due.Before(open) {
				due = open
			}
			pieces <- piece{due, b[:n]}
		}
		if err != nil {
			return
		}
	}
}

// When all peers are silent, each in its own way, the search says so within its
// budget, and a mirror beside it is used.
func TestAllSilent(t *testing.T) {
	t.Parallel() // it mostly waits
	stop := make(chan struct{})
	falls := liar(t, func(network.Stream) { <-stop })
	defer close(stop)
	c := client(t, blackHole(t), silentPeer(t), addr(t, falls))
	pointer := discovertest.Pointer(t, stable, 6)
	mirror := discover.HTTP{Base: "http://mirror.test", Get: func(context.Context, string, int64) ([]byte, error) { return pointer, nil }}
	found := 0
	answers := discover.Search(t.Context(), stable, searchBudget, []discover.Source{c, mirror}, func(discover.Candidate) { found++ })
	var unreachable *UnreachableError
	if !asError(answers[0].Err, &unreachable) || len(unreachable.Peers) != 3 || unreachable.Err != nil {
		t.Errorf("the search says %v", answers[0].Err)
	}
	if found != 1 || answers[1].Err != nil {
		t.Errorf("found %d, the mirror says %v", found, answers[1].Err)
	}
}
