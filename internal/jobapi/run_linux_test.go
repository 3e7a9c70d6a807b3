package jobapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// runDesk ends each job it is given as it is named. Its outputs are the given ones.
type runDesk struct {
	fakeDesk
	ends     string
	slow     bool // nobody hears the end who listens for the first time
	out      string
	withheld bool
	listens  *atomic.Int32
}

func (d runDesk) SubmitLocal([]byte, job.Caller) (job.Status, error) {
	s := d.status("running")
	s.ID = named(d.ends)
	return s, nil
}

func (d runDesk) Watch(ctx context.Context, id blob.Digest, _ job.Caller, tell func(job.Status) error) error {
	s := d.status("running")
	s.ID = id
	if err := tell(s); err != nil {
		return err
	}
	if d.slow && d.listens.Add(1)%2 == 1 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if s = d.status(d.ends); d.withheld {
		s = job.Status{ID: id, Stage: job.Committed, Submitter: s.Submitter, Module: s.Module, AcceptedAt: s.AcceptedAt}
		return tell(s)
	}
	s.End.Stdout = job.Output{Digest: blob.Of([]byte(d.out)), Size: int64(len(d.out))}
	return tell(s)
}

func (d runDesk) Output(_ blob.Digest, stderr bool, _ job.Caller) (io.ReadCloser, job.Output, error) {
	b := d.out
	if stderr {
		b = "output"
	}
	return io.NopCloser(strings.NewReader(b)), job.Output{Digest: blob.Of([]byte(b)), Size: int64(len(b))}, nil
}

// TestRun: one request hands a job in and brings what comes of it; a quick job is told
// of in one line, a slow one at each stage, and a large output is got by itself.
func TestRun(t *testing.T) {
	large := strings.Repeat("x", maxInline+1)
	for name, c := range map[string]struct {
		desk   runDesk
		stages string
	}{
		"quick":        {runDesk{ends: "ended", out: "out"}, "ended"},
		"no output":    {runDesk{ends: "ended"}, "ended"},
		"slow":         {runDesk{ends: "ended", out: "out", slow: true, listens: &atomic.Int32{}}, "running ended"},
		"large output": {runDesk{ends: "ended", out: large}, "ended"},
	} {
		t.Run(name, func(t *testing.T) {
			client := NewClient(start(t, func(cfg *Config) { cfg.Desk = c.desk }))
			defer client.Close()
			var stages []string
			got, err := client.Run(t.Context(), TypeSpec, []byte(" "), func(s job.Status) { stages = append(stages, string(s.Stage)) })
			if err != nil {
				t.Fatal(err)
			}
			if strings.Join(stages, " ") != c.stages {
				t.Errorf("told of %q, want %q", stages, c.stages)
			}
			if string(got.Stdout) != c.desk.out || string(got.Stderr) != "output" || string(got.Receipt) != "{}" || got.Status.End == nil {
				t.Errorf("%.100q, %q, %q, %+v", got.Stdout, got.Stderr, got.Receipt, got.Status)
			}
		})
	}
}

// TestRunsWithoutReceipt: a failure is stated, and a commitment is not waited for.
func TestRunsWithoutReceipt(t *testing.T) {
	client := NewClient(start(t, func(cfg *Config) { cfg.Desk = runDesk{ends: "failed"} }))
	defer client.Close()
	got, err := client.Run(t.Context(), TypeSpec, []byte(" "), func(job.Status) {})
	if err != nil || got.Status.End.Failure == nil || got.Receipt != nil {
		t.Errorf("failed: %+v, %v", got, err)
	}
	client = NewClient(start(t, func(cfg *Config) { cfg.Desk = runDesk{ends: "ended", withheld: true} }))
	defer client.Close()
	got, err = client.Run(t.Context(), TypeSpec, []byte(" "), func(job.Status) {})
	if !errors.Is(err, job.ErrWithheld) || got.Status.Stage != job.Committed {
		t.Errorf("withheld: %+v, %v", got, err)
	}
}

// TestRunOutputsAreCompared: what comes with the end is what the end says, or nothing.
func TestRunOutputsAreCompared(t *testing.T) {
	lying := lyingDesk{runDesk{ends: "ended", out: "out"}}
	client := NewClient(start(t, func(cfg *Config) { cfg.Desk = lying }))
	defer client.Close()
	_, err := client.Run(t.Context(), TypeSpec, []byte(" "), func(job.Status) {})
	if !errors.As(err, new(*blob.MismatchError)) {
		t.Errorf("%v", err)
	}
}

type lyingDesk struct{ runDesk }

func (d lyingDesk) Output(id blob.Digest, _ bool, by job.Caller) (io.ReadCloser, job.Output, error) {
	d.out = "lie"
	return d.runDesk.Output(id, false, by)
}

// TestRunKeepsItsConnection: the answer is over with the last line, and the connection
// serves the next request.
func TestRunKeepsItsConnection(t *testing.T) {
	path := start(t, func(cfg *Config) { cfg.Desk = runDesk{ends: "ended", out: "out"} })
	client := NewClient(path)
	defer client.Close()
	conns := 0
	dial := client.http.Transport.(*http.Transport).DialContext
	client.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conns++
		return dial(ctx, network, address)
	}
	for range 3 {
		if _, err := client.Run(t.Context(), TypeSpec, []byte(" "), func(job.Status) {}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Watch(t.Context(), named("ended"), func(job.Status) {}); err != nil {
			t.Fatal(err)
		}
	}
	if conns != 1 {
		t.Errorf("%d connections, want 1", conns)
	}
}
