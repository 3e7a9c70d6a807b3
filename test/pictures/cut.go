package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// shown is a block of a page with the line before it that says what it shows: which
// picture, from the line with one text to the line with another, both included.
var shown = regexp.MustCompile(`(?ms)^<!-- picture ([a-z-]+): from "([^"\n]+)" to "([^"\n]+)" -->\n` + "```text\n(.*?)^```$")

// announced finds each line that should be the first of such a block.
var announced = regexp.MustCompile(`(?m)^<!-- picture`)

// pageNames are README and the pages, below the root of the sources.
func pageNames(root string) ([]string, error) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err == nil && len(pages) == 0 {
		err = fs.ErrNotExist
	}
	return append(pages, filepath.Join(root, "README.md")), err
}

// filledIn is a page with every picture as it is in the folder.
func filledIn(page, folder string) (string, error) {
	var failed error
	filled := shown.ReplaceAllStringFunc(page, func(block string) string {
		m := shown.FindStringSubmatch(block)
		text, err := os.ReadFile(filepath.Join(folder, m[1]+".txt"))
		if err == nil {
			var part string
			if part, err = cut(string(text), m[2], m[3]); err == nil {
				head, _, _ := strings.Cut(block, "\n")
				return head + "\n```text\n" + part + "```"
			}
		}
		failed = errors.Join(failed, fmt.Errorf("picture %s: %w", m[1], err))
		return block
	})
	if all := len(announced.FindAllString(page, -1)); all != len(shown.FindAllString(page, -1)) {
		failed = errors.Join(failed, errors.New("a picture is announced, and no block of the kind text follows"))
	}
	return filled, failed
}

// cut is the part of a text from the first line that has one text to the next that has
// the other, both included.
func cut(text, from, to string) (string, error) {
	var part strings.Builder
	for line := range strings.Lines(text) {
		if part.Len() == 0 && !strings.Contains(line, from) {
			continue
		}
		part.WriteString(line)
		if strings.Contains(line, to) {
			return part.String(), nil
		}
	}
	return "", fmt.Errorf("no lines from %q to %q", from, to)
}
