package steps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/typo"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/tor"
	"github.com/phasebased/phase/manifest"
)

const fetchHelp = `Fetch the artifacts that a boot manifest names, and check every byte.

The manifest is verified first (-k, and all that phase-verify knows) and refused
if it cannot be. Each artifact then comes from everybody who may have it at once:
the manifest's own URLs, the sources (--source), which are base URLs of mirrors or
providers or a folder of this machine, and trustless IPFS gateways (--gateway).
None of them is trusted. It appears in the output folder only when its hash is
right, with NAME.sha256 beside it for sha256sum -c.

What is there already is checked and not fetched again. A transfer that was ended,
however, goes on where it was when the same command is given again. If the output
folder has the artifact of an older release, or --delta-from names one, and the
release has a patch from it, the patch is fetched instead of the whole.

Standard output has one line per artifact, hash and path, or with --format json
one object. Standard error has the rest: a bar on a terminal, elsewhere a line
every five seconds, or with --progress json an object per line.

Exit status: 0 all fetched, 1 refused or not fetched, 2 wrong usage.`

const fetchExample = `  phase-fetch -m manifest.json -k root.json -o boot/
  phase-fetch -m manifest.json -k root.json -a kernel --source http://192.0.2.7:8080
  phase-fetch -m manifest.json -k root.json --source /media/stick --source https://mirror.example
  phase-fetch -m manifest.json -k root.json --gateway https://gateway.example --connections 8
  phase-fetch -m manifest.json -k root.json --cache default --delta-from old/rootfs
  phase-fetch -m manifest.json -k root.json --proxy http://proxy.example.org:3128
  phase-fetch -m manifest.json -k root.json | sha256sum -c`

// fetchNames are the artifacts that have files of their own, in boot order.
var fetchNames = []string{"kernel", "initramfs", "rootfs"}

// maxConnections bounds --connections: each has a buffer of 1 MiB.
const maxConnections = 64

type fetchOptions struct {
	trustFlags
	output      string
	artifact    string
	retries     int
	timeout     string
	sources     []string
	providers   []string
	gateways    []string
	connections int
	cache       string
	cacheLimit  string
	older       []string
	proxy       string
	tor         string
	format      string
	progress    string
	verbose     bool
	quiet       bool
	color       bool // nobody said NO_COLOR
}

// Fetch is the command phase-fetch. args are without the program's name; the
// result is the exit code. An interrupt ends it; what has arrived stays for the
// next time.
func Fetch(args []string, env Env) int {
	cmd := newFetch(env)
	ctx, stop := interruptible()
	defer stop()
	cmd.SetContext(ctx)
	return execute(cmd, args, env)
}

func newFetch(env Env) *cobra.Command {
	opts := fetchOptions{color: os.Getenv("NO_COLOR") == ""}
	cmd := &cobra.Command{
		Use:     "phase-fetch -m FILE -k FILE [-o DIR]",
		Short:   "Fetch the artifacts of a boot manifest",
		Long:    fetchHelp,
		Example: fetchExample,
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return opts.run(cmd.Context(), env) },
	}
	opts.flags(cmd)
	return finish(cmd)
}

