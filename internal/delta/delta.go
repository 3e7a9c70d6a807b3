package delta

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// magic begins every patch; its last byte is the version of the form.
const (
	magic   = "phdelta"
	version = 0
)

// Make writes to w a patch that turns the old file into the new one. It holds
// both files in memory.
func Make(w io.Writer, old io.ReaderAt, oldSize int64, new io.ReaderAt, newSize int64) error {
	a, err := readAll(old, oldSize)
	if err != nil {
		return err
	}
	b, err := readAll(new, newSize)
	if err != nil {
		return err
	}
	head := append([]byte(magic), version)
	head = binary.AppendUvarint(head, uint64(oldSize))
	head = binary.AppendUvarint(head, uint64(newSize))
	if _, err := w.Write(head); err != nil {
		return &Error{Reason: Unwritable, Err: err}
	}
	enc, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
	if err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	_, err = enc.Write(operations(a, b))
	if err = errors.Join(err, enc.Close()); err != nil {
		return &Error{Reason: Unwritable, Err: err}
	}
	return nil
}

func readAll(r io.ReaderAt, size int64) ([]byte, error) {
	buf := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), buf); err != nil {
		return nil, &Error{Reason: Unreadable, Err: err}
	}
	return buf, nil
}

const (
	window = 1 << 20
	step   = 64 // bytes per indexed piece of the old file
)

// operations lists pairs: literal length, literal, copy length, copy offset.
func operations(old, new []byte) []byte {
	index := map[[step]byte]int{}
	for i := 0; i+step <= len(old); i += step {
		index[[step]byte(old[i:])] = i
	}
	var ops []byte
	start := 0
	emit := func(end, from, n int) {
		ops = binary.AppendUvarint(ops, uint64(end-start))
		ops = append(ops, new[start:end]...)
		ops = binary.AppendUvarint(ops, uint64(n))
		ops = binary.AppendUvarint(ops, uint64(from))
		start = end + n
	}
	for i := 0; i+step <= len(new); i++ {
		from, ok := index[[step]byte(new[i:])]
		if !ok {
			continue
		}
		n := step
		for i+n < len(new) && from+n < len(old) && new[i+n] == old[from+n] {
			n++
		}
		emit(i, from, n)
		i += n - 1
	}
	emit(len(new), 0, 0)
	return ops
}

// Apply writes to w the new file, built from the old one and a patch that Make
// made for these sizes. It holds less than 16 MiB and writes at most newSize
// bytes. All errors are of type *Error. What it has written is not trusted, and
// useless after an error.
func Apply(w io.Writer, old io.ReaderAt, oldSize int64, patch io.Reader, newSize int64) error {
	in := bufio.NewReader(patch)
	if err := readHead(in, oldSize, newSize); err != nil {
		return err
	}
	dec, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return &Error{Reason: Malformed, Err: err}
	}
	defer dec.Close()
	ops := bufio.NewReader(dec)
	for left := newSize; left > 0; {
		n, err := binary.ReadUvarint(ops)
		if err != nil || n > uint64(left) {
			return malformed("a literal is cut or too long")
		}
		if err := copyExactly(w, ops, int64(n)); err != nil {
			return err
		}
		left -= int64(n)
		if n, err = binary.ReadUvarint(ops); err != nil || n > uint64(left) {
			return malformed("a copy is cut or too long")
		}
		from, err := binary.ReadUvarint(ops)
		if err != nil || from > uint64(oldSize) || n > uint64(oldSize)-from {
			return malformed("a copy from outside the old file")
		}
		if err := copyExactly(w, io.NewSectionReader(old, int64(from), int64(n)), int64(n)); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

func copyExactly(w io.Writer, r io.Reader, n int64) error {
	if _, err := io.CopyN(w, r, n); err != nil {
		return &Error{Reason: Unreadable, Err: err}
	}
	return nil
}

func readHead(in *bufio.Reader, oldSize, newSize int64) error {
	head := make([]byte, len(magic)+1)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(magic)]) != magic {
		return malformed("it does not begin like one")
	}
	if v := head[len(magic)]; v != version {
		return &Error{Reason: Version, Detail: fmt.Sprintf("version %d", v)}
	}
	for _, want := range []int64{oldSize, newSize} {
		got, err := binary.ReadUvarint(in)
		if err != nil {
			return malformed("its head is cut")
		}
		if got != uint64(want) {
			return &Error{Reason: WrongSizes, Detail: fmt.Sprintf("%d bytes instead of %d", want, got)}
		}
	}
	return nil
}
