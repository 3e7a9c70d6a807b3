package phase

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestLayers holds the picture of docs/architecture.md to the code: every import leads
// to a lower row, and every package of the programs stands in one.
func TestLayers(t *testing.T) {
	rows, left := layersOfPage(t), layersOfPage(t)
	for _, p := range listPackages(t) {
		name := ourName(p.ImportPath)
		row, drawn := rows[name]
		if !drawn {
			if !ofTests(name) {
				t.Errorf("docs/architecture.md draws %s in no layer", name)
			}
			continue
		}
		delete(left, name)
		for _, imp := range p.Imports {
			below, known := rows[ourName(imp)]
			if strings.HasPrefix(imp, modulePath) && known && below >= row {
				t.Errorf("docs/architecture.md draws %s in layer %d and %s, which it imports, in %d", name, row, ourName(imp), below)
			}
		}
	}
	for name := range left {
		t.Errorf("docs/architecture.md draws %s, which is no package", name)
	}
}

// ofTests are packages that the picture leaves out.
func ofTests(name string) bool {
	switch name {
	case ".", "internal/guest", "internal/nettest", "internal/wasmbuild", "internal/statuspage/pack":
		return true
	}
	return under(name, "test") || strings.HasPrefix(name, "examples/") || strings.HasSuffix(name, "test")
}

// layersOfPage reads the picture: the row of each package, from 1.
func layersOfPage(t *testing.T) map[string]int {
	t.Helper()
	raw, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), "\n## Layers\n")
	_, picture, _ := strings.Cut(after, "```text\n")
	picture, _, _ = strings.Cut(picture, "```")
	rows, row := map[string]int{}, 0
	for line := range strings.Lines(picture) {
		if m := regexp.MustCompile(`^ (\d+)  `).FindStringSubmatch(line); m != nil {
			row, _ = strconv.Atoi(m[1])
			line = line[len(m[0]):]
		}
		for name := range strings.FieldsSeq(line) {
			if public, ok := strings.CutPrefix(name, "◆"); ok {
				name = public
			} else if !strings.HasPrefix(name, "cmd/") {
				name = "internal/" + name
			}
			if rows[name] != 0 || row == 0 {
				t.Errorf("docs/architecture.md draws %s twice, or in no layer", name)
			}
			rows[name] = row
		}
	}
	return rows
}
