package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm"
	"github.com/phasebased/phase/internal/wasmbuild"
)

// kernel is work for a processor: a module with its arguments.
type kernel struct {
	name   string
	module string // without the folder
	args   []string
}

// kernels are the sorts of work that engines are compared by. Each takes some tenths
// of a second.
var kernels = []kernel{
	{"C: SHA-256", "checksum-c.wasm", []string{"600000"}},
	{"C: fractal", "fractal-c.wasm", nil},
	{"C: matrix", "kernels-c.wasm", []string{"matrix", "480"}},
	{"C: bodies", "kernels-c.wasm", []string{"bodies", "1500000"}},
	{"C: sieve", "kernels-c.wasm", []string{"sieve", "15000000"}},
	{"C: queens", "kernels-c.wasm", []string{"queens", "14"}},
	{"C: sort", "kernels-c.wasm", []string{"sort", "300000"}},
	{"C: machine", "kernels-c.wasm", []string{"machine", "20000000"}},
	{"C: words", "kernels-c.wasm", []string{"words", "3000000"}},
	{"Go: SHA-256", "checksum-go.wasm", []string{"300000"}},
	{"Go: fractal", "fractal-go.wasm", nil},
	{"Go: sort", "kernels-go.wasm", []string{"sort", "150000"}},
	{"Go: words", "kernels-go.wasm", []string{"words", "500000"}},
	{"Go: pack", "kernels-go.wasm", []string{"pack", "1200000"}},
	{"Go: trees", "kernels-go.wasm", []string{"trees", "17"}},
}

// engineMemory is the linear memory of a kernel at most.
const engineMemory = 256 << 20

// engineFigures compares the node's engine with Wasmtime, both counting fuel: once as
// both are, once with canonical NaNs, which is what a node does by default. It measures
// processor time without that of compiling, in pairs.
func engineFigures(ctx context.Context, pairs int) ([]Figure, error) {
	dir, err := filepath.Abs(filepath.Join("build", "kernels"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := buildEngines(ctx, dir); err != nil {
		if errors.Is(err, wasmbuild.ErrNoCompiler) || errors.Is(err, errNoReference) {
			fmt.Fprintln(os.Stderr, "engines: skipped:", err)
			return nil, nil
		}
		return nil, err
	}
	var figures []Figure
	for _, kind := range []struct {
		name, goal string
		nan        bool
	}{{"with fuel", "ratio <= 1.4", false}, {"with fuel and canonical NaNs", "", true}} {
		each, err := compareKernels(ctx, dir, kind.nan, pairs)
		if err != nil {
			return nil, err
		}
		logs := 0.0
		for i := range each {
			each[i].Name += " " + kind.name + " (reference: Wasmtime)"
			logs += math.Log(each[i].Ratio)
		}
		mean := math.Exp(logs / float64(len(each)))
		figures = append(figures, each...)
		figures = append(figures, Figure{fmt.Sprintf("geometric mean of %d kernels %s (reference: Wasmtime)", len(each), kind.name), mean, "", 1, mean, kind.goal})
	}
	return figures, nil
}

var errNoReference = errors.New("here is no Wasmtime to compare with")

// buildEngines compiles the kernels and the reference.
func buildEngines(ctx context.Context, dir string) error {
	for out, source := range map[string]string{
		"checksum": filepath.Join("examples", "c", "checksum.c"), "fractal": filepath.Join("examples", "c", "fractal.c"),
		"kernels": filepath.Join("test", "bench", "kernels", "c", "kernels.c"),
	} {
		if err := wasmbuild.C(ctx, source, filepath.Join(dir, out+"-c.wasm")); err != nil {
			return err
		}
	}
	for out, folder := range map[string]string{
		"checksum": filepath.Join("examples", "checksum"), "fractal": filepath.Join("examples", "fractal"),
		"kernels": filepath.Join("test", "bench", "kernels"),
	} {
		if err := wasmbuild.Go(ctx, folder, filepath.Join(dir, out+"-go.wasm")); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "wasmtime"), ".")
	cmd.Dir = filepath.Join("test", "bench", "wasmtime")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1") // it needs a C compiler for this machine
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %w\n%.2000s", errNoReference, err, out)
	}
	return nil
}

