package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/phasebased/phase/internal/delta"
)

// What is needed of the squashfs 4.0 format (fs/squashfs/squashfs_fs.h of Linux).
const (
	squashMagic    = 0x73717368
	superSize      = 96
	metaHeader     = 2
	metaSize       = 8192
	metaStored     = 1 << 15 // in a metadata block's header: not compressed
	blockStored    = 1 << 24 // in a data block's size: not compressed
	noFragment     = 1<<32 - 1
	flagsDataPlain = 1<<1 | 1<<3 // data and fragments are not compressed
	squashAlign    = 4096
)

var errSquash = errors.New("image: squashfs: mksquashfs wrote what is not understood")

// A squashPacker compresses the data blocks of a squashfs in which nothing is
// compressed. All tables keep their length: only places and sizes of blocks in
// them change. It reads what mksquashfs has just written; anything unexpected is
// an error.
type squashPacker struct {
	in     *os.File
	super  []byte
	tail   []byte // all tables, from the inodes on
	start  int64  // of the tail
	blocks map[int64]*squashBlock
	dec    *zstd.Decoder
}

// A squashBlock is a data block, found by where it was.
type squashBlock struct {
	size   int64 // before
	packed bool  // before
	start  int64 // after
	word   uint32
}

// packSquashfs writes to the file out the squashfs in, whose data are compressed
// by as many workers. The result does not depend on their number.
func packSquashfs(out, in *os.File, workers int) error {
	p, err := openSquash(in)
	if err != nil {
		return err
	}
	defer p.dec.Close()
	if err := p.walk(p.note); err != nil {
		return err
	}
	head := make([]byte, p.dataStart())
	if _, err := in.ReadAt(head, 0); err != nil {
		return fmt.Errorf("image: squashfs: %w", err)
	}
	end, err := p.compress(out, int64(len(head)), workers)
	if err != nil {
		return err
	}
	if err := p.walk(p.replace); err != nil {
		return err
	}
	if err := p.shift(end - p.start); err != nil {
		return err
	}
	copy(head, p.super)
	p.tail = append(p.tail, make([]byte, -(end+int64(len(p.tail)))&(squashAlign-1))...)
	_, err1 := out.WriteAt(head, 0)
	_, err2 := out.WriteAt(p.tail, end)
	return errors.Join(err1, err2)
}

func (p *squashPacker) u64(at int) int64 { return int64(binary.LittleEndian.Uint64(p.super[at:])) }

// openSquash reads the tables. The caller closes the decoder.
func openSquash(in *os.File) (*squashPacker, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(delta.MaxFrame))
	if err != nil {
		return nil, fmt.Errorf("image: squashfs: %w", err)
	}
	p := &squashPacker{in: in, dec: dec, blocks: map[int64]*squashBlock{}}
	if err := p.open(); err != nil {
		dec.Close()
		return nil, err
	}
	return p, nil
}

func (p *squashPacker) open() error {
	p.super = make([]byte, superSize)
	if _, err := p.in.ReadAt(p.super, 0); err != nil {
		return fmt.Errorf("image: squashfs: %w", err)
	}
	used := p.u64(40)
	p.start = p.u64(64)
	if binary.LittleEndian.Uint32(p.super) != squashMagic || p.start < superSize || p.start > used || used-p.start > 1<<30 {
		return errSquash
	}
	p.tail = make([]byte, used-p.start)
	if _, err := p.in.ReadAt(p.tail, p.start); err != nil {
		return fmt.Errorf("image: squashfs: %w", err)
	}
	return nil
}

// dataStart is where data begin: behind the options of the compressor.
func (p *squashPacker) dataStart() int64 {
	first := p.start
	for at := range p.blocks {
		first = min(first, at)
	}
	return first
}

// An extent is blocks in a row: those of a file, or one block of fragments.
type extent struct {
	start []byte // the field that says where the first one begins
	sizes []byte // four bytes each
	file  *squashFile
}

// A squashFile is what an inode says about a file beside its blocks.
type squashFile struct{ size, fragment, offset int64 }

type visit func(extent) error

