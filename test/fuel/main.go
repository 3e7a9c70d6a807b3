// Command fuel runs modules of this repository on both engines, without a jail, and
// writes how each ended. Its test compares what it writes on different processors.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm"
)

// task is a module to run, a line of JSON on the standard input.
type task struct {
	Name   string
	Module string // path
	Args   []string
	Stdin  []byte
	Again  bool // a second time, with one unit of fuel less than it needs
}

// ended is how a task ended, a line of JSON on the standard output: all that honest
// nodes must agree on, and the engine.
type ended struct {
	Name           string
	Engine         string
	State          job.State
	ExitCode       int
	Detail         string
	Fuel           int64
	Peak           int64
	Stdout, Stderr blob.Digest
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fuel:", err)
		os.Exit(1)
	}
}

func run() error {
	fmt.Fprintln(os.Stderr, "processor:", runtime.GOARCH)
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var t task
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return err
		}
		module, err := os.ReadFile(t.Module)
		if err != nil {
			return err
		}
		// Without time to compile there is only the interpreter.
		for _, deadline := range []time.Duration{0, 24 * time.Hour} {
			budget := int64(job.DefaultLimits.Fuel)
			for again := true; again; {
				e, err := execute(t, module, wasm.ChooseEngine(len(module), deadline), budget)
				if err != nil {
					return fmt.Errorf("%s: %w", t.Name, err)
				}
				if err := out.Encode(e); err != nil {
					return err
				}
				budget, again = e.Fuel-1, t.Again && e.State == job.Exited
			}
		}
	}
	return lines.Err()
}

func execute(t task, module []byte, engine wasm.Engine, budget int64) (ended, error) {
	var stdout, stderr bytes.Buffer
	outcome, err := engine.Run(context.Background(), wasm.Guest{
		Module: module, Args: append([]string{"job"}, t.Args...), Stdin: bytes.NewReader(t.Stdin), Stdout: &stdout, Stderr: &stderr,
		MemoryBytes: job.DefaultLimits.MemoryBytes, Fuel: budget, CanonicalNaN: true,
	})
	return ended{
		Name: t.Name, Engine: engine.Name(), State: outcome.State, ExitCode: outcome.ExitCode, Detail: outcome.Detail,
		Fuel: outcome.FuelUsed, Peak: outcome.PeakBytes, Stdout: blob.Of(stdout.Bytes()), Stderr: blob.Of(stderr.Bytes()),
	}, err
}
