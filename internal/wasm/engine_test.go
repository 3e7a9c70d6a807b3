package wasm

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestEngineVersionIsTheLinkedOne: receipts must not name another engine.
func TestEngineVersionIsTheLinkedOne(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github.com/tetratelabs/wazero v(\S+)`).FindSubmatch(mod)
	if m == nil || string(m[1]) != wazeroVersion {
		t.Errorf("go.mod says %q, receipts say %q", m, wazeroVersion)
	}
}

func TestChooseEngine(t *testing.T) {
	if !compilerSupported() {
		t.Skip("this processor has no compiler, so there is no choice")
	}
	for _, c := range []struct {
		bytes    int
		deadline time.Duration
		kind     string
	}{
		{500, time.Second, "compiler"},
		{2 << 20, 9 * time.Second, "interpreter"},
		{2 << 20, 10 * time.Second, "compiler"},
		{2_600_000, 20 * time.Second, "compiler"}, // a plain Go program by default
		{64 << 20, 300 * time.Second, "interpreter"},
	} {
		if got := ChooseEngine(c.bytes, c.deadline).Name(); !strings.HasSuffix(got, c.kind) {
			t.Errorf("%d bytes within %s: %s, want the %s", c.bytes, c.deadline, got, c.kind)
		}
	}
}

// TestBothEnginesEndGuestsAlike: which one runs must not show in the result.
func TestBothEnginesEndGuestsAlike(t *testing.T) {
	for _, wat := range []string{
		`(module (func (export "_start")))`,
		`(module (func (export "_start") unreachable))`,
		`(module (memory 1) (func (export "_start") i32.const -1 i32.load drop))`,
		`(module (func (export "_start") i32.const 1 i32.const 0 i32.div_u drop))`,
		growThen("unreachable"),
		flood(1),
	} {
		module := assemble(t, wat)
		var got [2]Outcome
		for i, e := range []Engine{wazeroEngine{compiler: false}, wazeroEngine{compiler: compilerSupported()}} {
			out := &cappedWriter{w: &limitedBuffer{most: 1 << 20}, name: stdoutName, left: 100}
			var err error
			got[i], err = e.Run(t.Context(), Guest{
				Module: module, Args: []string{"job"}, Stdin: strings.NewReader(""), Stdout: out, Stderr: out, MemoryBytes: 32 << 20, Fuel: 1 << 40,
			})
			if err != nil {
				t.Fatal(err)
			}
			got[i].Compile, got[i].Run = 0, 0
		}
		if got[0] != got[1] {
			t.Errorf("%s\ninterpreter %+v\ncompiler    %+v", wat, got[0], got[1])
		}
	}
}
