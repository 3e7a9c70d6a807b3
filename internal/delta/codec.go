package delta

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// MaxFrame is the largest content of a frame that is looked into, in bytes. It is
// the largest block of a squashfs.
const MaxFrame = 1 << 20

// minFrame: smaller ones are hardly worth an operation.
const minFrame = 64

// A Codec compresses a block to a zstd frame, always to the same bytes. It holds
// about 7 MiB and is not safe for concurrent use.
type Codec struct{ enc *zstd.Encoder }

// NewCodec returns a Codec. The frames have a single segment and no checksum,
// as the kernel's squashfs wants them.
func NewCodec() (*Codec, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(MaxFrame),
		zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("delta: %w", err)
	}
	return &Codec{enc}, nil
}

// Append appends the frame of plain, which has at most MaxFrame bytes, to dst.
func (c *Codec) Append(dst, plain []byte) []byte { return c.enc.EncodeAll(plain, dst) }

// newFrameDecoder returns a decoder for single frames of at most MaxFrame bytes.
func newFrameDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxFrame), zstd.WithDecodeAllCapLimit(true))
}

// A frame is a zstd frame inside a file.
type frame struct {
	at     int64 // where it begins in the file
	packed int   // its length there
	plain  int   // the length of its contents
}

// maxBlocks is how many blocks a frame may consist of to be looked into. Compressors
// make far fewer, and those of others are not to be counted again and again.
const maxBlocks = 64

const frameMagic = "\x28\xb5\x2f\xfd"

// frameLength returns the length of the frame at the beginning of b, which may
// be followed by other bytes, and of its contents; 0 if it is none, or none that
// is looked into.
func frameLength(b []byte) (packed, plain int) {
	var head zstd.Header
	if err := head.Decode(b[:min(len(b), zstd.HeaderMaxSize)]); err != nil || head.Skippable ||
		!head.HasFCS || head.FrameContentSize < minFrame || head.FrameContentSize > MaxFrame {
		return 0, 0
	}
	at := head.HeaderSize
	for n, last := 0, false; !last; n++ {
		if at+3 > len(b) || n == maxBlocks {
			return 0, 0
		}
		block := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		last = block&1 != 0
		size := block >> 3
		if block>>1&3 == 1 { // one byte, repeated
			size = 1
		}
		at += 3 + size
	}
	if head.HasCheckSum {
		at += 4
	}
	if at > len(b) {
		return 0, 0
	}
	return at, int(head.FrameContentSize)
}
