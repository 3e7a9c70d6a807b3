package phase

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// dictionary is Debian's package wbritish, which `phase doctor --task test` installs.
const dictionary = "/usr/share/dict/british-english"

// TestSpelling: each word of each page is in the dictionary of British English, or among
// those of testdata/words.txt, which are names and terms of the field. Code and links
// are passed over, and so is what has digits or capitals inside.
func TestSpelling(t *testing.T) {
	raw, err := os.ReadFile(dictionary)
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
	}
	known := map[string]bool{}
	for word := range strings.Lines(string(raw)) {
		known[strings.TrimSpace(word)] = true
	}
	own, err := os.ReadFile("testdata/words.txt")
	if err != nil {
		t.Fatal(err)
	}
	terms := strings.Fields(string(own))
	if !slices.IsSortedFunc(terms, alphabetically) {
		t.Error("testdata/words.txt is not in the order of the alphabet")
	}
	used := map[string]bool{}
	for _, term := range terms {
		if known[term] {
			t.Errorf("testdata/words.txt has %q, which is in the dictionary", term)
		}
		known[term], used[term] = true, false
	}
	unknown := map[string][]string{}
	for page, text := range markdown(t) {
		for _, word := range words(text) {
			if right := spelt(word, known); right != "" {
				used[right] = true
			} else if !slices.Contains(unknown[word], page) {
				unknown[word] = append(unknown[word], page)
			}
		}
	}
	for _, word := range slices.SortedFunc(maps.Keys(unknown), alphabetically) {
		t.Errorf("%s: %v", word, unknown[word])
	}
	if len(unknown) > 0 {
		t.Error("these are wrong, or belong in testdata/words.txt: names as they are written, the rest in small letters")
	}
	for _, term := range terms {
		if !used[term] {
			t.Errorf("testdata/words.txt has %q, which no page uses", term)
		}
	}
}

func alphabetically(a, b string) int {
	if c := strings.Compare(strings.ToLower(a), strings.ToLower(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

// words are what stands in a page's text.
func words(text string) []string {
	for _, passed := range []string{
		"(?s)<!--.*?-->", "(?s)``.*?``|`[^`]*`", `\]\([^)]*\)`, `https?://\S+`, `<[^>]*>`,
		`\S*[/@_\\=~…]\S*`,                      // paths, addresses, names in programs
		`[\w.-]+\.(?:[a-z]{2,5}|[a-z]+\d)\b`,    // names of files and hosts
		`\b[\w-]*(?:\d|[a-z][A-Z]|[A-Z]{2})\S*`, // with digits, or capitals inside
		`--?[a-z][a-z-]*`,                       // flags
	} {
		text = regexp.MustCompile(passed).ReplaceAllString(text, " ")
	}
	text = strings.NewReplacer("’", "'", "*", "").Replace(text)
	return regexp.MustCompile(`\p{L}+(?:'\p{L}+)*`).FindAllString(text, -1)
}

// spelt is how a word stands in the dictionary, "" if it does not: as it is, in small
// letters, or without what makes it somebody's.
func spelt(word string, known map[string]bool) string {
	stem := strings.TrimSuffix(word, "'s")
	if strings.HasSuffix(word, "s'") {
		stem = strings.TrimSuffix(word, "'")
	}
	for _, form := range []string{word, strings.ToLower(word), stem, strings.ToLower(stem)} {
		if known[form] || len([]rune(form)) == 1 {
			return form
		}
	}
	return ""
}
