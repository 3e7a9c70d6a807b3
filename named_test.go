package phase

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestNamedTestsExist: every test and fuzz target that a page names is there, so that
// no claim rests on one that was renamed or removed.
func TestNamedTestsExist(t *testing.T) {
	functions, pages := map[string]bool{}, map[string]string{}
	defined := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "build" || path != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go") && filepath.Ext(path) != ".md":
			return nil
		}
		raw, err := os.ReadFile(path)
		if filepath.Ext(path) == ".md" {
			pages[path] = string(raw)
			return err
		}
		for _, m := range defined.FindAllStringSubmatch(string(raw), -1) {
			functions[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named, names := 0, regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
	for page, text := range pages {
		for _, name := range names.FindAllString(text, -1) {
			if named++; !functions[name] && !isExample(name) {
				t.Errorf("%s names %s, which is not there", page, name)
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d names found", named)
	}
}

// isExample: what is no name of a test. Tor has an option, and a page on testing
// shows how a new one is called.
func isExample(name string) bool {
	return strings.HasPrefix(name, "TestingTor") || name == "TestX" || name == "FuzzX"
}
