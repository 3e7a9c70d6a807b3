package fuel

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// body is code after so many variables of one type.
func body(locals uint32, code ...[]byte) []byte {
	return append(slices.Concat(append(appendU32([]byte{1}, locals), typeI32), slices.Concat(code...)), opEnd)
}

// TestWork: each kind of code that compiles much longer than it is has its work
// counted. The compiler took 1 to 18 seconds for modules like these.
func TestWork(t *testing.T) {
	const n = 1000
	skip := []byte{opBlock, blockVoid, opI32Const, 0, opBrIf, 0, opEnd}
	turn := []byte{opLoop, blockVoid, opI32Const, 0, opBrIf, 0, opEnd}
	table := append(appendU32([]byte{opBlock, blockVoid, opI32Const, 0, opBrTable}, n), make([]byte, n+1)...)
	pushes := bytes.Repeat([]byte{opI32Const, 0}, n)
	many := part(1, slices.Concat([]byte{3, 0x60, 0, 0, 0x60, 0}, appendU32(nil, n), bytes.Repeat([]byte{typeI32}, n),
		appendU32([]byte{0x60}, n), bytes.Repeat([]byte{typeI32}, n), []byte{0})...)
	twice := func(types []byte, code []byte) []byte { // of the function's type and the next
		entry := append(appendU32(nil, uint32(len(code))), code...)
		last := slices.Concat(appendU32(nil, uint32(len(body(0)))), body(0))
		return slices.Concat([]byte(preamble), types, part(3, 2, 0, 1), part(10, slices.Concat([]byte{2}, entry, last)...))
	}
	for name, c := range map[string]struct {
		module []byte
		work   int64
	}{
		"variables past blocks":       {moduleOf(body(n, bytes.Repeat(skip, n))), (n + 1) * 2 * n},
		"variables past loops":        {moduleOf(body(n, bytes.Repeat(turn, n))), (n + 1) * 2 * n},
		"variables through loops":     {moduleOf(body(n, bytes.Repeat(turn[:2], n), bytes.Repeat([]byte{opEnd}, n))), n * n},
		"variables past ifs":          {moduleOf(body(n, bytes.Repeat([]byte{opI32Const, 0, opIf, blockVoid, opEnd}, n))), (n + 1) * n},
		"variables into a table":      {moduleOf(body(n, table, []byte{opEnd})), (n + 1) * (n + 2)},
		"operands past blocks":        {moduleOf(body(0, pushes, bytes.Repeat(skip, n), bytes.Repeat([]byte{opDrop}, n))), (n + 1) * 2 * n},
		"operands of calls":           {twice(many, body(0, []byte{opCall, 1}, bytes.Repeat(skip, n), bytes.Repeat([]byte{opDrop}, n))), (n + 1) * 2 * n},
		"operands of blocks":          {twice(many, body(0, []byte{opBlock, 1, opCall, 1, opEnd}, bytes.Repeat(skip, n), bytes.Repeat([]byte{opDrop}, n))), (n + 1) * (2*n + 1)},
		"a block takes its operands":  {twice(many, body(0, bytes.Repeat(slices.Concat(pushes, []byte{opBlock, 2}, bytes.Repeat([]byte{opDrop}, n), []byte{opEnd}), n))), n * n},
		"many variables, no branches": {moduleOf(body(maxLocals)), 0},
		"many branches, no variables": {moduleOf(body(0, bytes.Repeat(skip, 50*n))), 0},
		"what returns leaves nothing": {moduleOf(body(0, bytes.Repeat([]byte{opBlock, blockVoid, opI32Const, 0, opI32Const, 0, opReturn, opEnd}, 10*n))), 0},
	} {
		got, err := Work(c.module)
		if err != nil || got != c.work {
			t.Errorf("%s: work %d %v, want %d", name, got, err, c.work)
		}
	}
}

// TestWorkOfPrograms: what people compile is ordinary.
func TestWorkOfPrograms(t *testing.T) {
	modules, err := filepath.Glob("../../examples/*/*.wasm")
	if err != nil || len(modules) == 0 {
		t.Fatal("no modules", err)
	}
	for _, path := range modules {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if work, err := Work(raw); err != nil || work != 0 {
			t.Errorf("%s: work %d %v", path, work, err)
		}
	}
}

func TestWorkRefusesWhatRewriteRefuses(t *testing.T) {
	for _, raw := range [][]byte{nil, []byte(preamble + "\x01\x05"), moduleOf([]byte{0, opElse, opEnd}), moduleOf([]byte{0, opCall, 9, opEnd})} {
		_, err1 := Work(raw)
		_, err2 := Rewrite(raw, options)
		if err1 != nil && err2 == nil {
			t.Errorf("%x: %v, but it can be rewritten", raw, err1)
		}
	}
}
