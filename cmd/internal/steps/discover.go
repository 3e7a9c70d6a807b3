package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/portal"
	"github.com/phasebased/phase/manifest"
)

const discoverHelp = `Find the current boot manifest of a channel and architecture.

All sources are asked at once: the DHT through the bootstrap peers (-b, or those
of a file with --bootstrap-file), mirrors (--mirror), the local network (mdns),
and the DHT through nodes that providers on the local network name (dht-lan). The
newest pointer wins. With -k its signature is checked and forgeries are dropped;
without, whoever answers can claim anything, and the output says verified: false.

Where mirrors are behind an HTTP proxy (--proxy), it is asked for both http and
https, but not for what is on the local network; it is not trusted. The DHT and
the local network know no proxies. With --portal-check the search also finds out
whether the network wants a login in a browser first, by asking for a page whose
content is known; without that option nothing is asked.

With --tor everything is asked through a Tor that runs on this machine, and nothing
in any other way: mirrors and the DHT are, names are looked up by Tor's exit, and the
local network is not asked. DHT peers that have only a name are left out then.

What each source answered, and when, is told on stderr as it happens; -f json has
all of it in sources, candidates and portal, with times in milliseconds since the
start. An interrupt ends the search.

Exit status: 0 found, 1 not found, interrupted or an error, 2 wrong usage.`

const discoverExample = `  phase-discover -b /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW… -k root.json
  phase-discover -c testing -a arm64 --mirror https://mirror.example.org -q
  phase-discover -b /dnsaddr/bootstrap.example.org --bootstrap-file bootstrap-nodes.toml
  phase-discover --mirror https://mirror.example.org --proxy http://proxy.example.org:3128
  phase-discover --portal-check http://network-test.debian.org/nm -f json -t 10s`

// lanWait is how long the local network is listened to. Answers take
// milliseconds, but nobody there says that there is nothing.
const lanWait = 2 * time.Second

// DiscoverNets opens the sources whose code is large, so that programs that do
// not discover need not contain it. A nil field means that the program cannot
// ask that network.
type DiscoverNets struct {
	// DHT makes a source that starts from these peers, and what ends it. If dial is
	// not nil it makes every connection, and no names are looked up.
	DHT func(bootstrap []string, dial fetch.DialFunc) (src discover.Source, end func() error, err error)
	// LAN makes a source that listens to the local network for at most wait and
	// hands the DHT nodes that it hears of on to peers, which may be nil.
	LAN func(get discover.Get, wait time.Duration, peers *discover.Peers) discover.Source
	// CheckPeer says what is wrong with the address of a DHT node. If it is nil no
	// node is used that a neighbour names.
	CheckPeer func(addr string) error
}

type discoverOptions struct {
	arch, channel string
	bootstrap     []string
	bootstrapFile string
	mirrors       []string
	noLAN         bool
	proxy         string
	tor           string
	portalCheck   string
	timeout       string
	trusted       rootFlags
	format        string
	quiet         bool
}

// Discover is the command phase-discover. args are without the program's name;
// the result is the exit code.
func Discover(args []string, env Env, nets DiscoverNets) int {
	cmd := newDiscover(env, nets)
	ctx, stop := interruptible()
	defer stop()
	cmd.SetContext(ctx)
	return execute(cmd, args, env)
}

