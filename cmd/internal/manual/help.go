package manual

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// columns are those of a terminal that nobody has made wider.
const columns = 80

// Fit makes the help of root, and of all below it, fit into 80 columns. Examples stay as
// they are: people copy them.
func Fit(root *cobra.Command) {
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprint(c.OutOrStdout(), help(c)) })
}

// laidOutTooWide is the first line of a text that is laid out by hand and does not fit.
func laidOutTooWide(c *cobra.Command) string {
	for _, p := range paragraphs(c.Long) {
		for line := range strings.SplitSeq(p, "\n") {
			if laidOut(p) && tooWide(line) {
				return line
			}
		}
	}
	return ""
}

func help(c *cobra.Command) string {
	text := c.Long
	if text == "" {
		text = c.Short
	}
	var out []string
	for _, p := range paragraphs(text) {
		if !laidOut(p) && tooWide(p) {
			p = wrap(strings.Fields(p), 0)
		}
		out = append(out, p, "")
	}
	example := false // a paragraph of them
	for line := range strings.SplitSeq(strings.TrimSuffix(c.UsageString(), "\n"), "\n") {
		switch {
		case line == "Examples:":
			example = true
		case line == "":
			example = false
		case !example && tooWide(line):
			line = hang(line)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n") + "\n"
}

// tooWide reports whether a line of text is.
func tooWide(text string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if utf8.RuneCountInString(line) > columns {
			return true
		}
	}
	return false
}

// hang wraps a line of a list, what it says in the column where that begins: behind two
// blanks, or where the name is the longest, behind one.
func hang(line string) string {
	name := strings.TrimLeft(line, " ")
	margin := len(line) - len(name)
	if margin == 0 {
		return wrap(strings.Fields(line), 0)
	}
	gap := strings.Index(name, "  ")
	if gap < 0 {
		gap = strings.Index(name, " ")
	}
	if gap < 0 {
		return line
	}
	said := strings.TrimLeft(name[gap:], " ")
	column := len(line) - len(said)
	return line[:column] + strings.TrimLeft(wrap(strings.Fields(said), column), " ")
}

// wrap breaks words into lines that are indented. A word that is too long has its own.
func wrap(words []string, indent int) string {
	var text strings.Builder
	at := columns + 1
	for _, word := range words {
		n := utf8.RuneCountInString(word)
		if at+1+n > columns {
			text.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		} else {
			text.WriteByte(' ')
			at++
		}
		text.WriteString(word)
		at += n
	}
	return strings.TrimPrefix(text.String(), "\n")
}
