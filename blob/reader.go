package blob

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// MismatchError says that a stream was not the bytes it should have been.
// GotSize is the number of bytes seen: below WantSize the stream ended early,
// above it the stream went on (and was cut off there, so Got is that of the
// first WantSize bytes), equal to it the content differs.
type MismatchError struct {
	Want, Got         Digest
	WantSize, GotSize int64 // bytes
}

// Error implements error.
func (e *MismatchError) Error() string {
	switch {
	case e.GotSize < e.WantSize:
		return fmt.Sprintf("content ended after %d of %d bytes (expected %s)", e.GotSize, e.WantSize, e.Want)
	case e.GotSize > e.WantSize:
		return fmt.Sprintf("content goes on after its %d bytes (expected %s)", e.WantSize, e.Want)
	}
	return fmt.Sprintf("hash mismatch (expected %s, got %s)", e.Want, e.Got)
}

// NewReader returns a reader of r's bytes that checks them against want and
// size while they pass. It yields at most size bytes and returns io.EOF only
// if there were exactly size bytes with digest want; otherwise the last Read
// returns a *MismatchError, or r's own error. Bytes read before the end are
// not yet verified: use nothing of them before io.EOF was seen.
//
// The reader asks r for one byte past size to notice a stream that goes on.
// It is not safe for concurrent use.
func NewReader(r io.Reader, want Digest, size int64) io.Reader {
	return &reader{r: r, want: want, size: size, hash: sha256.New()}
}

type reader struct {
	r    io.Reader
	want Digest
	size int64
	seen int64
	hash hash.Hash
	err  error // sticky
}

// Read implements io.Reader.
func (v *reader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	left := v.size - v.seen
	if left <= 0 {
		v.err = v.finish()
		return 0, v.err
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := v.r.Read(p)
	if n < 0 || n > len(p) {
		v.err = errors.New("blob: source returned an impossible count")
		return 0, v.err
	}
	v.hash.Write(p[:n])
	v.seen += int64(n)
	switch {
	case err == io.EOF && v.seen < v.size:
		v.err = v.mismatch(v.seen)
	case err == io.EOF:
		v.err = v.judge()
	case err != nil:
		v.err = err
	}
	return n, v.err
}

// finish runs when all expected bytes have passed: the source must end here.
func (v *reader) finish() error {
	var one [1]byte
	n, err := io.ReadFull(v.r, one[:])
	if n > 0 {
		return v.mismatch(v.seen + 1)
	}
	if err != io.EOF {
		return err
	}
	return v.judge()
}

func (v *reader) judge() error {
	if v.size != v.seen || v.sum() != v.want || v.want.IsZero() {
		return v.mismatch(v.seen)
	}
	return io.EOF
}

func (v *reader) mismatch(got int64) error {
	return &MismatchError{Want: v.want, Got: v.sum(), WantSize: v.size, GotSize: got}
}

func (v *reader) sum() (d Digest) {
	v.hash.Sum(d.sum[:0])
	return d
}