// compareKernels gives a figure for each kernel.
func compareKernels(ctx context.Context, dir string, nan bool, pairs int) ([]Figure, error) {
	input, err := os.ReadFile("go.sum")
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread() // whose time is measured
	defer runtime.UnlockOSThread()
	engine, closeEngine, err := wasm.OpenCompiler(ctx)
	if err != nil {
		return nil, err
	}
	defer closeEngine()
	var figures []Figure
	for _, k := range kernels {
		f, err := k.compare(ctx, engine, dir, input, nan, pairs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f ms, Wasmtime %.0f ms\n", f.Name, f.Value, f.Reference)
		figures = append(figures, f)
	}
	return figures, nil
}

// compare runs the kernel in both engines by turns, after one run each that is not
// counted, and gives the medians of their times and of the ratios of the pairs.
func (k kernel) compare(ctx context.Context, engine wasm.Engine, dir string, input []byte, nan bool, pairs int) (Figure, error) {
	module, err := os.ReadFile(filepath.Join(dir, k.module))
	if err != nil {
		return Figure{}, err
	}
	reference, err := startReference(ctx, dir, k, nan)
	if err != nil {
		return Figure{}, err
	}
	defer reference.end()
	var ours, theirs, ratios []float64
	for i := range pairs + 1 {
		own, wrote, err := k.run(ctx, engine, module, input, nan)
		if err != nil {
			return Figure{}, err
		}
		other, err := reference.run()
		if err != nil {
			return Figure{}, err
		}
		if i == 0 {
			if expected, err := os.ReadFile(reference.output); err != nil || !bytes.Equal(wrote, expected) || len(wrote) == 0 {
				return Figure{}, errors.Join(errors.New("the engines disagree about the output"), err)
			}
			continue
		}
		ours, theirs = append(ours, milliseconds(own)), append(theirs, milliseconds(other))
		ratios = append(ratios, float64(own)/float64(other))
	}
	return Figure{k.name, middle(ours), "ms", middle(theirs), middle(ratios), ""}, nil
}

// run gives the processor time and the output of a run in our engine. The module is
// compiled at the first; later ones pay for its digest.
func (k kernel) run(ctx context.Context, engine wasm.Engine, module, input []byte, nan bool) (time.Duration, []byte, error) {
	var out bytes.Buffer
	runtime.GC() // what it collects later is not the guest's
	before, err := threadTime()
	if err != nil {
		return 0, nil, err
	}
	outcome, err := engine.Run(ctx, wasm.Guest{
		Module: module, Digest: blob.Of(module), Args: append([]string{"job"}, k.args...), Stdin: bytes.NewReader(input), Stdout: &out, Stderr: io.Discard,
		MemoryBytes: engineMemory, Fuel: job.DefaultNodeLimits.Fuel, CanonicalNaN: nan,
	})
	if err != nil {
		return 0, nil, err
	}
	after, err := threadTime()
	if outcome.State != job.Exited || outcome.ExitCode != 0 {
		err = fmt.Errorf("ended as %s %d: %s", outcome.State, outcome.ExitCode, outcome.Detail)
	}
	return after - before, out.Bytes(), err
}

// threadTime is the processor time that this thread has used.
func threadTime() (time.Duration, error) {
	var used unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), err
}

// reference is the program test/bench/wasmtime with one kernel.
type reference struct {
	cmd    *exec.Cmd
	ask    io.WriteCloser
	answer *bufio.Scanner
	said   bytes.Buffer
	output string
}

func startReference(ctx context.Context, dir string, k kernel, nan bool) (*reference, error) {
	r := &reference{output: filepath.Join(dir, "output")}
	args := []string{"-nan=" + strconv.FormatBool(nan), "-stdin", "go.sum", "-stdout", r.output, filepath.Join(dir, k.module)}
	r.cmd = exec.CommandContext(ctx, filepath.Join(dir, "wasmtime"), append(args, k.args...)...)
	r.cmd.Stderr = &r.said
	var err error
	if r.ask, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.answer = bufio.NewScanner(out)
	return r, r.cmd.Start()
}

// run has the kernel run once more.
func (r *reference) run() (time.Duration, error) {
	if _, err := io.WriteString(r.ask, "\n"); err != nil {
		return 0, err
	}
	if !r.answer.Scan() {
		return 0, fmt.Errorf("the other engine says nothing more: %s", strings.TrimSpace(r.said.String()))
	}
	ns, err := strconv.ParseInt(r.answer.Text(), 10, 64)
	return time.Duration(max(ns, 1)), err
}

func (r *reference) end() {
	r.ask.Close()
	_ = r.cmd.Wait() // what it measured is known already
}
