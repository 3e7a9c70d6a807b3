package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestConsolePage holds docs/console.md to the table of keys.
func TestConsolePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(page), "\n## Keys\n")
	part, _, _ = strings.Cut(part, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `(.)` \\| (.*) \\|$").FindAllStringSubmatch(part, -1)
	if len(rows) != len(menu()) {
		t.Fatalf("%d keys are documented, there are %d", len(rows), len(menu()))
	}
	for i, c := range menu() {
		if rows[i][1] != string(c.key) || !strings.HasPrefix(rows[i][2], c.text) {
			t.Errorf("key %c %s is documented as %q", c.key, c.text, rows[i][1:])
		}
	}
	for _, want := range []string{
		retryAfter.String(), fmt.Sprintf("cut at %d MB", maxDiagnostic>>20), "phase-diagnostics-<date>", "three minutes",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/console.md does not say %q", want)
		}
	}
}
