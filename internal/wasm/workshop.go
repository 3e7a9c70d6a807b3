package wasm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
)

// A workshop is an engine at work with all that needs no guest: WASI compiled and
// offered. It also keeps modules that it has compiled, for later guests. Guests of one
// workshop run one after the other; each is an instance of its own, with new memory,
// globals and tables, and sees nothing of another. It is not safe for concurrent use.
type workshop struct {
	rt      wazero.Runtime
	offered map[string]api.FunctionDefinition
	kept    []keptModule // the longest unused one first
}

// keptModule is a compiled module. What it is made of is part of its key: the budget
// and the arithmetic are in the rewritten code.
type keptModule struct {
	key      moduleKey
	bytes    int
	compiled wazero.CompiledModule
}

type moduleKey struct {
	module       blob.Digest
	fuel         int64
	canonicalNaN bool
}

// What a workshop keeps at most. Compiled code takes up to ten times a module's size.
const (
	maxKept      = 8
	maxKeptBytes = 16 << 20
)

func openWorkshop(ctx context.Context, compiler bool) (*workshop, error) {
	cfg := wazero.NewRuntimeConfigInterpreter()
	if compiler {
		cfg = wazero.NewRuntimeConfigCompiler()
	}
	rt := wazero.NewRuntimeWithConfig(ctx, cfg.WithDebugInfoEnabled(false))
	if err := offerWASI(ctx, rt); err != nil {
		rt.Close(ctx)
		return nil, fmt.Errorf("offering WASI: %w", err)
	}
	return &workshop{rt: rt, offered: rt.Module(wasiModule).ExportedFunctionDefinitions()}, nil
}

// offerWASI offers the engine's WASI but for fd_renumber, with which a guest that has a
// file open could choose a number so high that the table of open files needs gigabytes.
func offerWASI(ctx context.Context, rt wazero.Runtime) error {
	const notSupported = 58 // errno of WASI preview 1
	b := rt.NewHostModuleBuilder(wasiModule)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
	b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, _ api.Module, stack []uint64) {
		stack[0] = notSupported
	}), []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}, []api.ValueType{api.ValueTypeI32}).Export("fd_renumber")
	_, err := b.Instantiate(ctx)
	return err
}

func (w *workshop) close(ctx context.Context) { w.rt.Close(ctx) }

// compile gives the guest's module with its counter, ready to be instantiated. Only a
// module that can run is kept.
func (w *workshop) compile(ctx context.Context, g Guest) (wazero.CompiledModule, error) {
	key := moduleKey{g.Digest, g.Fuel, g.CanonicalNaN}
	for i, k := range w.kept {
		if k.key == key && !key.module.IsZero() {
			w.kept = append(slices.Delete(w.kept, i, i+1), k)
			return k.compiled, nil
		}
	}
	metered, err := meter(g)
	if err != nil {
		return nil, err
	}
	compiled, err := w.rt.CompileModule(ctx, metered)
	if err != nil {
		return nil, &job.Refusal{Reason: job.Malformed, Detail: "the module is not valid", Err: err}
	}
	if err := checkLinks(w.offered, compiled); err != nil {
		compiled.Close(ctx)
		return nil, err
	}
	w.keep(ctx, keptModule{key, len(g.Module), compiled})
	return compiled, nil
}

// keep adds k, which is used now, and gives up what is too much beside it.
func (w *workshop) keep(ctx context.Context, k keptModule) {
	total := k.bytes
	for _, k := range w.kept {
		total += k.bytes
	}
	room := maxKept - 1
	w.kept = slices.DeleteFunc(w.kept, func(old keptModule) bool {
		late := old.key.module.IsZero() || len(w.kept) > room || total > maxKeptBytes
		if late {
			total -= old.bytes
			room++
			old.compiled.Close(ctx)
		}
		return late
	})
	w.kept = append(w.kept, k)
}

// workshops are those of one process, by whether they compile.
type workshops map[bool]*workshop

// engineFor chooses as ChooseEngine does, by what compiling the module may take; where
// it is compiled already, that is no question. An error is a *job.Refusal or the
// runner's own failure.
func (w workshops) engineFor(d blob.Digest, module []byte, deadline time.Duration) (Engine, error) {
	for compiler, shop := range w {
		if shop.has(d) {
			return w.engine(compiler)
		}
	}
	work, err := fuel.Work(module)
	if err != nil {
		return nil, notMetered(err)
	}
	return w.engine(compilerFits(len(module), work, deadline))
}

func (w *workshop) has(d blob.Digest) bool {
	return !d.IsZero() && slices.ContainsFunc(w.kept, func(k keptModule) bool { return k.key.module == d })
}

// engine is that of a workshop, which is opened now unless it is already.
func (w workshops) engine(compiler bool) (Engine, error) {
	if w[compiler] == nil {
		shop, err := openWorkshop(context.Background(), compiler)
		if err != nil {
			return nil, err
		}
		w[compiler] = shop
	}
	return wazeroEngine{compiler, w[compiler]}, nil
}
