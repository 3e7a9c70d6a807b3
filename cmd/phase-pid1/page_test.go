package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestConsolePage holds docs/console.md to PID 1's own keys and code.
func TestConsolePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(page), "\n## When the boot program itself ends\n")
	rows := regexp.MustCompile("(?m)^\\| `(.)` \\| (.*) \\|$").FindAllStringSubmatch(part, -1)
	if len(rows) != len(choices()) || !strings.Contains(part, codeEnded) {
		t.Fatalf("documented are %q", rows)
	}
	for i, c := range choices() {
		if rows[i][1] != string(c.key) || rows[i][2] != c.text {
			t.Errorf("key %c %s is documented as %q", c.key, c.text, rows[i][1:])
		}
	}
}
