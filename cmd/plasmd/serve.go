package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
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
	"github.com/phasebased/phase/internal/p2p/dhtserver"
	"github.com/phasebased/phase/manifest"
)

// serveFlags are those of plasmd serve.
type serveFlags struct {
	artifacts, channel, arch, bind       string
	port, p2pPort                        int
	noDHT, noMDNS, ephemeral             bool
	logs                                 logFlags
	lookEvery                            time.Duration                              // at the folder's root and pointer
	speak                                func(mdns.Announcement) (announcer, error) // on the local network
	p2pListen, bootstrap                 []string
	state, receipts, advertise, readyFor string
	accessLog, maxRate                   string
	limits                               serveLimits
}

const serveExample = `  plasmd serve -a site                           # to everybody, on port 8080
  plasmd serve -a site -b 127.0.0.1 -p 9000 --no-dht --no-mdns
  plasmd serve -a site --max-rate 20M --access-log /var/log/plasmd-access.log
  curl -C - -O http://localhost:8080/stable/x86_64/rootfs`

func newServe() *cobra.Command {
	f := serveFlags{lookEvery: lookEvery, speak: speakMDNS}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a published folder over HTTP and announce it on the DHT and the local network",
		Long: `Serve a published folder over HTTP and announce it on the DHT and the local network.

Clients may take as long as they like, as long as they take something. Who finds
no room is answered 429 or 503 and asked to come again. GET /metrics has figures
for Prometheus; plasmd provider status shows the most important ones.`,
		Example: serveExample,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return usageError{err}
			}
			log, err := f.logs.open(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return f.serve(cmd.Context(), log)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.artifacts, "artifacts", "a", "", "published folder: <channel>/<arch>/… and blobs/… (required)")
	flags.StringVarP(&f.channel, "channel", "c", manifest.ChannelStable, "channel to announce")
	flags.StringVarP(&f.arch, "arch", "A", runtime.GOARCH, "architecture to announce, x86_64 or arm64 (default: this machine's)")
	flags.Lookup("arch").DefValue = "" // it would stand in the help, by Go's name
	flags.IntVarP(&f.port, "port", "p", 8080, "HTTP port; 0 picks a free one")
	flags.StringVarP(&f.bind, "bind", "b", "", "address to listen on (default all)")
	flags.BoolVar(&f.noDHT, "no-dht", false, "do not publish on the DHT")
	flags.BoolVar(&f.noMDNS, "no-mdns", false, "do not announce on the local network")
	flags.IntVar(&f.p2pPort, "p2p-port", 4001, "TCP port of the DHT node; 0 picks a free one")
	flags.StringArrayVar(&f.p2pListen, "p2p-listen", nil, "`multiaddr` of the DHT node instead of --bind and --p2p-port, repeatable")
	flags.StringArrayVar(&f.bootstrap, "bootstrap", nil, "`peer` to join the DHT through, as …/p2p/<id>, repeatable; without any this node is the first")
	stateFlag(cmd, &f.state, "folder of this node's identity")
	flags.BoolVar(&f.ephemeral, "ephemeral", false, "use a fresh identity that is never stored")
	flags.StringVar(&f.receipts, "receipts", "", "folder for receipts that nodes deliver (default: take none)")
	flags.StringVar(&f.advertise, "advertise", "", "base URL to announce on the local network (default this machine's addresses)")
	flags.StringVar(&f.readyFor, "ready-file", "", "file to write, as JSON, once all is served and published, and whenever that changes")
	flags.IntVar(&f.limits.requests, "max-requests", 0, "requests under way in all (default what this machine has room for, at most 2048)")
	flags.IntVar(&f.limits.perClient, "max-per-client", 0, "requests under way of one address, or IPv6 /64 (default a sixteenth of all)")
	flags.StringVar(&f.maxRate, "max-rate", "", "bytes per second sent in all, such as 500k, 20M or 1G, in powers of 1024 (default no limit)")
	flags.StringVar(&f.accessLog, "access-log", "-", "file for a line per request, put aside as FILE.1 when it has 16 MiB; - is the log on standard error, off is none")
	f.logs.add(cmd)
	return cmd
}

// parseRate reads bytes per second: a number, and k, M or G for powers of 1024.
// An empty text is 0, no limit.
func parseRate(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	digits, unit := text, int64(1)
	if i := strings.IndexByte("kmg", text[len(text)-1]|0x20); i >= 0 {
		digits, unit = text[:len(text)-1], 1<<(10*(i+1))
	}
	n, err := strconv.ParseUint(digits, 10, 40)
	if err != nil || n == 0 || int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("--max-rate %q is not a number of bytes per second, such as 20M", text)
	}
	return int64(n) * unit, nil
}

func (f *serveFlags) check() error {
	arch, err := manifest.ParseArch(f.arch)
	if err != nil {
		return err
	}
	f.arch = arch
	if f.limits.rate, err = parseRate(f.maxRate); err != nil {
		return err
	}
	if f.limits.requests < 0 || f.limits.perClient < 0 {
		return errors.New("--max-requests and --max-per-client are numbers above 0")
	}
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
		limits: f.limits,
	}
	if f.noMDNS {
		o.speak = nil
	}
	return o
}

// serve works until ctx ends or a part fails.
func (f *serveFlags) serve(ctx context.Context, log *slog.Logger) error {
	offer := f.offer()
	access, closer, err := openAccessLog(f.accessLog, log)
	if err != nil {
		return err
	}
	defer closer.Close()
	offer.access = access
	s, err := openServer(offer, log)
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
