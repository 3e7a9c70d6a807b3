package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
)

var update = flag.Bool("update", false, "assemble hello.wasm from hello.wat")

// TestModuleIsItsSource rebuilds the checked-in module from its text.
func TestModuleIsItsSource(t *testing.T) {
	text, err := os.ReadFile("hello.wat")
	if err != nil {
		t.Fatal(err)
	}
	built, err := wasmtest.Assemble(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("hello.wasm", built, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	checkedIn, err := os.ReadFile("hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(built, checkedIn) {
		t.Error("hello.wasm is not what hello.wat assembles to; run go test ./examples/hello -update")
	}
}

var greetings = []struct {
	args []string
	want string
}{
	{[]string{"Hello, World"}, "dlroW ,olleH\n"},
	{[]string{"Hello,", "World"}, "dlroW ,olleH\n"},
	{nil, "\n"},
	{[]string{""}, "\n"},
	{[]string{"x", "", "y"}, "y  x\n"},
	{[]string{"žluť 日本 🚀"}, "🚀 本日 ťulž\n"},
}

func TestSmallModule(t *testing.T) {
	module, err := os.ReadFile("hello.wasm")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range greetings {
		if got := run(t, module, g.args); got != g.want {
			t.Errorf("hello %q: %q, want %q", g.args, got, g.want)
		}
	}
	long := bytes.Repeat([]byte("aé"), 30_000)
	if got := run(t, module, []string{string(long)}); len(got) != len(long)+1 || got[:3] != "éa" {
		t.Errorf("an argument of %d bytes gave %d bytes", len(long), len(got))
	}
}

// TestGoModule builds the same job with the Go compiler.
func TestGoModule(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds a module with the Go compiler")
	}
	path := filepath.Join(t.TempDir(), "hello-go.wasm")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	module, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range greetings {
		if got := run(t, module, g.args); got != g.want {
			t.Errorf("hello-go %q: %q, want %q", g.args, got, g.want)
		}
	}
}

// run executes a module of this repository in this process; strangers'
// modules only ever run in a jailed one.
func run(t *testing.T, module []byte, args []string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	engine := wasm.ChooseEngine(len(module), time.Second)
	outcome, err := engine.Run(context.Background(), wasm.Guest{
		Module: module, Args: append([]string{"hello"}, args...),
		Stdin: &bytes.Buffer{}, Stdout: &stdout, Stderr: &stderr, MemoryBytes: job.DefaultLimits.MemoryBytes, Fuel: job.DefaultLimits.Fuel,
	})
	if err != nil {
		t.Fatal(err)
	}
	if outcome.State != job.Exited || outcome.ExitCode != 0 {
		t.Fatalf("%s %d %s: %s", outcome.State, outcome.ExitCode, outcome.Detail, &stderr)
	}
	return stdout.String()
}
