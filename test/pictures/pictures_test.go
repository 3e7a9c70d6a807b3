package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// TestPictures: pages show what programs wrote, and nothing that was corrected by hand.
func TestPictures(t *testing.T) {
	pages, err := pageNames(root)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		filled, err := filledIn(string(raw), filepath.Join(root, folder))
		if err != nil {
			t.Errorf("%s: %v", page, err)
		}
		if filled != string(raw) {
			t.Errorf("%s: a picture is not as %s has it; make it anew with make pictures", page, folder)
		}
		text += string(raw)
	}
	for _, p := range pictures() {
		if len(p.shots) == 0 && !strings.Contains(text, "<!-- picture "+p.name+":") {
			t.Errorf("no page shows the picture %s", p.name)
		}
		for name := range p.shots {
			if _, err := os.Stat(filepath.Join(root, folder, name+".png")); err != nil || !strings.Contains(text, "pictures/"+name+".png") {
				t.Errorf("no page shows the screenshot %s (%v)", name, err)
			}
		}
	}
}

func TestFilledIn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "demo.txt"), []byte("zero\none\ntwo\nthree\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const head, fence = "<!-- picture demo: from \"one\" to \"two\" -->\n", "```"
	page := "text\n\n" + head + fence + "text\nold\n" + fence + "\n\nmore\n"
	got, err := filledIn(page, dir)
	if want := strings.Replace(page, "old\n", "one\ntwo\n", 1); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for name, bad := range map[string]string{
		"no block":     head + "\ntext\n",
		"no picture":   strings.Replace(page, "demo", "nothing", 1),
		"no such line": strings.Replace(page, "two", "four", 1),
	} {
		if _, err := filledIn(bad, dir); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
