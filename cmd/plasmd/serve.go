package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
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
	p2pListen, bootstrap                 []string
	state, receipts, advertise, readyFor string
}

func newServe() *cobra.Command {
	var f serveFlags
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
	root     *manifest.Root // newest of the folder; nil: there is none
	peer     *p2p.Node      // nil without DHT
	tasks    sync.WaitGroup
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
	s.publish(ctx, &ready)
	if stop := s.announce(); stop != nil {
		defer stop()
	}
	if err := s.sayReady(ready); err != nil {
		return err
	}
	<-ctx.Done()
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
	if s.root, err = s.readRoot(); err != nil {
		return err
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

// readRoot reads what the folder's own publisher signs with, the newest root. It
// keeps strangers' records off this DHT node; without it the node takes any
// well-formed record of others and publishes none itself.
func (s *server) readRoot() (*manifest.Root, error) {
	raw, err := readBounded(s.folder("root.json"), manifest.MaxRootBytes)
	if errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("no root.json in the published folder: nothing is announced, and the DHT node cannot check records")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return manifest.ParseRoot(raw)
}

// errNoRoot says why nothing is announced.
var errNoRoot = errors.New("there is no root.json beside the pointer, so that nobody can say whether it is right")

// pointer reads the folder's pointer and verifies it as a seed would: what this
// machine cannot verify it does not announce.
func (s *server) pointer() ([]byte, manifest.Pointer, error) {
	raw, err := readBounded(s.folder("pointer.json"), p2p.MaxRecord)
	if err != nil {
		return nil, manifest.Pointer{}, err
	}
	if s.root == nil {
		return nil, manifest.Pointer{}, errNoRoot
	}
	v := manifest.Verifier{Root: s.root, Want: manifest.Want{Channel: s.flags.channel, Arch: s.flags.arch}}
	verified, err := v.Pointer(raw, time.Now())
	if err != nil {
		return nil, manifest.Pointer{}, err
	}
	return raw, verified.Pointer(), nil
}

// folder is the path of one document of what is announced.
func (s *server) folder(name string) string {
	return filepath.Join(s.flags.artifacts, s.flags.channel, s.flags.arch, name)
}

// Limits of a connection. There is none on the time of an answer: a large file
// on a slow line takes as long as it takes, and the provider bounds how many.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 60 * time.Second
	maxHeader     = 16 << 10
	stopTimeout   = 3 * time.Second
)

// background starts what runs until ctx ends, and ends all if a part fails.
func (s *server) background(ctx context.Context, fail context.CancelCauseFunc) {
	web := &http.Server{
		Handler: s.provider, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
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

// publish puts the folder's pointer on the DHT. That it could not is told, and
// no reason to stop serving.
func (s *server) publish(ctx context.Context, ready *readyFile) {
	if s.peer == nil {
		return
	}
	ready.PeerID, ready.P2PAddrs = s.peer.ID(), nonNil(s.peer.Addrs())
	pointer, _, err := s.pointer()
	var done p2p.Published
	if err == nil {
		done, err = s.peer.Publish(ctx, pointer)
	}
	if err != nil {
		ready.PublishError = err.Error()
		s.log.Error("not published on the DHT", "err", err, "code", codeOf(err))
		return
	}
	ready.Published = append(ready.Published, published{
		Key: done.Key, At: done.At.UTC(), AcknowledgedBy: nonNil(done.AcknowledgedBy), Size: done.Size,
	})
	s.log.Info("published on the DHT", "key", done.Key, "acknowledged_by", done.AcknowledgedBy, "bytes", done.Size)
	if len(done.AcknowledgedBy) == 1 && done.AcknowledgedBy[0] == s.peer.ID() {
		s.log.Info("only this node holds the record; who wants it must know this node", "addrs", s.peer.Addrs())
	}
}

// announce tells the local network, unless it was told not to. The result
// takes it back.
func (s *server) announce() (stop func()) {
	f := s.flags
	if f.noMDNS {
		return nil
	}
	_, pointer, err := s.pointer()
	if err != nil {
		s.log.Error("not announced on the local network", "err", err, "code", codeOf(err))
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		host = "phase"
	}
	a, err := mdns.Announce(mdns.Announcement{
		Host: host, Query: discover.Query{Channel: f.channel, Arch: f.arch}, Version: pointer.ManifestVersion,
		Manifest: strings.TrimSuffix(f.advertise, "/") + "/" + f.channel + "/" + f.arch + "/manifest.json",
		Port:     s.listener.Addr().(*net.TCPAddr).Port,
	})
	if err != nil {
		s.log.Error("not announced on the local network", "err", err)
		return nil
	}
	said := a.Announced()
	s.log.Info("announced on the local network", "instance", said.Instance, "port", said.Port, "addrs", said.Addrs)
	return func() { _ = a.Close() }
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
