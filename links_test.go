package phase

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// TestLinks: every link between the pages of this repository leads to a file, and
// every anchor to a heading.
func TestLinks(t *testing.T) {
	pages := markdown(t)
	links := 0
	for name, text := range pages {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, m[1])
			} else if anchor != "" && !anchors(pages[target])[anchor] {
				t.Errorf("%s: the link %s leads to no heading", name, m[1])
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links found", links)
	}
}

// TestReadmeLists: the README leads to each page for people.
func TestReadmeLists(t *testing.T) {
	readme := markdown(t)["README.md"]
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		if !strings.Contains(readme, "\n| ["+page+"]("+page+") | ") {
			t.Errorf("README.md does not list %s", page)
		}
	}
}

// markdown is the repository's pages by name, without what they quote.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	quoted := regexp.MustCompile("(?ms)^```.*?^```$")
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "build" || path != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			raw, err := os.ReadFile(path)
			pages[path] = quoted.ReplaceAllString(string(raw), "")
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// anchors are the names that a forge gives to a page's headings: in lower case, with
// hyphens for spaces, and without what is neither letter nor digit.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#{1,6} (.+)$`).FindAllStringSubmatch(text, -1) {
		names[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return names
}
