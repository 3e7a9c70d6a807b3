package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTransparencyPageIsRun: what docs/transparency.md tells people to type is
// what the scripts run.
func TestTransparencyPageIsRun(t *testing.T) {
	page, err := os.ReadFile("../../docs/transparency.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/script/log-*.txt")
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{}
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(script)) {
			if command, ok := strings.CutPrefix(line, "exec "); ok {
				ran[bare(command)] = true
			}
		}
	}
	shown := commandsOf(string(page))
	if len(shown) < 10 {
		t.Errorf("only %d commands found on the page", len(shown))
	}
	for _, command := range shown {
		if !ran[bare(command)] {
			t.Errorf("no script runs: %s", command)
		}
	}
}

// TestLogUsageErrors pins the exit status of wrong calls.
func TestLogUsageErrors(t *testing.T) {
	for _, args := range []string{
		"log frob", "log init", "log init x --key k", "log add x", "log add x y --key k", "log prove x",
		"log prove x y --format xml", "log cosign x --key k", "log cosign x --key k --name n --first",
		"log check", "log check x --first", "log check x --log nonsense", "log list x --format xml",
		"log policy", "log vkey x",
	} {
		wrongUsage(t, "release "+args)
	}
}
