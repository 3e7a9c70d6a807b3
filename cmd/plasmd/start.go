package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/timeline"
)

// startFlags are those of plasmd start.
type startFlags struct {
	config, events, booted, state string
	publish, proxyFile            string
	listen, peers, modes          []string
	ephemeral                     bool
	logs                          logFlags
	speak                         func(mdns.Announcement) (announcer, error) // on the local network
	service                       func(*slog.Logger) *service                // that started this process
}

func newStart() *cobra.Command {
	f := startFlags{speak: speakMDNS, service: systemService}
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run the node: join the network, run boot jobs, sign and deliver receipts",
		Long: `Runs the node until it is told to stop: it joins the network, runs jobs, signs receipts
and delivers them, and offers to others what this machine booted. Flags win over the
configuration. A first interrupt, or SIGTERM, lets it end its jobs.

Exit status: 0 it was told to stop, 1 it could not start or go on, 2 wrong usage.`,
		Example: "  plasmd start\n  plasmd start --config node.json --state /srv/plasm --log-format json\n" +
			"  plasmd start --listen /ip4/0.0.0.0/tcp/4001 --peer /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.start(cmd.Context(), cmd.ErrOrStderr()) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.config, "config", "c", "", "configuration file (default ~/.config/plasm/config.json, then "+systemConfig+")")
	flags.StringArrayVarP(&f.listen, "listen", "l", nil, "`multiaddr` to listen on instead of listen_addrs, repeatable")
	flags.StringArrayVarP(&f.peers, "peer", "p", nil, "`peer` to join through, as …/p2p/<id>, repeatable")
	flags.StringVar(&f.events, "events", "", "file or device that receives events as JSON lines")
	flags.StringVar(&f.booted, "booted", "", "the seed's hand-over file, which says what this machine booted")
	flags.StringVar(&f.publish, "publish", "", "published folder of what this machine booted, to offer to others; needs --booted")
	flags.StringVar(&f.proxyFile, "proxy-file", "", "file with the URL of a proxy for HTTP and HTTPS; never used in local mode")
	flags.StringArrayVar(&f.modes, "mode", nil, "`mode`: internet, local or private, repeatable; the hand-over file's mode counts as well (default no limits)")
	stateFlag(cmd, &f.state, "folder of identity, receipts and modules")
	flags.BoolVar(&f.ephemeral, "ephemeral", false, "use a fresh identity that is never stored")
	f.logs.add(cmd)
	return cmd
}

func (f *startFlags) start(ctx context.Context, logs io.Writer) error {
	log, err := f.logs.open(logs)
	if err != nil {
		return err
	}
	events, err := openEvents(f.events)
	if err != nil {
		return err
	}
	defer events.Close()
	rec := timeline.NewRecorder(timeline.Config{Kernel: timeline.KernelNode, Now: timeline.SinceBoot, Events: events})
	manager := f.service(log)
	defer manager.close()
	d := &daemon{rec: rec, log: log, speak: f.speak, manager: manager}
	d.shared.folder = f.publish
	if err := f.prepare(d); err != nil {
		rec.Send(failed(err))
		return err
	}
	err = d.run(ctx)
	if err != nil {
		rec.Send(failed(err))
	}
	if lost := rec.Err(); lost != nil {
		log.Warn("not every event could be written", "err", lost)
	}
	return err
}

// prepare fills d from files and flags.
func (f *startFlags) prepare(d *daemon) error {
	var path string
	var err error
	if d.cfg, path, err = loadConfig(f.config); err != nil {
		return err
	}
	d.log.Info("configuration", "file", path)
	if f.listen != nil {
		d.cfg.ListenAddrs = f.listen
	}
	d.cfg.PeerAddrs = append(d.cfg.PeerAddrs, f.peers...)
	if err := d.cfg.check(); err != nil {
		return usageError{err}
	}
	if f.booted != "" {
		if d.booted, err = node.ReadBooted(f.booted); err != nil {
			return err
		}
	}
	if f.publish != "" && d.booted == nil {
		return usageError{errors.New("--publish needs --booted: what is published would have no name")}
	}
	if d.proxy, err = readProxy(f.proxyFile); err != nil {
		return err
	}
	d.applyModes(f.modes)
	if d.state, err = openState(f.state, f.ephemeral || d.limits.quiet); err != nil {
		return err
	}
	if d.key, err = d.state.key(); err != nil {
		return err
	}
	return d.setup()
}

// maxProxy bounds a proxy's URL in bytes.
const maxProxy = 2 << 10

// readProxy reads a proxy's URL from a file, as it may hold a password, which the
// command line would show to everybody. No file is no proxy.
func readProxy(path string) (proxy, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := readBounded(path, maxProxy)
	if err != nil {
		return nil, fmt.Errorf("--proxy-file: %w", err)
	}
	p, err := fetch.Proxy(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("--proxy-file %s: %w", path, err)
	}
	return p, nil
}
