package diskformat

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// nextData is where data begins at or after at, or size: a file is asked for its
// holes (lseek(2), SEEK_DATA), which needs no reading. What does not know holes
// is data everywhere. A file's own position moves; ReadAt does not use it.
func nextData(src io.ReaderAt, at, size int64) int64 {
	f, ok := src.(*os.File)
	if !ok || at >= size {
		return at
	}
	next, err := f.Seek(at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing but a hole follows
		return roundUp(size, 2<<20)
	case err != nil || next < at:
		return at
	}
	return next
}
