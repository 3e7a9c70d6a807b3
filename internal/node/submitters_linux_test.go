package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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

// A module that does not come ends a submitter's job, and not the node's own.
func TestFetchingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, func(c *Config) {
			c.Module = func(ctx context.Context, _ blob.Digest) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			c.FetchTime = time.Minute
		}, nil)
		j := newJob(t, job.Spec{Module: blob.Of([]byte("slow"))})
		begin := time.Now()
		_, err := n.executeAs(t.Context(), j, "local:7")
		var refusal *job.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != job.Unavailable || time.Since(begin) != time.Minute || !strings.Contains(err.Error(), "1m0s") {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := n.Execute(ctx, j); !errors.As(err, &refusal) || time.Since(begin) != time.Hour+time.Minute {
			t.Errorf("the node's own, after %s: %v", time.Since(begin), err)
		}
	})
}
