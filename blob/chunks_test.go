package blob

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

// pattern is content of which no two chunks are the same.
func pattern(size int64) []byte {
	var b bytes.Buffer
	for i := int64(0); int64(b.Len()) < size; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.Bytes()[:size]
}

// TestChunksOf compares with chunks cut out by hand.
func TestChunksOf(t *testing.T) {
	for _, size := range []int64{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 3*ChunkSize - 1} {
		content := pattern(size)
		c, whole, n, err := ChunksOf(bytes.NewReader(content))
		if err != nil || n != size || c.Size() != size || whole != Of(content) {
			t.Fatalf("%d bytes: %d, %v, %v", size, n, whole, err)
		}
		var list []byte
		for off := int64(0); off < size; off += ChunkSize {
			part := content[off:min(off+ChunkSize, size)]
			i := int(off / ChunkSize)
			if at, length := c.Bounds(i); at != off || length != int64(len(part)) {
				t.Errorf("%d bytes: chunk %d is at %d, %d bytes", size, i, at, length)
			}
			if c.Digest(i) != Of(part) {
				t.Errorf("%d bytes: chunk %d has digest %v", size, i, c.Digest(i))
			}
			sum := sha256.Sum256(part)
			list = append(list, sum[:]...)
		}
		if !bytes.Equal(c.Bytes(), list) || int64(len(list)) != ListSize(size) || c.Len() != len(list)/32 {
			t.Errorf("%d bytes: a list of %d bytes, %d chunks; want %d bytes", size, len(c.Bytes()), c.Len(), len(list))
		}
		again, err := ParseChunks(list, size)
		if err != nil || !bytes.Equal(again.Bytes(), list) || again.Size() != size {
			t.Errorf("%d bytes: read back as %v, %v", size, again, err)
		}
	}
}

// TestChunksOfSlowReader: how the bytes come does not matter.
func TestChunksOfSlowReader(t *testing.T) {
	content := pattern(2*ChunkSize + 5)
	want, _, _, _ := ChunksOf(bytes.NewReader(content))
	for name, r := range map[string]io.Reader{
		"halves":          iotest.HalfReader(bytes.NewReader(content)),
		"data with error": iotest.DataErrReader(bytes.NewReader(content)),
		"bytes":           iotest.OneByteReader(bytes.NewReader(content)),
	} {
		got, whole, size, err := ChunksOf(r)
		if err != nil || whole != Of(content) || size != int64(len(content)) || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%s: %d bytes, %v, %v", name, size, whole, err)
		}
	}
	broken := errors.New("cable pulled")
	c, whole, size, err := ChunksOf(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)))
	if err != broken || c.Len() != 0 || !whole.IsZero() || size != 0 {
		t.Errorf("an error gives %d chunks, %v, %d, %v", c.Len(), whole, size, err)
	}
}

func TestParseChunksRefuses(t *testing.T) {
	sum := sha256.Sum256([]byte("chunk"))
	two := append(sum[:], sum[:]...)
	zeros := append(sum[:], make([]byte, 32)...)
	for _, tt := range []struct {
		name string
		raw  []byte
		size int64
		want string // of the message
	}{
		{"none for one", nil, 1, "0 bytes, want 32"},
		{"one for none", sum[:], 0, "32 bytes, want 0"},
		{"one for two", sum[:], ChunkSize + 1, "32 bytes, want 64"},
		{"two for one", two, ChunkSize, "64 bytes, want 32"},
		{"half a sum", two[:48], ChunkSize + 1, "48 bytes, want 64"},
		{"a byte too many", append(bytes.Clone(two), 0), 2 * ChunkSize, "65 bytes, want 64"},
		{"for the largest size", two, math.MaxInt64, "want 281474976710656"},
		{"negative size", nil, -1, "-1 bytes"},
		{"zeros", zeros, 2 * ChunkSize, "chunk 1"},
	} {
		c, err := ParseChunks(tt.raw, tt.size)
		if err == nil || !strings.Contains(err.Error(), tt.want) || c.Len() != 0 || c.Size() != 0 {
			t.Errorf("%s: %d chunks, %v", tt.name, c.Len(), err)
		}
	}
	if ListSize(-1) != 0 || ListSize(0) != 0 {
		t.Error("no bytes have a list")
	}
}

// TestChunksAreTheirOwn: neither the bytes that were read nor those that were
// given out lead back into a list.
func TestChunksAreTheirOwn(t *testing.T) {
	raw := bytes.Repeat([]byte{7}, 64)
	c, err := ParseChunks(raw, ChunkSize+1)
	if err != nil {
		t.Fatal(err)
	}
	first := c.Digest(0)
	raw[0], c.Bytes()[0] = 8, 9
	if c.Digest(0) != first {
		t.Error("changed from outside")
	}
	for _, i := range []int{-1, 2, math.MaxInt} {
		if off, n := c.Bounds(i); off != 0 || n != 0 {
			t.Errorf("chunk %d is at %d, %d bytes", i, off, n)
		}
	}
}

// FuzzParseChunks: what is accepted is written the same, has chunks that cover
// the blob without gaps, and no more of them than fit.
func FuzzParseChunks(f *testing.F) {
	sum := sha256.Sum256([]byte("chunk"))
	f.Add([]byte{}, int64(0))
	f.Add(sum[:], int64(1))
	f.Add(sum[:], int64(ChunkSize+1))
	f.Add(append(sum[:], sum[:]...), int64(ChunkSize+1))
	f.Add(make([]byte, 32), int64(ChunkSize))
	f.Add(sum[:31], int64(math.MaxInt64))
	f.Add([]byte{}, int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, raw []byte, size int64) {
		c, err := ParseChunks(raw, size)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Bytes(), raw) || c.Size() != size || int64(len(raw)) != ListSize(size) {
			t.Fatalf("%x for %d bytes reads as %x for %d", raw, size, c.Bytes(), c.Size())
		}
		var end int64
		for i := range c.Len() {
			off, n := c.Bounds(i)
			if off != end || n < 1 || n > ChunkSize || c.Digest(i).IsZero() {
				t.Fatalf("chunk %d is at %d after %d, %d bytes", i, off, end, n)
			}
			end = off + n
		}
		if end != size {
			t.Fatalf("the chunks end at %d of %d", end, size)
		}
	})
}
