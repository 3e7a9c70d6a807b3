package tor

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func page(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(raw), "`", "")
}

// The pages for people name every code with what to do, and every option.
func TestPage(t *testing.T) {
	codes := page(t, "codes.md")
	for r := ProgramMissing; r <= NotTCP; r++ {
		e := &Error{Reason: r}
		if e.Code() != fmt.Sprintf("TOR-%03d", r) || !strings.Contains(codes, "| "+e.Code()+" | ") || !strings.Contains(codes, " | "+e.Hint()+" |") {
			t.Errorf("docs/codes.md lacks %s: %s", e.Code(), e.Hint())
		}
		if strings.HasPrefix(e.Error(), "this cannot") != (r == NotTCP) {
			t.Errorf("%s: %s", e.Code(), e)
		}
	}
	listed := strings.ToLower(page(t, "tor.md"))
	for name := range extraOptions {
		if strings.HasPrefix(name, "testingclient") || strings.HasPrefix(name, "clientbootstrap") {
			continue // "the delays of test networks"
		}
		if !strings.Contains(listed, name) {
			t.Errorf("docs/tor.md does not list %s", name)
		}
	}
}
