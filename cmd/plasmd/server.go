package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/provider"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/manifest"
)

// offer is a published folder that this machine serves, and whom it tells.
type offer struct {
	folder, channel, arch string
	bind                  string // address to listen on; empty: all
	port                  int    // of HTTP; 0: a free one
	receipts              string // folder for receipts that nodes deliver; empty: none are taken
	advertise             string // base URL to announce; empty: this machine's addresses
	lookEvery             time.Duration
	serves                func(netip.Addr) bool // whom it answers; nil: everybody
	limits                serveLimits           // of its clients
	access                *slog.Logger          // of requests; nil: they are told with the rest
	// checked keeps what is not in order from being announced: the folder is no
	// publisher's but a machine's own copy, and there will be others. Nobody reads
	// there who asked for what.
	checked bool
	blob    func(blob.Digest) (*os.File, error)        // further blobs to serve; nil: there are none
	speak   func(mdns.Announcement) (announcer, error) // on the local network; nil: nothing is said there
	metrics func(io.Writer)                            // of the rest of this program, for /metrics; nil: there are none
}

// lookEvery is how often a server looks at its folder and at what it told the
// network.
const lookEvery = 5 * time.Second

// server offers a published folder: over HTTP, and in the words of announce.go on
// the DHT and the local network.
type server struct {
	offer    offer
	log      *slog.Logger
	provider *provider.Provider
	listener net.Listener
	peer     publisher        // of the caller; nil: nothing is published on the DHT
	report   func(told) error // of the caller, called once what can be told was, and whenever it changes

	said atomic.Pointer[told] // what was reported last

	// Of announce.go, for one goroutine at a time.
	seen       documents      // what is announced, or why it is not
	root       *manifest.Root // newest of the folder; nil: there is none
	voice      announcer      // on the local network; nil: nothing is said there
	mute       bool           // there was no network to say it on
	spoken     spoken         // what it says
	publishErr error          // why the newest pointer is not on the DHT
	speakErr   error          // why the newest pointer is not told on the local network
	held       []blob.Digest  // what the DHT node announces that is here
	holdErr    error          // why it does not
}

// publisher is a node of the DHT.
type publisher interface {
	ID() string
	Addrs() []string
	SetRoot(*manifest.Root)
	Publish(ctx context.Context, pointer []byte) (p2p.Published, error)
	Publications() []p2p.Publication
	Lend(p2p.Offer)
	Hold([]blob.Digest) error
	Held() []p2p.Holding
}

var _ publisher = (*p2p.Node)(nil)

// openServer takes all sockets and folders, so that what cannot work fails at
// once. The caller closes the server.
func openServer(o offer, log *slog.Logger) (*server, error) {
	s := &server{offer: o, log: log, report: func(told) error { return nil }}
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *server) open() (err error) {
	o := s.offer
	s.provider, err = provider.New(provider.Config{
		Base: o.folder, Channel: o.channel, Arch: o.arch, Version: version.Version, Receipts: o.receipts,
		Blob: o.blob, Network: s.network, Log: s.log, Quiet: o.checked, Access: o.access, Serves: o.serves, Metrics: o.metrics,
		Total: o.limits.total(), PerClient: o.limits.perClient, MaxRate: o.limits.rate,
	})
	if err != nil {
		return err
	}
	if s.listener, err = net.Listen("tcp", net.JoinHostPort(o.bind, strconv.Itoa(o.port))); err != nil {
		return fmt.Errorf("HTTP: %w", err)
	}
	s.seen = s.read()
	if s.root, err = s.seen.parseRoot(); err != nil {
		return err
	}
	if s.root == nil {
		s.log.Warn("no root.json in the published folder: nothing is announced, and the DHT node cannot check records")
	}
	return nil
}

// run serves and announces until ctx ends, which is no error, or a part fails.
func (s *server) run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer fail(nil)
	tasks.Go(func() { s.web(ctx, fail) })
	if err := s.provider.Refresh(ctx); err != nil { // what is announced is there
		return ended(ctx, err)
	}
	tasks.Go(func() { _ = s.provider.Run(ctx) })
	s.announce(ctx)
	defer s.fallSilent()
	if err := s.tellCaller(); err != nil {
		return err
	}
	s.watch(ctx)
	return ended(ctx, context.Cause(ctx))
}

// ended is nil for the end that the caller wanted.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// web answers over HTTP until ctx ends.
func (s *server) web(ctx context.Context, fail context.CancelCauseFunc) {
	if err := s.provider.Serve(ctx, s.listener); err != nil {
		fail(fmt.Errorf("HTTP: %w", err))
	}
}

// url is where this machine reaches its own HTTP server.
func (s *server) url() string {
	addr := s.listener.Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(addr.Port))
}

// close frees what openServer took.
func (s *server) close() {
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.provider != nil {
		_ = s.provider.Close()
	}
}
