package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/provider"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/manifest"
)

// serveFlags are those of plasmd serve.
type serveFlags struct {
	artifacts, channel, arch, bind       string
	port, p2pPort                        int
	noDHT, noMDNS, ephemeral, verbose    bool
	lookEvery                            time.Duration                              // at the folder's root and pointer
	speak                                func(mdns.Announcement) (announcer, error) // on the local network
	p2pListen, bootstrap                 []string
	state, receipts, advertise, readyFor string
}

func newServe() *cobra.Command {
	f := serveFlags{lookEvery: 5 * time.Second, speak: speakMDNS}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a published folder over HTTP and announce it on the DHT and the local network",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return usageError{err}
			}
			return f.serve(cmd.Context(), newLog(cmd.ErrOrStderr(), f.verbose))
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.artifacts, "artifacts", "a", "", "published folder: <channel>/<arch>/… and blobs/… (required)")
	flags.StringVarP(&f.channel, "channel", "c", manifest.ChannelStable, "channel to announce")
	flags.StringVarP(&f.arch, "arch", "A", runtime.GOARCH, "architecture to announce, x86_64 or arm64")
	flags.IntVarP(&f.port, "port", "p", 8080, "HTTP port; 0 picks a free one")
	flags.StringVarP(&f.bind, "bind", "b", "", "address to listen on (default all)")
	flags.BoolVar(&f.noDHT, "no-dht", false, "do not publish on the DHT")
	flags.BoolVar(&f.noMDNS, "no-mdns", false, "do not announce on the local network")
	flags.IntVar(&f.p2pPort, "p2p-port", 4001, "TCP port of the DHT node; 0 picks a free one")
	flags.StringArrayVar(&f.p2pListen, "p2p-listen", nil, "multiaddr of the DHT node instead of --bind and --p2p-port, repeatable")
	flags.StringArrayVar(&f.bootstrap, "bootstrap", nil, "peer to join the DHT through, as …/p2p/<id>, repeatable; without any this node is the first")
	flags.StringVar(&f.state, "state", defaultState(), "folder of this node's identity")
	flags.BoolVar(&f.ephemeral, "ephemeral", false, "use a fresh identity that is never stored")
	flags.StringVar(&f.receipts, "receipts", "", "folder for receipts that nodes deliver (default: take none)")
	flags.StringVar(&f.advertise, "advertise", "", "base URL to announce on the local network (default this machine's addresses)")
	flags.StringVar(&f.readyFor, "ready-file", "", "file to write, as JSON, once all is served and published")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log more")
	return cmd
}

func (f *serveFlags) check() error {
	arch, err := manifest.ParseArch(f.arch)
	if err != nil {
		return err
	}
	f.arch = arch
	if f.artifacts == "" {
		return errors.New("--artifacts is required: name the published folder")
	}
	if f.bind != "" && net.ParseIP(f.bind) == nil {
		return fmt.Errorf("--bind %q is not an IP address", f.bind)
	}
	if f.advertise != "" {
		if err := discover.CheckBase(f.advertise); err != nil {
			return err
		}
	}
	for _, addr := range f.bootstrap {
		if err := p2p.CheckBootstrap(addr); err != nil {
			return err
		}
	}
	return manifest.CheckChannel(f.channel)
}

// server is plasmd serve at work.
type server struct {
	flags    *serveFlags
	log      *slog.Logger
	provider *provider.Provider
	listener net.Listener
	peer     *p2p.Node // nil without DHT
	tasks    sync.WaitGroup

	// Of announce.go, for one goroutine at a time.
	seen  documents      // what is announced, or why it is not
	root  *manifest.Root // newest of the folder; nil: there is none
	voice announcer      // on the local network; nil: nothing is said there
	mute  bool           // there was no network to say it on
	said  int64          // the version that it says
}

