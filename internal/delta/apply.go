package delta

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// maxWork is how many bytes Apply compresses and decompresses at most for each
// byte of both files, above freeWork: nobody shall keep a machine busy for hours
// with a small patch.
const (
	maxWork  = 64
	freeWork = 64 << 20
)

// Apply writes to w the new file, built from the old one and a patch that Make
// made for these sizes. It holds less than 16 MiB and writes at most newSize
// bytes. All errors are of type *Error. What it has written is not trusted, and
// useless after an error.
func Apply(w io.Writer, old io.ReaderAt, oldSize int64, patch io.Reader, newSize int64) error {
	in := bufio.NewReader(patch)
	if err := readHead(in, oldSize, newSize); err != nil {
		return err
	}
	dec, err := newStreamReader(in)
	if err != nil {
		return unreadable(err)
	}
	defer dec.Close()
	frames, err := newFrameDecoder()
	if err != nil {
		return unreadable(err)
	}
	defer frames.Close()
	a := &applier{
		w: w, left: newSize, body: bufio.NewReader(dec), buf: make([]byte, maxPart),
		old: source{old: old, size: oldSize, dec: frames, work: freeWork + maxWork*(oldSize+newSize)},
	}
	if err := a.old.readFrames(a.body); err != nil {
		return err
	}
	for a.left > 0 {
		if err := a.step(); err != nil {
			return err
		}
	}
	return nil
}

func readHead(in *bufio.Reader, oldSize, newSize int64) error {
	head := make([]byte, len(magic)+1)
	if _, err := io.ReadFull(in, head); err != nil {
		return cut(err)
	}
	if string(head[:len(magic)]) != magic {
		return malformed("it does not begin like one")
	}
	if v := head[len(magic)]; v != version {
		return &Error{Reason: Version, Detail: fmt.Sprintf("version %d", v)}
	}
	for _, want := range []int64{oldSize, newSize} {
		got, err := binary.ReadUvarint(in)
		if err != nil {
			return cut(err)
		}
		if want < 0 || got != uint64(want) {
			return &Error{Reason: WrongSizes, Detail: fmt.Sprintf("%d bytes instead of %d", want, got)}
		}
	}
	return nil
}

// An applier is one run of Apply.
type applier struct {
	w             io.Writer
	left          int64 // bytes of the new file that are missing
	body          *bufio.Reader
	ops, add, lit []byte // what is left of the batch
	batch         []byte // the memory of the three
	old           source
	addr          int64 // end of the last piece taken
	codec         *Codec
	plain, packed []byte // contents that are gathered for compression
	missing       int    // of plain; 0: what comes is written as it is
	buf           []byte
}

// step does one operation.
func (a *applier) step() error {
	if len(a.ops) == 0 {
		if err := a.nextBatch(); err != nil {
			return err
		}
	}
	v, err := a.uvarint()
	if err != nil {
		return err
	}
	n := v >> 2
	if kind := v & 3; kind == opPack {
		return a.pack(n)
	} else if n == 0 || n > uint64(a.room()) {
		return malformed("an operation gives nothing or too much")
	} else if kind == opInsert {
		return a.insert(int(n))
	} else {
		return a.take(int64(n), kind == opAdd)
	}
}

// room is how much the next operation may give.
func (a *applier) room() int64 {
	if a.missing > 0 {
		return int64(a.missing)
	}
	return a.left
}

func (a *applier) nextBatch() error {
	if len(a.add)+len(a.lit) > 0 {
		return malformed("a batch has more than it uses")
	}
	var lens [3]int
	total := 0
	for i := range lens {
		n, err := binary.ReadUvarint(a.body)
		if err != nil {
			return cut(err)
		}
		if n > maxPart {
			return malformed("a batch is too large")
		}
		lens[i] = int(n)
		total += lens[i]
	}
	if lens[0] == 0 {
		return malformed("a batch has no operations")
	}
	if cap(a.batch) < total {
		a.batch = make([]byte, total)
	}
	a.batch = a.batch[:total]
	if _, err := io.ReadFull(a.body, a.batch); err != nil {
		return cut(err)
	}
	a.ops = a.batch[:lens[0]]
	a.add = a.batch[lens[0] : lens[0]+lens[1]]
	a.lit = a.batch[lens[0]+lens[1]:]
	return nil
}

func (a *applier) uvarint() (uint64, error) {
	v, n := binary.Uvarint(a.ops)
	if n <= 0 {
		return 0, malformed("an operation is cut")
	}
	a.ops = a.ops[n:]
	return v, nil
}

// pack begins to gather n bytes for compression.
func (a *applier) pack(n uint64) error {
	if n == 0 || n > MaxFrame || a.missing > 0 {
		return malformed("a block to compress has a wrong length or is inside another")
	}
	if !a.old.spend(int64(n)) {
		return malformed("it asks for too much work")
	}
	a.missing = int(n)
	a.plain = a.plain[:0]
	return nil
}

func (a *applier) insert(n int) error {
	if n > len(a.lit) {
		return malformed("literals are missing")
	}
	b := a.lit[:n]
	a.lit = a.lit[n:]
	return a.give(b)
}

// take takes n bytes of the old file, with the differences added or as they are.
func (a *applier) take(n int64, add bool) error {
	d, used := binary.Varint(a.ops)
	if used <= 0 {
		return malformed("an address is cut")
	}
	a.ops = a.ops[used:]
	from := a.addr + d // may wrap around; then it is outside
	if from < 0 || from > a.old.end() || n > a.old.end()-from {
		return malformed("a piece lies outside the old file")
	}
	if add && n > int64(len(a.add)) {
		return malformed("differences are missing")
	}
	a.addr = from + n
	for n > 0 {
		b := a.buf[:min(n, int64(len(a.buf)))]
		got, err := a.old.read(b, from)
		if err != nil {
			return err
		}
		b = b[:got]
		if add {
			for i := range b {
				b[i] += a.add[i]
			}
			a.add = a.add[got:]
		}
		if err := a.give(b); err != nil {
			return err
		}
		from, n = from+int64(got), n-int64(got)
	}
	return nil
}

// give hands on bytes of the new file, or of what is to be compressed. There is
// room for them.
func (a *applier) give(b []byte) error {
	if a.missing == 0 {
		return a.write(b)
	}
	a.plain = append(a.plain, b...)
	if a.missing -= len(b); a.missing > 0 {
		return nil
	}
	if a.codec == nil {
		var err error
		if a.codec, err = NewCodec(); err != nil {
			return unreadable(err)
		}
	}
	a.packed = a.codec.Append(a.packed[:0], a.plain)
	return a.write(a.packed)
}

func (a *applier) write(b []byte) error {
	if int64(len(b)) > a.left {
		return malformed("the result is too long")
	}
	if _, err := a.w.Write(b); err != nil {
		return &Error{Reason: Unwritable, Err: err}
	}
	a.left -= int64(len(b))
	return nil
}
