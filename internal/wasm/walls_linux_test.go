package wasm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/job"
)

// TestNoNamespacesForAWhile: that there are as many namespaces as there may be is a
// reason to do without for a while; that they are forbidden is one for ever.
func TestNoNamespacesForAWhile(t *testing.T) {
	for _, c := range []struct {
		why   error
		comes bool // back, after the pause
		fails bool // the job does, as nothing is wrong with namespaces
	}{
		{why: unix.ENOSPC, comes: true},
		{why: unix.EPERM}, {why: unix.ENOSYS},
		{why: unix.EAGAIN, comes: true, fails: true}, {why: unix.ENOMEM, comes: true, fails: true}, {why: unix.EINTR, comes: true, fails: true},
	} {
		t.Run(c.why.Error(), func(t *testing.T) {
			s, module := testSandbox(t), assemble(t, `(module (memory (export "memory") 1) (func (export "_start")))`)
			asked, why := 0, c.why
			s.refuse = func(isolated bool) error {
				if !isolated {
					return nil
				}
				asked++
				return why
			}
			run := func() job.Result {
				t.Helper()
				res, err := s.Run(t.Context(), newJob(t, module, nil), module)
				if err != nil {
					t.Fatal(err)
				}
				return res
			}
			if res := run(); (res.State == job.InfraError) != c.fails || slices.Contains(res.Walls, WallNet) {
				t.Fatalf("%s with the walls %v: %s", res.State, res.Walls, res.Detail)
			}
			if !c.fails {
				if run(); asked != 1 {
					t.Errorf("asked %d times at once", asked)
				}
			}
			why = nil
			s.namespaces.mu.Lock()
			s.namespaces.until = s.namespaces.until.Add(-2 * namespacePause) // later
			s.namespaces.mu.Unlock()
			before := asked
			if run(); (asked > before) != c.comes {
				t.Errorf("later it was asked for them: %t, want %t", asked > before, c.comes)
			}
		})
	}
}

// TestRequiredWalls: no guest gets to run where a wall is missing that has to stand,
// in a jail made for it or in one that was kept ready.
func TestRequiredWalls(t *testing.T) {
	module := assemble(t, `(module (memory (export "memory") 1) (func (export "_start")))`)
	s := testSandbox(t)
	s.Required = []string{WallWASM, WallRlimits, WallSeccomp}
	if res, err := s.Run(t.Context(), newJob(t, module, nil), module); err != nil || res.State != job.Exited {
		t.Fatalf("with all of them: %v, %v", res.State, err)
	}
	s = testSandbox(t)
	s.Required, s.without = []string{WallRlimits, WallSeccomp}, []string{WallSeccomp}
	s.Spare = 1
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	defer func() { cancel(); <-served }()
	res, err := s.Run(t.Context(), newJob(t, module, nil), module)
	var refusal *job.Refusal
	var lacks *WallsError
	if !errors.As(err, &refusal) || refusal.Reason != job.Internal || !errors.As(err, &lacks) || !slices.Equal(lacks.Lacks, []string{WallSeccomp}) || res.State != job.Refused {
		t.Errorf("without seccomp: %v, %v", res.State, err)
	}
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n := s.Ready(); n != 0 {
			t.Fatalf("%d jails without it wait for jobs", n)
		}
	}
}
