package wasm

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/phasebased/phase/internal/job"
)

// exits is a module that ends with a code.
func exits(t testing.TB, code int) []byte {
	t.Helper()
	return assemble(t, fmt.Sprintf(`(module %s (func (export "_start") i32.const %d call $proc_exit))`, wasiImports, code))
}

// TestModuleOfTheJobBefore: a runner that is told to use it again does so, whatever
// limits the next job has, and has none before the first job.
func TestModuleOfTheJobBefore(t *testing.T) {
	one, two := exits(t, 1), exits(t, 2)
	var in bytes.Buffer
	w := worker{shops: workshops{}, in: &in, out: io.Discard}
	for i, c := range []struct {
		of   []byte
		kind frameKind
		want job.State
		code int64
	}{
		{one, frameSame, job.Refused, 0},
		{one, frameModule, job.Exited, 1},
		{one, frameSame, job.Exited, 1},
		{two, frameModule, job.Exited, 2},
		{two, frameSame, job.Exited, 2},
		{one, frameModule, job.Exited, 1},
	} {
		j := newJob(t, c.of, func(s *job.Spec) { s.Limits.Fuel = int64(1000 + i) })
		if err := writeFrame(&in, frameSpec, j.Payload()); err != nil {
			t.Fatal(err)
		}
		module := c.of
		if c.kind == frameSame {
			module = nil
		}
		if err := writeFrame(&in, c.kind, module); err != nil {
			t.Fatal(err)
		}
		msg, err := w.runOne()
		if err != nil || msg.State != c.want || msg.ExitCode != c.code {
			t.Errorf("job %d: %+v %v, want %s %d", i, msg, err, c.want, c.code)
		}
	}
}

// TestNothingElseStandsForAModule: frames of other kinds, and bytes with "the same",
// end the runner.
func TestNothingElseStandsForAModule(t *testing.T) {
	module := exits(t, 0)
	for _, f := range []struct {
		kind frameKind
		body []byte
	}{{frameSame, []byte("x")}, {frameSpec, nil}, {frameOutcome, []byte("{}")}} {
		var in bytes.Buffer
		w := worker{shops: workshops{}, in: &in, out: io.Discard, module: module}
		if err := writeFrame(&in, frameSpec, newJob(t, module, nil).Payload()); err != nil {
			t.Fatal(err)
		}
		if err := writeFrame(&in, f.kind, f.body); err != nil {
			t.Fatal(err)
		}
		if msg, err := w.runOne(); err == nil {
			t.Errorf("frame %q was taken for a module: %+v", byte(f.kind), msg)
		}
	}
}

// TestUsedJailRunsTheModuleOfItsJob: a jail that is not sent a module again still runs
// that of each job.
func TestUsedJailRunsTheModuleOfItsJob(t *testing.T) {
	s := testSandbox(t)
	s.Spare, s.Reuse = 1, 100
	serving(t, s)
	for i, code := range []int{1, 1, 2, 1, 2, 2, 1} {
		module := exits(t, code)
		j := newJob(t, module, func(s *job.Spec) { s.Limits.Fuel = int64(1000 + i) })
		if res := mustRun(t, s, "a", j, module); res.ExitCode != code {
			t.Errorf("job %d of a module that exits with %d: %+v", i, code, res)
		}
	}
}