func newDiscover(env Env, nets DiscoverNets) *cobra.Command {
	var opts discoverOptions
	cmd := &cobra.Command{
		Use:     "phase-discover [-b MULTIADDR]… [--mirror URL]… [-k FILE]",
		Short:   "Find the current boot manifest",
		Long:    discoverHelp,
		Example: discoverExample,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return opts.run(cmd.Context(), env, nets)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&opts.arch, "arch", "a", runtime.GOARCH, "`architecture`, x86_64 or arm64 (default: this machine's)")
	flags.Lookup("arch").DefValue = "" // it would stand in the help, by Go's name
	flags.StringVarP(&opts.channel, "channel", "c", manifest.ChannelStable, "`channel`: stable, testing or nightly")
	flags.StringArrayVarP(&opts.bootstrap, "bootstrap", "b", nil, "DHT `peer` to start from, as /ip4/…/tcp/…/p2p/ID, or /dnsaddr/NAME for those that a DNS name lists; repeatable")
	flags.StringVar(&opts.bootstrapFile, "bootstrap-file", "", "bootstrap-nodes.toml `file` with more of them")
	flags.StringArrayVar(&opts.mirrors, "mirror", nil, "base `URL` of a mirror or provider; repeatable")
	flags.BoolVar(&opts.noLAN, "no-mdns", false, "do not ask the local network")
	flags.StringVar(&opts.proxy, "proxy", "", proxyUsage)
	flags.StringVar(&opts.tor, "tor", "", torUsage)
	flags.StringVar(&opts.portalCheck, "portal-check", "", "http `URL` that tells whether there is a sign-in page in between, such as http://network-test.debian.org/nm")
	flags.StringVarP(&opts.timeout, "timeout", "t", "30", "`time` to search, in seconds or as 500ms, 10s, 1m")
	opts.trusted.add(cmd, "root.json `file` whose timestamp key must have signed the pointer")
	flags.StringVarP(&opts.format, "format", "f", "text", "output format, `text|json`")
	flags.BoolVarP(&opts.quiet, "quiet", "q", false, "print only the URL, and no remarks")
	flags.Bool("ephemeral", true, "use a fresh DHT identity that is never stored; there is no other kind")
	return finish(cmd)
}

// finder is a checked command line.
type finder struct {
	query   discover.Query
	timeout time.Duration
	root    *manifest.Root
	sources []discover.Source
	client  *http.Client   // of all sources that speak HTTP
	dial    fetch.DialFunc // of the DHT; nil: directly
	end     func() error   // of the DHT
}

func (o discoverOptions) run(ctx context.Context, env Env, nets DiscoverNets) (err error) {
	f, err := o.prepare(nets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.end()); f.client.CloseIdleConnections() }()
	remarks, story := env.Stderr, env.Stderr
	if o.quiet {
		remarks = io.Discard
	}
	if o.quiet || o.format == "json" { // which has all of it
		story = io.Discard
	}
	found := &pointers{root: f.root, query: f.query, now: env.Now, remarks: remarks, story: story}
	start := time.Now()
	login := askPortal(ctx, o.portalCheck, f.timeout)
	answers := discover.Search(ctx, f.query, f.timeout, f.sources, found.take)
	found.account(answers)
	result := found.result(answers)
	result.TookMS = milliseconds(time.Since(start))
	result.Portal = <-login
	result.Portal.tell(story)
	switch {
	case ctx.Err() != nil:
		result.ManifestURL = ""
		return o.fail(env.Stdout, result, errors.New("the search was interrupted"))
	case result.ManifestURL == "":
		return o.fail(env.Stdout, result, found.failure(answers, result.Portal))
	}
	if !result.Verified {
		fmt.Fprintln(remarks, "warning: the pointer's signature was not checked; use -k root.json")
	}
	return o.show(env.Stdout, result)
}

// prepare checks the command line and makes the sources.
func (o discoverOptions) prepare(nets DiscoverNets) (*finder, error) {
	f := &finder{end: func() error { return nil }}
	var err error
	if f.query.Arch, err = manifest.ParseArch(o.arch); err != nil {
		return nil, usageError{err}
	}
	if err := manifest.CheckChannel(o.channel); err != nil {
		return nil, usageError{err}
	}
	f.query.Channel = o.channel
	if f.timeout, err = parseTimeout(o.timeout); err != nil {
		return nil, usageError{err}
	}
	if o.format != "text" && o.format != "json" {
		return nil, usageError{fmt.Errorf("unknown format %q: use text or json", o.format)}
	}
	if err := o.reach(f); err != nil {
		return nil, usageError{err}
	}
	if err := portal.CheckURL(o.portalCheck); o.portalCheck != "" && err != nil {
		return nil, usageError{fmt.Errorf("--portal-check: %w", err)}
	}
	if f.root, err = o.loadRoot(); err != nil {
		return nil, err
	}
	return f, o.addSources(f, nets)
}

