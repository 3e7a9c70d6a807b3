package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

const discoverHelp = `Find the current boot manifest of a channel and architecture.

All sources are asked at once: the DHT through the bootstrap peers (-b), mirrors
(--mirror), the local network (mdns), and the DHT through nodes that providers on
the local network name (dht-lan). The newest pointer wins. With -k its signature
is checked and forgeries are dropped; without, whoever answers can claim
anything, and the output says verified: false.

What each source answered, and when, is told on stderr as it happens; -f json has
all of it in sources and candidates, with times in milliseconds since the start.

Exit status: 0 found, 1 not found or an error, 2 wrong usage.`

const discoverExample = `  phase-discover -b /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW… -k root.json
  phase-discover -c testing -a arm64 --mirror https://mirror.example.org -q
  phase-discover -f json -t 10s`

// lanWait is how long the local network is listened to. Answers take
// milliseconds, but nobody there says that there is nothing.
const lanWait = 2 * time.Second

// DiscoverNets opens the sources whose code is large, so that programs that do
// not discover need not contain it. A nil field means that the program cannot
// ask that network.
type DiscoverNets struct {
	// DHT makes a source that starts from these peers, and what ends it.
	DHT func(bootstrap []string) (src discover.Source, end func() error, err error)
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
	mirrors       []string
	noLAN         bool
	timeout       string
	trusted       rootFlags
	format        string
	quiet         bool
}

// Discover is the command phase-discover. args are without the program's name;
// the result is the exit code.
func Discover(args []string, env Env, nets DiscoverNets) int {
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
	cmd.SetContext(context.Background())
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&opts.arch, "arch", "a", runtime.GOARCH, "`architecture`, x86_64 or arm64")
	flags.StringVarP(&opts.channel, "channel", "c", manifest.ChannelStable, "`channel`: stable, testing or nightly")
	flags.StringArrayVarP(&opts.bootstrap, "bootstrap", "b", nil, "DHT peer to start from, as /ip4/…/tcp/…/p2p/ID; repeatable")
	flags.StringArrayVar(&opts.mirrors, "mirror", nil, "base `URL` of a mirror or provider; repeatable")
	flags.BoolVar(&opts.noLAN, "no-mdns", false, "do not ask the local network")
	flags.StringVarP(&opts.timeout, "timeout", "t", "30", "`time` to search, in seconds or as 500ms, 10s, 1m")
	opts.trusted.add(cmd, "root.json `file` whose timestamp key must have signed the pointer")
	flags.StringVarP(&opts.format, "format", "f", "text", "output format, `text|json`")
	flags.BoolVarP(&opts.quiet, "quiet", "q", false, "print only the URL, and no remarks")
	flags.Bool("ephemeral", true, "use a fresh DHT identity that is never stored; there is no other kind")
	return execute(cmd, args, env)
}

// finder is a checked command line.
type finder struct {
	query   discover.Query
	timeout time.Duration
	root    *manifest.Root
	sources []discover.Source
	end     func() error
}

func (o discoverOptions) run(ctx context.Context, env Env, nets DiscoverNets) (err error) {
	f, err := o.prepare(nets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.end()) }()
	remarks, story := env.Stderr, env.Stderr
	if o.quiet {
		remarks = io.Discard
	}
	if o.quiet || o.format == "json" { // which has all of it
		story = io.Discard
	}
	found := &pointers{root: f.root, query: f.query, now: env.Now, remarks: remarks, story: story}
	answers := discover.Search(ctx, f.query, f.timeout, f.sources, found.take)
	found.account(answers)
	result := found.result(answers)
	if result.ManifestURL == "" {
		failure := error(&discover.NotFound{Query: f.query, Answers: answers})
		if found.best.raw != nil {
			failure = errors.New("the pointer names no usable URL of its manifest")
		}
		return o.fail(env.Stdout, result, failure)
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
	if f.root, err = o.loadRoot(); err != nil {
		return nil, err
	}
	return f, o.addSources(f, nets)
}

