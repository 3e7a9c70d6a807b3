package delta

import (
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
)

// magic begins every patch; the byte after it is the version of the form and of
// the codec.
const (
	magic   = "phdelta"
	version = 1
)

// The kinds of operations.
const (
	opCopy = iota
	opAdd
	opInsert
	opPack
)

const (
	window    = 1 << 20 // of the patch's own compression
	maxPart   = 1 << 18 // bytes in one part of a batch
	maxOp     = 32      // bytes of one operation, more than enough
	maxFrames = 1 << 17 // of the old file in one patch
)

// A patchWriter collects operations and writes them in batches.
type patchWriter struct {
	w              io.Writer
	ops, add, lit  []byte
	addr           int64 // end of the last piece taken
	openAt, openTo int64 // a copy that may yet grow
	err            error
}

// copy takes n bytes from an address. Neighbours become one.
func (p *patchWriter) copy(addr, n int64) {
	if p.openTo == addr && p.openTo > p.openAt {
		p.openTo += n
		return
	}
	p.settle()
	p.openAt, p.openTo = addr, addr+n
}

// settle writes down a copy that can grow no more.
func (p *patchWriter) settle() {
	if n := p.openTo - p.openAt; n > 0 {
		p.op(opCopy, n)
		p.from(p.openAt, n)
	}
	p.openAt, p.openTo = 0, 0
}

// adds takes old, which is at addr, and makes it new.
func (p *patchWriter) adds(addr int64, old, new []byte) {
	p.settle()
	for len(new) > 0 {
		n := min(len(new), maxPart-len(p.add))
		p.op(opAdd, int64(n))
		p.from(addr, int64(n))
		for i := range n {
			p.add = append(p.add, new[i]-old[i])
		}
		addr, old, new = addr+int64(n), old[n:], new[n:]
		p.flushIfFull()
	}
}

func (p *patchWriter) insert(b []byte) {
	p.settle()
	for len(b) > 0 {
		n := min(len(b), maxPart-len(p.lit))
		p.op(opInsert, int64(n))
		p.lit = append(p.lit, b[:n]...)
		b = b[n:]
		p.flushIfFull()
	}
}

// pack says that the next n bytes are to be compressed.
func (p *patchWriter) pack(n int) {
	p.settle()
	p.op(opPack, int64(n))
}

func (p *patchWriter) op(kind int, n int64) {
	p.flushIfFull()
	p.ops = binary.AppendUvarint(p.ops, uint64(n)<<2|uint64(kind))
}

func (p *patchWriter) from(addr, n int64) {
	p.ops = binary.AppendVarint(p.ops, addr-p.addr)
	p.addr = addr + n
}

func (p *patchWriter) flushIfFull() {
	if len(p.ops) > maxPart-maxOp || len(p.add) == maxPart || len(p.lit) == maxPart {
		p.flush()
	}
}

func (p *patchWriter) flush() {
	parts := [][]byte{p.ops, p.add, p.lit}
	var head []byte
	for _, part := range parts {
		head = binary.AppendUvarint(head, uint64(len(part)))
	}
	for _, b := range append([][]byte{head}, parts...) {
		if p.err == nil {
			_, p.err = p.w.Write(b)
		}
	}
	p.ops, p.add, p.lit = p.ops[:0], p.add[:0], p.lit[:0]
}

// finish writes what is left.
func (p *patchWriter) finish() error {
	p.settle()
	if len(p.ops) > 0 {
		p.flush()
	}
	return p.err
}

// newStreamReader decompresses the body of a patch.
func newStreamReader(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window))
}

// newStreamWriter compresses the body of a patch.
func newStreamWriter(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
}
