package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Links says what ReadSmall does with a symbolic link at the end of a path.
type Links int

const (
	// RefuseLinks is for folders that somebody else may have filled.
	RefuseLinks Links = iota
	// FollowLinks is for what a person names: they mean what it leads to.
	FollowLinks
)

// Why ReadSmall refuses a file; match with errors.Is.
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrTooLarge   = errors.New("the file is too large")
)

// ReadSmall reads a file that a stranger may have put there: a regular one, of
// at most limit bytes. Whatever else it finds is ErrNotRegular at once, so that
// nobody waits for a pipe or reads a device; of a larger file it returns the
// first limit+1 bytes with ErrTooLarge. All errors name the path.
func ReadSmall(path string, limit int, links Links) ([]byte, error) {
	file, err := openForReading(path, links)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(path, info.Mode())
	}
	data := make([]byte, 0, min(max(info.Size(), 0), int64(limit))+1)
	data, err = readInto(data, io.LimitReader(file, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w: larger than %d bytes", ErrTooLarge, limit)}
	}
	return data, err
}

// readInto is io.ReadAll into a buffer that is large enough as a rule: growing
// it would leave copies of what it held, which may be a key by mistake.
func readInto(data []byte, from io.Reader) ([]byte, error) {
	for {
		n, err := from.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return data, err
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

func notRegular(path string, mode fs.FileMode) error {
	what := "something else"
	switch {
	case mode&fs.ModeSymlink != 0:
		what = "a symbolic link"
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w but %s", ErrNotRegular, what)}
}
