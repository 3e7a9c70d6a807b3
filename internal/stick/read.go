package stick

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"iter"

	"github.com/phasebased/phase/blob"
)

// part is a chunk of the image that was read ahead.
type part struct {
	data []byte
	at   int64
	err  error
	done func() // gives the buffer back
}

// chunks reads the image without its ends and heads, one chunk ahead of whoever
// ranges over it, and sums up the image as it is if there is a sum. The sequence ends early, without
// an error, when ctx does.
func (w *writer) chunks(ctx context.Context, sum hash.Hash) iter.Seq[part] {
	free, full := make(chan []byte, 3), make(chan part)
	for range cap(free) {
		free <- aligned(chunk)
	}
	go func() {
		defer close(full)
		body := w.Image.body()
		for at := int64(0); at < w.Image.Size; at += chunk {
			var buf []byte
			select {
			case buf = <-free:
			case <-ctx.Done():
				return
			}
			p := part{data: buf[:min(chunk, w.Image.Size-at)], at: at, done: func() { free <- buf }}
			if _, err := w.Image.f.ReadAt(p.data, at); err != nil {
				p.err = changed(w.Image.Path, err)
			}
			if sum != nil {
				sum.Write(p.data)
			}
			body.hide(p.data, at)
			select {
			case full <- p:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func(yield func(part) bool) {
		for p := range full {
			if !yield(p) {
				return
			}
		}
	}
}

// changed explains why an image that was whole cannot be read any more.
func changed(path string, err error) error {
	if err == io.EOF {
		return refuse(ImageChanged, path, "has become shorter while it was written")
	}
	return imageError(path, err)
}

// readBack compares all that was written with the image, from the medium. The digest
// is that of the bytes which were compared.
func (w *writer) readBack(ctx context.Context) error {
	if err := w.forget(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sum := sha256.New()
	total := w.Image.Size
	w.tell(Reading, 0, total)
	for c := range w.chunks(ctx, sum) {
		if c.err != nil {
			return c.err
		}
		if err := w.same(c.data, c.at); err != nil {
			return err
		}
		end := c.at + int64(len(c.data))
		c.done()
		w.tell(Reading, end, total)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.Image.unchanged(); err != nil {
		return err
	}
	w.digest = blob.FromSum([32]byte(sum.Sum(nil)))
	return w.farMarks()
}
