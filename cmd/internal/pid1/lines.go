package pid1

import (
	"bufio"
	"errors"
	"io"
)

// Lines calls take with each line of r, without its end, until r ends. A line
// longer than max bytes is passed over whole, so that nobody can silence what
// comes after it. take must not keep the slice.
func Lines(r io.Reader, max int, take func(line []byte)) error {
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
