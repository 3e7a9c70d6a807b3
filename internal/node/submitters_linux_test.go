package node

import (
	"context"
	"crypto/ed25519"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// namesRunner notes for whom it ran jobs.
type namesRunner struct {
	mu    sync.Mutex
	names []string
}

func (r *namesRunner) Run(ctx context.Context, j *job.Job, module []byte) (job.Result, error) {
	return r.RunFor(ctx, "nobody's name is lost", j, module)
}

func (r *namesRunner) RunFor(_ context.Context, submitter string, _ *job.Job, _ []byte) (job.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, submitter)
	return job.Result{State: job.Exited, Engine: "none"}, nil
}

// TestRunnerLearnsTheSubmitter: what jobs may share depends on that name, so a job
// must never come under another's.
func TestRunnerLearnsTheSubmitter(t *testing.T) {
	module := []byte("module")
	runner := &namesRunner{}
	n := newNode(t, func(c *Config) { c.Runner = runner }, module)
	j := newJob(t, job.Spec{Module: blob.Of(module)})
	key, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, r := range []*record{{job: j, owner: "local:7", accepted: now}, {job: j, owner: "local:7", submitter: key, accepted: now}} {
		if _, err := n.perform(t.Context(), r.task()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.Execute(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if want := []string{"local:7", job.FormatKey(key), ""}; !slices.Equal(runner.names, want) {
		t.Errorf("jobs ran for %q, want %q", runner.names, want)
	}
}
