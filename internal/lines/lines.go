// Package lines reads what another program says, line by line, however long its
// lines are and however many.
package lines

import (
	"bufio"
	"errors"
	"io"
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
