package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// countingRunner runs nothing, and notes what it was given.
type countingRunner struct{ got [][]byte }

func (r *countingRunner) Run(_ context.Context, _ *job.Job, module []byte) (job.Result, error) {
	r.got = append(r.got, module)
	return job.Result{State: job.Exited, Engine: "none"}, nil
}

// TestModuleIsReadOnce: the next job with a module does not wait for its source, which
// is asked again after a minute and then has the last word.
func TestModuleIsReadOnce(t *testing.T) {
	module := []byte("module")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	asked, runner := 0, &countingRunner{}
	var missing error
	n := newNode(t, func(c *Config) {
		c.Runner, c.Now = runner, func() time.Time { return now }
		c.Module = func(context.Context, blob.Digest) ([]byte, error) { asked++; return module, missing }
	})
	run := func(nonce string) error {
		_, err := n.Execute(context.Background(), newJob(t, job.Spec{Module: blob.Of(module), Nonce: nonce}))
		return err
	}
	for i, c := range []struct {
		later time.Duration
		asked int
	}{{0, 1}, {0, 1}, {askEvery - 1, 1}, {1, 2}, {0, 2}, {-time.Hour, 3}} {
		now = now.Add(c.later)
		if err := run(fmt.Sprint(i)); err != nil || asked != c.asked {
			t.Errorf("job %d: the source was asked %d times, want %d: %v", i, asked, c.asked, err)
		}
	}
	for i, got := range runner.got {
		if !bytes.Equal(got, module) {
			t.Errorf("job %d was given %q", i, got)
		}
	}
	missing, now = fs.ErrNotExist, now.Add(askEvery)
	var refused *job.Refusal
	for range 2 {
		if err := run("gone"); !errors.As(err, &refused) || refused.Reason != job.Unavailable {
			t.Errorf("a module that was removed: %v", err)
		}
	}
}

// TestWrongModuleIsNotKept: what has another hash is asked for again.
func TestWrongModuleIsNotKept(t *testing.T) {
	module := []byte("module")
	answers := [][]byte{[]byte("another"), module}
	runner := &countingRunner{}
	n := newNode(t, func(c *Config) {
		c.Runner = runner
		c.Module = func(context.Context, blob.Digest) ([]byte, error) {
			a := answers[0]
			answers = answers[1:]
			return a, nil
		}
	})
	j := newJob(t, job.Spec{Module: blob.Of(module)})
	if _, err := n.Execute(context.Background(), j); !errors.As(err, new(*blob.MismatchError)) {
		t.Errorf("another module: %v", err)
	}
	if _, err := n.Execute(context.Background(), j); err != nil || len(runner.got) != 1 || !bytes.Equal(runner.got[0], module) {
		t.Errorf("%v, ran %q", err, runner.got)
	}
}

func TestModuleCacheIsBounded(t *testing.T) {
	now := time.Unix(1, 0)
	sized := func(n, size int) (blob.Digest, []byte) {
		b := bytes.Repeat([]byte{byte(n)}, size)
		return blob.Of(b), b
	}
	c := &moduleCache{most: 100}
	a, bytesA := sized(1, 40)
	b, bytesB := sized(2, 40)
	d, bytesD := sized(3, 40)
	c.put(a, bytesA, now)
	c.put(b, bytesB, now)
	c.get(a, now) // now b is the longest unused
	c.put(d, bytesD, now)
	if c.get(a, now) == nil || c.get(b, now) != nil || c.get(d, now) == nil || c.bytes != 80 {
		t.Errorf("of three, the longest unused was to go: %d modules, %d bytes", len(c.kept), c.bytes)
	}
	c.put(a, bytesA, now)
	if len(c.kept) != 2 || c.bytes != 80 {
		t.Errorf("one twice: %d modules, %d bytes", len(c.kept), c.bytes)
	}
	large, bytesLarge := sized(4, 101)
	if c.put(large, bytesLarge, now); c.get(large, now) != nil || len(c.kept) != 2 {
		t.Errorf("a module that is too large: %d modules, %d bytes", len(c.kept), c.bytes)
	}
	for i := range 2 * cachedModules {
		c.put(blob.Of([]byte{byte(i)}), []byte{byte(i)}, now)
	}
	if len(c.kept) > cachedModules {
		t.Errorf("%d modules", len(c.kept))
	}
}

// TestModuleCacheTogether is for the race detector.
func TestModuleCacheTogether(t *testing.T) {
	c := &moduleCache{most: 200}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 200 {
				b := bytes.Repeat([]byte{byte(n % 5)}, 60)
				d := blob.Of(b)
				if got := c.get(d, time.Unix(1, 0)); got != nil && !bytes.Equal(got, b) {
					t.Errorf("worker %d was given another module", i)
				}
				c.put(d, b, time.Unix(1, 0))
			}
		})
	}
	all.Wait()
}
