package fetch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/phasebased/phase/blob"
)

// errEnough ends the reading of a span whose rest others have, or got.
var errEnough = errors.New("no more is wanted")

// A receiver takes what a source sends for one span: it collects a chunk, hashes
// it, and only then writes it. One that is wrong ends the reading.
type receiver struct {
	board *board
	span  *span
	out   *output
	watch *watch
	buf   []byte // the chunk that is arriving
	asked int64  // bytes of the part that the source was asked for
	came  int64  // bytes of it that arrived
	right int64  // bytes that were right and new
	fault error  // what ended it, whatever the source makes of that; errEnough: complete
}

// Write implements io.Writer.
func (r *receiver) Write(p []byte) (int, error) {
	if err := r.arrived(len(p)); err != nil {
		return 0, err
	}
	taken := 0
	for len(p) > 0 && r.fault == nil {
		n := copy(r.room(), p)
		taken, p = taken+n, p[n:]
		r.fill(n)
	}
	return taken, r.ended(len(p) == 0)
}

// ReadFrom implements io.ReaderFrom: it spares a copy.
func (r *receiver) ReadFrom(src io.Reader) (total int64, err error) {
	for r.fault == nil {
		r.watch.wait()
		n, err := src.Read(r.room())
		total += int64(n)
		if slow := r.arrived(n); slow != nil {
			return total, slow
		}
		r.fill(n)
		if err == io.EOF {
			return total, r.ended(true)
		}
		if err != nil {
			return total, err
		}
	}
	return total, r.ended(r.came == r.asked)
}

// ended is what a source is told after its bytes were taken. One that gave all
// that it was asked for may see to its end, under watch.
func (r *receiver) ended(all bool) error {
	if r.fault == nil || r.fault == errEnough && all {
		r.watch.wait()
		return nil
	}
	return r.fault
}

func (r *receiver) arrived(n int) error {
	if r.fault != nil {
		return r.fault
	}
	r.came += int64(n)
	r.fault = r.watch.arrived(n)
	return r.fault
}

// room is the rest of the chunk's buffer.
func (r *receiver) room() []byte {
	_, size := r.board.list.Bounds(r.span.next)
	return r.buf[len(r.buf):size]
}

// fill says that n bytes are in the room, and judges the chunk when it is
// complete.
func (r *receiver) fill(n int) {
	r.buf = r.buf[:len(r.buf)+n]
	r.board.arrived(r.span, n)
	off, size := r.board.list.Bounds(r.span.next)
	if int64(len(r.buf)) < size {
		return
	}
	if !r.board.has(r.span.next) {
		if r.fault = r.judge(r.span.next, off); r.fault != nil {
			return
		}
	}
	r.buf = r.buf[:0]
	if !r.board.step(r.span) {
		r.fault = errEnough
	}
}

func (r *receiver) judge(i int, off int64) error {
	want, got := r.board.list.Digest(i), blob.FromSum(sha256.Sum256(r.buf))
	if got != want {
		size := int64(len(r.buf))
		return fmt.Errorf("bytes %d to %d: %w", off, off+size-1, &blob.MismatchError{Want: want, Got: got, WantSize: size, GotSize: size})
	}
	if err := r.out.write(r.buf, off); err != nil {
		return err
	}
	if r.board.took(i) {
		r.right += int64(len(r.buf))
	}
	return nil
}

// verdict is what a source's reading came to: what we found comes before what
// it says.
func (r *receiver) verdict(err error) error {
	switch {
	case r.fault == errEnough:
		return nil
	case r.fault != nil:
		return r.fault
	case err != nil:
		return givenReason(r.watch.ctx, err)
	}
	return fmt.Errorf("%w: after %d of %d bytes", ErrShort, r.came, r.asked)
}
