package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/cmd/internal/manual"
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
