package provider

import (
	"cmp"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/phasebased/phase/internal/metrics"
)

// metricsPrefix is what the names of our families begin with.
const metricsPrefix = "phase_provider_"

// A refusal is why somebody got nothing.
type refusal int

const (
	refusedClient     refusal = iota // too many requests of one client
	refusedTotal                     // too many requests
	refusedConnection                // too many connections, of one client or in all
	refusedStranger                  // from where nobody is answered
	refusedRanges                    // too many ranges in one request
	refusedUnchecked                 // a blob that is not known to be what its name says
	refusals
)

func (r refusal) String() string {
	return [...]string{"client", "total", "connections", "stranger", "ranges", "unchecked"}[r]
}

// An outcome is what requests are counted by. There are few: routes are those of
// the mux, and statuses those of this package.
type outcome struct {
	route  string // "other": none
	status int
}

// tally is what became of requests with one outcome.
type tally struct{ requests, bytes int64 }

// counters count since the start. They are safe for concurrent use.
type counters struct {
	turnedAway [refusals]atomic.Int64
	slow       atomic.Int64 // clients cut because they took nothing
	shed       atomic.Int64 // idle connections closed to make room

	mu       sync.Mutex
	outcomes map[outcome]tally
}

func (c *counters) refused(why refusal) { c.turnedAway[why].Add(1) }

// answered counts a request; pattern is the mux's.
func (c *counters) answered(pattern string, status int, sent int64) {
	_, route, _ := strings.Cut(pattern, " ")
	key := outcome{cmp.Or(strings.TrimSuffix(route, "{$}"), "other"), status}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outcomes == nil {
		c.outcomes = map[outcome]tally{}
	}
	t := c.outcomes[key]
	c.outcomes[key] = tally{t.requests + 1, t.bytes + sent}
}

func (c *counters) snapshot() map[outcome]tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.outcomes)
}

func (p *Provider) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	metrics.Answer(w)
	m := metrics.NewPage(w, metricsPrefix)
	m.Family("build_info", metrics.Gauge, "Always 1; says which program this is.")
	m.Sample("build_info", 1, "version", p.cfg.Version, "go", runtime.Version())
	m.Single("start_time_seconds", metrics.Gauge, "When this provider started, Unix time.", float64(p.started.Unix()))
	p.requestMetrics(m)
	p.loadMetrics(m)
	p.folderMetrics(m)
	p.releaseMetrics(m)
	if p.receipts != nil {
		m.Single("receipts", metrics.Gauge, "Receipts in the folder.", float64(p.receipts.count()))
	}
	if p.cfg.Metrics != nil {
		p.cfg.Metrics(w)
	}
}

func (p *Provider) requestMetrics(m metrics.Page) {
	outcomes := p.counters.snapshot()
	keys := slices.SortedFunc(maps.Keys(outcomes), func(a, b outcome) int {
		return cmp.Or(cmp.Compare(a.route, b.route), cmp.Compare(a.status, b.status))
	})
	m.Family("requests_total", metrics.Counter, "Requests answered.")
	for _, k := range keys {
		m.Sample("requests_total", float64(outcomes[k].requests), "route", k.route, "code", strconv.Itoa(k.status))
	}
	m.Family("sent_bytes_total", metrics.Counter, "Bytes of bodies sent.")
	for _, k := range keys {
		m.Sample("sent_bytes_total", float64(outcomes[k].bytes), "route", k.route, "code", strconv.Itoa(k.status))
	}
	m.Family("refused_total", metrics.Counter, "Requests and connections refused.")
	for why := range refusals {
		m.Sample("refused_total", float64(p.counters.turnedAway[why].Load()), "reason", why.String())
	}
	m.Single("slow_total", metrics.Counter, "Clients cut because they took nothing.", float64(p.counters.slow.Load()))
	m.Single("shed_total", metrics.Counter, "Idle connections closed to make room.", float64(p.counters.shed.Load()))
}

func (p *Provider) loadMetrics(m metrics.Page) {
	l := p.load()
	m.Single("requests_in_flight", metrics.Gauge, "Requests under way.", float64(l.Requests))
	m.Single("requests_limit", metrics.Gauge, "Requests that may be under way.", float64(l.Limit))
	m.Single("clients", metrics.Gauge, "Addresses with requests under way.", float64(l.Clients))
	m.Single("connections", metrics.Gauge, "Connections open.", float64(l.Connections))
}

func (p *Provider) folderMetrics(m metrics.Page) {
	f := p.files.sum()
	m.Single("healthy", metrics.Gauge, "1 if everything published is what its manifest says.", metrics.Flag(len(p.problems()) == 0))
	m.Single("files", metrics.Gauge, "Files measured.", float64(f.files))
	m.Single("blobs", metrics.Gauge, "Different contents that are served by their digest.", float64(f.digests))
	m.Single("files_bytes", metrics.Gauge, "Bytes of the files measured.", float64(f.bytes))
	m.Single("blobs_withheld", metrics.Gauge, "Files of the blobs folder that are not what their name says.", float64(f.rotten))
	s := p.state.Load()
	if !s.at.IsZero() {
		m.Single("checked_time_seconds", metrics.Gauge, "When the folder was looked at last, Unix time.", float64(s.at.Unix()))
	}
}

func (p *Provider) releaseMetrics(m metrics.Page) {
	releases := p.state.Load().releases
	m.Family("artifact_matches", metrics.Gauge, "1 if the file is what the manifest says.")
	for _, r := range releases {
		for _, a := range r.Artifacts {
			m.Sample("artifact_matches", metrics.Flag(a.Matches), "channel", r.Channel, "arch", r.Arch, "name", a.Name)
		}
	}
	m.Family("manifest_version", metrics.Gauge, "Version of the published manifest.")
	for _, r := range releases {
		m.Sample("manifest_version", float64(r.Version), "channel", r.Channel, "arch", r.Arch)
	}
	m.Family("manifest_expires_time_seconds", metrics.Gauge, "When the published manifest expires, Unix time.")
	for _, r := range releases {
		if r.Expires != nil {
			m.Sample("manifest_expires_time_seconds", float64(r.Expires.Unix()), "channel", r.Channel, "arch", r.Arch)
		}
	}
}

// A Load is how busy a provider is, and was since its start.
type Load struct {
	Requests    int   `json:"requests_in_flight"`
	Limit       int   `json:"requests_limit"`
	Connections int   `json:"connections"`
	Clients     int   `json:"clients"` // addresses with requests under way
	Answered    int64 `json:"answered"`
	Refused     int64 `json:"refused"`
	Slow        int64 `json:"slow"`       // clients cut because they took nothing
	Sent        int64 `json:"sent_bytes"` // of bodies
}

func (p *Provider) load() Load {
	l := Load{Limit: p.cfg.Total, Slow: p.counters.slow.Load()}
	l.Requests, l.Clients = p.gate.inside()
	l.Connections, _ = p.conns.inside()
	for _, t := range p.counters.snapshot() {
		l.Answered += t.requests
		l.Sent += t.bytes
	}
	for why := range refusals {
		l.Refused += p.counters.turnedAway[why].Load()
	}
	return l
}
