package p2p

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
)

// After Close nothing remains: no goroutine and no socket, also if searches were
// cut short and peers were silent.
func TestCloseLeavesNothing(t *testing.T) {
	waitFor(t, "the end of other tests", func() string { return strings.Join(goroutines(), "\n\n") })
	sockets := len(openSockets(t))
	name := newNameServer(t, nil)
	name.silence("_dnsaddr.dead.test")
	silent := silentPeer(t)
	others := len(openSockets(t)) - sockets

	var nodes []*Node
	open := func(cfg Config) *Node {
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
		return n
	}
	listen := []string{"/ip4/127.0.0.1/tcp/0"}
	a := open(Config{Listen: listen, Server: testServer})
	b := open(Config{Listen: listen, Server: testServer, Bootstrap: []string{addr(t, a)}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	if _, err := b.Publish(ctx, discovertest.Pointer(t, stable, 1)); err != nil {
		t.Fatal(err)
	}
	seed := open(Config{Resolver: name.resolver(), Bootstrap: []string{addr(t, a), addr(t, b), silent, "/dnsaddr/dead.test"}})
	short, stop := context.WithCancel(ctx)
	found := 0
	if err := seed.Search(short, stable, func(discover.Candidate) { found++; stop() }); found == 0 {
		t.Errorf("found nothing: %v", err)
	}
	stop()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, n := range nodes {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	waitFor(t, "goroutines", func() string { return strings.Join(goroutines(), "\n\n") })
	waitFor(t, "sockets", func() string {
		if open := openSockets(t); len(open) > sockets+others {
			return strings.Join(open, " ")
		}
		return ""
	})
}

// goroutines are the stacks of those that nodes started.
func goroutines() []string {
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var out []string
	for _, s := range strings.Split(string(stacks), "\n\n") {
		ours := strings.Contains(s, "libp2p") || strings.Contains(s, "phase/internal/p2p.")
		test := strings.Contains(s, "testing.tRunner") || strings.Contains(s, "miekg/dns") || strings.Contains(s, "_test.go")
		if ours && !test {
			out = append(out, s)
		}
	}
	return out
}

// openSockets are the sockets of this process, connected ones on their way out
// included.
func openSockets(t testing.TB) []string {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			out = append(out, to)
		}
	}
	return out
}
