package delta

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// cached is how much of the contents of old frames is kept. Each counts as
// minCached at least, so that they are few.
const (
	cached    = 2 << 20
	minCached = 32 << 10
)

// A source gives what a patch may take: the old file, and behind it the contents
// of some of its frames.
type source struct {
	old    io.ReaderAt
	size   int64
	frames []frame
	starts []int64 // the address of each frame's contents, and the end
	dec    *zstd.Decoder
	work   int64 // bytes that may yet be compressed and decompressed
	recent []content
	held   int
	packed []byte
}

// content is the contents of one frame.
type content struct {
	index int
	plain []byte
}

// end is behind the last address.
func (s *source) end() int64 { return s.starts[len(s.starts)-1] }

func (s *source) spend(n int64) bool {
	s.work -= n
	return s.work >= 0
}

func (s *source) readFrames(r io.ByteReader) error {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return cut(err)
	}
	if n > maxFrames {
		return malformed("it uses too many blocks")
	}
	s.starts = append(s.starts, s.size)
	at := uint64(0)
	for range n {
		var v [3]uint64 // distance, length, length of the contents
		for i := range v {
			if v[i], err = binary.ReadUvarint(r); err != nil {
				return cut(err)
			}
		}
		left := uint64(s.size) - at
		if v[0] > left || v[1] > left-v[0] || v[1] > 2*MaxFrame || v[2] == 0 || v[2] > MaxFrame {
			return malformed("a block lies outside the old file or is too large")
		}
		s.frames = append(s.frames, frame{at: int64(at + v[0]), packed: int(v[1]), plain: int(v[2])})
		s.starts = append(s.starts, s.end()+int64(v[2]))
		at += v[0] + v[1]
	}
	return nil
}

// read reads at most len(b) and at least one byte from an address that exists.
func (s *source) read(b []byte, addr int64) (int, error) {
	if addr < s.size {
		b = b[:min(int64(len(b)), s.size-addr)]
		if n, err := s.old.ReadAt(b, addr); n < len(b) {
			return 0, unreadable(err)
		}
		return len(b), nil
	}
	plain, err := s.contents(addr)
	if err != nil {
		return 0, err
	}
	return copy(b, plain), nil
}

// contents returns the contents of a frame from an address behind the old file
// to the frame's end. They are good until the next call.
func (s *source) contents(addr int64) ([]byte, error) {
	index, exact := slices.BinarySearch(s.starts, addr)
	if !exact {
		index--
	}
	offset := addr - s.starts[index]
	for _, c := range s.recent {
		if c.index == index {
			return c.plain[offset:], nil
		}
	}
	plain, err := s.unpack(s.frames[index])
	if err != nil {
		return nil, err
	}
	s.recent = append(s.recent, content{index, plain})
	for s.held += weight(plain); s.held > cached; s.recent = slices.Delete(s.recent, 0, 1) {
		s.held -= weight(s.recent[0].plain)
	}
	return plain[offset:], nil
}

func weight(plain []byte) int { return max(len(plain), minCached) }

func (s *source) unpack(f frame) ([]byte, error) {
	if !s.spend(int64(f.packed + f.plain)) {
		return nil, malformed("it asks for too much work")
	}
	s.packed = slices.Grow(s.packed[:0], f.packed)[:f.packed]
	if n, err := s.old.ReadAt(s.packed, f.at); n < len(s.packed) {
		return nil, unreadable(err)
	}
	plain, err := s.dec.DecodeAll(s.packed, make([]byte, 0, f.plain))
	if err != nil {
		return nil, &Error{Reason: Malformed, Detail: "a block of the old file", Err: err}
	}
	if len(plain) != f.plain {
		return nil, malformed("a block of the old file has %d bytes, not %d", len(plain), f.plain)
	}
	return plain, nil
}
