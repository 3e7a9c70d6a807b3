package vm

import "unicode/utf8"

// maxLine bounds a cleaned console line in bytes; a longer one is split.
const maxLine = 4096

// cleaner turns a console's raw bytes into lines of plain text. It drops
// terminal escape sequences (ECMA-48), which UEFI firmware and boot menus send
// in great numbers, and all other control characters. A carriage return, a
// cursor movement to a place and an erased display end a line, so that a menu
// painted by positions can be matched like any other text; empty lines are
// dropped.
type cleaner struct {
	state escState
	line  []byte       // the unfinished line, possibly with an unfinished rune at its end
	emit  func(string) // receives each finished line
}

type escState int

const (
	inText    escState = iota
	inEscape           // after ESC
	inCSI              // after ESC [
	inString           // after ESC ] P X ^ _ : until BEL or ESC \
	inCharset          // after ESC ( ) * + # % space: one more byte
)

// write consumes the next bytes.
func (c *cleaner) write(p []byte) {
	for _, b := range p {
		c.byte(b)
	}
}

func (c *cleaner) byte(b byte) {
	switch c.state {
	case inText:
		c.text(b)
	case inEscape:
		c.escape(b)
	case inCSI:
		c.csi(b)
	case inString:
		if b == 0x07 {
			c.state = inText
		} else if b == 0x1b {
			c.state = inEscape // ESC \ follows, or a new sequence
		}
	case inCharset:
		c.state = inText
	}
}

func (c *cleaner) text(b byte) {
	switch {
	case b == 0x1b:
		c.state = inEscape
	case b == '\n' || b == '\r':
		c.end()
	case b == '\b':
		_, n := utf8.DecodeLastRune(c.line)
		c.line = c.line[:len(c.line)-n]
	case b == '\t':
		c.add(' ')
	case b >= 0x20 && b != 0x7f:
		c.add(b)
	}
}

func (c *cleaner) escape(b byte) {
	switch b {
	case '[':
		c.state = inCSI
	case ']', 'P', 'X', '^', '_':
		c.state = inString
	case '(', ')', '*', '+', '#', '%', ' ':
		c.state = inCharset
	case 0x1b:
	case 'c': // full reset
		c.end()
		c.state = inText
	default:
		c.state = inText
	}
}

func (c *cleaner) csi(b byte) {
	switch {
	case b == 0x1b:
		c.state = inEscape
	case b == 'H' || b == 'f' || b == 'J' || b == 'd':
		c.end()
		c.state = inText
	case b >= 0x40 && b <= 0x7e:
		c.state = inText
	case b == '\n' || b == '\r':
		// A sequence cut short by a crash must not swallow what follows.
		c.end()
		c.state = inText
	}
}

func (c *cleaner) add(b byte) {
	// Split before a rune begins, so that none is torn apart.
	if len(c.line) >= maxLine && utf8.RuneStart(b) || len(c.line) >= maxLine+utf8.UTFMax {
		c.end()
	}
	c.line = append(c.line, b)
}

// end finishes the line. Blanks at its end are what menus paint with.
func (c *cleaner) end() {
	if s := c.partial(); s != "" {
		c.emit(s)
	}
	c.line = c.line[:0]
}

// partial is the text of the unfinished line.
func (c *cleaner) partial() string {
	end := len(c.line)
	for end > 0 && c.line[end-1] == ' ' {
		end--
	}
	return validText(c.line[:end])
}

// validText replaces what is not UTF-8, and the C1 control characters that
// UTF-8 can carry, by U+FFFD.
func validText(b []byte) string {
	out := make([]rune, 0, len(b))
	for _, r := range string(b) {
		if r >= 0x80 && r < 0xa0 {
			r = utf8.RuneError
		}
		out = append(out, r)
	}
	return string(out)
}
