package phase

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// saidByOthers are the messages in docs/troubleshooting.md that are not ours: of Go,
// apt, firmware, boot loaders, the kernel and its users' habits.
var saidByOthers = []string{
	"go.mod requires go >= 1.26", "Unable to locate package", "Access Denied", "bad shim signature",
	"Verification failed: (0x1A) Security Violation", "IO-APIC + timer doesn't work",
	"bind: address already in use", "open …: no such file or directory",
	"the machine reached neither a receipt nor a failure in time", // internal/lab, which has no codes
}

// TestTroubleshooting holds docs/troubleshooting.md to the programs: a code that it names
// is in docs/codes.md, and a message that it quotes is one that a program can say.
func TestTroubleshooting(t *testing.T) {
	page, err := os.ReadFile("docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	codes, err := os.ReadFile("docs/codes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range regexp.MustCompile(`\b[A-Z]+-\d{3}\b`).FindAllString(string(page), -1) {
		if !strings.Contains(string(codes), "\n| "+code+" |") {
			t.Errorf("docs/codes.md has no row for %s", code)
		}
	}
	texts := strings.Join(slices.Sorted(maps.Keys(whatIsSaid(t).texts)), "\n")
	quotes := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (.+?) \|`).FindAllStringSubmatch(string(page), -1) {
		for _, m := range regexp.MustCompile("`([^`]+)`|\\*([^*]+)\\*").FindAllStringSubmatch(row[1], -1) {
			quote := m[1] + m[2]
			if codeLiteral.MatchString(quote) || slices.Contains(saidByOthers, quote) {
				continue
			}
			quotes++
			for part := range strings.SplitSeq(quote, "…") {
				if part = spoken(strings.TrimSpace(part)); !strings.Contains(texts, part) {
					t.Errorf("no program says %q, of %q", part, quote)
				}
			}
		}
	}
	if quotes < 20 {
		t.Errorf("only %d quotes found in docs/troubleshooting.md", quotes)
	}
}