func (o discoverOptions) addSources(f *finder, nets DiscoverNets) error {
	get := (&fetch.Fetcher{Retries: 1, Timeout: f.timeout}).Get
	for _, base := range o.mirrors {
		if err := discover.CheckBase(base); err != nil {
			return usageError{fmt.Errorf("--mirror: %w", err)}
		}
		f.sources = append(f.sources, discover.HTTP{Base: base, Get: get})
	}
	if !o.noLAN {
		f.sources = append(f.sources, nets.Neighbours(get, min(lanWait, f.timeout))...)
	}
	if len(o.bootstrap) > 0 {
		if nets.DHT == nil {
			return usageError{errors.New("this program cannot ask the DHT")}
		}
		src, end, err := nets.DHT(o.bootstrap)
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
		discover.Joined{Label: "dht-lan", Peers: peers, Check: n.CheckPeer, Open: n.DHT},
	}
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

// offer is a candidate that was read.
type offer struct {
	discover.Candidate
	raw     []byte
	pointer manifest.Pointer
}

// pointers keeps the best of the candidates and who offered it.
type pointers struct {
	root    *manifest.Root // nil: signatures are not checked
	query   discover.Query
	now     func() time.Time
	remarks io.Writer // what a person should look at
	story   io.Writer // what happened, and when

	best offer
	same []discover.Candidate // all that offered the best one's manifest
	all  []discoverCandidate  // everything that was offered, in the order of arrival
}

// take reads one candidate and keeps it if it is the best so far.
func (p *pointers) take(c discover.Candidate) {
	pointer, err := p.read(c.Pointer)
	p.note(c, pointer, err)
	if err != nil {
		return
	}
	order := 1
	if p.best.raw != nil {
		order = discover.Compare(pointer, c.Pointer, p.best.pointer, p.best.raw)
	}
	if p.best.raw == nil || pointer.ManifestHash != p.best.pointer.ManifestHash {
		if order <= 0 {
			return
		}
		p.same = nil
	}
	p.same = append(p.same, c)
	if order > 0 {
		p.best = offer{Candidate: c, raw: c.Pointer, pointer: pointer}
	}
}

// note keeps for the account what was offered and what became of it, and says it.
func (p *pointers) note(c discover.Candidate, pointer manifest.Pointer, err error) {
	n := discoverCandidate{
		Source: term.Clean(c.Source), Origin: term.Clean(c.Origin), AtMS: milliseconds(c.At),
		Version: pointer.ManifestVersion, Verified: err == nil && p.root != nil,
	}
	switch {
	case err != nil:
		n.Reason = term.Clean(err.Error())
		fmt.Fprintf(p.remarks, "%s: ignored what %s gave: %s\n", brief(c.At), n.Origin, n.Reason)
	case p.root == nil:
		n.Reason = "no root was given to check it with"
		fmt.Fprintf(p.story, "%s: %s gave version %d, not verified\n", brief(c.At), n.Origin, n.Version)
	default:
		fmt.Fprintf(p.story, "%s: %s gave version %d, verified\n", brief(c.At), n.Origin, n.Version)
	}
	p.all = append(p.all, n)
}

// account says how each source ended.
func (p *pointers) account(answers []discover.Answer) {
	for _, a := range answers {
		noun := "candidates"
		if a.Candidates == 1 {
			noun = "candidate"
		}
		line := fmt.Sprintf("%s: %s ended with %d %s", brief(a.Took), a.Source, a.Candidates, noun)
		if a.Dropped > 0 {
			line += fmt.Sprintf(", %d beyond the limits", a.Dropped)
		}
		if a.Err != nil {
			line += ": " + a.Err.Error()
		}
		fmt.Fprintln(p.story, term.Clean(line))
	}
}

// brief is a duration as people read it.
func brief(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// milliseconds is a duration for JSON, with three digits behind the point: on a
// local network answers differ by less than a millisecond.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// read verifies a pointer, or only parses it if there is no root.
func (p *pointers) read(raw []byte) (manifest.Pointer, error) {
	want := manifest.Want{Channel: p.query.Channel, Arch: p.query.Arch}
	if p.root != nil {
		v, err := manifest.Verifier{Root: p.root, Want: want, ClockSource: "machine clock"}.Pointer(raw, p.now())
		if err != nil {
			return manifest.Pointer{}, err
		}
		return v.Pointer(), nil
	}
	pointer, err := manifest.InspectPointer(raw)
	if err != nil {
		return manifest.Pointer{}, err
	}
	if pointer.Channel != want.Channel || pointer.Arch != want.Arch {
		return manifest.Pointer{}, fmt.Errorf("it is about %s/%s", pointer.Channel, pointer.Arch)
	}
	return pointer, nil
}

// discoverResult is the JSON output.
type discoverResult struct {
	Key             string              `json:"key"`              // DHT key of the pointer
	ManifestURL     string              `json:"manifest_url"`     // "" if nothing was found
	ManifestVersion int64               `json:"manifest_version"` // 0 if nothing was found
	Verified        bool                `json:"verified"`         // the pointer's signature was checked with -k
	PeerID          string              `json:"peer_id"`          // DHT peer that gave the pointer, "" if none did
	ProviderCount   int                 `json:"provider_count"`   // different origins that named this manifest
	Sources         []discoverSource    `json:"sources"`          // every source that was asked
	Candidates      []discoverCandidate `json:"candidates"`       // every answer, in the order of arrival
	Error           string              `json:"error,omitempty"`
	Code            string              `json:"code,omitempty"`
	Hint            string              `json:"hint,omitempty"`
}

// discoverSource is the account of one source.
type discoverSource struct {
	Name       string  `json:"name"`
	Candidates int     `json:"candidates"`        // answers handed on
	Dropped    int     `json:"dropped,omitempty"` // answers beyond the limits
	TookMS     float64 `json:"took_ms"`           // until it ended, or the search did
	Error      string  `json:"error,omitempty"`   // why it could not be asked
}

// discoverCandidate is one answer and what became of it.
type discoverCandidate struct {
	Source   string  `json:"source"`
	Origin   string  `json:"origin"`           // who gave it, as the source tells
	AtMS     float64 `json:"at_ms"`            // since the search started
	Version  int64   `json:"manifest_version"` // 0 if it cannot be read or was refused
	Verified bool    `json:"verified"`         // checked with -k, and good
	Reason   string  `json:"reason,omitempty"` // why it is not verified
}

func (p *pointers) result(answers []discover.Answer) discoverResult {
	r := discoverResult{Key: p.query.Key(), Sources: []discoverSource{}, Candidates: append([]discoverCandidate{}, p.all...)}
	for _, a := range answers {
		s := discoverSource{Name: a.Source, Candidates: a.Candidates, Dropped: a.Dropped, TookMS: milliseconds(a.Took)}
		if a.Err != nil {
			s.Error = a.Err.Error()
		}
		r.Sources = append(r.Sources, s)
	}
	if p.best.raw == nil {
		return r
	}
	r.ManifestURL = p.manifestURL()
	r.ManifestVersion = p.best.pointer.ManifestVersion
	r.Verified = p.root != nil
	origins := map[string]bool{}
	for _, c := range p.same {
		origins[c.Origin] = true
		if id, ok := strings.CutPrefix(c.Origin, "dht "); ok && r.PeerID == "" {
			r.PeerID = id
		}
	}
	r.ProviderCount = len(origins)
	return r
}

// manifestURL prefers a provider on the local network, then what the pointer
// says, then whoever gave the pointer.
func (p *pointers) manifestURL() string {
	var near, far []string
	for _, c := range p.same {
		for _, base := range c.Bases {
			u := strings.TrimRight(base, "/") + "/" + p.query.Channel + "/" + p.query.Arch + "/manifest.json"
			if strings.HasPrefix(c.Origin, "mdns ") {
				near = append(near, u)
			} else {
				far = append(far, u)
			}
		}
	}
	for _, u := range append(append(near, p.best.pointer.URLs...), far...) {
		if plainURL(u) {
			return u
		}
	}
	return ""
}

// plainURL refuses URLs with characters that mean something to a shell, since
// people evaluate the output and, without -k, strangers choose the URL.
func plainURL(u string) bool {
	return strings.IndexFunc(u, func(r rune) bool {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alnum && !strings.ContainsRune("-._:/%@+,=[]", r)
	}) < 0
}

func (o discoverOptions) show(w io.Writer, r discoverResult) error {
	var err error
	switch {
	case o.format == "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(r)
	case o.quiet:
		_, err = fmt.Fprintln(w, r.ManifestURL)
	default:
		_, err = fmt.Fprintf(w, "MANIFEST_URL=%s\n", r.ManifestURL)
	}
	return err
}

// fail shows the account of an unsuccessful search where machines read it, and
// returns the error for people.
func (o discoverOptions) fail(w io.Writer, r discoverResult, failure error) error {
	if o.format != "json" {
		return failure
	}
	r.Error = failure.Error()
	r.Code, r.Hint = explain(failure)
	if err := o.show(w, r); err != nil {
		return err
	}
	return failure
}
