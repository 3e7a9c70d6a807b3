package sysinit

import (
	"context"
	"io"
	"strings"
	"unicode/utf8"
)

// Key is one byte that somebody typed, and where. Of a key that sends several
// bytes (an arrow) each comes by itself.
type Key struct {
	Byte byte
	Echo io.Writer // the console it was typed on
}

// LineReader puts typed keys together to a line, as a terminal would.
type LineReader struct {
	max  int
	line []byte
}

// NewLineReader takes lines of up to max bytes of printable ASCII.
func NewLineReader(max int) *LineReader { return &LineReader{max: max} }

// Feed takes one byte. echo is what the console must show for it; done tells
// that the line is complete, and canceled that Escape or Ctrl-C was typed.
func (l *LineReader) Feed(b byte) (echo string, done, canceled bool) {
	switch {
	case b == '\r' || b == '\n':
		return "\n", true, false
	case b == 0x1b || b == 0x03:
		return "\n", false, true
	case (b == 0x7f || b == 0x08) && len(l.line) > 0:
		l.line = l.line[:len(l.line)-1]
		return "\b \b", false, false
	case b == 0x15: // Ctrl-U
		n := len(l.line)
		l.line = l.line[:0]
		return strings.Repeat("\b \b", n), false, false
	case b >= ' ' && b < 0x7f && len(l.line) < l.max:
		l.line = append(l.line, b)
		return string(rune(b)), false, false
	}
	return "", false, false
}

// Line is what was typed so far.
func (l *LineReader) Line() string { return string(l.line) }

// ReadLine writes a prompt to all consoles and reads one line from the console
// on which the first key is typed; keys of the others are ignored until then
// end. ok is false if the person gave up; err is ctx's.
func ReadLine(ctx context.Context, keys <-chan Key, prompt io.Writer, text string, max int) (line string, ok bool, err error) {
	if utf8.ValidString(text) {
		_, _ = io.WriteString(prompt, text)
	}
	l := NewLineReader(max)
	var from io.Writer
	for {
		select {
		case <-ctx.Done():
			return "", false, context.Cause(ctx)
		case key := <-keys:
			if from == nil {
				from = key.Echo
			}
			if key.Echo != from {
				continue
			}
			echo, done, canceled := l.Feed(key.Byte)
			_, _ = io.WriteString(from, echo)
			if done || canceled {
				return l.Line(), done, nil
			}
		}
	}
}
