package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/cmd/internal/manual"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/version"
)

var update = flag.Bool("update", false, "write the page of the reference anew")

// TestReference: docs/reference/phase.md is what the program says of itself, and that
// is all there is to say.
func TestReference(t *testing.T) {
	const path = "../../docs/reference/phase.md"
	for _, fault := range manual.Faults(newRoot()) {
		t.Error(fault)
	}
	page := manual.Markdown(newRoot())
	if *update {
		if err := os.WriteFile(path, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := os.ReadFile(path); err != nil || !bytes.Equal(there, page) {
		t.Errorf("%s is not what the program says (%v): run `make reference`", path, err)
	}
}

// TestDescriptions: the packages describe each program that is in the one of phase.
func TestDescriptions(t *testing.T) {
	d, err := describe(described(), time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"phase", "phase-discover", "phase-fetch", "phase-verify"} {
		if page := string(d.manuals[program]); !strings.HasPrefix(page, ".TH ") || !strings.Contains(page, `\-\-format`) {
			t.Errorf("%s: %.200s", program, page)
		}
		for _, shell := range manual.Shells() {
			if script := d.completions[program][manual.CompletionPath(shell, program)]; !bytes.Contains(script, []byte(program)) {
				t.Errorf("%s: no completions for %s", program, shell)
			}
		}
	}
}

// TestOthersReadDescriptions: groff has nothing to remark on the manual pages, nor bash
// on its completions.
func TestOthersReadDescriptions(t *testing.T) {
	d, err := describe(described(), time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	read := func(what string, text []byte, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), nettest.Tool(t, name), args...)
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	for program, page := range d.manuals {
		read(program+".1", page, "groff", "-man", "-ww", "-z", "-Kutf8", "-Tutf8")
		read("completions of "+program, d.completions[program][manual.CompletionPath("bash", program)], "bash", "-n")
	}
}

// TestCompletes: what the scripts ask the program for when a person presses the key.
func TestCompletes(t *testing.T) {
	for line, want := range map[string]string{
		"im": "image\t", "image wr": "write\t", "image build --arch a": "arm64\n", "doctor --fo": "--format\t",
		"doctor --format j": "json\n", "policy show --format t": "toml\n", "release root set-channel --channel s": "stable\n",
	} {
		root := newRoot()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(append([]string{"__complete"}, strings.Fields(line)...))
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q, %v", line, out.String(), err)
		}
	}
}

func TestVersion(t *testing.T) {
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs([]string{"version", "--format", "json"})
	var b version.Build
	if err := root.Execute(); err != nil || json.Unmarshal(out.Bytes(), &b) != nil || b.Program != "phase" || b.Version == "" || !strings.HasPrefix(b.Go, "go") {
		t.Errorf("%s, %v", out.String(), err)
	}
	root.SetArgs([]string{"version", "--format", "xml"})
	if err := root.Execute(); exitStatus(err) != 2 {
		t.Error(err)
	}
}
