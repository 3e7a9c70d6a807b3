package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
)

// FuzzDifferential: whatever the module, both engines end it alike and count the same
// fuel, and what exits does as it does without a counter. Few changes of a module leave
// one that is valid, so eight bytes are the seed of one that is.
func FuzzDifferential(f *testing.F) {
	const pages, budget = 16, 200_000
	limits := job.Limits{MemoryBytes: pages << 16, StdoutBytes: 1 << 16, StderrBytes: 1 << 16, Fuel: budget, DeadlineMS: 1000}
	f.Fuzz(func(t *testing.T, module []byte) {
		if len(module) == 8 {
			module = wasmtest.Random(binary.LittleEndian.Uint64(module))
		}
		if Inspect(module, limits) != nil {
			return
		}
		var outcomes [3]Outcome
		var outputs [3]boundedWriter
		var failed [3]error
		for i, e := range append(engines(), engines()[0]) {
			outputs[i].left = 1 << 20
			outcomes[i], failed[i] = e.Run(t.Context(), Guest{
				Module: module, Args: []string{"job"}, Stdin: strings.NewReader(""), Stdout: &outputs[i], Stderr: &outputs[i],
				MemoryBytes: pages << 16, Fuel: budget, CanonicalNaN: i < 2, // the last is for what counts nothing
			})
			outcomes[i].Compile, outcomes[i].Run = 0, 0
		}
		if outcomes[0].State == job.InfraError {
			return // deeper than the interpreter can go: no result, as TestStackIsCounted shows
		}
		if (failed[0] == nil) != (failed[1] == nil) || failed[0] == nil && outcomes[0] != outcomes[1] || !bytes.Equal(outputs[0].got, outputs[1].got) {
			t.Fatalf("interpreter %+v %x %v\ncompiler    %+v %x %v", outcomes[0], outputs[0].got, failed[0], outcomes[1], outputs[1].got, failed[1])
		}
		if failed[2] != nil || outcomes[2].State != job.Exited {
			return // without a counter it might not end
		}
		code, out, ok := uncounted(t.Context(), module, pages)
		if ok && (code != outcomes[2].ExitCode || !bytes.Equal(out, outputs[2].got)) {
			t.Fatalf("the original exits with %d and gives %x; with the counter %d and %x", code, out, outcomes[2].ExitCode, outputs[2].got)
		}
	})
}

// boundedWriter keeps what it gets, as far as there is room.
type boundedWriter struct {
	got  []byte
	left int
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	keep := min(len(p), w.left)
	w.got, w.left = append(w.got, p[:keep]...), w.left-keep
	return len(p), nil
}

// uncounted runs a module as it is, if the host gives it nothing but output: time and
// randomness of this host are others than a job's.
func uncounted(ctx context.Context, module []byte, pages uint32) (code int, out []byte, ok bool) {
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter().WithMemoryLimitPages(pages))
	defer rt.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	compiled, err := rt.CompileModule(ctx, module)
	if err != nil {
		return 0, nil, false // such as memory that the module may use, and a job may not
	}
	for _, f := range compiled.ImportedFunctions() {
		if _, name, _ := f.Import(); name != "fd_write" && name != "proc_exit" {
			return 0, nil, false
		}
	}
	kept := boundedWriter{left: 1 << 20}
	_, err = rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithStdout(&kept).WithStderr(&kept))
	if exit := (*sys.ExitError)(nil); errors.As(err, &exit) {
		return int(exit.ExitCode()), kept.got, true
	}
	if err != nil {
		return -1, kept.got, true
	}
	return 0, kept.got, true
}
