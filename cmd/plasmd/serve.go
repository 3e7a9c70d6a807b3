package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/dhtserver"
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
	f := serveFlags{lookEvery: lookEvery, speak: speakMDNS}
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
	flags.StringVar(&f.readyFor, "ready-file", "", "file to write, as JSON, once all is served and published, and whenever that changes")
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

// offer is what the flags ask for.
func (f *serveFlags) offer() offer {
	o := offer{
		folder: f.artifacts, channel: f.channel, arch: f.arch, bind: f.bind, port: f.port,
		receipts: f.receipts, advertise: f.advertise, lookEvery: f.lookEvery, speak: f.speak,
	}
	if f.noMDNS {
		o.speak = nil
	}
	return o
}

// serve works until ctx ends or a part fails.
func (f *serveFlags) serve(ctx context.Context, log *slog.Logger) error {
	s, err := openServer(f.offer(), log)
	if err != nil {
		return err
	}
	defer s.close()
	ready := readyFile{HTTP: s.url(), P2PAddrs: []string{}}
	ctx, cancel := context.WithCancelCause(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel(nil)
	if !f.noDHT {
		peer, err := f.openPeer(s.root, log)
		if err != nil {
			return err
		}
		defer peer.Close()
		s.peer, ready.PeerID, ready.P2PAddrs = peer, peer.ID(), nonNil(peer.Addrs())
		tasks.Go(func() {
			if err := peer.Run(ctx); err != nil {
				cancel(fmt.Errorf("DHT: %w", err))
			}
		})
	}
	log.Info("serving", "url", ready.HTTP, "folder", f.artifacts, "peer", ready.PeerID, "addrs", ready.P2PAddrs)
	s.report = func(t told) error {
		ready.told = t
		return f.writeReady(ready)
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("provider stops")
	return nil
}

func (f *serveFlags) openPeer(root *manifest.Root, log *slog.Logger) (*p2p.Node, error) {
	st, err := openState(f.state, f.ephemeral)
	if err != nil {
		return nil, err
	}
	key, err := st.key()
	if err != nil {
		return nil, err
	}
	return p2p.New(p2p.Config{
		Key: key, Listen: f.listenAddrs(), Bootstrap: f.bootstrap, Server: dhtserver.New, Root: root, Log: log,
	})
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

// readyFile is what machines read once this provider is up. It follows what the
// network is told.
type readyFile struct {
	HTTP     string   `json:"http"` // URL of the HTTP server
	PeerID   string   `json:"peer_id"`
	P2PAddrs []string `json:"p2p_addrs"`
	told
}

func (f *serveFlags) writeReady(ready readyFile) error {
	if f.readyFor == "" {
		return nil
	}
	text, err := json.MarshalIndent(ready, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(f.readyFor, append(text, '\n'), 0o644)
}
