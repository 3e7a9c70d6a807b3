package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

const fetchHelp = `Fetch the artifacts that a boot manifest names, and check every byte.

The manifest is verified first (-k, and all that phase-verify knows) and refused
if it cannot be. Each artifact is looked for at the manifest's own URLs and then
at the providers; it appears in the output folder only when its hash is right,
with NAME.sha256 beside it for sha256sum -c. Standard output has one line per
artifact: hash and path. A proxy (--proxy) is asked for everything that is not on
the local network; it is not trusted.

Exit status: 0 all fetched, 1 refused or not fetched, 2 wrong usage.`

const fetchExample = `  phase-fetch -m manifest.json -k root.json -o boot/
  phase-fetch -m manifest.json -k root.json -a kernel --provider http://192.0.2.7:8080
  phase-fetch -m manifest.json -k root.json --proxy http://proxy.example.org:3128
  phase-fetch -m manifest.json -k root.json | sha256sum -c`

// fetchNames are the artifacts that have files of their own, in boot order.
var fetchNames = []string{"kernel", "initramfs", "rootfs"}

type fetchOptions struct {
	trustFlags
	output    string
	artifact  string
	retries   int
	timeout   string
	providers []string
	proxy     string
	quiet     bool
}

// Fetch is the command phase-fetch. args are without the program's name; the
// result is the exit code. An interrupt ends it with nothing half written.
func Fetch(args []string, env Env) int {
	var opts fetchOptions
	cmd := &cobra.Command{
		Use:     "phase-fetch -m FILE -k FILE [-o DIR]",
		Short:   "Fetch the artifacts of a boot manifest",
		Long:    fetchHelp,
		Example: fetchExample,
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return opts.run(cmd.Context(), env) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	opts.trustFlags.add(cmd)
	flags.StringVarP(&opts.output, "output", "o", ".", "write to this `directory`, which is made if needed")
	flags.StringVarP(&opts.artifact, "artifact", "a", "all", "`all|kernel|initramfs|rootfs`")
	flags.StringArrayVar(&opts.providers, "provider", nil, "base `URL` of a provider to ask after the manifest's URLs; repeatable")
	flags.StringVar(&opts.proxy, "proxy", "", proxyUsage)
	flags.IntVarP(&opts.retries, "retry", "r", 3, "ask all sources this `many` times")
	flags.StringVarP(&opts.timeout, "timeout", "t", "300", "`time` for one attempt at one source, in seconds or as 500ms, 10s, 1m")
	flags.BoolVarP(&opts.quiet, "quiet", "q", false, "print no result and no progress, only errors")
	ctx, stop := interruptible()
	defer stop()
	cmd.SetContext(ctx)
	return execute(cmd, args, env)
}

// check refuses a wrong command line and returns the time-out.
func (o fetchOptions) check() (time.Duration, error) {
	if err := o.trustFlags.check(); err != nil {
		return 0, err
	}
	timeout, err := parseTimeout(o.timeout)
	switch {
	case o.artifact != "all" && !slices.Contains(fetchNames, o.artifact):
		err = fmt.Errorf("unknown artifact %q: use all, kernel, initramfs or rootfs", o.artifact)
	case o.retries < 1 || o.retries > 100:
		err = errors.New("--retry: use 1 to 100")
	}
	for _, base := range o.providers {
		u, parseErr := url.Parse(base)
		if parseErr != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			err = fmt.Errorf("--provider %q: use http://host:port or https://host", base)
		}
	}
	if _, proxyErr := fetch.Proxy(o.proxy); proxyErr != nil {
		err = fmt.Errorf("--proxy: %w", proxyErr)
	}
	if err != nil {
		return 0, usageError{err}
	}
	return timeout, nil
}

