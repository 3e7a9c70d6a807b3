package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMirrorsPageIsRehearsed: what docs/mirrors.md tells publishers to type is on the
// page that is held to the rehearsals.
func TestMirrorsPageIsRehearsed(t *testing.T) {
	rehearsed := releaseCommands(t, page)
	shown := releaseCommands(t, "../../docs/mirrors.md")
	if len(shown) < 2 {
		t.Fatalf("only %d commands found on the page", len(shown))
	}
	for _, command := range shown {
		if !slices.Contains(rehearsed, command) {
			t.Errorf("not rehearsed: %s", command)
		}
	}
}

func releaseCommands(t *testing.T, file string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range commandsOf(string(text)) {
		if strings.HasPrefix(command, "phase release ") {
			commands = append(commands, bare(command))
		}
	}
	return commands
}
