package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

// maxMake is the largest amount of old data that Make looks for matches in.
const maxMake = math.MaxInt32

// Make writes to w a patch that turns the old file into the new one, after
// trying it out. It holds both files in memory, and of what differs between them
// also the decompressed contents.
func Make(w io.Writer, old io.ReaderAt, oldSize int64, new io.ReaderAt, newSize int64) error {
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

func (m *maker) run(w io.Writer) error {
	oldFrames, newFrames := m.frames(m.old), m.frames(m.new)
	kept := map[string]int64{} // frames of the new file that the old one has as well
	have := map[string]int64{}
	for _, f := range oldFrames {
		have[string(m.old[f.at:f.at+int64(f.packed)])] = f.at
	}
	for _, f := range newFrames {
		b := string(m.new[f.at : f.at+int64(f.packed)])
		if at, ok := have[b]; ok {
			kept[b] = at
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
		packed := m.new[f.at : f.at+int64(f.packed)]
		at, same := kept[string(packed)]
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

// frames lists the zstd frames in b that decompress.
func (m *maker) frames(b []byte) []frame {
	var list []frame
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(frameMagic))
		if i < 0 {
			return list
		}
		at += i
		packed, plain := frameLength(b[at:])
		f := frame{at: int64(at), packed: packed, plain: plain}
		if packed == 0 || m.contents(b, f) == nil {
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
func (m *maker) gather(frames []frame, kept map[string]int64) (used []frame, data []byte, pieces []piece) {
	add := func(addr int64, b []byte) {
		if len(b) > 0 && len(data)+len(b) < maxMake {
			pieces = append(pieces, piece{start: len(data), addr: addr})
			data = append(data, b...)
		}
	}
	done := int64(0)
	for _, f := range frames {
		b := m.old[f.at : f.at+int64(f.packed)]
		if _, ok := kept[string(b)]; !ok && len(used) < maxFrames {
			used = append(used, f)
		}
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
