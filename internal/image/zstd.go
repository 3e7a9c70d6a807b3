package image

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"
)

// zstdWindow is the match window, 2 MiB: the largest that any zstd decoder must
// accept is 8 MiB (RFC 8878, section 3.1.1.1.2), but pieces that are compressed at
// the same time are four windows long, and a seed should have several. It costs
// 1.5 % of a seed.
const zstdWindow = 2 << 20

// NewZstdWriter returns a writer that compresses to w for the kernel's initramfs
// decoder. Close flushes it; w stays open.
//
// Pieces of a fixed length are compressed at the same time and become one frame:
// equal input gives equal output on any number of processors. With one worker the
// encoder would not cut its input, so there are always two.
//
// The level is the encoder's default, which packs a seed into 12.0 MB; the next one
// needs 11.6 MB and more than twice the processor time, the strongest 10.9 MB and
// fourteen times. A seed is rebuilt after every change to a program, and read from
// a medium that does not notice half a megabyte.
func NewZstdWriter(w io.Writer) (io.WriteCloser, error) {
	enc, err := zstd.NewWriter(w,
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithConcurrentBlocks(true),
		zstd.WithEncoderConcurrency(max(2, runtime.GOMAXPROCS(0))),
		zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("image: zstd: %w", err)
	}
	return enc, nil
}

// WriteInitramfs writes the tree as a cpio archive compressed with zstd. The
// length is a multiple of four: the kernel finds a second, uncompressed archive
// behind this one only at such an offset, and skips zeros (init/initramfs.c,
// unpack_to_rootfs).
func WriteInitramfs(w io.Writer, t *Tree, mtime time.Time) error {
	count := &countWriter{w: w}
	z, err := NewZstdWriter(count)
	if err != nil {
		return err
	}
	if err := WriteCPIO(z, t, mtime); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("image: zstd: %w", err)
	}
	if _, err := w.Write(make([]byte, -count.n&3)); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
