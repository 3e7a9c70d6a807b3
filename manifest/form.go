package manifest

import (
	"fmt"
	"strings"
)

// form is a form of names. It matches as the regular expression that String
// returns would, but costs nothing before it is used: compiling these took longer
// than all else that a program does before its main function.
type form struct {
	first, rest string // character classes, written as within brackets
	max         int    // bytes; the least is one
}

// fits reports whether s is of the form.
func (f form) fits(s string) bool {
	return s != "" && len(s) <= f.max && inClass(f.first, s[0]) &&
		!strings.ContainsFunc(s[1:], func(r rune) bool { return r >= 0x80 || !inClass(f.rest, byte(r)) })
}

// inClass reports whether a class such as "a-z_" has c in it.
func inClass(class string, c byte) bool {
	for ; class != ""; class = class[1:] {
		if len(class) > 2 && class[1] == '-' {
			if class[0] <= c && c <= class[2] {
				return true
			}
			class = class[2:]
		} else if class[0] == c {
			return true
		}
	}
	return false
}

// String is the form as a regular expression.
func (f form) String() string { return fmt.Sprintf("^[%s][%s]{0,%d}$", f.first, f.rest, f.max-1) }
