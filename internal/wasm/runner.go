package wasm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/phasebased/phase/internal/job"
)

// programName is the guest's argument 0.
const programName = "job"

// collectorPercent lets a small job end before the garbage of its compilation is
// collected; runnerHeap bounds what that may take.
const collectorPercent = 400

// readAhead is how much the runner reads at once of what the node sends.
const readAhead = 16 << 10

// runnerConfig is the first thing a runner reads. It comes from the node that
// started it.
type runnerConfig struct {
	Root string `json:"root"` // empty directory to become the working, and where possible the root directory
	UID  int64  `json:"uid"`  // user and group to become; 0: stay

	Limits  []resourceLimit `json:"limits"`
	Without []string        `json:"without"` // walls not to build: tests want to see them missed
	// Inputs are the sizes of the files that the process was born with, from descriptor 3
	// on: those of its only job that are not empty, in the order of their names.
	Inputs []int64 `json:"inputs"`
}

// readyMessage is what a jailed runner says before it has seen a foreign byte.
type readyMessage struct {
	Tried []string `json:"tried"` // walls that it ran against
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
	FuelUsed   int64      `json:"fuel_used"`
	CompileNS  int64      `json:"compile_ns"`
	RunNS      int64      `json:"run_ns"`
}

// ServeRunner is the whole life of a runner process: it gives up what it can
// do to the machine, says that it is ready, reads jobs with their modules, runs
// one after the other and says how each ended. Nothing but the node decides
// whether there is a second one. It returns when there are no more. The command
// that embeds it calls it when it was started with the arguments of
// Sandbox.Args, and exits afterwards.
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
	// One processor; and no more looking at what the machine grants.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(collectorPercent)
	inputs, err := mapInputs(cfg.Inputs)
	if err != nil {
		return err
	}
	shops := workshops{}
	shops.warmUp()
	tried, err := enterJail(cfg)
	if err != nil {
		return err
	}
	if err := writeJSON(out, frameReady, readyMessage{Tried: tried}); err != nil {
		return err
	}
	w := worker{shops: shops, in: bufio.NewReaderSize(in, readAhead), out: out, inputs: inputs}
	for {
		msg, err := w.runOne()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil // no more jobs
			}
			return err
		}
		if err := writeJSON(out, frameOutcome, msg); err != nil {
			return err
		}
	}
}

// warmModule is the hello job of the examples: it uses a bit of all that small jobs
// use.
//
//go:embed warmup.wasm
var warmModule []byte

// warmUp makes ready what needs no job, and runs a module of ours, so that the first job
// does not wait for what an engine and a process do once. It changes nothing that a
// guest sees; if it fails, so will the job, and tell.
func (w workshops) warmUp() {
	engine, err := w.engine(compilerSupported())
	if err != nil {
		return
	}
	_, _ = engine.Run(context.Background(), Guest{
		Module: warmModule, Args: []string{programName, "warm"}, MemoryBytes: PageBytes, CanonicalNaN: true, Fuel: 1 << 20,
		Stdin: bytes.NewReader(nil), Stdout: io.Discard, Stderr: io.Discard,
	})
}

// worker is a runner in its jail.
type worker struct {
	shops  workshops
	in     io.Reader
	out    io.Writer
	inputs [][]byte
	module []byte // of the last job
}

// runOne reads a job and its module, and executes it.
func (w *worker) runOne() (outcomeMessage, error) {
	_, payload, err := readFrame(w.in, only(frameSpec, job.MaxSpecBytes))
	if err != nil {
		return outcomeMessage{}, fmt.Errorf("reading the job: %w", err)
	}
	j, err := job.Parse(payload)
	if err != nil {
		return refusalMessage(err), nil
	}
	if err := w.readModule(); err != nil {
		return outcomeMessage{}, fmt.Errorf("reading the module: %w", err)
	}
	files, err := inputFiles(j, w.inputs)
	if err != nil {
		return refusalMessage(err), nil
	}
	return w.shops.execute(j, w.module, files, w.out), nil
}

// readModule reads the module of the next job, which may be that of the last.
func (w *worker) readModule() error {
	kind, module, err := readFrame(w.in, moduleLimit)
	if err == nil && kind == frameModule {
		w.module = module
	}
	return err
}

// moduleLimit bounds what stands for a module.
func moduleLimit(k frameKind) int64 {
	switch k {
	case frameModule:
		return job.MaxModuleBytes
	case frameSame:
		return 0
	}
	return -1
}

// inputFiles gives the contents that the process was born with their names.
func inputFiles(j *job.Job, contents [][]byte) (files []InputFile, err error) {
	inputs := j.Inputs()
	for _, name := range job.InputNames(inputs) {
		f := InputFile{Name: name}
		if size := inputs[name].Size; size > 0 {
			if len(contents) == 0 || int64(len(contents[0])) != size {
				return nil, fmt.Errorf("input %s is not what the job names", name)
			}
			f.Data, contents = contents[0], contents[1:]
		}
		files = append(files, f)
	}
	if len(contents) > 0 {
		return nil, errors.New("there are more inputs than the job names")
	}
	return files, nil
}

func (w workshops) execute(j *job.Job, module []byte, files []InputFile, out io.Writer) outcomeMessage {
	limits := j.Limits()
	// A collector that works rather than grows.
	debug.SetMemoryLimit(runnerHeap)
	if err := Inspect(module, limits); err != nil {
		return refusalMessage(err)
	}
	engine, err := w.engineFor(j.Module(), module, limits.Deadline())
	if err != nil {
		return refusalMessage(err)
	}
	outcome, err := engine.Run(context.Background(), guestOf(j, module, files, out))
	if err != nil {
		return refusalMessage(err)
	}
	return outcomeMessage{
		State: outcome.State, ExitCode: int64(outcome.ExitCode), Detail: clip(outcome.Detail),
		Engine: engine.Name(), PeakBytes: outcome.PeakBytes, FuelUsed: outcome.FuelUsed,
		CompileNS: outcome.Compile.Nanoseconds(), RunNS: outcome.Run.Nanoseconds(),
	}
}

// guestOf gives the guest exactly what the specification says. The
// environment is sorted and random numbers come from the job id, so that
// every node shows the guest the same world.
func guestOf(j *job.Job, module []byte, files []InputFile, out io.Writer) Guest {
	spec, limits := j.Spec(), j.Limits()
	g := Guest{
		Module: module, Digest: j.Module(),
		Args:   append([]string{programName}, spec.Args...),
		Stdin:  bytes.NewReader(spec.Stdin),
		Inputs: files,
		Stdout: &cappedWriter{w: frameWriter{out, frameStdout}, name: stdoutName, left: limits.StdoutBytes},
		Stderr: &cappedWriter{w: frameWriter{out, frameStderr}, name: stderrName, left: limits.StderrBytes},

		MemoryBytes: limits.MemoryBytes, Fuel: limits.Fuel, CanonicalNaN: spec.Determinism == job.Strict,
		Seed: sha256.Sum256(j.Payload()), // the job id
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
