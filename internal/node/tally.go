package node

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/metrics"
)

// metricsPrefix is what the names of the node's families begin with.
const metricsPrefix = "phase_node_"

// Load is how busy a node is, and was since its start.
type Load struct {
	Running int   `json:"running"`
	Waiting int   `json:"waiting"`
	Ended   int64 `json:"ended"`   // jobs that were started and gave a result
	Refused int64 `json:"refused"` // jobs that were turned away
}

// steps are where the time of a job goes.
var steps = [...]struct {
	name string
	took func(job.Timings) time.Duration
}{
	{"queue", func(t job.Timings) time.Duration { return t.Queue }},
	{"fetch", func(t job.Timings) time.Duration { return t.Fetch }},
	{"spawn", func(t job.Timings) time.Duration { return t.Spawn }},
	{"compile", func(t job.Timings) time.Duration { return t.Compile }},
	{"run", func(t job.Timings) time.Duration { return t.Run }},
}

// tally counts what became of jobs since the start. It is safe for concurrent use.
type tally struct {
	seconds [len(steps)]*metrics.Histogram
	memory  *metrics.Histogram

	mu        sync.Mutex
	ended     map[job.State]int64
	refused   map[job.Reason]int64
	abandoned int64
}

// newTally counts states and refusals that everybody knows from 0, so that a
// dashboard sees the first one come.
func newTally() *tally {
	t := &tally{
		memory: metrics.NewHistogram(64<<10, 1<<20, 4<<20, 16<<20, 64<<20, 256<<20, 1<<30),
		ended: map[job.State]int64{
			job.Exited: 0, job.Trapped: 0, job.OutOfFuel: 0, job.OutOfMemory: 0, job.Deadline: 0, job.OutputCap: 0, job.InfraError: 0,
		},
		refused: map[job.Reason]int64{job.Malformed: 0, job.Unsupported: 0, job.TooBig: 0, job.Busy: 0, job.Unavailable: 0, job.Unauthorised: 0, job.Expired: 0, job.Replayed: 0},
	}
	for i := range t.seconds {
		t.seconds[i] = metrics.NewHistogram(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
	}
	return t
}

// note counts the end of one call of Execute.
func (t *tally) note(res job.Result, err error) {
	var refusal *job.Refusal
	t.mu.Lock()
	switch {
	case errors.As(err, &refusal):
		t.refused[refusal.Reason]++
	case res.State == "":
		t.abandoned++ // by who had asked for it
	default:
		t.ended[res.State]++
	}
	t.mu.Unlock()
	if res.State == "" || refusal != nil {
		return
	}
	for i, s := range steps {
		t.seconds[i].Observe(s.took(res.Timings).Seconds())
	}
	t.memory.Observe(float64(res.PeakMemoryBytes))
}

// Load says how busy the node is.
func (n *Node) Load() Load {
	var l Load
	l.Running, l.Waiting = n.gate.counts()
	n.tally.mu.Lock()
	defer n.tally.mu.Unlock()
	for _, count := range n.tally.ended {
		l.Ended += count
	}
	for _, count := range n.tally.refused {
		l.Refused += count
	}
	return l
}

// WriteMetrics writes what the node counts, for Prometheus.
func (n *Node) WriteMetrics(w io.Writer) {
	p, load := metrics.NewPage(w, metricsPrefix), n.Load()
	p.Single("jobs_running", metrics.Gauge, "Jobs that run.", float64(load.Running))
	p.Single("jobs_running_limit", metrics.Gauge, "Jobs that may run at once.", float64(n.cfg.MaxConcurrent))
	p.Single("jobs_waiting", metrics.Gauge, "Jobs that wait for a slot.", float64(load.Waiting))
	p.Single("jobs_waiting_limit", metrics.Gauge, "Jobs that may wait; the next one is refused as busy.", float64(n.cfg.MaxQueued))
	n.tally.write(p)
	writeMemory(p)
}

func (t *tally) write(p metrics.Page) {
	t.mu.Lock()
	ended, refused, abandoned := maps.Clone(t.ended), maps.Clone(t.refused), t.abandoned
	t.mu.Unlock()
	p.Family("jobs_ended_total", metrics.Counter, "Jobs that were started, by how they ended.")
	for _, s := range sorted(ended) {
		p.Sample("jobs_ended_total", float64(ended[s]), "state", string(s))
	}
	p.Family("jobs_refused_total", metrics.Counter, "Jobs that were turned away before anything ran, by reason.")
	for _, r := range sorted(refused) {
		p.Sample("jobs_refused_total", float64(refused[r]), "reason", string(r))
	}
	p.Single("jobs_abandoned_total", metrics.Counter, "Jobs without a result, mostly because who had asked gave up.", float64(abandoned))
	p.Family("job_seconds", "histogram", "Where the time of jobs went; a step that did not happen took none.")
	for i, s := range steps {
		p.Histogram("job_seconds", t.seconds[i], "step", s.name)
	}
	p.Family("job_peak_memory_bytes", "histogram", "The largest memory of guests.")
	p.Histogram("job_peak_memory_bytes", t.memory)
}

// sorted keeps the order of samples the same on every page.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// writeMemory tells of the node's own process; guests are in others.
func writeMemory(p metrics.Page) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.Single("heap_bytes", metrics.Gauge, "Memory in use by the node's own process, as its runtime counts.", float64(m.HeapAlloc))
	if resident := residentBytes(); resident > 0 {
		p.Single("resident_bytes", metrics.Gauge, "Memory of the node's own process, as the kernel counts.", resident)
	}
	p.Single("goroutines", metrics.Gauge, "Goroutines of the node.", float64(runtime.NumGoroutine()))
}

// residentBytes is 0 where there is no /proc. Source: proc_pid_statm(5).
func residentBytes() float64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return float64(pages) * float64(os.Getpagesize())
}
