package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/wasm/wasmtest"
	"github.com/phasebased/phase/internal/wasmbuild"
)

// randomModules is how many random modules are compared.
const randomModules = 200

// TestFuelOnARM64: the examples and random modules end alike, with the same output and
// the same fuel, in both engines of this machine and in both for arm64. On other
// machines programs for arm64 run in qemu's emulation of the processor.
func TestFuelOnARM64(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: builds for arm64 and runs in an emulator")
	}
	emulator, err := exec.LookPath("qemu-aarch64")
	if err != nil && runtime.GOARCH != "arm64" {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", "no qemu-aarch64 (Debian: qemu-user)")
	}
	var tasks bytes.Buffer
	names := writeTasks(t, &tasks)
	native := runOn(t, runtime.GOARCH, "", tasks.Bytes())
	arm64 := native
	if runtime.GOARCH != "arm64" {
		arm64 = runOn(t, "arm64", emulator, tasks.Bytes())
	}
	compare(t, names, native, arm64)
}

// compare holds all ends of a task against the first.
func compare(t *testing.T, names []string, native, arm64 map[string][]ended) {
	t.Helper()
	for _, name := range names {
		// With Again there are four on each processor: the second and the fourth ran out.
		own, other := native[name], arm64[name]
		if len(own) < 2 || len(other) != len(own) {
			t.Fatalf("%s: ended %d times here, %d times on arm64", name, len(own), len(other))
		}
		kinds := map[string]bool{}
		half := len(own) / 2
		for i, e := range append(own, other...) {
			_, kind, _ := strings.Cut(e.Engine, " ")
			kinds[kind] = true
			want := own[i%half]
			if e.Engine = want.Engine; e != want {
				t.Errorf("%s, run %d on %s:\n%+v\nwant\n%+v", name, i, kind, e, want)
			}
		}
		if len(kinds) != 2 {
			t.Errorf("%s ran on %v only", name, kinds)
		}
		if e := own[0]; e.State != job.Exited || e.Fuel == 0 || e.Stdout == blob.Of(nil) {
			t.Errorf("%s did nothing: %+v", name, e)
		}
	}
}

// writeTasks makes the modules and gives their names.
func writeTasks(t *testing.T, to *bytes.Buffer) (names []string) {
	t.Helper()
	dir, enc := t.TempDir(), json.NewEncoder(to)
	add := func(name, module string, args []string, stdin []byte, again bool) {
		names = append(names, name)
		if err := enc.Encode(task{name, module, args, stdin, again}); err != nil {
			t.Fatal(err)
		}
	}
	examples := filepath.Join("..", "..", "examples")
	add("hello", filepath.Join(examples, "hello", "hello.wasm"), []string{"Hello,", "žluť"}, nil, true)
	input := bytes.Repeat([]byte("0123456789abcdef\n"), 2_000)
	for _, c := range []struct {
		name string
		args []string
	}{{"checksum", []string{"50"}}, {"fractal", []string{"24", "18"}}} {
		module := filepath.Join(dir, c.name+"-c.wasm")
		err := wasmbuild.C(t.Context(), filepath.Join(examples, "c", c.name+".c"), module)
		if errors.Is(err, wasmbuild.ErrNoCompiler) {
			nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
		} else if err != nil {
			t.Fatal(err)
		}
		add(c.name+" in C", module, c.args, input, true)
	}
	// One module in Go: to compile its 2.6 MB takes an emulated processor ten seconds.
	module := filepath.Join(dir, "fractal-go.wasm")
	if err := wasmbuild.Go(t.Context(), filepath.Join(examples, "fractal"), module); err != nil {
		t.Fatal(err)
	}
	add("fractal in Go", module, []string{"24", "18"}, nil, false)
	for seed := range uint64(randomModules) {
		module := filepath.Join(dir, "random"+strconv.FormatUint(seed, 10)+".wasm")
		if err := os.WriteFile(module, wasmtest.Random(seed), 0o644); err != nil {
			t.Fatal(err)
		}
		add(filepath.Base(module), module, nil, nil, true)
	}
	return names
}

// runOn builds this program for a processor and runs the tasks there.
func runOn(t *testing.T, arch, emulator string, tasks []byte) map[string][]ended {
	t.Helper()
	program := filepath.Join(t.TempDir(), "fuel-"+arch)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	argv := []string{program}
	if emulator != "" {
		argv = []string{emulator, program}
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(tasks), &stdout, &stderr
	err := cmd.Run()
	if err != nil || !strings.Contains(stderr.String(), "processor: "+arch+"\n") {
		t.Fatalf("on %s: %v\n%s", arch, err, &stderr)
	}
	ends := map[string][]ended{}
	for dec := json.NewDecoder(&stdout); dec.More(); {
		var e ended
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		ends[e.Name] = append(ends[e.Name], e)
	}
	return ends
}