// walk calls a visit for each file and each fragment, and keeps what it changes.
func (p *squashPacker) walk(v visit) error {
	dirs := p.u64(72) - p.start
	if dirs < 0 || dirs > int64(len(p.tail)) {
		return errSquash
	}
	err := inMeta(p.tail[:dirs], func(inodes []byte) error {
		for len(inodes) > 0 {
			n, err := p.inode(inodes, v)
			if err != nil {
				return err
			}
			inodes = inodes[n:]
		}
		return nil
	})
	if err != nil {
		return err
	}
	count := int(binary.LittleEndian.Uint32(p.super[16:]))
	if count == 0 {
		return nil
	}
	index, err := p.index(80, count, 16)
	if err != nil {
		return err
	}
	first := int64(binary.LittleEndian.Uint64(index)) - p.start
	if first < 0 || first > p.u64(80)-p.start {
		return errSquash
	}
	return inMeta(p.tail[first:p.u64(80)-p.start], func(entries []byte) error {
		for e := range slices.Chunk(entries, 16) {
			if len(e) < 16 {
				return errSquash
			}
			if err := v(extent{start: e[:8], sizes: e[8:12]}); err != nil {
				return err
			}
		}
		return nil
	})
}

// inMeta shows the contents of a table of stored metadata blocks in one piece,
// and writes them back.
func inMeta(table []byte, f func([]byte) error) error {
	var all []byte
	var parts [][]byte
	for rest := table; len(rest) > 0; {
		if len(rest) < metaHeader {
			return errSquash
		}
		head := binary.LittleEndian.Uint16(rest)
		n := int(head &^ metaStored)
		if head&metaStored == 0 || n > metaSize || n > len(rest)-metaHeader {
			return errSquash
		}
		parts = append(parts, rest[metaHeader:metaHeader+n])
		all = append(all, rest[metaHeader:metaHeader+n]...)
		rest = rest[metaHeader+n:]
	}
	if err := f(all); err != nil {
		return err
	}
	for _, part := range parts {
		all = all[copy(part, all):]
	}
	return nil
}

// The kinds of inodes that a Tree has, and the lengths of their fixed parts.
const (
	inodeDir, dirSize         = 1, 32
	inodeFile, fileSize       = 2, 32
	inodeLink, linkSize       = 3, 24
	inodeLongDir, longDirSize = 8, 40
	inodeLongFile, longSize   = 9, 56
)

// inode returns the length of the inode at the beginning of b, and calls v if it
// is of a file.
func (p *squashPacker) inode(b []byte, v visit) (int, error) {
	if len(b) < 2 {
		return 0, errSquash
	}
	kind := binary.LittleEndian.Uint16(b)
	n := map[uint16]int{inodeDir: dirSize, inodeFile: fileSize, inodeLink: linkSize, inodeLongDir: longDirSize, inodeLongFile: longSize}[kind]
	if n == 0 || n > len(b) {
		return 0, fmt.Errorf("%w: an inode of kind %d", errSquash, kind)
	}
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }
	switch kind {
	case inodeLink:
		return p.within(b, int64(n)+u32(20))
	case inodeLongDir:
		for range binary.LittleEndian.Uint16(b[32:]) {
			if n+12 > len(b) {
				return 0, errSquash
			}
			n += 12 + int(u32(n+8)) + 1
		}
		return p.within(b, int64(n))
	case inodeFile:
		return p.file(b, extent{b[16:20], b[n:], &squashFile{u32(28), u32(20), u32(24)}}, v)
	case inodeLongFile:
		return p.file(b, extent{b[16:24], b[n:], &squashFile{int64(binary.LittleEndian.Uint64(b[24:])), u32(44), u32(48)}}, v)
	}
	return n, nil
}

func (p *squashPacker) within(b []byte, n int64) (int, error) {
	if n < 0 || n > int64(len(b)) {
		return 0, errSquash
	}
	return int(n), nil
}

// file visits the blocks of a file and returns the length of its inode, at whose
// end the sizes of the blocks are.
func (p *squashPacker) file(b []byte, e extent, v visit) (int, error) {
	block := p.blockSize()
	if block == 0 || block > delta.MaxFrame || e.file.size < 0 {
		return 0, errSquash
	}
	count := e.file.size / block
	if e.file.fragment == noFragment && e.file.size%block > 0 {
		count++
	}
	if count > int64(len(e.sizes)/4) {
		return 0, errSquash
	}
	n := len(b) - len(e.sizes) + int(4*count)
	e.sizes = e.sizes[:4*count]
	return n, v(e)
}

func (p *squashPacker) blockSize() int64 { return int64(binary.LittleEndian.Uint32(p.super[12:])) }

func startOf(field []byte) int64 {
	if len(field) == 4 {
		return int64(binary.LittleEndian.Uint32(field))
	}
	return int64(binary.LittleEndian.Uint64(field))
}

// note remembers the blocks of a file. A size of zero is a block of zeros, which
// is not stored.
func (p *squashPacker) note(e extent) error {
	at := startOf(e.start)
	for word := range slices.Chunk(e.sizes, 4) {
		w := binary.LittleEndian.Uint32(word)
		size := int64(w &^ blockStored)
		if w == 0 {
			continue
		}
		if known := p.blocks[at]; size > delta.MaxFrame || at < superSize || size > p.start-at ||
			known != nil && known.size != size {
			return errSquash
		}
		p.blocks[at] = &squashBlock{size: size, packed: w&blockStored == 0}
		at += size
	}
	return nil
}

