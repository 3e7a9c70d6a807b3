package wasm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/cpu"

	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
)

// wazeroVersion is part of receipts; a test compares it with go.mod.
const wazeroVersion = "1.12.0"

// compileRate is how fast the compiler is assumed to be, in module bytes per
// second. Measured: 3.5 MB/s natively, a tenth of that under emulation. The
// interpreter prepares a module seven times as fast and then runs slower.
const compileRate = 1 << 20

// workTime is how long the compiler is assumed to take for a unit of fuel.Work. Measured:
// 0.2 to 5 µs. maxWork of them take longer than any deadline.
const (
	workTime = 5 * time.Microsecond
	maxWork  = 1 << 40
)

// ChooseEngine picks the compiler where it is available and expected to take
// at most a fifth of the deadline, else the interpreter: a plain Go program, of 2.5 MB,
// is compiled under the default deadline, and ends in time under emulation as well.
func ChooseEngine(moduleBytes int, deadline time.Duration) Engine {
	return wazeroEngine{compiler: compilerFits(moduleBytes, 0, deadline)}
}

// compilerFits also counts work, in the units of fuel.Work: small modules can be made
// that compile for hours.
func compilerFits(moduleBytes int, work int64, deadline time.Duration) bool {
	expected := time.Duration(moduleBytes)*time.Second/compileRate + time.Duration(min(work, maxWork))*workTime
	return compilerSupported() && expected <= deadline/5
}

// compilerSupported mirrors wazero's own requirement, which it checks by
// panicking: emulated processors may lack SSE4.1.
func compilerSupported() bool {
	return runtime.GOARCH == "arm64" || runtime.GOARCH == "amd64" && cpu.X86.HasSSE41
}

type wazeroEngine struct {
	compiler bool
	shop     *workshop // nil: one is made for each guest
}

func (e wazeroEngine) Name() string {
	kind := "interpreter"
	if e.compiler {
		kind = "compiler"
	}
	return "wazero " + wazeroVersion + " " + kind
}

// Run implements Engine. WithCloseOnContextDone stays off: it makes hot loops
// many times slower and still misses loop-free call chains.
func (e wazeroEngine) Run(ctx context.Context, g Guest) (Outcome, error) {
	start := time.Now()
	shop := e.shop
	if shop == nil {
		var err error
		if shop, err = openWorkshop(ctx, e.compiler); err != nil {
			return Outcome{}, err
		}
		defer shop.close(ctx)
	}
	compiled, err := shop.compile(ctx, g)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Compile: time.Since(start)}
	mem := &boundedMemory{limit: uint64(g.MemoryBytes)}
	defer mem.release()
	ctx = experimental.WithMemoryAllocator(ctx, mem)

	start = time.Now()
	used, err := call(ctx, shop.rt, compiled, g)
	out.Run = time.Since(start)
	out.PeakBytes, out.FuelUsed = int64(mem.peak), min(used.fuel, g.Fuel)
	out.judge(err, mem, used, g.Fuel)
	return out, nil
}

// meter adds the counter to a guest's module.
func meter(g Guest) ([]byte, error) {
	metered, err := fuel.Rewrite(g.Module, fuel.Options{
		Fuel: g.Fuel, Depth: maxDepth, Table: maxTableElements, CanonicalNaN: g.CanonicalNaN,
	})
	if err != nil {
		return nil, notMetered(err)
	}
	return metered, nil
}

// notMetered is the refusal of a module that package fuel does not rewrite.
func notMetered(err error) error {
	if errors.Is(err, fuel.ErrTooBig) {
		return &job.Refusal{Reason: job.TooBig, Detail: "the module takes too long to compile", Err: err,
			Directions: "Build it with smaller functions: less inlining, generated code in several functions."}
	}
	return &job.Refusal{Reason: job.Malformed, Detail: "the module is not valid", Err: err}
}

// maxDepth is how deep calls may go, in the units of package fuel. Both engines have
// a larger stack; their own limits differ.
const maxDepth = 20_000

// usage is what a guest has used of its budgets.
type usage struct {
	fuel    int64
	tooDeep bool
}

