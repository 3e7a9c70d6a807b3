package provider

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/phasebased/phase/internal/metrics"
)

// scrape reads /metrics as Prometheus does.
func scrape(t *testing.T, url string) map[string]*dto.MetricFamily {
	t.Helper()
	resp, data := get(t, url+"/metrics")
	format := expfmt.ResponseFormat(resp.Header)
	if resp.StatusCode != 200 || format.FormatType() != expfmt.TypeTextPlain {
		t.Fatalf("%s, %q", resp.Status, format)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	return families
}

// value is that of the sample with these labels, written as name="value",…
func value(t *testing.T, families map[string]*dto.MetricFamily, name, labels string) float64 {
	t.Helper()
	for _, m := range families["phase_provider_"+name].GetMetric() {
		var text []string
		for _, l := range m.GetLabel() {
			text = append(text, l.GetName()+"="+l.GetValue())
		}
		if strings.Join(text, ",") == labels {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Errorf("no sample %s{%s}", name, labels)
	return 0
}

func TestMetrics(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	write(t, base, blobPath([]byte("lost")), []byte("l0st"))
	_, url := start(t, Config{Base: base, Receipts: t.TempDir()})
	kernel := url + "/" + blobPath(contents["kernel"])
	get(t, kernel)
	do(t, "GET", kernel, http.Header{"Range": {"bytes=0-9"}}, nil)
	do(t, "GET", kernel, http.Header{"Range": {"bytes=0-0" + strings.Repeat(",1-1", maxRanges)}}, nil)
	get(t, url+"/secret/%22x%0a")
	get(t, url+"/stable/x86_64/rootfs")
	do(t, "POST", url+"/receipts", nil, bytes.NewReader(signedReceipt(t, 1, 0)))
	families := scrape(t, url)
	blobs, release := "/blobs/{aa}/{file}", "/{channel}/{arch}/{file}"
	for _, c := range []struct {
		name, labels string
		want         float64
	}{
		{"requests_total", "route=" + blobs + ",code=200", 1}, {"sent_bytes_total", "route=" + blobs + ",code=200", 3_500_000},
		{"requests_total", "route=" + blobs + ",code=206", 1}, {"sent_bytes_total", "route=" + blobs + ",code=206", 10},
		{"requests_total", "route=" + blobs + ",code=416", 1}, {"requests_total", "route=other,code=404", 1},
		{"requests_total", "route=" + release + ",code=404", 1}, {"requests_total", "route=/receipts,code=201", 1},
		{"refused_total", "reason=ranges", 1}, {"refused_total", "reason=client", 0}, {"refused_total", "reason=total", 0},
		{"refused_total", "reason=connections", 0}, {"refused_total", "reason=stranger", 0}, {"refused_total", "reason=unchecked", 0},
		{"requests_in_flight", "", 1}, {"requests_limit", "", 2048}, {"clients", "", 1}, {"slow_total", "", 0}, {"shed_total", "", 0},
		{"healthy", "", 0}, {"files", "", 9}, {"blobs", "", 8}, {"blobs_withheld", "", 1}, {"receipts", "", 1},
		{"artifact_matches", "channel=stable,arch=x86_64,name=kernel", 1}, {"manifest_version", "channel=stable,arch=x86_64", 7},
		{"manifest_expires_time_seconds", "channel=stable,arch=x86_64", float64(now.AddDate(0, 3, 0).Unix())},
		{"checked_time_seconds", "", float64(now.Unix())}, {"start_time_seconds", "", float64(now.Unix())},
	} {
		if got := value(t, families, c.name, c.labels); got != c.want {
			t.Errorf("%s{%s} is %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	if value(t, families, "connections", "") < 1 || value(t, families, "files_bytes", "") < 3_800_000 {
		t.Error("connections or bytes are missing")
	}
}

// The rules of names that people's dashboards rely on.
func TestMetricNames(t *testing.T) {
	_, url := start(t, Config{})
	name := regexp.MustCompile(`^phase_provider_[a-z_]+$`)
	for _, f := range scrape(t, url) {
		counter := f.GetType() == dto.MetricType_COUNTER
		if !name.MatchString(f.GetName()) || counter != strings.HasSuffix(f.GetName(), "_total") || !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s %s %q", f.GetType(), f.GetName(), f.GetHelp())
		}
	}
}

// What the program counts beside stands on the same page.
func TestMetricsOfOthers(t *testing.T) {
	_, url := start(t, Config{Metrics: func(w io.Writer) {
		metrics.NewPage(w, "phase_node_").Single("jobs_running", metrics.Gauge, "Jobs.", 3)
	}})
	families := scrape(t, url)
	if m := families["phase_node_jobs_running"].GetMetric(); len(m) != 1 || m[0].GetGauge().GetValue() != 3 {
		t.Errorf("%v", m)
	}
	value(t, families, "healthy", "")
}

// TestAccessLog: one line for each request, whatever is asked for.
func TestAccessLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, url := start(t, Config{Access: slog.New(slog.NewTextHandler(f, nil))})
	long := strings.Repeat("x", 3000)
	for _, c := range []struct {
		path, agent, rng string
		want             []string
	}{
		{"/stable/x86_64/kernel", "curl/8", "bytes=0-9", []string{
			"method=GET", "path=/stable/x86_64/kernel", "status=206", "bytes=10", "agent=curl/8", `range="bytes=0-9"`, "client=127.0.0.1:", "ms=", "time="}},
		{"/a%0atime=x%20status=200%1b%5b2J", "", "", []string{`path="/a%0atime=x%20status=200%1b%5b2J"`, "status=404"}},
		{"/" + long, long, "bytes=" + long, []string{"path=/" + long[:maxLogPath-1] + "…", "agent=" + long[:maxLogOther] + "…"}},
		{"/x", "a\tb\" status=200 \xff", "", []string{`agent="a\tb\" status=200 \xff"`}},
	} {
		before, _ := os.ReadFile(path)
		head := http.Header{"User-Agent": {c.agent}}
		if c.rng != "" {
			head.Set("Range", c.rng)
		}
		do(t, "GET", url+c.path, head, nil)
		var line string
		eventually(t, "a line of "+c.path[:2], func() bool {
			all, _ := os.ReadFile(path)
			line = string(all[len(before):])
			return strings.HasSuffix(line, "\n")
		})
		if strings.Count(line, "\n") != 1 || len(line) > 1000 {
			t.Errorf("not one short line: %q", line)
		}
		for _, want := range c.want {
			if !strings.Contains(line, want) {
				t.Errorf("%q lacks %q", line, want)
			}
		}
	}
	if p.load().Answered != 4 {
		t.Errorf("answered %d", p.load().Answered)
	}
}
