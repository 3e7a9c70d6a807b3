package wasm

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
)

// engines are those that must agree: one, where there is no compiler.
func engines() []Engine {
	return []Engine{wazeroEngine{compiler: false}, wazeroEngine{compiler: compilerSupported()}}
}

// runOnBoth runs a module on both engines and fails if they differ in anything that
// a receipt's result tells.
func runOnBoth(t *testing.T, module []byte, budget int64) (Outcome, []byte) {
	t.Helper()
	return runWithFiles(t, module, budget, nil)
}

func runWithFiles(t *testing.T, module []byte, budget int64, files []InputFile) (Outcome, []byte) {
	t.Helper()
	var outcomes [2]Outcome
	var outputs [2]bytes.Buffer
	for i, e := range engines() {
		var err error
		outcomes[i], err = e.Run(t.Context(), Guest{
			Module: module, Args: []string{"job"}, Stdin: strings.NewReader(""), Stdout: &outputs[i], Stderr: &outputs[i],
			MemoryBytes: 4 << 20, Fuel: budget, CanonicalNaN: true, Inputs: files,
		})
		if err != nil {
			t.Fatal(err)
		}
		outcomes[i].Compile, outcomes[i].Run = 0, 0
	}
	if outcomes[0] != outcomes[1] || !bytes.Equal(outputs[0].Bytes(), outputs[1].Bytes()) {
		t.Fatalf("interpreter %+v %x\ncompiler    %+v %x", outcomes[0], outputs[0].Bytes(), outcomes[1], outputs[1].Bytes())
	}
	return outcomes[0], outputs[0].Bytes()
}

