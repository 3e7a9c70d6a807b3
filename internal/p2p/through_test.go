package p2p

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/phasebased/phase/internal/discover/discovertest"
)

// way counts who is dialled, and dials.
type way struct {
	mu   sync.Mutex
	seen []string
	err  error
}

func (w *way) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.seen = append(w.seen, network+" "+address)
	err := w.err
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{c}, nil // no TCP socket, as far as anybody can see
}

func TestEverythingGoesThroughDial(t *testing.T) {
	servers := mesh(t, 3)
	pointer := discovertest.Pointer(t, stable, 7)
	if _, err := servers[0].Publish(t.Context(), pointer); err != nil {
		t.Fatal(err)
	}
	w := &way{}
	n := start(t, Config{Bootstrap: []string{addr(t, servers[1])}, Dial: w.dial})
	got, err := search(t, n, stable)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Pointer, pointer) {
		t.Errorf("%d candidates, error %v", len(got), err)
	}
	if n.Peers() == 0 || len(w.seen) < n.Peers() {
		t.Errorf("%d peers by %d connections: %q", n.Peers(), len(w.seen), w.seen)
	}
	closed := &way{err: errors.New("the way is closed")}
	_, err = search(t, start(t, Config{Bootstrap: []string{addr(t, servers[1])}, Dial: closed.dial}), stable)
	if err == nil || !strings.Contains(err.Error(), "the way is closed") {
		t.Errorf("without a way: %v", err)
	}
}

func TestDialLooksUpNothing(t *testing.T) {
	const peer = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"
	w := &way{}
	for _, addr := range []string{"/dnsaddr/bootstrap.example", "/dns4/bootstrap.example/tcp/4001/p2p/" + peer} {
		_, err := search(t, start(t, Config{Bootstrap: []string{addr}, Dial: w.dial}), stable)
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), errNoNames.Error()) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if len(w.seen) > 0 {
		t.Errorf("dialled %q", w.seen)
	}
}

func TestDialRefusals(t *testing.T) {
	w := &way{}
	for name, cfg := range map[string]Config{
		"local":    {LocalOnly: true},
		"resolver": {Resolver: net.DefaultResolver},
		"server":   {Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Server: func(Half) (Server, error) { return nil, nil }},
	} {
		cfg.Dial = w.dial
		if n, err := New(cfg); err == nil {
			n.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	tr := &through{dial: w.dial}
	if _, err := tr.Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0")); !errors.Is(err, errNoListening) {
		t.Errorf("listening: %v", err)
	}
	for addr, want := range map[string]bool{
		"/ip4/192.0.2.1/tcp/1": true, "/ip6/2001:db8::1/tcp/1": true, "/ip4/192.0.2.1/udp/1/quic-v1": false,
		"/dns4/example/tcp/1": false, "/ip4/192.0.2.1/tcp/1/ws": false, "/unix/tmp/x": false,
	} {
		if got := tr.CanDial(ma.StringCast(addr)); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
	if !slices.Equal(tr.Protocols(), []int{ma.P_TCP}) || tr.Proxy() {
		t.Error("it says that it is more than TCP")
	}
}
