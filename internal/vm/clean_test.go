package vm

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// cleanAll feeds p in pieces of the given size and returns all lines.
func cleanAll(p []byte, piece int) []string {
	var lines []string
	c := cleaner{emit: func(s string) { lines = append(lines, s) }}
	for chunk := range slices.Chunk(p, piece) {
		c.write(chunk)
	}
	c.end()
	return lines
}

func TestClean(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
	}{
		{"lines", "one\r\ntwo\nthree", []string{"one", "two", "three"}},
		{"colours", "\x1b[0m\x1b[35mgreen\x1b[0;40m day\n", []string{"green day"}},
		{"firmware", "\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001\r\n", []string{"BdsDxe: loading Boot0001"}},
		{"menu by positions", "\x1b[10;30HInternet Mode   \x1b[11;30HLocal Mode\x1b[?25l", []string{"Internet Mode", "Local Mode"}},
		{"progress", " 10 %\r 20 %\r\n", []string{" 10 %", " 20 %"}},
		{"title", "\x1b]0;root@host\x07$ \x1b]2;x\x1b\\ls\n", []string{"$ ls"}},
		{"charset and keypad", "\x1b(B\x1b)0\x1b=a\x1b>b\n", []string{"ab"}},
		{"backspace over a rune", "añ\bn\n", []string{"an"}},
		{"backspace at the start", "\b\bx\n", []string{"x"}},
		{"tab, bell, nul, del", "a\tb\x07\x00\x7fc\n", []string{"a bc"}},
		{"sequence cut by a newline", "\x1b[12\nnext\n", []string{"next"}},
		{"escape within a sequence", "\x1b[3\x1b[1mx\n", []string{"x"}},
		{"not UTF-8", "a\xffb\n", []string{"a\ufffdb"}},
		{"C1 control", "a\u009bb\n", []string{"a\ufffdb"}},
		{"empty lines", "\n\r\n   \n", nil},
		{"long line", strings.Repeat("x", maxLine) + "yz\n", []string{strings.Repeat("x", maxLine), "yz"}},
		{"long line of runes", strings.Repeat("é", maxLine), []string{strings.Repeat("é", maxLine/2), strings.Repeat("é", maxLine/2)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := cleanAll([]byte(tt.in), len(tt.in)); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	f.Add([]byte("\x1b[2J\x1b[01;01HBdsDxe\r\nx"), 3)
	f.Add([]byte("\x1b]0;t\x07é\b\xff\xc3\x28\xe2\x82"), 1)
	f.Fuzz(func(t *testing.T, p []byte, piece int) {
		if len(p) == 0 {
			return
		}
		whole := cleanAll(p, len(p))
		if pieces := cleanAll(p, 1+(piece&0xff)); !slices.Equal(whole, pieces) {
			t.Errorf("whole %q, in pieces %q", whole, pieces)
		}
		for _, line := range whole {
			switch {
			case line == "" || !utf8.ValidString(line):
				t.Errorf("line %q", line)
			case strings.ContainsFunc(line, unicode.IsControl):
				t.Errorf("control character in %q", line)
			case len(line) > utf8.UTFMax*(maxLine+utf8.UTFMax):
				t.Errorf("line of %d bytes", len(line))
			}
		}
	})
}
