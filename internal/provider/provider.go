// Package provider serves a folder of published releases over HTTP, to seeds
// that boot and to whoever mirrors them.
//
// The provider is not trusted by its clients and does not try to be: they
// verify every byte against a signed manifest. So it serves by name what lies in
// the folder, and only reports, in /status and /health, when a file is not what
// the manifest beside it says. Under a digest, though, it serves only what it
// read through and found to have that digest: clients drop a source whose bytes
// are wrong, and one bad file must not cost them a good source.
//
// What it does protect is itself and its host: it answers to a fixed list of
// names, opens nothing outside the folder, not even through symbolic links, and
// bounds every request in size and number. It does not bound how long a download
// takes, only how long a client may take nothing: thousands of slow clients cost
// a goroutine and two descriptors each, and no buffers.
//
// The folder:
//
//	<base>/<channel>/<arch>/{manifest.json,manifest.tlog-proof,pointer.json,root.json,<N>.root.json}
//	<base>/<channel>/<arch>/{kernel,initramfs,rootfs}
//	<base>/blobs/<aa>/<hex>.bin
//	<base>/media/<name>/<file>
//
// Media are for people, who check them by a signed list: they are not read through.
package provider

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// Config says what to serve.
type Config struct {
	// Base is the published folder. It must exist.
	Base string
	// Channel and Arch are what GET /manifest.json serves and what must be in
	// order for /health to say so. Default: stable, this machine's.
	Channel, Arch string
	// Version is this program's, for /status.
	Version string
	// Receipts is the folder that POST /receipts writes to; it is made if
	// needed. Empty means that the route does not exist.
	Receipts string
	// Blob opens a blob that the folder does not have; nil: there are no others.
	Blob func(blob.Digest) (*os.File, error)
	// Network tells, as JSON, what the network was told of this provider, for
	// /status; nil: nobody knows.
	Network func() any
	// Metrics writes what the same program counts beside, behind our own families
	// of GET /metrics; nil: there is nothing.
	Metrics func(io.Writer)
	// Total is how many requests may be under way in all; 0 means 2048. Each takes
	// about 32 KiB of memory and two descriptors.
	Total int
	// PerClient is how many requests one client address (or IPv6 /64) may have
	// under way; 0 means a sixteenth of Total, and 16 at least. With 128, a
	// classroom of thirty machines with four connections each finds room behind
	// one NAT, and it takes sixteen addresses to keep everybody else out; those of
	// one IPv6 /48, which its owner has by the thousands, get half of Total at most.
	PerClient int
	// MaxRate is how many bytes of bodies are sent per second in all; 0 means no
	// limit.
	MaxRate int64
	// Patience is how long a client may take nothing to speak of before it is cut;
	// 0 means a minute.
	Patience time.Duration
	// Serves says which addresses are answered; nil means all.
	Serves func(netip.Addr) bool
	// Rescan is how often Run looks for changed files; 0 means 5 s.
	Rescan time.Duration
	// Now is the clock, for expiry dates; nil means time.Now.
	Now func() time.Time
	// Log receives one line per change; nil means none.
	Log *slog.Logger
	// Access receives one line per request; nil means Log.
	Access *slog.Logger
	// Quiet makes the lines of requests debug messages: strangers decide how many
	// there are, and would wash everything else out of a log of bounded size.
	Quiet bool
}

// DefaultTotal is the default of Config.Total.
const DefaultTotal = 2048

// A Provider is an http.Handler. Its methods are safe for concurrent use.
type Provider struct {
	cfg      Config
	root     *os.Root
	mux      *http.ServeMux
	started  time.Time
	scanning sync.Mutex // held by Refresh
	wanted   chan struct{}
	state    atomic.Pointer[state]
	files    files
	others   others
	gate     gate          // requests
	conns    gate          // connections
	rate     *rate.Limiter // nil: no limit
	counters counters
	receipts *receipts // nil: route absent
}

// New opens the folder. It starts nothing: files are hashed by Refresh or Run.
func New(cfg Config) (*Provider, error) {
	if err := cfg.fill(); err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	root, err := os.OpenRoot(cfg.Base)
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	p := &Provider{cfg: cfg, root: root, started: cfg.Now(), wanted: make(chan struct{}, 1)}
	p.gate = newGate(cfg.PerClient, cfg.Total)
	p.conns = newGate(room(cfg.PerClient), room(cfg.Total))
	if cfg.MaxRate > 0 {
		p.rate = rate.NewLimiter(rate.Limit(cfg.MaxRate), rateStep)
	}
	p.state.Store(&state{})
	if cfg.Receipts != "" {
		if p.receipts, err = openReceipts(cfg.Receipts, cfg.Now); err != nil {
			root.Close()
			return nil, fmt.Errorf("provider: %w", err)
		}
	}
	p.mux = p.routes()
	return p, nil
}

func (c *Config) fill() error {
	if c.Channel == "" {
		c.Channel = manifest.ChannelStable
	}
	if err := manifest.CheckChannel(c.Channel); err != nil {
		return err
	}
	if c.Arch == "" {
		c.Arch = runtime.GOARCH
	}
	arch, err := manifest.ParseArch(c.Arch)
	if err != nil {
		return err
	}
	c.Arch = arch
	if c.PerClient < 0 || c.Total < 0 || c.Rescan < 0 || c.MaxRate < 0 || c.Patience < 0 {
		return errors.New("negative limit")
	}
	setDefault(&c.Total, DefaultTotal)
	setDefault(&c.PerClient, max(16, c.Total/16))
	setDefault(&c.Patience, time.Minute)
	setDefault(&c.Rescan, 5*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.Access, c.Log)
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Close releases the folder. Requests must have ended.
func (p *Provider) Close() error { return p.root.Close() }

// routes are all that exists; anything else is 404, other methods are 405.
func (p *Provider) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.serveIndex)
	mux.HandleFunc("GET /health", p.serveHealth)
	mux.HandleFunc("GET /status", p.serveStatus)
	mux.HandleFunc("GET /metrics", p.serveMetrics)
	mux.HandleFunc("GET /manifest.json", p.serveDefaultManifest)
	mux.HandleFunc("GET /blobs/{aa}/{file}", p.serveBlob)
	mux.HandleFunc("GET /media/{file}", p.serveMedia)
	mux.HandleFunc("GET /media/{name}/{file}", p.serveMedia)
	mux.HandleFunc("GET /{channel}/{arch}/{file}", p.serveRelease)
	if p.receipts != nil {
		mux.HandleFunc("POST /receipts", p.postReceipt)
	}
	return mux
}
