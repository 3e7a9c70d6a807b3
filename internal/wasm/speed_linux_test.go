package wasm

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// helloJob is the smallest job of the examples.
func helloJob(t testing.TB) (*job.Job, []byte) {
	t.Helper()
	module, err := os.ReadFile("../../examples/hello/hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	j, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Args: []string{"Hello, World"}})
	if err != nil {
		t.Fatal(err)
	}
	return j, module
}

// TestWarmModule is what the examples have, and runs.
func TestWarmModule(t *testing.T) {
	if _, module := helloJob(t); !bytes.Equal(module, warmModule) {
		t.Error("warmup.wasm is not the hello job's module; copy it")
	}
}

// BenchmarkExecute is a job without a jail: what the runner itself does.
func BenchmarkExecute(b *testing.B) {
	j, module := helloJob(b)
	shops := workshops{}
	b.ReportAllocs()
	for b.Loop() {
		if m := shops.execute(j, module, nil, io.Discard); m.State != job.Exited {
			b.Fatal(m)
		}
	}
}

func benchmarkJail(b *testing.B, reuse int) {
	j, module := helloJob(b)
	s := testSandbox(b)
	s.Spare, s.Reuse = 2, reuse
	serving(b, s)
	var compile, run time.Duration
	for b.Loop() {
		if reuse == 0 {
			b.StopTimer()
			waitFor(b, "spare jails", func() bool { return s.Ready() == s.Spare })
			b.StartTimer()
		}
		res, err := s.RunFor(context.Background(), "bench", j, module)
		if err != nil || res.State != job.Exited {
			b.Fatal(res, err)
		}
		compile += res.Timings.Compile
		run += res.Timings.Run
	}
	b.ReportMetric(float64(compile.Microseconds())/float64(b.N), "compile-us")
	b.ReportMetric(float64(run.Microseconds())/float64(b.N), "run-us")
}

func BenchmarkSpareJail(b *testing.B) { benchmarkJail(b, 0) }
func BenchmarkUsedJail(b *testing.B)  { benchmarkJail(b, 1<<30) }