func (o *fetchOptions) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	o.trustFlags.add(cmd)
	flags.StringVarP(&o.output, "out", "o", ".", "write to this `directory`, which is made if needed; --output is the same")
	typo.Alias(cmd, "output", "out")
	flags.StringVarP(&o.artifact, "artifact", "a", "all", "`all|kernel|initramfs|rootfs`")
	flags.StringArrayVar(&o.sources, "source", nil, "`URL or folder` to ask beside the manifest's URLs: of a mirror or provider, or with blobs/ in it; repeatable")
	flags.StringArrayVar(&o.providers, "provider", nil, "base `URL`, as --source; repeatable")
	flags.StringArrayVar(&o.gateways, "gateway", nil, "base `URL` of a trustless IPFS gateway; repeatable")
	flags.IntVar(&o.connections, "connections", 4, "open at most this `many` connections at once, 1 to 64; each needs 1 MiB of memory")
	flags.StringVar(&o.cache, "cache", "none", "look here first and keep a copy here: a `folder`, \"default\" (that of phase cache) or \"none\"")
	flags.StringVar(&o.cacheLimit, "cache-limit", "8G", "remove what was used longest ago from the cache beyond this `size`, such as 500M or 2Gi")
	flags.StringArrayVar(&o.older, "delta-from", nil, "`file or folder` with artifacts of an older release, to fetch only what has changed; repeatable")
	flags.StringVar(&o.proxy, "proxy", "", proxyUsage)
	flags.StringVar(&o.tor, "tor", "", torUsage)
	flags.IntVarP(&o.retries, "retry", "r", 3, "ask a source that fails this `many` times in a row")
	flags.StringVarP(&o.timeout, "timeout", "t", "300", "`time` for one request to one source, in seconds or as 500ms, 10s, 1m")
	flags.StringVarP(&o.format, "format", "f", "text", "`text|json` on standard output")
	flags.StringVar(&o.progress, "progress", "auto", "`auto|bar|lines|json|none` on standard error")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "log to standard error what becomes of each source")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "print no result and no progress, only errors")
}

// fetchPlan is a command line that was understood.
type fetchPlan struct {
	fetchOptions
	bases   []string // of mirrors and providers
	fetcher *fetch.Fetcher
	limit   int64 // of the cache
}

// plan refuses a wrong command line. It opens and writes nothing.
func (o fetchOptions) plan() (*fetchPlan, error) {
	if err := o.trustFlags.check(); err != nil {
		return nil, err
	}
	timeout, err := parseTimeout(o.timeout)
	if err != nil {
		return nil, usageError{err}
	}
	p := &fetchPlan{fetchOptions: o, fetcher: &fetch.Fetcher{
		Retries: o.retries, Timeout: timeout, Connections: o.connections, Gateways: o.gateways,
	}}
	for _, check := range []func() error{o.checkChoices, o.checkOlder, p.checkSources, p.checkReach} {
		if err := check(); err != nil {
			return nil, usageError{err}
		}
	}
	if p.limit, err = term.ParseBytes(o.cacheLimit); err != nil {
		return nil, usageError{fmt.Errorf("--cache-limit: %w", err)}
	}
	return p, nil
}

func (o fetchOptions) checkChoices() error {
	switch {
	case o.artifact != "all" && !slices.Contains(fetchNames, o.artifact):
		return fmt.Errorf("unknown artifact %q: use all, kernel, initramfs or rootfs", o.artifact)
	case o.retries < 1 || o.retries > 100:
		return errors.New("--retry: use 1 to 100")
	case o.connections < 1 || o.connections > maxConnections:
		return fmt.Errorf("--connections: use 1 to %d", maxConnections)
	case o.format != "text" && o.format != "json":
		return fmt.Errorf("unknown format %q: use text or json", o.format)
	case !slices.Contains([]string{"auto", "bar", "lines", "json", "none"}, o.progress):
		return fmt.Errorf("unknown progress %q: use auto, bar, lines, json or none", o.progress)
	case o.cache == "":
		return errors.New("--cache: name a folder, or default, or none")
	}
	return nil
}

// checkSources tells base URLs from folders.
func (p *fetchPlan) checkSources() error {
	for _, base := range p.providers {
		if !isBase(base) {
			return fmt.Errorf("--provider %q: use http://host:port or https://host", base)
		}
	}
	for _, base := range p.gateways {
		if !isBase(base) {
			return fmt.Errorf("--gateway %q: use https://host", base)
		}
	}
	p.bases = slices.Clone(p.providers)
	for _, s := range p.sources {
		if isBase(s) {
			p.bases = append(p.bases, s)
			continue
		}
		if scheme, _, ok := strings.Cut(s, "://"); ok && scheme != "file" {
			return fmt.Errorf("--source %q: use http://host:port, https://host or a folder", s)
		}
		local, err := fetch.NewLocal(s)
		if err != nil {
			return fmt.Errorf("--source %q: %w", s, err)
		}
		if info, err := os.Stat(local.String()); err != nil || !info.IsDir() {
			return fmt.Errorf("--source %q: there is no such folder", s)
		}
		p.fetcher.Sources = append(p.fetcher.Sources, local)
	}
	return nil
}

