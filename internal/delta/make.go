package delta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// MaxMake is the largest file that Make takes, in bytes.
const MaxMake = 1 << 30

// maxGather is how much old data Make looks for matches in; where there is more, a
// patch is larger than it could be.
const maxGather = 1 << 30

// Make writes to w a patch that turns the old file into the new one, after
// trying it out. It holds both files in memory, and three times as much as there is
// in the old one to compare with: what lies between frames, and the contents of the
// frames that the new file has no more; 5 GiB at most, since files of more than
// MaxMake bytes are refused.
func Make(w io.Writer, old io.ReaderAt, oldSize int64, new io.ReaderAt, newSize int64) error {
	if size := max(oldSize, newSize); size > MaxMake || min(oldSize, newSize) < 0 {
		return &Error{Reason: TooLarge, Detail: fmt.Sprintf("%d bytes, at most %d", size, MaxMake)}
	}
	a, err := readAll(old, oldSize)
	if err != nil {
		return err
	}
	b, err := readAll(new, newSize)
	if err != nil {
		return err
	}
	var patch bytes.Buffer
	if err := write(&patch, a, b); err != nil {
		return err
	}
	check := &comparer{want: b}
	if err := Apply(check, bytes.NewReader(a), oldSize, bytes.NewReader(patch.Bytes()), newSize); err != nil {
		return fmt.Errorf("delta: the patch that was made does not work: %w", err)
	}
	if _, err := w.Write(patch.Bytes()); err != nil {
		return &Error{Reason: Unwritable, Err: err}
	}
	return nil
}

// A comparer is a writer that takes only the bytes it wants.
type comparer struct{ want []byte }

func (c *comparer) Write(b []byte) (int, error) {
	if !bytes.HasPrefix(c.want, b) {
		return 0, errors.New("other bytes than those of the new file")
	}
	c.want = c.want[len(b):]
	return len(b), nil
}

func readAll(r io.ReaderAt, size int64) ([]byte, error) {
	buf := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), buf); err != nil {
		return nil, &Error{Reason: Unreadable, Err: err}
	}
	return buf, nil
}

func write(w io.Writer, old, new []byte) error {
	head := append([]byte(magic), version)
	head = binary.AppendUvarint(head, uint64(len(old)))
	head = binary.AppendUvarint(head, uint64(len(new)))
	if _, err := w.Write(head); err != nil {
		return &Error{Reason: Unwritable, Err: err}
	}
	enc, err := newStreamWriter(w)
	if err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	m := maker{old: old, new: new}
	if m.dec, err = newFrameDecoder(); err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	defer m.dec.Close()
	if m.codec, err = NewCodec(); err != nil {
		return err
	}
	if err := errors.Join(m.run(enc), enc.Close()); err != nil {
		return &Error{Reason: Unwritable, Err: err}
	}
	return nil
}

// A maker makes one patch.
type maker struct {
	old, new []byte
	dec      *zstd.Decoder
	codec    *Codec
}

// A digest names the compressed bytes of a frame.
type digest = [sha256.Size]byte

func digestOf(b []byte, f frame) digest { return sha256.Sum256(b[f.at : f.at+int64(f.packed)]) }

func (m *maker) run(w io.Writer) error {
	oldFrames, newFrames := m.frames(m.old), m.frames(m.new)
	have, kept := map[digest]int64{}, map[digest]int64{}
	for _, f := range oldFrames {
		have[digestOf(m.old, f)] = f.at
	}
	for _, f := range newFrames {
		d := digestOf(m.new, f)
		if at, ok := have[d]; ok {
			kept[d] = at
		}
	}
	used, data, pieces := m.gather(oldFrames, kept)
	if _, err := w.Write(appendFrames(nil, used)); err != nil {
		return err
	}
	p := &patchWriter{w: w}
	match := newMatcher(data, pieces)
	done := int64(0)
	for _, f := range newFrames {
		at, same := kept[digestOf(m.new, f)]
		var plain []byte
		if !same {
			if plain = m.reproducible(f); plain == nil {
				continue // patched as it is
			}
		}
		match.patch(p, m.new[done:f.at])
		if same {
			p.copy(at, int64(f.packed))
		} else {
			p.pack(f.plain)
			match.patch(p, plain)
			p.settle()
		}
		done = f.at + int64(f.packed)
	}
	match.patch(p, m.new[done:])
	return p.finish()
}

// frames lists the zstd frames in b that decompress. It gives up where too much
// only looks like frames.
func (m *maker) frames(b []byte) []frame {
	var list []frame
	vain := int64(freeWork) + maxWork*int64(len(b))
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(frameMagic))
		if i < 0 || vain < 0 {
			return list
		}
		at += i
		packed, plain := frameLength(b[at:])
		f := frame{at: int64(at), packed: packed, plain: plain}
		if packed == 0 || m.contents(b, f) == nil {
			vain -= int64(plain)
			at++
			continue
		}
		list = append(list, f)
		at += packed
	}
}

// contents decompresses a frame; nil if that cannot be done.
func (m *maker) contents(b []byte, f frame) []byte {
	plain, err := m.dec.DecodeAll(b[f.at:f.at+int64(f.packed)], make([]byte, 0, f.plain))
	if err != nil || len(plain) != f.plain {
		return nil
	}
	return plain
}

// reproducible returns the contents of a frame of the new file if compressing
// them gives the frame.
func (m *maker) reproducible(f frame) []byte {
	plain := m.contents(m.new, f)
	if plain == nil || !bytes.Equal(m.codec.Append(nil, plain), m.new[f.at:f.at+int64(f.packed)]) {
		return nil
	}
	return plain
}

// gather collects what new data may resemble: of the old file what lies between
// frames, and the contents of those frames that the new file has no more.
func (m *maker) gather(frames []frame, kept map[digest]int64) (used []frame, data []byte, pieces []piece) {
	size := len(m.old)
	for _, f := range frames {
		size -= f.packed
		if _, ok := kept[digestOf(m.old, f)]; !ok && len(used) < maxFrames {
			used = append(used, f)
			size += f.plain
		}
	}
	data = make([]byte, 0, min(size, maxGather)) // growing would take twice as much
	add := func(addr int64, b []byte) {
		if len(b) > 0 && len(data)+len(b) < maxGather {
			pieces = append(pieces, piece{start: len(data), addr: addr})
			data = append(data, b...)
		}
	}
	done := int64(0)
	for _, f := range frames {
		add(done, m.old[done:f.at])
		done = f.at + int64(f.packed)
	}
	add(done, m.old[done:])
	addr := int64(len(m.old))
	for _, f := range used {
		add(addr, m.contents(m.old, f))
		addr += int64(f.plain)
	}
	return used, data, pieces
}

func appendFrames(b []byte, frames []frame) []byte {
	b = binary.AppendUvarint(b, uint64(len(frames)))
	end := int64(0)
	for _, f := range frames {
		b = binary.AppendUvarint(b, uint64(f.at-end))
		b = binary.AppendUvarint(b, uint64(f.packed))
		b = binary.AppendUvarint(b, uint64(f.plain))
		end = f.at + int64(f.packed)
	}
	return b
}