// replace puts the new places and sizes where the old ones were.
func (p *squashPacker) replace(e extent) error {
	at := startOf(e.start)
	first := int64(0)
	for word := range slices.Chunk(e.sizes, 4) {
		if binary.LittleEndian.Uint32(word) == 0 {
			continue
		}
		b := p.blocks[at]
		if first == 0 {
			first = b.start
		}
		binary.LittleEndian.PutUint32(word, b.word)
		at += b.size
	}
	if len(e.start) == 4 {
		binary.LittleEndian.PutUint32(e.start, uint32(first))
	} else {
		binary.LittleEndian.PutUint64(e.start, uint64(first))
	}
	return nil
}

// compress writes all blocks to out, from at on, in the order in which they
// were, and returns their end.
func (p *squashPacker) compress(out io.WriterAt, at int64, workers int) (int64, error) {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	codecs := make([]*delta.Codec, workers)
	for i := range codecs {
		var err error
		if codecs[i], err = delta.NewCodec(); err != nil {
			return 0, err
		}
	}
	for group := range slices.Chunk(slices.Sorted(maps.Keys(p.blocks)), 8*workers) {
		packed, err := p.compressGroup(group, codecs)
		if err != nil {
			return 0, fmt.Errorf("image: squashfs: %w", err)
		}
		for i, b := range packed {
			block := p.blocks[group[i]]
			block.start, block.word = at, uint32(len(b.data))
			if !b.packed {
				block.word |= blockStored
			}
			if _, err := out.WriteAt(b.data, at); err != nil {
				return 0, fmt.Errorf("image: squashfs: %w", err)
			}
			at += int64(len(b.data))
		}
	}
	return at, nil
}

// A packedBlock is a block as it will be stored.
type packedBlock struct {
	data   []byte
	packed bool
}

// compressGroup returns blocks compressed, or as they are if that is no longer.
func (p *squashPacker) compressGroup(group []int64, codecs []*delta.Codec) ([]packedBlock, error) {
	list, errs := make([]packedBlock, len(group)), make([]error, len(codecs))
	var wg sync.WaitGroup
	for worker, codec := range codecs {
		wg.Go(func() {
			for i := worker; i < len(group) && errs[worker] == nil; i += len(codecs) {
				var plain []byte
				if plain, errs[worker] = p.plain(group[i]); errs[worker] != nil {
					return
				}
				list[i] = packedBlock{codec.Append(nil, plain), true}
				if len(list[i].data) >= len(plain) {
					list[i] = packedBlock{plain, false}
				}
			}
		})
	}
	wg.Wait()
	return list, errors.Join(errs...)
}

// plain returns the contents of a block.
func (p *squashPacker) plain(at int64) ([]byte, error) {
	b := p.blocks[at]
	data := make([]byte, b.size)
	if _, err := p.in.ReadAt(data, at); err != nil || !b.packed {
		return data, err
	}
	return p.dec.DecodeAll(data, nil)
}

// index returns the places of a table's metadata blocks, eight bytes each; where
// they are is at a place in the super block.
func (p *squashPacker) index(at, entries, size int) ([]byte, error) {
	from := p.u64(at) - p.start
	n := int64(entries*size+metaSize-1) / metaSize * 8
	if from < 0 || n > int64(len(p.tail))-from {
		return nil, errSquash
	}
	return p.tail[from : from+n], nil
}

// shift moves every place in the super block and in the tables of tables.
func (p *squashPacker) shift(by int64) error {
	le := binary.LittleEndian
	add := func(field []byte) { le.PutUint64(field, le.Uint64(field)+uint64(by)) }
	for _, table := range []struct{ at, entries, size int }{
		{48, int(le.Uint16(p.super[26:])), 4}, {80, int(le.Uint32(p.super[16:])), 16}, {88, int(le.Uint32(p.super[4:])), 8},
	} {
		if p.u64(table.at) == -1 || table.entries == 0 {
			continue
		}
		index, err := p.index(table.at, table.entries, table.size)
		if err != nil {
			return err
		}
		for field := range slices.Chunk(index, 8) {
			add(field)
		}
	}
	for at := 40; at < superSize; at += 8 {
		if p.u64(at) != -1 {
			add(p.super[at:])
		}
	}
	le.PutUint16(p.super[24:], le.Uint16(p.super[24:])&^flagsDataPlain)
	return nil
}
