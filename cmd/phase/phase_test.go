package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/internal/bootcfg"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"phase": phaseProgram, "phase-verify": verifyProgram, "dial": dialProgram})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// TestExitStatus pins what scripts rely on.
func TestExitStatus(t *testing.T) {
	for _, args := range []string{"dmeo", "demo --mode x", "demo --no-such-flag", "version x", "doctor --task x", "demo --arch x"} {
		wrongUsage(t, args)
	}
}

// wrongUsage requires that a line of arguments is refused as such.
func wrongUsage(t *testing.T, line string) {
	t.Helper()
	root := newRoot()
	root.SetArgs(strings.Fields(line))
	if err := root.Execute(); exitStatus(err) != 2 {
		t.Errorf("%q: status %d, want 2 (%v)", line, exitStatus(err), err)
	}
}

// TestExplainTellsCode: once, for whoever looks it up.
func TestExplainTellsCode(t *testing.T) {
	_, _, err := bootcfg.Explain("phase.channel=x", nil, nil, "x86_64")
	if got := explain(err); strings.Count(got, "BOOT-") != 1 || !strings.Contains(got, "]\nphase: hint: ") {
		t.Error(got)
	}
}

// TestExplainIsClean: an error quotes names that anybody may have chosen.
func TestExplainIsClean(t *testing.T) {
	got := explain(errors.Join(errors.New("open \x1b[2J\u202efdp: no such file"), errors.New("second")))
	if want := "phase: open ?[2J?fdp: no such file\nphase: second\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
