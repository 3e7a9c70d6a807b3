package wasm

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// bomb is a valid module whose only function sets so many variables, has so many
// blocks with a branch, and then reads all variables: the compiler carries each past
// each, which for a thousand and four thousand takes 7 seconds.
func bomb(variables, blocks int) []byte {
	number := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	part := func(id byte, body ...byte) []byte {
		return append(append([]byte{id}, number(len(body))...), body...)
	}
	code := append(append([]byte{1}, number(variables)...), 0x7f)
	for i := range variables {
		code = append(append(code, 0x41, 0, 0x28, 2, 0, 0x21), number(i)...) // load from 0
	}
	code = append(code, bytes.Repeat([]byte{0x02, 0x40, 0x41, 0, 0x28, 2, 0, 0x0d, 0, 0x0b}, blocks)...)
	for i := range variables {
		code = append(append(append(code, 0x41, 0, 0x20), number(i)...), 0x36, 2, 0) // store
	}
	code = append(code, 0x0b)
	return bytes.Join([][]byte{[]byte("\x00asm\x01\x00\x00\x00"), part(1, 1, 0x60, 0, 0), part(3, 1, 0), part(5, 1, 0, 1),
		part(7, append([]byte{1, 6}, "_start\x00\x00"...)...), part(10, append(append([]byte{1}, number(len(code))...), code...)...)}, nil)
}

// TestCompileBombs run in the interpreter, which does not follow values.
func TestCompileBombs(t *testing.T) {
	if !compilerSupported() {
		t.Skip("this processor has no compiler, so there is no choice")
	}
	for _, c := range []struct {
		variables, blocks int
		deadline          time.Duration
		kind              string
	}{
		{100, 100, 10 * time.Second, "compiler"},
		{1000, 4000, 10 * time.Second, "interpreter"},
		{1000, 4000, time.Hour, "compiler"}, // not run
	} {
		module := bomb(c.variables, c.blocks)
		shops := workshops{}
		engine, err := shops.engineFor(blob.Of(module), module, c.deadline)
		if err != nil || !strings.HasSuffix(engine.Name(), c.kind) {
			t.Errorf("%d variables past %d blocks within %s: %v %v, want the %s", c.variables, c.blocks, c.deadline, engine, err, c.kind)
		}
		if c.deadline > time.Minute {
			continue
		}
		j, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(module), Limits: job.Limits{DeadlineMS: c.deadline.Milliseconds()}})
		if err != nil {
			t.Fatal(err)
		}
		if m := shops.execute(j, module, nil, io.Discard); m.State != job.Exited || !strings.HasSuffix(m.Engine, c.kind) {
			t.Errorf("%d variables past %d blocks: %+v", c.variables, c.blocks, m)
		}
	}
}

// TestKeptModules: a used jail compiles a module once, for each budget.
func TestKeptModules(t *testing.T) {
	if !compilerSupported() {
		t.Skip("this processor has no compiler")
	}
	shop, err := openWorkshop(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer shop.close(t.Context())
	engine := wazeroEngine{true, shop}
	run := func(module []byte, d blob.Digest, fuel int64) Outcome {
		out, err := engine.Run(t.Context(), Guest{Module: module, Digest: d, Fuel: fuel, MemoryBytes: PageBytes, Stdin: bytes.NewReader(nil), Stdout: io.Discard, Stderr: io.Discard})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	module := bomb(10, 10)
	d := blob.Of(module)
	first := run(module, d, 1<<20)
	if again := run(nil, d, 1<<20); again.State != job.Exited || again.FuelUsed != first.FuelUsed || again.PeakBytes != PageBytes {
		t.Errorf("%+v after %+v", again, first) // without the module: it was kept
	}
	if out := run(module, d, first.FuelUsed-1); out.State != job.OutOfFuel {
		t.Errorf("with less fuel: %+v", out)
	}
	for i := range 3 * maxKept {
		other := bomb(i, 1)
		run(other, blob.Of(other), 1<<20)
		run(other, blob.Digest{}, 1<<20)
	}
	if len(shop.kept) > maxKept || shop.has(d) || shop.has(blob.Digest{}) {
		t.Errorf("%d modules are kept, at most %d may be", len(shop.kept), maxKept)
	}
}

// TestMemoryStaysWhereItIs while it grows, is zero where it is new, and ends at its limit.
func TestMemoryStaysWhereItIs(t *testing.T) {
	m := &boundedMemory{limit: 3 * PageBytes}
	defer m.release()
	one := m.Reallocate(PageBytes)
	one[0], one[PageBytes-1] = 1, 2
	two := m.Reallocate(2 * PageBytes)
	if &one[0] != &two[0] || two[0] != 1 || two[PageBytes-1] != 2 || len(two) != 2*PageBytes || cap(two) != len(two) {
		t.Error("growing moved or lost what was there")
	}
	if !bytes.Equal(two[PageBytes:], make([]byte, PageBytes)) {
		t.Error("new memory is not zero")
	}
	if m.Reallocate(3*PageBytes) == nil || m.refused || m.Reallocate(4*PageBytes) != nil || !m.refused || m.peak != 3*PageBytes {
		t.Errorf("limit of %d: peak %d, refused %v", m.limit, m.peak, m.refused)
	}
	none := &boundedMemory{limit: 0}
	if got := none.Reallocate(0); len(got) != 0 || none.refused {
		t.Error("a guest without memory was refused")
	}
}
