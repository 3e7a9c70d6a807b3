package fetch

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestPageNumbers: limits are in docs/network.md, and codes in docs/codes.md, as they are here.
func TestPageNumbers(t *testing.T) {
	raw, err := os.ReadFile("../../docs/network.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(raw)), " ")
	stall := int(defaultStall.Seconds())
	for _, want := range []string{
		fmt.Sprintf("A file is read over %d connections at once, from up to %d sources.", defaultConns, maxPeers),
		fmt.Sprintf("a second connection for the same file only from %d MiB/s on", twice>>20),
		fmt.Sprintf("gives nothing for %d seconds, or less than %d KiB/s over %d seconds", stall, defaultMinRate>>10, stall),
		fmt.Sprintf("left alone for about a second, then 2, 4 and up to %d", int(maxRest.Seconds())),
		fmt.Sprintf("has failed %d times in a row", defaultRetries),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("docs/network.md lacks %q", want)
		}
	}
	raw, err = os.ReadFile("../../docs/codes.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := len(regexp.MustCompile(`(?m)^\| FETCH-00\d \| `).FindAllString(string(raw), -1))
	said := map[string]bool{
		(&LocalError{}).Code(): true, (&ListError{}).Code(): true, (&Error{}).Code(): true, (&Error{Mismatch: true}).Code(): true,
		(&Error{Rounds: 1}).Code(): true, (&Error{Cause: ErrTimeout}).Code(): true,
	}
	for code := range said {
		if !strings.Contains(string(raw), "\n| "+code+" | ") {
			t.Errorf("docs/codes.md has no row for %s", code)
		}
	}
	if rows != len(said) {
		t.Errorf("docs/codes.md has %d codes, there are %d", rows, len(said))
	}
}
