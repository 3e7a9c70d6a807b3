package oneshot

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrEnvironment is wrapped by the errors of parseEnvironment.
var ErrEnvironment = errors.New("malformed environment block of GRUB")

// GRUB's environment block is a file of 1,024 bytes: a line that names it, lines
// "name=value" in which a backslash takes the next byte as it is, and '#' up to the
// end (GNU GRUB manual, "The GRUB environment block"; grub-core/lib/envblk.c).
// GRUB writes it in place, and so do we: what is armed lies in the first sector of
// the file, which disks write whole or not at all.
const (
	environmentSize = 1024
	environmentHead = "# GRUB Environment Block\n"
)

// setting is one variable of GRUB.
type setting struct{ name, value string }

// parseEnvironment reads a block, in the order of its lines. It refuses what GRUB
// would read in another way, or what nobody has written.
func parseEnvironment(block []byte) (list []setting, err error) {
	bad := func(line string) ([]setting, error) {
		return nil, fmt.Errorf("%w: line %.40q", ErrEnvironment, line)
	}
	rest, headed := strings.CutPrefix(string(block), environmentHead)
	if len(block) != environmentSize || !headed {
		return nil, fmt.Errorf("%w: %d bytes, or no head", ErrEnvironment, len(block))
	}
	seen := map[string]bool{}
	for strings.Trim(rest, "#") != "" {
		line, more, ended := strings.Cut(rest, "\n")
		rest = more
		if !ended || strings.ContainsFunc(line, unprintable) {
			return bad(line)
		}
		if strings.HasPrefix(line, "#") {
			continue // grub-editenv warns there against other editors
		}
		name, escaped, assigned := strings.Cut(line, "=")
		value, whole := unescape(escaped)
		if !assigned || !whole || !isName(name) || seen[name] {
			return bad(line)
		}
		seen[name] = true
		list = append(list, setting{name, value})
	}
	return list, nil
}

// marshalEnvironment writes a block, or refuses what would be read otherwise.
func marshalEnvironment(list []setting) ([]byte, error) {
	text := environmentHead
	for _, s := range list {
		text += s.name + "=" + strings.ReplaceAll(s.value, `\`, `\\`) + "\n"
	}
	if len(text) > environmentSize {
		return nil, fmt.Errorf("%w: %d bytes do not fit", ErrEnvironment, len(text))
	}
	block := append([]byte(text), bytes.Repeat([]byte{'#'}, environmentSize-len(text))...)
	read, err := parseEnvironment(block)
	if err == nil && !slices.Equal(read, list) {
		err = fmt.Errorf("%w: a value of several lines", ErrEnvironment)
	}
	return block, err
}

// valueOf is the value of a variable; "": it has none.
func valueOf(list []setting, name string) string {
	for _, s := range list {
		if s.name == name {
			return s.value
		}
	}
	return ""
}

// with is the list with a variable set first, where it stays in the first sector.
func with(list []setting, name, value string) []setting {
	out := []setting{{name, value}}
	for _, s := range list {
		if s.name != name {
			out = append(out, s)
		}
	}
	return out
}

// unescape takes backslashes away; whole: nothing is missing behind the last.
func unescape(s string) (value string, whole bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i++; i == len(s) {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

func isName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }
