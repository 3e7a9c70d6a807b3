package guest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestOutcomeOf reads the output of a run that package testing has written, with
// every kind of end in it, in pieces of several sizes.
func TestOutcomeOf(t *testing.T) {
	data, err := os.ReadFile("testdata/outcome.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 7, 4096} {
		var o outcome
		var lines []string
		for piece := range slices.Chunk(data, size) {
			lines = append(lines, o.write(piece)...)
		}
		verdicts := map[string]verdict{
			"TestKinds": unfinished, "TestKinds/passes": passed, "TestKinds/fails": failed, "TestKinds/fails/child/with/slashes": passed,
			"TestKinds/skips": skipped, "TestKinds/lies": passed, "TestKinds/together": passed, "TestKinds/together/a": passed, "TestKinds/together/b": skipped,
			"TestKinds/unfinished": unfinished,
		}
		for name, want := range verdicts {
			if got := o.tests[name]; got == nil || got.verdict != want {
				t.Errorf("%s: %+v, want %q", name, got, want)
			}
		}
		if len(o.tests) != len(verdicts) {
			t.Errorf("%d tests", len(o.tests))
		}
		if got := o.tests["TestKinds/fails"].children; !slices.Equal(got, []string{"TestKinds/fails/child/with/slashes"}) {
			t.Errorf("children %q", got)
		}
		if got := o.tests["TestKinds/skips"].reason(); !strings.HasSuffix(got, "a reason to skip") {
			t.Errorf("reason %q", got)
		}
		if got := o.tests["TestKinds/together/b"].reason(); !strings.HasSuffix(got, "b has a reason") {
			t.Errorf("reason %q", got)
		}
		for _, line := range lines {
			if strings.ContainsAny(line, "\x16\x0e\x0f") {
				t.Errorf("line %q", line)
			}
		}
	}
}

func TestOutcomeBounds(t *testing.T) {
	var o outcome
	o.write([]byte("\x16=== RUN   TestX\n" + strings.Repeat("x", 10*maxLine) + "\n" + strings.Repeat("y\n", 2*maxLines) + "\x16\n\x16--- \n\x16=== RUN\n"))
	x := o.tests["TestX"]
	if x == nil || len(x.lines) != maxLines || len(x.lines[0]) != maxLine {
		t.Fatalf("%d tests, %d lines", len(o.tests), len(x.lines))
	}
	if got := (&outcomeOf{}).reason(); got == "" {
		t.Error("no reason for a test that said nothing")
	}
}
