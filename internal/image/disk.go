package image

import (
	"fmt"
	"io"
	"os"
)

// CreateSparse makes an empty file of size bytes that occupies no blocks,
// replacing what is at path.
func CreateSparse(path string, size int64) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("image: %w", err)
	}
	return f, nil
}

// CopyInto copies the file at path to w at offset; it must not exceed limit
// bytes. Blocks of zeros are skipped, so the region must read as zeros.
func CopyInto(w io.WriterAt, offset, limit int64, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	n, err := io.CopyBuffer(&sparseWriter{w: w, at: offset}, struct{ io.Reader }{io.LimitReader(f, limit+1)}, make([]byte, 64<<10))
	if err != nil {
		return fmt.Errorf("image: copying %s: %w", path, err)
	}
	if n > limit {
		return fmt.Errorf("image: %s does not fit in %d bytes", path, limit)
	}
	return nil
}

type sparseWriter struct {
	w  io.WriterAt
	at int64
}

func (s *sparseWriter) Write(p []byte) (int, error) {
	at := s.at
	s.at += int64(len(p))
	if allZero(p) {
		return len(p), nil
	}
	return s.w.WriteAt(p, at)
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
