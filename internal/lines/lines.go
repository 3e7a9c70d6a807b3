// Package lines reads what another program, or the kernel, says line by line, however
// long the lines are and however many.
package lines

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Read calls take with each line of r, without its end, until r ends. A line
// longer than max bytes is passed over whole, so that nobody can silence what
// comes after it. take must not keep the slice.
func Read(r io.Reader, max int, take func(line []byte)) error {
	reader := bufio.NewReaderSize(r, max)
	skipping := false
	for {
		line, more, err := reader.ReadLine()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !more && !skipping:
			take(line)
		}
		skipping = more
	}
}

// Unescape undoes what the kernel does to blanks in the names that it lists, such as
// mount points: three octal digits behind a backslash.
func Unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
