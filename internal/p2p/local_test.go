package p2p

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

// remoteAddrs are places beyond the local network.
var remoteAddrs = []string{
	"/ip4/93.184.216.34/tcp/4001", "/ip6/2606:2800:220:1::1/tcp/4001", "/ip6/::ffff:5db8:d822/tcp/4001",
	"/ip4/100.64.0.1/tcp/4001", "/ip4/0.0.0.0/tcp/4001", "/dns4/example.org/tcp/4001", "/dns4/localhost/tcp/4001",
	"/dnsaddr/bootstrap.example.org",
}

// between is the addresses of a connection.
type between struct{ local, remote ma.Multiaddr }

func (b between) LocalMultiaddr() ma.Multiaddr  { return b.local }
func (b between) RemoteMultiaddr() ma.Multiaddr { return b.remote }

func TestLocalGater(t *testing.T) {
	here := ma.StringCast("/ip4/10.0.0.2/tcp/4001")
	check := func(to string, want bool) {
		m, g := ma.StringCast(to), localGater{}
		if got := g.InterceptAddrDial("", m); got != want {
			t.Errorf("dial %s: %t", to, got)
		}
		if got := g.InterceptAccept(between{here, m}); got != want {
			t.Errorf("accept %s: %t", to, got)
		}
		if got := g.InterceptSecured(network.DirInbound, "", between{here, m}); got != want {
			t.Errorf("secured %s: %t", to, got)
		}
	}
	for _, to := range remoteAddrs {
		check(to, false)
	}
	for _, to := range []string{
		"/ip4/127.0.0.1/tcp/1", "/ip4/10.1.2.3/tcp/1", "/ip4/172.31.0.1/tcp/1", "/ip4/192.168.0.1/tcp/1", "/ip4/169.254.1.1/tcp/1",
		"/ip6/::1/tcp/1", "/ip6/fd00::1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip6zone/eth0/ip6/fe80::1/tcp/1", "/ip6/::ffff:a00:1/tcp/1",
	} {
		check(to, true)
	}
}

// A node of the local network neither dials beyond it nor looks up a name, and
// says so at once.
func TestLocalOnlyDialsNobodyElse(t *testing.T) {
	stranger := server(t)
	for _, to := range remoteAddrs {
		n := start(t, Config{LocalOnly: true, Bootstrap: []string{to + "/p2p/" + stranger.ID()}})
		ctx, cancel := context.WithTimeout(t.Context(), dialTimeout)
		connected, failed := n.connect(ctx)
		late := ctx.Err()
		cancel()
		if connected != 0 || len(failed) != 1 || late != nil {
			t.Errorf("%s: connected %d, %v, %v", to, connected, failed, late)
			continue
		}
		if strings.Contains(to, "dns") || strings.Contains(to, "/0.0.0.0/") {
			continue // such a peer is left without any address before that
		}
		if err := failed[0].Err; !refusedByGater(err) || !strings.Contains(plain(err), errNotLocal.Error()) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func refusedByGater(err error) bool {
	var dial *swarm.DialError
	return errors.As(err, &dial) && len(dial.DialErrors) == 1 && errors.Is(dial.DialErrors[0].Cause, swarm.ErrGaterDisallowedConnection)
}

func TestLocalOnlyNeighboursMeet(t *testing.T) {
	cfg := Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: testServer, LocalOnly: true}
	first := start(t, cfg)
	cfg.Bootstrap = []string{addr(t, first)}
	if connected, failed := start(t, cfg).connect(t.Context()); connected != 1 {
		t.Errorf("a neighbour was refused: %v", failed)
	}
}

func TestCloseAgain(t *testing.T) {
	n := server(t)
	for range 2 { // and once more when the test ends
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	n, err := New(Config{Server: testServer})
	if err == nil || n.Close() != nil {
		t.Errorf("New = %v, %v", n, err)
	}
}
