package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// notTyped is what only the script needs: it runs beside others, and ends.
var notTyped = regexp.MustCompile(` -A amd64| -b 127\.0\.0\.1| -p 0| --p2p-port 0| --no-dht| --no-mdns| --state \S+| --ready-file \S+| --url \$BASE| &\w+&`)

// ours are the commands that this script is for; others are for phase and phase-fetch.
var ours = regexp.MustCompile(`^(plasmd|curl|cp) `)

func typed(command string) string {
	command = notTyped.ReplaceAllString(command, "")
	command = strings.ReplaceAll(command, "$BASE", "http://localhost:8080")
	return strings.TrimSpace(strings.TrimPrefix(command, "exec "))
}

// TestMirrorsPageIsRun: what docs/mirrors.md tells people to type for plasmd, and to
// copy and ask it, is what the script runs.
func TestMirrorsPageIsRun(t *testing.T) {
	page, err := os.ReadFile("../../docs/mirrors.md")
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/script/mirrors.txt")
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{}
	for line := range strings.Lines(string(script)) {
		ran[typed(line)] = true
	}
	shown := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			if !ours.MatchString(line) {
				continue
			}
			shown++
			if !ran[strings.TrimSpace(line)] {
				t.Errorf("the script does not run: %s", line)
			}
		}
	}
	if shown < 8 {
		t.Errorf("only %d commands found on the page", shown)
	}
}
