package wasm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
)

// programName is the guest's argument 0.
const programName = "job"

// runnerConfig is the first thing a runner reads. It comes from the node that
// started it.
type runnerConfig struct {
	Root      string `json:"root"`       // empty directory to become the working, and where possible the root directory
	UID       int64  `json:"uid"`        // user and group to become; 0: stay
	HeapBytes int64  `json:"heap_bytes"` // soft limit of the runner's own heap

	Limits []resourceLimit `json:"limits"`
}

// resourceLimit is one hard limit of the process. Source: setrlimit(2).
type resourceLimit struct {
	Resource int    `json:"resource"` // RLIMIT_…
	Value    uint64 `json:"value"`
}

// outcomeMessage is the last frame of a runner.
type outcomeMessage struct {
	State      job.State  `json:"state"`
	ExitCode   int64      `json:"exit_code"`
	Detail     string     `json:"detail"`
	Reason     job.Reason `json:"reason"` // for Refused
	Directions string     `json:"directions"`
	Engine     string     `json:"engine"`
	PeakBytes  int64      `json:"peak_bytes"`
	CompileNS  int64      `json:"compile_ns"`
	RunNS      int64      `json:"run_ns"`
}

// ServeRunner is the whole life of a runner process: it gives up what it can
// do to the machine, says that it is ready, reads one job with its module,
// runs it and says how it ended. The command that embeds it calls it when it
// was started with the arguments of Sandbox.Args, and exits afterwards.
//
// An error means that the runner itself failed.
func ServeRunner(in io.Reader, out io.Writer) error {
	_, body, err := readFrame(in, only(frameConfigure, maxControl))
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	var cfg runnerConfig
	if err := readJSON(body, &cfg); err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	// One processor, and a collector that works rather than grows.
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(cfg.HeapBytes)
	if err := enterJail(cfg); err != nil {
		return err
	}
	if err := writeFrame(out, frameReady, nil); err != nil {
		return err
	}
	msg, err := runOne(in, out)
	if err != nil {
		return err
	}
	return writeJSON(out, frameOutcome, msg)
}

// runOne reads a job and its module, and executes it.
func runOne(in io.Reader, out io.Writer) (outcomeMessage, error) {
	_, payload, err := readFrame(in, only(frameSpec, job.MaxSpecBytes))
	if err != nil {
		return outcomeMessage{}, fmt.Errorf("reading the job: %w", err)
	}
	j, err := job.Parse(payload)
	if err != nil {
		return refusalMessage(err), nil
	}
	_, module, err := readFrame(in, only(frameModule, job.MaxModuleBytes))
	if err != nil {
		return outcomeMessage{}, fmt.Errorf("reading the module: %w", err)
	}
	return execute(j, module, out), nil
}

func execute(j *job.Job, module []byte, out io.Writer) outcomeMessage {
	limits := j.Limits()
	if err := Inspect(module, limits); err != nil {
		return refusalMessage(err)
	}
	engine := ChooseEngine(len(module), limits.Deadline())
	outcome, err := engine.Run(context.Background(), guestOf(j, module, out))
	if err != nil {
		return refusalMessage(err)
	}
	return outcomeMessage{
		State: outcome.State, ExitCode: int64(outcome.ExitCode), Detail: clip(outcome.Detail),
		Engine: engine.Name(), PeakBytes: outcome.PeakBytes,
		CompileNS: outcome.Compile.Nanoseconds(), RunNS: outcome.Run.Nanoseconds(),
	}
}

// guestOf gives the guest exactly what the specification says. The
// environment is sorted and random numbers come from the job id, so that
// every node shows the guest the same world.
func guestOf(j *job.Job, module []byte, out io.Writer) Guest {
	spec, limits := j.Spec(), j.Limits()
	g := Guest{
		Module: module,
		Args:   append([]string{programName}, spec.Args...),
		Stdin:  bytes.NewReader(spec.Stdin),
		Stdout: &cappedWriter{w: frameWriter{out, frameStdout}, name: stdoutName, left: limits.StdoutBytes},
		Stderr: &cappedWriter{w: frameWriter{out, frameStderr}, name: stderrName, left: limits.StderrBytes},

		MemoryBytes: limits.MemoryBytes, Fuel: fuel.MaxFuel,
		Seed:        sha256.Sum256(j.Payload()), // the job id
	}
	for _, k := range slices.Sorted(maps.Keys(spec.Env)) {
		g.Env = append(g.Env, [2]string{k, spec.Env[k]})
	}
	return g
}

// refusalMessage reports why a module is not run; an error that is not a
// refusal is the runner's own failure.
func refusalMessage(err error) outcomeMessage {
	var r *job.Refusal
	if !errors.As(err, &r) {
		return outcomeMessage{State: job.InfraError, Detail: clip(err.Error())}
	}
	return outcomeMessage{State: job.Refused, Reason: r.Reason, Detail: clip(r.Error()), Directions: r.Directions}
}

// clip keeps a text that may quote the module inside an outcome frame.
func clip(s string) string {
	const most = 1 << 10
	if len(s) > most {
		s = s[:most] + "…"
	}
	return string([]rune(s)) // cutting may have split a code point
}

func nanoseconds(n int64) time.Duration { return max(0, time.Duration(n)) }