// call makes an instance and runs its start function and its command.
func call(ctx context.Context, rt wazero.Runtime, compiled wazero.CompiledModule, g Guest) (usage, error) {
	cfg, folder := moduleConfig(g), newInputFolder(g.Inputs)
	if len(g.Inputs) > 0 {
		cfg = cfg.WithFSConfig(wazero.NewFSConfig().(sysfs.FSConfig).WithSysFSMount(folder, job.InputFolder))
	}
	guest, err := rt.InstantiateModule(ctx, compiled, cfg.WithStartFunctions())
	if err != nil {
		return usage{}, err
	}
	defer guest.Close(ctx)
	folder.pay = payFor(guest.ExportedGlobal(fuel.FuelExport).(api.MutableGlobal))
	for _, name := range []string{fuel.StartExport, "_start"} {
		if f := guest.ExportedFunction(name); f != nil && err == nil {
			// A call that came back has left the depth at that of its last one.
			guest.ExportedGlobal(fuel.DepthExport).(api.MutableGlobal).Set(api.EncodeI32(maxDepth))
			_, err = f.Call(ctx)
		}
	}
	left := int64(guest.ExportedGlobal(fuel.FuelExport).Get())
	depth := int32(guest.ExportedGlobal(fuel.DepthExport).Get())
	return usage{g.Fuel - left, depth < 0}, err
}

// moduleConfig gives a guest its arguments, environment and streams, and
// nothing else: no files beside its inputs, no sockets. wazero's default clocks are fake: they
// start at a fixed date and advance by a fixed step per reading.
func moduleConfig(g Guest) wazero.ModuleConfig {
	cfg := wazero.NewModuleConfig().
		WithName("").
		WithArgs(g.Args...).
		WithStdin(g.Stdin).
		WithStdout(g.Stdout).
		WithStderr(g.Stderr).
		WithRandSource(rand.NewChaCha8(g.Seed))
	for _, kv := range g.Env {
		cfg = cfg.WithEnv(kv[0], kv[1])
	}
	return cfg
}

// checkLinks refuses a module that would not link or has nothing to run.
func checkLinks(offered map[string]api.FunctionDefinition, m wazero.CompiledModule) error {
	for _, f := range m.ImportedFunctions() {
		_, name, _ := f.Import()
		if have, ok := offered[name]; !ok || !sameType(have, f) {
			return unsupported(fmt.Sprintf("the module imports %q, which WASI preview 1 does not offer in that form", name),
				"Build it with a current wasip1 toolchain.")
		}
	}
	if f, ok := m.ExportedFunctions()["_start"]; !ok || len(f.ParamTypes())+len(f.ResultTypes()) != 0 {
		return unsupported("the module has no _start function",
			"Build a command, not a library or reactor.")
	}
	return nil
}

func sameType(a, b api.FunctionDefinition) bool {
	return string(a.ParamTypes()) == string(b.ParamTypes()) && string(a.ResultTypes()) == string(b.ResultTypes())
}

// judge turns the engine's error into a state.
func (o *Outcome) judge(err error, mem *boundedMemory, used usage, budget int64) {
	var exit *sys.ExitError
	var over *outputCapError
	switch {
	case mem.lacking: // another node has it, so this is not how the job ends
		o.State, o.Detail, o.FuelUsed = job.InfraError, trapKind(err), 0
	case used.fuel > budget: // also if it came to its end between two looks at the counter
		o.State = job.OutOfFuel
	case err == nil:
		o.State = job.Exited
	case errors.As(err, &exit):
		o.State, o.ExitCode = job.Exited, int(exit.ExitCode())
	case errors.As(err, &over):
		o.State, o.Detail = job.OutputCap, over.stream
	case used.tooDeep:
		o.State, o.Detail = job.Trapped, "stack overflow"
	case trapKind(err) == "stack overflow": // the engine's, which is smaller on some
		o.State, o.Detail, o.FuelUsed = job.InfraError, "calls went deeper than this engine follows them", 0
	case mem.refused:
		o.State, o.Detail = job.OutOfMemory, "stopped after it was refused more memory: "+trapKind(err)
	default:
		o.State, o.Detail = job.Trapped, trapKind(err)
	}
}

// trapKind is the first line of wazero's message without what stands before
// the kind itself, so that both engines name a trap alike. The library exports
// no values for the kinds of traps.
func trapKind(err error) string {
	kind, _, _ := strings.Cut(err.Error(), "\n")
	for _, before := range []string{"] failed: ", "wasm error: "} {
		if at := strings.LastIndex(kind, before); at >= 0 {
			kind = kind[at+len(before):]
		}
	}
	return kind
}
