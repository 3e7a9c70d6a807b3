package phase

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestComponentsPage: docs/components.md has a row for each package and none for others,
// says "own" of those with tests beside them, and names evidence for the others.
func TestComponentsPage(t *testing.T) {
	raw, err := os.ReadFile("docs/components.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| \\[`([^`]+)`\\]\\(\\.\\./([^)]+)\\) \\| (.+) \\| (.+) \\| (.+) \\|$")
	for _, m := range row.FindAllStringSubmatch(string(raw), -1) {
		if m[1] != m[2] || rows[m[1]] != "" {
			t.Errorf("the row of %s leads to %s, or there are two", m[1], m[2])
		}
		rows[m[1]] = m[5]
	}
	for name, tested := range testedPackages(t) {
		tests, there := rows[name]
		delete(rows, name)
		switch own := tests == "own" || strings.HasPrefix(tests, "own; "); {
		case !there:
			t.Errorf("docs/components.md has no row for %s", name)
		case own != tested:
			t.Errorf("%s: the page says %q of its tests; it has some beside it: %v", name, tests, tested)
		case !own && !strings.Contains(tests, "`"):
			t.Errorf("%s: the page names nothing that tests it: %q", name, tests)
		}
	}
	for name := range rows {
		t.Errorf("docs/components.md has a row for %s, which is no package", name)
	}
}

// testedPackages are all packages but the root, and whether tests lie beside them.
func testedPackages(t *testing.T) map[string]bool {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,TestGoFiles,XTestGoFiles", "./...")
	cmd.Env = append(os.Environ(), "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath                string
			TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			delete(packages, ".")
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[ourName(p.ImportPath)] = len(p.TestGoFiles)+len(p.XTestGoFiles) > 0
	}
}