// TestFuelEndsWhatWouldNot: each way to go on for ever, or to do much with little code.
func TestFuelEndsWhatWouldNot(t *testing.T) {
	start := func(body string) string { return `(module (memory 1) (func (export "_start") ` + body + `))` }
	for name, wat := range map[string]string{
		"empty loop":    start(`loop $l br $l end`),
		"loop":          start(`loop $l i32.const 1 br_if $l end`),
		"loop in start": `(module (func $f loop $l br $l end) (func (export "_start")) (start $f))`,
		"nested loops":  start(`loop $a loop $b i32.const 0 br_if $b br $a end end`),
		"grow":          start(`loop $l i32.const 1 memory.grow drop br $l end`),
		"calls":         `(module (func $f) (func (export "_start") loop $l call $f br $l end))`,
		"host calls": `(module ` + wasiImports + `(func (export "_start") loop $l
			i32.const 9 i32.const 0 i32.const 0 i32.const 0 call $fd_write drop br $l end))`,
		"binary recursion": `(module (func $f (param $n i32) local.get $n i32.eqz if return end
			local.get $n i32.const 1 i32.sub call $f local.get $n i32.const 1 i32.sub call $f)
			(func (export "_start") i32.const 60 call $f))`,
	} {
		if out, _ := runOnBoth(t, assemble(t, wat), 1_000_000); out.State != job.OutOfFuel || out.FuelUsed != 1_000_000 {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

// TestRangesArePaidForByLength: one instruction may move a megabyte, or grow a table.
func TestRangesArePaidForByLength(t *testing.T) {
	for name, code := range map[string][]byte{
		"memory.fill": {0x41, 0, 0x41, 0, 0x41, 0x80, 0x80, 4, 0xfc, 11, 0},    // 64 KiB
		"memory.copy": {0x41, 0, 0x41, 0, 0x41, 0x80, 0x80, 4, 0xfc, 10, 0, 0}, // 64 KiB
		"table.grow":  {0xd0, 0x70, 0x41, 0x80, 0xc0, 0, 0xfc, 15, 0, 0x1a},    // 8192 entries
		"table.fill":  {0x41, 0, 0xd0, 0x70, 0x41, 0x80, 0xc0, 0, 0xfc, 17, 0}, // 8192 entries
		"memory.grow": {0x41, 8, 0x40, 0, 0x1a},                                // 8 pages
	} {
		out, _ := runOnBoth(t, wasmtest.Raw(code), 1_000_000)
		if out.State != job.Exited || out.FuelUsed < 8192 || out.FuelUsed > 8192+200 {
			t.Errorf("%s: %+v", name, out)
		}
		if out, _ := runOnBoth(t, wasmtest.Raw(code), 8000); out.State != job.OutOfFuel {
			t.Errorf("%s with little fuel: %+v", name, out)
		}
	}
}

// TestStackIsCounted: the compiler's stack is larger than the budget of depth; the
// interpreter's is smaller, and what it cannot do is not the guest's fault.
func TestStackIsCounted(t *testing.T) {
	module := assemble(t, `(module (func $f (export "_start") call $f))`)
	want := map[bool]job.State{true: job.Trapped, false: job.InfraError}
	for _, compiler := range []bool{false, compilerSupported()} {
		out, err := wazeroEngine{compiler: compiler}.Run(t.Context(), Guest{Module: module, Args: []string{"job"}, MemoryBytes: 1 << 20, Fuel: 1 << 40})
		if err != nil || out.State != want[compiler] {
			t.Errorf("compiler %v: %+v, %v", compiler, out, err)
		}
	}
}

// TestOperandsAreCounted: a recursion that keeps much on the operand stack ends by the
// counter, at the same depth on both engines, and not where a stack is full.
func TestOperandsAreCounted(t *testing.T) {
	const operands = 1500
	module := assemble(t, `(module (memory 1) (func $f (export "_start") `+
		strings.Repeat("i32.const 0 i32.load ", operands)+`call $f `+strings.Repeat("i32.add ", operands-1)+`drop))`)
	if out, _ := runOnBoth(t, module, 1<<40); out.State != job.Trapped || out.FuelUsed > 300*(3*operands+100) {
		t.Errorf("%+v", out)
	}
}

// TestNaNsAreCanonical stores what arithmetic makes of NaNs with a payload and a sign.
func TestNaNsAreCanonical(t *testing.T) {
	odd32, odd64 := []byte{0x43, 1, 2, 0xa3, 0xff}, []byte{0x44, 1, 2, 3, 4, 5, 6, 0xf3, 0xff}
	unary := func(x []byte, op ...byte) []byte { return append(bytes.Clone(x), op...) }
	binary := func(x []byte, op ...byte) []byte { return append(append(bytes.Clone(x), x...), op...) }
	v128 := func(x []byte, splat byte, op ...byte) []byte {
		return append(append(bytes.Clone(x), 0xfd, splat), op...)
	}
	nan32, nan64 := []byte{0, 0, 0xc0, 0x7f}, []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x7f}
	type test struct {
		code  []byte
		store []byte
		want  []byte
	}
	var tests []test
	s32, s64, sv := []byte{0x38, 2, 0}, []byte{0x39, 3, 0}, []byte{0xfd, 11, 4, 0}
	for op := byte(0x8d); op <= 0x91; op++ {
		tests = append(tests, test{unary(odd32, op), s32, nan32}, test{unary(odd64, op+0x0e), s64, nan64})
	}
	for op := byte(0x92); op <= 0x97; op++ {
		tests = append(tests, test{binary(odd32, op), s32, nan32}, test{binary(odd64, op+0x0e), s64, nan64})
	}
	tests = append(tests, test{unary(odd32, 0xbb), s64, nan64}, test{unary(odd64, 0xb6), s32, nan32})
	for _, op := range [][]byte{{0x67}, {0x68}, {0x69}, {0x6a}, {0xe3, 1}} {
		tests = append(tests, test{v128(odd32, 19, append([]byte{0xfd}, op...)...), sv, bytes.Repeat(nan32, 4)})
	}
	for _, op := range [][]byte{{0x74}, {0x75}, {0x7a}, {0x94, 1}, {0xef, 1}} {
		tests = append(tests, test{v128(odd64, 20, append([]byte{0xfd}, op...)...), sv, bytes.Repeat(nan64, 2)})
	}
	for sub := byte(0xe4); sub <= 0xe9; sub++ {
		x, y := v128(odd32, 19), v128(odd64, 20)
		tests = append(tests, test{binary(x, 0xfd, sub, 1), sv, bytes.Repeat(nan32, 4)},
			test{binary(y, 0xfd, sub+12, 1), sv, bytes.Repeat(nan64, 2)})
	}
	tests = append(tests, test{v128(odd32, 19, 0xfd, 0x5f), sv, bytes.Repeat(nan64, 2)},
		test{v128(odd64, 20, 0xfd, 0x5e), sv, append(bytes.Repeat(nan32, 2), make([]byte, 8)...)})
	for _, c := range tests {
		code := append(append([]byte{0x41, 16}, c.code...), c.store...)
		_, out := runOnBoth(t, wasmtest.Raw(append(code, wasmtest.Show(16, len(c.want))...)), 1_000_000)
		if !bytes.Equal(out, c.want) {
			t.Errorf("%x gives %x, want %x", c.code, out, c.want)
		}
	}
}

// TestRandomModules: what is rewritten does what the original does, and both engines
// find the same fuel.
func TestRandomModules(t *testing.T) {
	for seed := range uint64(300) {
		module := wasmtest.Random(seed)
		out, got := runOnBoth(t, module, 1_000_000)
		if out.State != job.Exited {
			t.Fatalf("seed %d: %+v", seed, out)
		}
		if want := runOriginal(t, module); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: the original gives %x, with the counter it gives %x", seed, want, got)
		}
		if again, _ := runOnBoth(t, module, out.FuelUsed); again != out {
			t.Fatalf("seed %d with exactly enough: %+v, before %+v", seed, again, out)
		}
		if less, _ := runOnBoth(t, module, out.FuelUsed-1); less.State != job.OutOfFuel {
			t.Fatalf("seed %d with one less: %+v", seed, less)
		}
	}
}

// runOriginal gives what a module writes without a counter.
func runOriginal(t *testing.T, module []byte) []byte {
	t.Helper()
	rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(t.Context())
	wasi_snapshot_preview1.MustInstantiate(t.Context(), rt)
	var out bytes.Buffer
	if _, err := rt.InstantiateWithConfig(t.Context(), module, wazero.NewModuleConfig().WithStdout(&out)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestModuleCannotReachItsCounter: the forgeries of package fuel, through an engine.
func TestModuleCannotReachItsCounter(t *testing.T) {
	for name, code := range map[string][]byte{
		"sets fuel":  {0x42, 0, 0x24, 0},
		"sets depth": {0x41, 0, 0x24, 1},
		"a local":    {0x20, 8, 0x1a},
	} {
		for _, e := range engines() {
			_, err := e.Run(t.Context(), Guest{Module: wasmtest.Raw(code), Args: []string{"job"}, MemoryBytes: 1 << 20, Fuel: fuel.MaxFuel})
			if r := (*job.Refusal)(nil); !errors.As(err, &r) || r.Reason != job.Malformed {
				t.Errorf("%s on %s: %v", name, e.Name(), err)
			}
		}
	}
}
