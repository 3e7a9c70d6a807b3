package term

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes a foreign text safe to show: control characters (so no escape
// sequences), invalid UTF-8 and the invisible characters that change a line's
// direction become '?'; tabs and line ends become spaces.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == '\r':
			return -1
		case r == utf8.RuneError || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp):
			return '?'
		}
		return r
	}, s)
}

// ascii spells the few other characters that this project's own texts use.
var ascii = strings.NewReplacer(
	"—", "-", "–", "-", "…", "...", "·", "-", "•", "*", "→", "->", "×", "x",
	"“", `"`, "”", `"`, "‘", "'", "’", "'", "✓", "ok", "✗", "x", "█", "#", "░", ".",
)

func (c *Console) text(s string) string {
	s = Clean(s)
	if !c.cfg.ASCII {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			return r
		}
		return '?'
	}, ascii.Replace(s))
}

// width is the number of columns, one for each character that is no accent.
func width(s string) int {
	n := 0
	for _, r := range s {
		if !unicode.Is(unicode.Mn, r) {
			n++
		}
	}
	return n
}

func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-width(s)))
}

func padLeft(s string, n int) string {
	return strings.Repeat(" ", max(0, n-width(s))) + s
}

// cut shortens a text that must stay on one line, keeping its beginning.
func cut(s string, n int) string {
	if width(s) <= n {
		return s
	}
	runes := []rune(s)
	return string(runes[:max(0, min(len(runes), n-3))]) + "..."
}

// longest is the width of the longest word.
func longest(s string) int {
	n := 0
	for _, word := range strings.Fields(s) {
		n = max(n, width(word))
	}
	return n
}

// wrap breaks a text into lines of at most n columns, at spaces. A word that
// is too long for a line (a URL) gets lines of its own. There is always at
// least one line.
func wrap(s string, n int) []string {
	n = max(n, 16)
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		switch {
		case line == "":
			line = word
		case width(line)+1+width(word) <= n:
			line += " " + word
			continue
		default:
			lines = append(lines, line)
			line = word
		}
		for width(line) > n {
			head, tail := breakWord(line, n)
			lines = append(lines, head)
			line = tail
		}
	}
	return append(lines, line)
}

// breakWord cuts a long word after the last '/', '?', '&' or ',' that fits, so
// that the parts of a URL stay whole and a hash in it is not cut; without one
// it cuts at the margin. The rest is indented, to be seen as a continuation.
func breakWord(word string, n int) (head, tail string) {
	runes := []rune(word)
	at := min(n, len(runes))
	for i := at; i > n/3; i-- {
		if strings.ContainsRune("/?&,", runes[i-1]) {
			at = i
			break
		}
	}
	return string(runes[:at]), "  " + string(runes[at:])
}