func (f *serveFlags) serve(ctx context.Context, log *slog.Logger) error {
	s := &server{flags: f, log: log}
	defer s.close()
	if err := s.open(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer s.tasks.Wait()
	defer cancel(nil)
	s.background(ctx, cancel)
	ready := readyFile{HTTP: s.url(), P2PAddrs: []string{}, Published: []published{}}
	if s.peer != nil {
		ready.PeerID, ready.P2PAddrs = s.peer.ID(), nonNil(s.peer.Addrs())
	}
	s.announce(ctx, &ready)
	defer s.fallSilent()
	if err := s.sayReady(ready); err != nil {
		return err
	}
	s.watch(ctx)
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("provider stops")
	return nil
}

// open takes all sockets and folders, so that what cannot work fails at once.
func (s *server) open() (err error) {
	f := s.flags
	s.provider, err = provider.New(provider.Config{
		Base: f.artifacts, Channel: f.channel, Arch: f.arch, Version: version.Version, Receipts: f.receipts, Log: s.log,
	})
	if err != nil {
		return err
	}
	if s.listener, err = net.Listen("tcp", net.JoinHostPort(f.bind, strconv.Itoa(f.port))); err != nil {
		return fmt.Errorf("HTTP: %w", err)
	}
	s.seen = s.read()
	if s.root, err = s.seen.parseRoot(); err != nil {
		return err
	}
	if s.root == nil {
		s.log.Warn("no root.json in the published folder: nothing is announced, and the DHT node cannot check records")
	}
	if f.noDHT {
		return nil
	}
	return s.openPeer()
}

func (s *server) openPeer() error {
	f := s.flags
	st, err := openState(f.state, f.ephemeral)
	if err != nil {
		return err
	}
	key, err := st.key()
	if err != nil {
		return err
	}
	s.peer, err = p2p.New(p2p.Config{
		Key: key, Listen: f.listenAddrs(), Bootstrap: f.bootstrap, Server: true, Root: s.root, Log: s.log,
	})
	return err
}

// listenAddrs are the multiaddrs of the DHT node.
func (f *serveFlags) listenAddrs() []string {
	if len(f.p2pListen) > 0 {
		return f.p2pListen
	}
	port := strconv.Itoa(f.p2pPort)
	ip := net.ParseIP(f.bind)
	switch {
	case ip == nil:
		return []string{"/ip4/0.0.0.0/tcp/" + port, "/ip6/::/tcp/" + port}
	case ip.To4() != nil:
		return []string{"/ip4/" + ip.String() + "/tcp/" + port}
	}
	return []string{"/ip6/" + ip.String() + "/tcp/" + port}
}

// stopTimeout is how long answers under way may take when the program ends.
const stopTimeout = 3 * time.Second

// background starts what runs until ctx ends, and ends all if a part fails.
func (s *server) background(ctx context.Context, fail context.CancelCauseFunc) {
	web := provider.Server(s.provider)
	web.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	s.tasks.Go(func() {
		if err := web.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			fail(fmt.Errorf("HTTP: %w", err))
		}
	})
	s.tasks.Go(func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if web.Shutdown(grace) != nil {
			_ = web.Close()
		}
	})
	s.tasks.Go(func() { _ = s.provider.Run(ctx) })
	if s.peer != nil {
		s.tasks.Go(func() {
			if err := s.peer.Run(ctx); err != nil {
				fail(fmt.Errorf("DHT: %w", err))
			}
		})
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

// readyFile is what machines read once this provider is up.
type readyFile struct {
	HTTP         string      `json:"http"` // URL of the HTTP server
	PeerID       string      `json:"peer_id"`
	P2PAddrs     []string    `json:"p2p_addrs"`
	Published    []published `json:"published"` // empty if nothing was, see PublishError
	PublishError string      `json:"publish_error,omitempty"`
}

type published struct {
	Key            string    `json:"key"`
	At             time.Time `json:"at"`
	AcknowledgedBy []string  `json:"acknowledged_by"`
	Size           int       `json:"size"`
}

func (s *server) sayReady(ready readyFile) error {
	s.log.Info("serving", "url", ready.HTTP, "folder", s.flags.artifacts, "peer", ready.PeerID, "addrs", ready.P2PAddrs)
	if s.flags.readyFor == "" {
		return nil
	}
	text, err := json.MarshalIndent(ready, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(s.flags.readyFor, append(text, '\n'), 0o644)
}

// close frees what open took.
func (s *server) close() {
	if s.peer != nil {
		_ = s.peer.Close()
	}
	if s.listener != nil {
		_ = s.listener.Close()
	}
	if s.provider != nil {
		_ = s.provider.Close()
	}
}
