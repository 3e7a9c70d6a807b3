package metrics

import (
	"bytes"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TestPage reads a page as Prometheus does.
func TestPage(t *testing.T) {
	var text bytes.Buffer
	p := NewPage(&text, "a_")
	p.Single("up", Gauge, "Whether it is up.", Flag(true))
	p.Family("done_total", Counter, "What was done.")
	hostile := "x\"} 1\na_up 0 \\"
	p.Sample("done_total", 3, "how", hostile, "where", "")
	h := NewHistogram(0.5, 1)
	var all sync.WaitGroup
	for _, v := range []float64{0.1, 0.5, 0.6, 1, 7} { // a bound belongs to its bucket
		all.Go(func() { h.Observe(v) })
	}
	all.Wait()
	p.Family("seconds", "histogram", "How long it took.")
	p.Histogram("seconds", h, "step", "run")
	p.Histogram("seconds", NewHistogram(), "step", "none")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(&text)
	if err != nil || len(families) != 3 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	if v := families["a_up"].GetMetric()[0].GetGauge().GetValue(); v != 1 {
		t.Errorf("up is %v", v)
	}
	done := families["a_done_total"].GetMetric()[0]
	if done.GetCounter().GetValue() != 3 || done.GetLabel()[0].GetValue() != hostile {
		t.Errorf("done_total is %v", done)
	}
	run := families["a_seconds"].GetMetric()[0].GetHistogram()
	if run.GetSampleCount() != 5 || run.GetSampleSum() != 9.2 {
		t.Errorf("%d values, together %v", run.GetSampleCount(), run.GetSampleSum())
	}
	for i, want := range []uint64{2, 4, 5} {
		if got := run.GetBucket()[i].GetCumulativeCount(); got != want {
			t.Errorf("bucket %d has %d, want %d", i, got, want)
		}
	}
	if n := families["a_seconds"].GetMetric()[1].GetHistogram().GetSampleCount(); n != 0 {
		t.Errorf("an empty histogram has %d values", n)
	}
}

func TestAnswerNamesItsFormat(t *testing.T) {
	w := httptest.NewRecorder()
	Answer(w)
	if f := expfmt.ResponseFormat(w.Header()); f.FormatType() != expfmt.TypeTextPlain {
		t.Errorf("%q", f)
	}
}
