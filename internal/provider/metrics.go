package provider

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

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

// A metrics page is written in the Prometheus text exposition format, version 0.0.4:
// https://prometheus.io/docs/instrumenting/exposition_formats/
type metricsPage struct{ w io.Writer }

func (m metricsPage) family(name, kind, help string) {
	fmt.Fprintf(m.w, "# HELP phase_provider_%s %s\n# TYPE phase_provider_%s %s\n", name, help, name, kind)
}

// sample writes one value; labels are names and values in turn.
func (m metricsPage) sample(name string, value float64, labels ...string) {
	var text strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		sep := ","
		if i == 0 {
			sep = "{"
		}
		fmt.Fprintf(&text, "%s%s=\"%s\"", sep, labels[i], labelEscapes.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		text.WriteString("}")
	}
	fmt.Fprintf(m.w, "phase_provider_%s%s %s\n", name, &text, strconv.FormatFloat(value, 'f', -1, 64))
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// single writes a family of one value.
func (m metricsPage) single(name, kind, help string, value float64) {
	m.family(name, kind, help)
	m.sample(name, value)
}

func (p *Provider) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	m := metricsPage{w}
	m.family("build_info", "gauge", "Always 1; says which program this is.")
	m.sample("build_info", 1, "version", p.cfg.Version, "go", runtime.Version())
	m.single("start_time_seconds", "gauge", "When this provider started, Unix time.", float64(p.started.Unix()))
	p.requestMetrics(m)
	p.loadMetrics(m)
	p.folderMetrics(m)
	p.releaseMetrics(m)
	if p.receipts != nil {
		m.single("receipts", "gauge", "Receipts in the folder.", float64(p.receipts.count()))
	}
}

func (p *Provider) requestMetrics(m metricsPage) {
	outcomes := p.counters.snapshot()
	keys := slices.SortedFunc(maps.Keys(outcomes), func(a, b outcome) int {
		return cmp.Or(cmp.Compare(a.route, b.route), cmp.Compare(a.status, b.status))
	})
	m.family("requests_total", "counter", "Requests answered.")
	for _, k := range keys {
		m.sample("requests_total", float64(outcomes[k].requests), "route", k.route, "code", strconv.Itoa(k.status))
	}
	m.family("sent_bytes_total", "counter", "Bytes of bodies sent.")
	for _, k := range keys {
		m.sample("sent_bytes_total", float64(outcomes[k].bytes), "route", k.route, "code", strconv.Itoa(k.status))
	}
	m.family("refused_total", "counter", "Requests and connections refused.")
	for why := range refusals {
		m.sample("refused_total", float64(p.counters.turnedAway[why].Load()), "reason", why.String())
	}
	m.single("slow_total", "counter", "Clients cut because they took nothing.", float64(p.counters.slow.Load()))
	m.single("shed_total", "counter", "Idle connections closed to make room.", float64(p.counters.shed.Load()))
}

func (p *Provider) loadMetrics(m metricsPage) {
	l := p.load()
	m.single("requests_in_flight", "gauge", "Requests under way.", float64(l.Requests))
	m.single("requests_limit", "gauge", "Requests that may be under way.", float64(l.Limit))
	m.single("clients", "gauge", "Addresses with requests under way.", float64(l.Clients))
	m.single("connections", "gauge", "Connections open.", float64(l.Connections))
}

func (p *Provider) folderMetrics(m metricsPage) {
	f := p.files.sum()
	m.single("healthy", "gauge", "1 if everything published is what its manifest says.", number(len(p.problems()) == 0))
	m.single("files", "gauge", "Files measured.", float64(f.files))
	m.single("blobs", "gauge", "Different contents that are served by their digest.", float64(f.digests))
	m.single("files_bytes", "gauge", "Bytes of the files measured.", float64(f.bytes))
	m.single("blobs_withheld", "gauge", "Files of the blobs folder that are not what their name says.", float64(f.rotten))
	s := p.state.Load()
	if !s.at.IsZero() {
		m.single("checked_time_seconds", "gauge", "When the folder was looked at last, Unix time.", float64(s.at.Unix()))
	}
}

func (p *Provider) releaseMetrics(m metricsPage) {
	releases := p.state.Load().releases
	m.family("artifact_matches", "gauge", "1 if the file is what the manifest says.")
	for _, r := range releases {
		for _, a := range r.Artifacts {
			m.sample("artifact_matches", number(a.Matches), "channel", r.Channel, "arch", r.Arch, "name", a.Name)
		}
	}
	m.family("manifest_version", "gauge", "Version of the published manifest.")
	for _, r := range releases {
		m.sample("manifest_version", float64(r.Version), "channel", r.Channel, "arch", r.Arch)
	}
	m.family("manifest_expires_time_seconds", "gauge", "When the published manifest expires, Unix time.")
	for _, r := range releases {
		if r.Expires != nil {
			m.sample("manifest_expires_time_seconds", float64(r.Expires.Unix()), "channel", r.Channel, "arch", r.Arch)
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
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
