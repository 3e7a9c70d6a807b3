package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// The time is that of the first matching line, however its bytes arrive.
func TestWatch(t *testing.T) {
	w := &watch{begin: time.Now().Add(-time.Second), end: ", verified\n"}
	var at []bool
	for _, piece := range []string{"5ms: dht x gave version 1, not verified\n", "7ms: dht y gave version 1, veri", "fied\n"} {
		if _, err := w.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
		at = append(at, w.at >= time.Second)
	}
	if !slices.Equal(at, []bool{false, false, true}) {
		t.Errorf("noted after %v", at)
	}
	first := w.at
	if _, err := w.Write([]byte("9ms: dht z gave version 2, verified\n")); err != nil || w.at != first {
		t.Errorf("a later line moved the time from %v to %v, error %v", first, w.at, err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("x"), maxOutput)); err == nil {
		t.Error("endless output is kept")
	}
}

func TestTimeFigures(t *testing.T) {
	ms := time.Millisecond
	var runs [clients][]search
	runs[ours] = []search{{30 * ms, 60 * ms, 20}, {10 * ms, 900 * ms, 24}, {20 * ms, 50 * ms, 22}}
	runs[tuned] = []search{{40 * ms, 80 * ms, 30}}
	runs[plain] = []search{{50 * ms, 100 * ms, 44}}
	figures := timeFigures(runs, "here")
	want := []struct{ value, reference, ratio float64 }{{20, 50, 0.4}, {20, 40, 0.5}, {60, 100, 0.6}, {60, 80, 0.75}}
	if len(figures) != len(want) {
		t.Fatalf("%d figures", len(figures))
	}
	for i, f := range figures {
		if f.Value != want[i].value || f.Reference != want[i].reference || f.Ratio != want[i].ratio || f.Unit != "ms" || !strings.Contains(f.Name, "here") {
			t.Errorf("%+v, want %+v", f, want[i])
		}
	}
	if f := peakFigure(runs); f.Value != 22 || f.Reference != 44 || f.Ratio != 0.5 {
		t.Errorf("%+v", f)
	}
}

// The memory is that of the child, which is smaller than we are.
func TestRunWatched(t *testing.T) {
	own := make([]byte, 64<<20)
	for i := range own {
		own[i] = 1
	}
	cmd := exec.Command("sleep", "0.1")
	peak, err := runWatched(cmd, cmd.Start)
	if err != nil || peak <= 0 || peak > 16 {
		t.Errorf("sleep held %v MiB, %v", peak, err)
	}
	runtime.KeepAlive(own)
}

func TestHighWater(t *testing.T) {
	got, err := highWater([]byte("Name:\tx\nVmPeak:\t 99 kB\nVmHWM:\t   14068 kB\nVmRSS:\t 7 kB\n"))
	if err != nil || got != 14068 {
		t.Errorf("%d, %v", got, err)
	}
	for _, bad := range []string{"", "VmHWM:\n", "VmHWM:\tmany kB\n"} {
		if got, err := highWater([]byte(bad)); err == nil {
			t.Errorf("%q gives %d", bad, got)
		}
	}
}

// A client that finds nothing, or fails, is an error with its words.
func TestRunRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"echo sorry >&2":         "sorry",
		"echo sorry >&2; exit 3": "exit status 3\nsorry",
		"echo 'x, verified' >&2": "found nothing",
	} {
		if _, err := new(network).run(t.Context(), []string{"sh", "-c", line}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestMeasureParts(t *testing.T) {
	parts := []part{
		{"one", func() ([]Figure, error) { return []Figure{{Name: "1"}}, nil }},
		{"two", func() ([]Figure, error) { return []Figure{{Name: "2"}}, nil }},
	}
	for only, want := range map[string]string{"": "12", "one": "1", "two": "2", "three": ""} {
		figures, err := measureParts(only, parts)
		names := ""
		for _, f := range figures {
			names += f.Name
		}
		if names != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", only, names, err)
		}
	}
}

// The stock client uses the very libraries that we use: every module that both
// name has one version.
func TestStockVersions(t *testing.T) {
	ours, stock := requirements(t, filepath.Join("..", "..", "go.mod")), requirements(t, filepath.Join("stock", "go.mod"))
	for _, must := range []string{"github.com/libp2p/go-libp2p", "github.com/libp2p/go-libp2p-kad-dht"} {
		if ours[must] == "" || stock[must] == "" {
			t.Errorf("%s is not named", must)
		}
	}
	for module, version := range stock {
		if want := ours[module]; want != "" && want != version {
			t.Errorf("%s: %s, but %s in the product", module, version, want)
		}
	}
}

// requirements reads the modules and versions of a go.mod.
func requirements(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); strings.HasPrefix(line, "\t") && len(f) >= 2 {
			out[f[0]] = f[1]
		}
	}
	return out
}