func (o fetchOptions) run(ctx context.Context, env Env) error {
	timeout, err := o.check()
	if err != nil {
		return err
	}
	j, err := o.judge(env, false)
	var usage usageError
	if errors.As(err, &usage) {
		return usage
	}
	if err != nil {
		report(env.Stderr, "FATAL", err)
		return errReported
	}
	v := j.verified
	if err := os.MkdirAll(o.output, 0o755); err != nil {
		return err
	}
	proxy, err := fetch.Proxy(o.proxy)
	if err != nil {
		return err // which check has found before
	}
	names, err := o.names(v)
	if err != nil {
		return err
	}
	show := newFetchProgress(env.Stderr, o.quiet)
	defer show.end()
	f := &fetch.Fetcher{Client: fetch.NewClient(nil, proxy), Retries: o.retries, Timeout: timeout, Progress: show.callback()}
	for _, name := range names {
		err := o.fetch(ctx, f, v, name, env.Stdout)
		show.end()
		if err != nil {
			return reportFetch(env.Stderr, err)
		}
	}
	return nil
}

// names are the artifacts to fetch: the one asked for, which must exist, or
// all that the manifest has.
func (o fetchOptions) names(v *manifest.Verified) ([]string, error) {
	m := v.Manifest()
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

// fetch writes one artifact and its checksum file.
func (o fetchOptions) fetch(ctx context.Context, f *fetch.Fetcher, v *manifest.Verified, name string, stdout io.Writer) error {
	path := filepath.Join(o.output, name)
	if err := f.ArtifactTo(ctx, v, name, o.providers, path); err != nil {
		return err
	}
	a, _ := v.Manifest().Artifact(name)
	sum := fmt.Sprintf("%s  %s\n", a.Hash.Hex(), name)
	if err := durable.WriteFile(path+".sha256", []byte(sum), 0o644); err != nil {
		return err
	}
	if o.quiet {
		return nil
	}
	_, err := fmt.Fprintf(stdout, "%s  %s\n", a.Hash.Hex(), path)
	return err
}

// reportFetch shows what was tried, then the headline. Wrong bytes are FATAL:
// somebody offers them under the publisher's name.
func reportFetch(w io.Writer, err error) error {
	severity := "ERROR"
	var failed *fetch.Error
	if errors.As(err, &failed) {
		for _, a := range failed.Attempts {
			fmt.Fprintf(w, "round %d, %s: %s\n", a.Round, term.Clean(a.URL), term.Clean(fmt.Sprint(a.Err)))
		}
		if failed.Mismatch {
			severity = "FATAL"
		}
	}
	report(w, severity, commandHint{err})
	return errReported
}

// commandHint is an error whose hint names a flag of this command where it would
// name an argument of the kernel.
type commandHint struct{ error }

func (e commandHint) Unwrap() error { return e.error }
func (e commandHint) Hint() string {
	_, hint := explain(e.error)
	return strings.ReplaceAll(hint, "phase.provider=", "--provider")
}

// fetchProgress shows a bar per artifact where somebody can see it.
type fetchProgress struct {
	console *term.Console // nil: not a terminal, or quiet
	bar     *term.Progress
	name    string
}

func newFetchProgress(stderr io.Writer, quiet bool) *fetchProgress {
	file, ok := stderr.(*os.File)
	if quiet || !ok || !xterm.IsTerminal(int(file.Fd())) {
		return &fetchProgress{}
	}
	start := time.Now()
	return &fetchProgress{console: term.New(term.Config{
		Out: file, Live: true,
		ASCII: !strings.Contains(strings.ToLower(os.Getenv("LANG")), "utf"),
		Now:   func() time.Duration { return time.Since(start) },
	})}
}

// callback is what Fetcher.Progress wants; nil shows nothing.
func (p *fetchProgress) callback() func(fetch.Progress) {
	if p.console == nil {
		return nil
	}
	return func(now fetch.Progress) {
		if p.bar == nil || p.name != now.Name {
			p.end()
			p.bar, p.name = p.console.Progress(now.Name, now.Total), now.Name
		}
		p.bar.Set(now.Done)
	}
}

// end takes the bar away.
func (p *fetchProgress) end() {
	if p.bar != nil {
		p.bar.End()
		p.bar = nil
	}
}
