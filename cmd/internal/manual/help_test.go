package manual

import (
	"bytes"
	"strings"
	"testing"
)

// TestFit: what is told in columns goes on in its column, examples and what is laid out by
// hand stay as they are, and nothing gets lost.
func TestFit(t *testing.T) {
	root, leaf := sample()
	long := strings.TrimSpace(strings.Repeat("many words ", 9))
	leaf.Long = "First " + long + " and\nmore.\n\nShort\nlines.\n\n  laid   " + long
	leaf.Example = "  tool group leaf " + long
	leaf.Flags().String("far", "", "`place` "+long)
	leaf.Short = "A leaf with " + long
	Fit(root)
	show := func(args ...string) string {
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(append(args, "--help"))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	page := show("group", "leaf")
	for _, want := range []string{
		"First many words many words many words many words many words many words many\nwords many words many words and more.\n\nShort\nlines.\n\n",
		"\n\n  laid   " + long + "\n\nUsage:\n  tool group leaf FILE [flags]\n",
		"\n  tool group leaf " + long + "\n\nFlags:\n",
		"\n      --far place    place many words many words many words many words many\n                     words many words many words many words many words\n",
		"\n  -h, --help         help for leaf\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if page, want := show("group"), "\n  leaf        A leaf with many words many words many words many words many words\n              many words many words many words many words\n"; !strings.Contains(page, want) {
		t.Errorf("no %q in\n%s", want, page)
	}
}

func TestHang(t *testing.T) {
	word := strings.Repeat("é", 90)
	for line, want := range map[string]string{
		"  longest-name " + strings.Repeat("word ", 14) + "end": "  longest-name " + strings.TrimSpace(strings.Repeat("word ", 13)) + "\n               word end",
		"  " + word:         "  " + word,
		"  name  " + word:   "  name  " + word,
		"  name  a " + word: "  name  a\n        " + word,
		"no column " + word: "no column\n" + word,
	} {
		if got := hang(line); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
