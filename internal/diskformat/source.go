package diskformat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// source is the raw disk.
type source struct {
	io.ReaderAt
	size int64
}

// blocks calls f for every block of n bytes that is not all zeros, in order. The
// last one is filled up with zeros. data is valid during the call.
func (s source) blocks(ctx context.Context, n int64, progress func(done, total int64), f func(index int64, data []byte) error) error {
	buf, zeros := make([]byte, n), make([]byte, n)
	for at := int64(0); ; at += n {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		// Never backwards: at is a multiple of n, and no data lies before it.
		at = nextData(s.ReaderAt, at, s.size) / n * n
		if progress != nil {
			progress(min(at, s.size), s.size)
		}
		if at >= s.size {
			return nil
		}
		part := buf[:min(n, s.size-at)]
		if got, err := s.ReadAt(part, at); got < len(part) {
			return s.short(at+int64(got), err)
		}
		clear(buf[len(part):])
		if bytes.Equal(buf, zeros) {
			continue
		}
		if err := f(at/n, buf); err != nil {
			return err
		}
	}
}

func (s source) short(at int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("the image ends at byte %d of %d: %w", at, s.size, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read the image: %w", err)
}

// sink is the file that is written. Pages of zeros are left out: it is new, so
// they are holes that read as zeros.
type sink struct {
	w   io.WriterAt
	end int64 // of what was written or left out: the file's size
}

const pageSize = 4096

func (s *sink) put(data []byte, at int64) error {
	s.grow(at + int64(len(data)))
	var zeros [pageSize]byte
	begin := 0 // of what is not written yet
	for i := 0; i < len(data); {
		n := min(len(data)-i, pageSize-int((at+int64(i))%pageSize))
		if bytes.Equal(data[i:i+n], zeros[:n]) {
			if err := s.write(data[begin:i], at+int64(begin)); err != nil {
				return err
			}
			begin = i + n
		}
		i += n
	}
	return s.write(data[begin:], at+int64(begin))
}

func (s *sink) write(data []byte, at int64) error {
	if len(data) == 0 {
		return nil
	}
	_, err := s.w.WriteAt(data, at)
	return err
}

// grow lets the file have at least size bytes.
func (s *sink) grow(size int64) { s.end = max(s.end, size) }
