package tor

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The page for people names every code with what to do, and every option.
func TestPage(t *testing.T) {
	raw, err := os.ReadFile("../../docs/tor.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(raw), "`", "")
	for r := ProgramMissing; r <= NotTCP; r++ {
		e := &Error{Reason: r}
		if e.Code() != fmt.Sprintf("TOR-%03d", r) || !strings.Contains(page, "| "+e.Code()+" | ") || !strings.Contains(page, " | "+e.Hint()+" |") {
			t.Errorf("the page lacks %s: %s", e.Code(), e.Hint())
		}
		if strings.HasPrefix(e.Error(), "this cannot") != (r == NotTCP) {
			t.Errorf("%s: %s", e.Code(), e)
		}
	}
	listed := strings.ToLower(page)
	for name := range extraOptions {
		if strings.HasPrefix(name, "testingclient") || strings.HasPrefix(name, "clientbootstrap") {
			continue // "the delays of test networks"
		}
		if !strings.Contains(listed, name) {
			t.Errorf("the page does not list %s", name)
		}
	}
}
