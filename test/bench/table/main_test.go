package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPage holds docs/performance.md to the figures beside it.
func TestPage(t *testing.T) {
	docs := filepath.Join("..", "..", "..", "docs")
	want, err := table(filepath.Join(docs, "performance.json"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(docs, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "\n\n"+want+"\n") {
		t.Errorf("docs/performance.md has another table than\n%s\nput the output of `go run ./test/bench/table docs/performance.json` there", want)
	}
}

func TestMet(t *testing.T) {
	for _, tt := range []struct {
		figure
		want string // of met; "error" for none
	}{
		{figure{Ratio: 0.5, Goal: "ratio <= 0.5"}, "yes"},
		{figure{Ratio: 0.51, Goal: "ratio <= 0.5"}, "**no**"},
		{figure{Ratio: 3.94, Goal: "ratio >= 3.6"}, "yes"},
		{figure{Value: 41, Ratio: 0.1, Goal: "<= 40 MB"}, "**no**"},
		{figure{Value: 160, Goal: "< 1000 µs"}, "yes"},
		{figure{Value: 3, Goal: "<= 3 s"}, "yes"},
		{figure{Value: 3, Goal: "ratio <= 2"}, "not recorded"},
		{figure{Value: 3}, "–"},
		{figure{Value: 3, Goal: "fast"}, "error"},
		{figure{Value: 3, Goal: "about 3"}, "error"},
		{figure{Value: 3, Goal: "<= few"}, "error"},
	} {
		got, err := tt.met()
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.figure, got, tt.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "–", 160.4: "160 s", 19.97: "20.0 s", 2.18: "2.18 s", 0.013: "0.013 s"} {
		if got := number(v, "s"); got != want {
			t.Errorf("%v is shown as %q, want %q", v, got, want)
		}
	}
}

func TestTableRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"no.json": "{", "goal.json": `[{"name":"x","value":1,"goal":"soon"}]`} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := table(path); err == nil {
			t.Errorf("%s gives %s", name, out)
		}
	}
	if _, err := table(filepath.Join(dir, "missing.json")); err == nil {
		t.Error("a table of no file")
	}
}
