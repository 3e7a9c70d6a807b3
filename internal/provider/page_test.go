package provider

import (
	"os"
	"strings"
	"testing"
)

// TestPageListsMetrics: docs/mirrors.md names every metric and reason, so that
// nobody has to guess what a figure means.
func TestPageListsMetrics(t *testing.T) {
	raw, err := os.ReadFile("../../docs/mirrors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, url := start(t, Config{Receipts: t.TempDir()})
	for name := range scrape(t, url) {
		if !strings.Contains(string(raw), "`"+strings.TrimPrefix(name, "phase_provider_")+"`") {
			t.Errorf("docs/mirrors.md does not explain %s", name)
		}
	}
	for why := range refusals {
		if !strings.Contains(string(raw), "`"+why.String()+"`") {
			t.Errorf("docs/mirrors.md does not explain the reason %s", why)
		}
	}
}
