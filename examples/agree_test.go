package examples_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/wasm"
	"github.com/phasebased/phase/internal/wasmbuild"
)

// pair runs an example's two modules, each compiled once.
type pair struct {
	engine  wasm.Engine
	modules map[string][]byte
}

func newPair(t *testing.T, name string) *pair {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: builds modules")
	}
	requireC(t)
	engine, done, err := wasm.OpenCompiler(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	p := &pair{engine, map[string][]byte{}}
	dir := t.TempDir()
	for language, build := range map[string]func(out string) error{
		"Go": func(out string) error { return wasmbuild.Go(t.Context(), name, out) },
		"C":  func(out string) error { return wasmbuild.C(t.Context(), filepath.Join("c", name+".c"), out) },
	} {
		out := filepath.Join(dir, language+".wasm")
		if err := build(out); err != nil {
			t.Fatal(err)
		}
		if p.modules[language], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// run gives what both wrote to their standard output and their status, and fails if
// they differ in anything.
func (p *pair) run(t *testing.T, stdin []byte, args ...string) (string, int) {
	t.Helper()
	return p.runWith(t, nil, stdin, args...)
}

func (p *pair) runWith(t *testing.T, inputs []wasm.InputFile, stdin []byte, args ...string) (string, int) {
	t.Helper()
	said := map[string]string{}
	var stdout bytes.Buffer
	var status int
	for language, module := range p.modules {
		var stderr bytes.Buffer
		stdout.Reset()
		out, err := p.engine.Run(t.Context(), wasm.Guest{
			Module: module, Digest: blob.Of(module), Args: append([]string{"job"}, args...), Stdin: bytes.NewReader(stdin),
			Inputs: inputs,
			Stdout: &stdout, Stderr: &stderr, MemoryBytes: job.DefaultLimits.MemoryBytes, Fuel: job.DefaultLimits.Fuel, CanonicalNaN: true,
		})
		if err != nil || out.State != job.Exited {
			t.Fatalf("%s, %q: %+v, %v", language, args, out, err)
		}
		status = out.ExitCode
		said[language] = fmt.Sprintf("status %d, %d bytes %x, %q", status, stdout.Len(), sha256.Sum256(stdout.Bytes()), stderr.String())
		if (status == 0) != (stderr.Len() == 0) {
			t.Errorf("%s, %q: %s", language, args, said[language])
		}
	}
	if said["Go"] != said["C"] {
		t.Errorf("%q:\nGo %s\nC  %s", args, said["Go"], said["C"])
	}
	return stdout.String(), status
}

func TestChecksum(t *testing.T) {
	p := newPair(t, "checksum")
	input := bytes.Repeat([]byte("0123456789"), job.MaxStdinBytes/10)
	for _, n := range []int{0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 65535, 65536, 65600, len(input)} {
		if got, _ := p.run(t, input[:n]); got != fmt.Sprintf("%x  -\n", sha256.Sum256(input[:n])) {
			t.Errorf("%d bytes: %q", n, got)
		}
	}
	once := sha256.Sum256(nil)
	if got, _ := p.run(t, nil, "1"); got != fmt.Sprintf("%x  -\n", sha256.Sum256(once[:])) {
		t.Errorf("twice: %q", got)
	}
	for _, args := range []string{"x", "-1", "+1", "1 2", "1000000001", "99999999999999999999"} {
		if _, status := p.run(t, nil, strings.Fields(args)...); status != 2 {
			t.Errorf("%q: status %d", args, status)
		}
	}
	files := []wasm.InputFile{{Name: "a-file.txt", Data: input}, {Name: "empty", Data: nil}}
	for _, f := range files {
		want := fmt.Sprintf("%x  /in/%s\n", sha256.Sum256(f.Data), f.Name)
		if got, _ := p.runWith(t, files, nil, "/in/"+f.Name); got != want {
			t.Errorf("%s: %q, want %q", f.Name, got, want)
		}
	}
	if got, _ := p.runWith(t, files, nil, "/in/empty", "1"); got != fmt.Sprintf("%x  /in/empty\n", sha256.Sum256(once[:])) {
		t.Errorf("a file, twice: %q", got)
	}
	for _, name := range []string{"/in/missing", "/in", "/etc/passwd", "/in/../in/empty/x", "/"} {
		if out, status := p.runWith(t, files, nil, name); status != 1 || out != "" {
			t.Errorf("%s: status %d, %q", name, status, out)
		}
	}
	if _, status := p.run(t, nil, "/in/empty"); status != 1 {
		t.Errorf("a file that the job was not given: status %d", status)
	}
	if _, status := p.run(t, nil, ""); status != 2 {
		t.Errorf("an empty number: status %d", status)
	}
}

func TestFractal(t *testing.T) {
	p := newPair(t, "fractal")
	for _, args := range []string{"1 1", "30 20", "007 5", "30 20 -0.5 0 3", "30 20 .25 -.5 1.", "31 7 -0.7436438870371587 0.1318259042053120 0.0000001 1000", "5 5 0 0 -2", "5 5 0 0 0 1"} {
		if out, status := p.run(t, nil, strings.Fields(args)...); status != 0 || !strings.HasSuffix(out, "IEND\xaeB`\x82") {
			t.Errorf("%q: status %d", args, status)
		}
	}
	for _, args := range []string{
		"1", "0 1", "1 0", "10001 1", "1 99999999999", "a 1", "-1 1", "+1 1", "1 1 0", "1 1 0 0", "1 1 1e2 0 1", "1 1 nan 0 1", "1 1 0x1 0 1",
		"1 1 1001 0 1", "1 1 --1 0 1", "1 1 1.2.3 0 1", "1 1 . 0 1", "1 1 - 0 1", "1 1 0 0 1 0", "1 1 0 0 1 1000001", "1 1 0 0 1 1 1",
	} {
		if out, status := p.run(t, nil, strings.Fields(args)...); status != 2 || out != "" {
			t.Errorf("%q: status %d", args, status)
		}
	}
}
