package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// module writes a module with these files and returns its folder.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module example.com/m\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	seed      = "go test fuzz v1\nstring(\"seed\")\n"
	header    = "package m\n\nimport \"testing\"\n\n"
	innocent  = "func FuzzFine(f *testing.F) { f.Fuzz(func(t *testing.T, s string) { _ = len(s) }) }\n"
	offending = "func FuzzBad(f *testing.F) { f.Fuzz(func(t *testing.T, s string) { if len(s) != 4 { t.Fatal(\"length\") } }) }\n"
	others    = "func FuzzNot(s string) {}\ntype T struct{}\nfunc (T) FuzzMethod(f *testing.F) {}\nfunc TestX(t *testing.T) {}\n"
)

func TestCorpora(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  string // part of the error; empty for none
	}{
		"all well":       {map[string]string{"a/a_test.go": header + innocent + others, "a/testdata/fuzz/FuzzFine/x": seed}, ""},
		"external tests": {map[string]string{"a/a.go": "package a\n", "a/a_test.go": strings.Replace(header, "package m", "package a_test", 1) + innocent, "a/testdata/fuzz/FuzzFine/x": seed}, ""},
		"no corpus":      {map[string]string{"a/a_test.go": header + innocent}, "m/a.FuzzFine has no seeds"},
		"empty corpus":   {map[string]string{"a/a_test.go": header + innocent, "a/testdata/fuzz/FuzzFine/x": ""}, "m/a.FuzzFine has no seeds"},
		"other corpus":   {map[string]string{"a/a_test.go": header + innocent, "a/testdata/fuzz/FuzzFine/x": seed, "a/testdata/fuzz/FuzzOld/x": seed}, "FuzzOld belongs to no fuzz target"},
		"no target":      {map[string]string{"a/a_test.go": header + "func TestX(t *testing.T) {}\n"}, "no fuzz target"},
	} {
		targets, err := findTargets(t.Context(), module(t, tt.files))
		switch {
		case tt.want == "" && (err != nil || len(targets) != 1 || targets[0].Name != "FuzzFine" || targets[0].Seeds != 1):
			t.Errorf("%s: %v, %v", name, targets, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestRun fuzzes a module with one good and one bad target, as the command does.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds with coverage instrumentation, which takes seconds")
	}
	dir := module(t, map[string]string{
		"a/a_test.go": header + innocent, "a/testdata/fuzz/FuzzFine/x": seed,
		"b/b_test.go": header + offending, "b/testdata/fuzz/FuzzBad/x": seed,
	})
	cfg := config{dir: dir, time: 2 * time.Second, jobs: 2}
	var out bytes.Buffer
	if err := run(t.Context(), cfg, &out); err == nil || !strings.Contains(err.Error(), "1 of 2 targets failed") {
		t.Fatalf("a failing target goes unnoticed: %v\n%s", err, &out)
	}
	path := regexp.MustCompile(`failing input: (\S+)`).FindStringSubmatch(out.String())
	if path == nil || !strings.Contains(path[1], "testdata/fuzz/FuzzBad/") {
		t.Fatalf("no path of the failing input\n%s", &out)
	}
	if _, err := os.Stat(path[1]); err != nil {
		t.Error(err)
	}
	if !regexp.MustCompile(`(?m)^a\.FuzzFine .* ok$`).MatchString(out.String()) {
		t.Errorf("the good target is not shown as such\n%s", &out)
	}

	cfg.match = regexp.MustCompile("Fine$")
	if err := run(t.Context(), cfg, &out); err != nil {
		t.Errorf("-match runs others: %v\n%s", err, &out)
	}
	cfg.match = regexp.MustCompile("Nothing")
	if err := run(t.Context(), cfg, &out); err == nil {
		t.Error("a pattern that matches nothing passes")
	}
	cfg.match, cfg.total = nil, time.Nanosecond
	if err := run(t.Context(), cfg, &out); err == nil {
		t.Error("the limit for everything is not one")
	}
}

func TestBuildFailureIsShown(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the compiler")
	}
	dir := module(t, map[string]string{"a/a_test.go": header + innocent + "var x int = \"\"\n", "a/testdata/fuzz/FuzzFine/x": seed})
	var out bytes.Buffer
	if err := run(t.Context(), config{dir: dir, time: time.Second, jobs: 1}, &out); err == nil || !strings.Contains(out.String(), "cannot use") {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestReadOutput(t *testing.T) {
	const lines = "fuzz: elapsed: 0s, gathering baseline coverage: 2/2 completed, now fuzzing with 1 workers\n" +
		"fuzz: elapsed: 3s, execs: 100 (30/sec), new interesting: 2 (total: 4)\n" +
		"fuzz: elapsed: 4s, execs: 120 (0/sec), new interesting: 3 (total: 5)\n"
	o := outcome{target: target{Dir: "/m/a"}}
	o.read(lines + "    Failing input written to testdata/fuzz/FuzzX/0123\n    To re-run:\n")
	if o.execs != 120 || o.interesting != 3 || o.failing != "/m/a/testdata/fuzz/FuzzX/0123" {
		t.Errorf("%+v", o)
	}
	for text, want := range map[string]bool{
		lines + "--- FAIL: FuzzX (4.13s)\n    context deadline exceeded\nFAIL\n":                                               true,
		lines + "--- FAIL: FuzzX (4.13s)\n    --- FAIL: FuzzX (0.00s)\n        x_test.go:1: context deadline exceeded\nFAIL\n": false,
		lines + "--- FAIL: FuzzX (4.13s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\nFAIL\n":          false,
		lines + "PASS\n": false,
	} {
		if endedLate(text) != want {
			t.Errorf("%q: ended late: %v", text, !want)
		}
	}
}

func TestArgs(t *testing.T) {
	if cfg, err := parseArgs([]string{"-time", "3s", "-match", "Root", "-parallel", "1"}); err != nil || cfg.time != 3*time.Second || cfg.jobs != 1 || !cfg.match.MatchString("FuzzRoot") {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, args := range [][]string{{"-time", "0s"}, {"-time", "-1s"}, {"-match", "("}, {"-parallel", "0"}, {"x"}} {
		if _, err := parseArgs(args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