// reach says how others are asked.
func (o discoverOptions) reach(f *finder) (err error) {
	if f.client, err = webClient(o.proxy, o.tor); err != nil {
		return err
	}
	if o.tor == "" {
		return nil
	}
	if o.portalCheck != "" {
		return errors.New("--portal-check asks the network itself, which --tor does not")
	}
	f.dial, err = through(o.tor, "dht")
	return err
}

func (o discoverOptions) addSources(f *finder, nets DiscoverNets) error {
	get := (&fetch.Fetcher{Client: f.client, Retries: 1, Timeout: f.timeout}).Get
	for _, base := range o.mirrors {
		if err := discover.CheckBase(base); err != nil {
			return usageError{fmt.Errorf("--mirror: %w", err)}
		}
		f.sources = append(f.sources, discover.HTTP{Base: base, Get: get})
	}
	if !o.noLAN && o.tor == "" {
		f.sources = append(f.sources, nets.Neighbours(get, min(lanWait, f.timeout))...)
	}
	bootstrap, err := o.allBootstrap()
	if err != nil {
		return err
	}
	if len(bootstrap) > 0 {
		if nets.DHT == nil {
			return usageError{errors.New("this program cannot ask the DHT")}
		}
		src, end, err := nets.DHT(bootstrap, f.dial)
		if err != nil {
			return usageError{err}
		}
		f.sources, f.end = append(f.sources, src), end
	}
	if len(f.sources) == 0 {
		return usageError{errors.New("nowhere to ask: use -b or --mirror, or leave out --no-mdns")}
	}
	return nil
}

// allBootstrap are the peers named on the command line, and those of the file.
func (o discoverOptions) allBootstrap() ([]string, error) {
	if o.bootstrapFile == "" {
		return o.bootstrap, nil
	}
	raw, err := readFile(o.bootstrapFile, nil, bootcfg.MaxFile)
	if err != nil {
		return nil, fmt.Errorf("bootstrap file: %w", err)
	}
	cfg, err := bootcfg.Parse("", nil, raw, manifest.ArchX8664) // which says nothing about peers
	if err != nil {
		return nil, fmt.Errorf("bootstrap file %s: %w", o.bootstrapFile, err)
	}
	return slices.Concat(o.bootstrap, cfg.Bootstrap), nil
}

// Neighbours are the sources of the local network: itself, listened to for at most
// wait, and the DHT through the nodes that are found there. Either is left out if
// it cannot be asked.
func (n DiscoverNets) Neighbours(get discover.Get, wait time.Duration) []discover.Source {
	switch {
	case n.LAN == nil:
		return nil
	case n.DHT == nil || n.CheckPeer == nil:
		return []discover.Source{n.LAN(get, wait, nil)}
	}
	peers := discover.NewPeers()
	return []discover.Source{
		n.LAN(get, wait, peers),
		discover.Joined{Label: "dht-lan", Peers: peers, Check: n.CheckPeer, Open: n.direct},
	}
}

// direct is the DHT without anything in between.
func (n DiscoverNets) direct(bootstrap []string) (discover.Source, func() error, error) {
	return n.DHT(bootstrap, nil)
}

// parseTimeout reads whole seconds or a Go duration.
func parseTimeout(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if n, intErr := strconv.Atoi(s); intErr == nil {
		d, err = time.Duration(n)*time.Second, nil
		if n > int(24*time.Hour/time.Second) {
			d = -1
		}
	}
	if err != nil || d <= 0 || d > 24*time.Hour {
		return 0, fmt.Errorf("timeout %q: use seconds or a duration such as 500ms or 1m, above 0 and at most 24h", s)
	}
	return d, nil
}

// loadRoot returns the root to check pointers with, nil if none is asked for. A
// bare key will not do: it stands for the role that signs manifests, and
// pointers are signed by another.
func (o discoverOptions) loadRoot() (*manifest.Root, error) {
	if o.trusted.key == "" {
		if len(o.trusted.roots) > 0 {
			return nil, usageError{errors.New("--roots needs -k FILE, the root that they follow from")}
		}
		return nil, nil
	}
	root, err := o.trusted.load()
	if err == nil && root.Version() == 0 {
		return nil, &inputError{"key", fmt.Errorf("%s: pointers are checked with a root.json, not with a single key", o.trusted.key)}
	}
	return root, err
}
