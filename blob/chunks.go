package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ChunkSize is the number of bytes that each digest of a chunk list stands for.
// At 1 MiB the list of an 8 GiB blob has 256 KiB, and whoever received wrong
// bytes notices after 1 MiB at the latest.
const ChunkSize = 1 << 20

// Chunks is a chunk list: the digests of each ChunkSize bytes of a blob, the
// last of which may stand for fewer. With a list that was itself checked, parts
// of a blob can be checked as they arrive, from whichever source. It never takes
// the place of the blob's own digest: whole content is always checked by that.
//
// The text of a list is 32 bytes for each chunk and nothing else, so that a list
// says nothing which its blob does not. The zero value is the list of an empty
// blob. A Chunks does not change and may be shared.
type Chunks struct {
	raw  []byte // the sums
	size int64  // of the blob, bytes
}

// ListSize returns the size of the chunk list of a blob of size bytes, in
// bytes. A blob of no bytes, and a size below zero, has a list of none.
func ListSize(size int64) int64 {
	if size <= 0 {
		return 0
	}
	return ((size-1)/ChunkSize + 1) * sha256.Size
}

// ParseChunks reads the chunk list of a blob of size bytes: exactly
// ListSize(size) bytes. A digest of all zeros is refused, as Parse does. That
// the list is the one that was asked for is for the caller to check, by its
// digest.
func ParseChunks(raw []byte, size int64) (Chunks, error) {
	if size < 0 {
		return Chunks{}, fmt.Errorf("chunk list of a blob of %d bytes", size)
	}
	if want := ListSize(size); int64(len(raw)) != want {
		return Chunks{}, fmt.Errorf("chunk list has %d bytes, want %d for a blob of %d bytes", len(raw), want, size)
	}
	c := Chunks{bytes.Clone(raw), size}
	for i := range c.Len() {
		if c.Digest(i).IsZero() {
			return Chunks{}, fmt.Errorf("chunk list has all zeros for chunk %d", i)
		}
	}
	return c, nil
}

// ChunksOf reads r to its end and returns the chunk list of what it read, the
// digest of the whole, and its size in bytes. It keeps 32 bytes for each chunk;
// a foreign r has to be bounded by the caller. Errors are r's own.
func ChunksOf(r io.Reader) (Chunks, Digest, int64, error) {
	var c Chunks
	whole, chunk := sha256.New(), sha256.New()
	both, buf := io.MultiWriter(whole, chunk), make([]byte, 128<<10)
	for {
		n, err := io.CopyBuffer(both, io.LimitReader(r, ChunkSize), buf)
		if err != nil {
			return Chunks{}, Digest{}, 0, err
		}
		if c.size > (1<<63-1)-n {
			return Chunks{}, Digest{}, 0, errors.New("blob: source has no end")
		}
		if c.size += n; n > 0 {
			c.raw = chunk.Sum(c.raw)
			chunk.Reset()
		}
		if n < ChunkSize {
			return c, FromSum([sha256.Size]byte(whole.Sum(nil))), c.size, nil
		}
	}
}

// Bytes returns the text of the list, which ParseChunks reads.
func (c Chunks) Bytes() []byte { return bytes.Clone(c.raw) }

// Len returns the number of chunks.
func (c Chunks) Len() int { return len(c.raw) / sha256.Size }

// Size returns the size of the blob, in bytes.
func (c Chunks) Size() int64 { return c.size }

// Digest returns the digest of chunk i, which must be within 0 and Len()-1 as an
// index must be.
func (c Chunks) Digest(i int) Digest {
	return Digest{[sha256.Size]byte(c.raw[i*sha256.Size:])}
}

// Bounds returns where chunk i begins in the blob and how long it is, in bytes.
// Outside of 0 and Len()-1 there is nothing, of length 0.
func (c Chunks) Bounds(i int) (off, n int64) {
	if i < 0 || i >= c.Len() {
		return 0, 0
	}
	off = int64(i) * ChunkSize
	return off, min(ChunkSize, c.size-off)
}
