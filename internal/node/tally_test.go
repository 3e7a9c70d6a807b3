package node

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
)

// scripted is a runner that does what a test says.
type scripted func(ctx context.Context) (job.Result, error)

func (s scripted) Run(ctx context.Context, _ *job.Job, _ []byte) (job.Result, error) { return s(ctx) }

// scrape reads a node's figures as Prometheus does.
func scrape(t *testing.T, n *Node) map[string]*dto.MetricFamily {
	t.Helper()
	var page bytes.Buffer
	n.WriteMetrics(&page)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(&page)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// sample finds one by its labels, written as name=value,….
func sample(t *testing.T, families map[string]*dto.MetricFamily, name, labels string) *dto.Metric {
	t.Helper()
	for _, m := range families["phase_node_"+name].GetMetric() {
		var text []string
		for _, l := range m.GetLabel() {
			text = append(text, l.GetName()+"="+l.GetValue())
		}
		if strings.Join(text, ",") == labels {
			return m
		}
	}
	t.Fatalf("no sample %s{%s}", name, labels)
	return nil
}

// TestMetricsCountJobs: a job that ended, one under way, one that waits, one for
// which there is no room, one that gave up, and one that cannot be had.
func TestMetricsCountJobs(t *testing.T) {
	module := []byte(idle)
	release, runs := make(chan struct{}), make(chan struct{}, 4)
	first := true // of one goroutine at a time
	n := newNode(t, func(c *Config) {
		c.MaxConcurrent, c.MaxQueued = 1, 1
		c.Runner = scripted(func(context.Context) (job.Result, error) {
			if first {
				first = false
				return job.Result{State: job.Trapped, Detail: "unreachable", Engine: "e", Walls: []string{}, PeakMemoryBytes: 2 << 20, Timings: job.Timings{Run: 2 * time.Second}}, nil
			}
			runs <- struct{}{}
			<-release
			return job.Result{State: job.Exited, Engine: "e", Walls: []string{}}, nil
		})
	}, module)
	execute := func(ctx context.Context, d blob.Digest) error {
		_, err := n.Execute(ctx, newJob(t, job.Spec{Module: d}))
		return err
	}
	if err := execute(t.Context(), blob.Of(module)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- execute(t.Context(), blob.Of(module)) }()
	<-runs
	ctx, giveUp := context.WithCancel(t.Context())
	go func() { ended <- execute(ctx, blob.Of(module)) }()
	for n.Load().Waiting == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := execute(t.Context(), blob.Of(module)); err == nil {
		t.Fatal("there was room")
	}
	families := scrape(t, n)
	for name, want := range map[string]float64{"jobs_running": 1, "jobs_waiting": 1, "jobs_running_limit": 1, "jobs_waiting_limit": 1} {
		if got := sample(t, families, name, "").GetGauge().GetValue(); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	giveUp()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := execute(t.Context(), blob.Of([]byte("nobody has this"))); err == nil {
		t.Fatal("a module from nowhere")
	}
	checkTotals(t, n)
}

func checkTotals(t *testing.T, n *Node) {
	t.Helper()
	families := scrape(t, n)
	for _, c := range []struct {
		name, labels string
		want         float64
	}{
		{"jobs_ended_total", "state=trapped", 1}, {"jobs_ended_total", "state=exited", 1}, {"jobs_ended_total", "state=deadline", 0},
		{"jobs_refused_total", "reason=busy", 1}, {"jobs_refused_total", "reason=unavailable", 1}, {"jobs_refused_total", "reason=too_big", 0},
		{"jobs_abandoned_total", "", 1},
	} {
		if got := sample(t, families, c.name, c.labels).GetCounter().GetValue(); got != c.want {
			t.Errorf("%s{%s} is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	run := sample(t, families, "job_seconds", "step=run").GetHistogram()
	if run.GetSampleCount() != 2 || run.GetSampleSum() != 2 {
		t.Errorf("job_seconds of run: %d, %v s", run.GetSampleCount(), run.GetSampleSum())
	}
	if memory := sample(t, families, "job_peak_memory_bytes", "").GetHistogram(); memory.GetSampleCount() != 2 || memory.GetSampleSum() != 2<<20 {
		t.Errorf("job_peak_memory_bytes: %v", memory)
	}
	if l := n.Load(); l != (Load{Ended: 2, Refused: 2}) {
		t.Errorf("%+v", l)
	}
	if sample(t, families, "heap_bytes", "").GetGauge().GetValue() <= 0 {
		t.Error("no memory in use")
	}
}

// The rules of names that people's dashboards rely on.
func TestMetricNames(t *testing.T) {
	name := regexp.MustCompile(`^phase_node_[a-z_]+$`)
	for _, f := range scrape(t, newNode(t, nil)) {
		counter := f.GetType() == dto.MetricType_COUNTER
		if !name.MatchString(f.GetName()) || counter != strings.HasSuffix(f.GetName(), "_total") || !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s %s %q", f.GetType(), f.GetName(), f.GetHelp())
		}
	}
}

// TestProbe asks the real sandbox, and one that fails.
func TestProbe(t *testing.T) {
	if text, err := wasmtest.Assemble(`(module (memory (export "memory") 1) (func (export "_start")))`); err != nil || string(text) != idle {
		t.Errorf("the module is not what its comment says: %q, %v", text, err)
	}
	n := newNode(t, nil)
	if err := n.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if l := n.Load(); l != (Load{}) {
		t.Errorf("the probe was counted: %+v", l)
	}
	n = newNode(t, func(c *Config) {
		c.Runner = scripted(func(context.Context) (job.Result, error) {
			return job.Result{State: job.InfraError, Detail: "no processes left"}, nil
		})
	})
	if err := n.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "no processes left") {
		t.Errorf("%v", err)
	}
}