// isBase says that s is the base URL of a web server.
func isBase(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && (u.Scheme == "http" || u.Scheme == "https")
}

func (p *fetchPlan) checkReach() (err error) {
	if p.fetcher.Client, err = webClient(p.proxy, p.tor); p.tor != "" {
		p.fetcher.MinRate = tor.MinRate
	}
	return err
}

func (o fetchOptions) run(ctx context.Context, env Env) error {
	plan, err := o.plan()
	if err != nil {
		return err
	}
	j, err := o.judge(env, false)
	var usage usageError
	if errors.As(err, &usage) {
		return usage
	}
	res := newFetchResult(env, plan)
	if err != nil {
		return res.end(err, "FATAL")
	}
	m := j.verified.Manifest()
	res.of(m)
	names, err := o.names(m)
	if err != nil {
		return res.end(err, "ERROR")
	}
	if err := os.MkdirAll(o.output, 0o755); err != nil {
		return res.end(err, "ERROR")
	}
	closeCache, err := plan.openCache()
	if err != nil {
		return res.end(err, "ERROR")
	}
	defer closeCache()
	return plan.fetchAll(ctx, env, j.verified, names, res)
}

func (p *fetchPlan) fetchAll(ctx context.Context, env Env, v *manifest.Verified, names []string, res *fetchResult) error {
	show := newFetchProgress(env.Stderr, p.fetchOptions)
	defer show.end()
	old := &olderFiles{paths: p.olderPaths()}
	defer old.Close()
	p.fetcher.Progress, p.fetcher.Old = show.show, old.find
	if p.verbose {
		p.fetcher.Log = slog.New(slog.NewTextHandler(env.Stderr, nil))
	}
	for _, name := range names {
		a, _ := v.Manifest().Artifact(name)
		one := &fetchOne{plan: p, verified: v, name: name, artifact: a, path: filepath.Join(p.output, name)}
		done, err := one.run(ctx)
		show.end()
		res.add(done)
		if err != nil {
			return res.end(err, "ERROR")
		}
	}
	return res.end(nil, "")
}

// openCache opens the cache that was asked for, if any.
func (p *fetchPlan) openCache() (closeCache func(), err error) {
	dir := p.cache
	switch dir {
	case "none":
		return func() {}, nil
	case "default":
		if dir, err = store.DefaultDir(); err != nil {
			return nil, err
		}
	}
	s, err := store.OpenLimited(dir, store.Limit{Bytes: p.limit})
	if err != nil {
		return nil, &cacheError{err}
	}
	p.fetcher.Store = s
	return func() { s.Close() }, nil
}

// cacheError says that the cache cannot be used.
type cacheError struct{ err error }

func (e *cacheError) Error() string { return "the cache cannot be used: " + e.err.Error() }
func (e *cacheError) Unwrap() error { return e.err }
func (e *cacheError) Code() string  { return "FETCH-005" }
func (e *cacheError) Hint() string  { return "Name another folder with --cache, or use --cache none." }

// names are the artifacts to fetch: the one asked for, which must exist, or
// all that the manifest has.
func (o fetchOptions) names(m manifest.Manifest) ([]string, error) {
	var names []string
	for _, name := range fetchNames {
		if _, ok := m.Artifact(name); ok && (o.artifact == "all" || o.artifact == name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("fetch %s: %w", o.artifact, fetch.ErrNoArtifact)
	}
	return names, nil
}

// olderPaths are the files that may hold an older release: those that a person
// named, and what shall be replaced.
func (p *fetchPlan) olderPaths() []string {
	var paths []string
	for _, at := range append(slices.Clone(p.older), p.output) {
		info, err := os.Stat(at)
		if err != nil || !info.IsDir() {
			paths = append(paths, at)
			continue
		}
		for _, name := range fetchNames {
			paths = append(paths, filepath.Join(at, name))
		}
	}
	return paths
}
