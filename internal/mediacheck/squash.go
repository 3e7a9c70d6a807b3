package mediacheck

import (
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	squashMagic  = 0x73717368
	metaSize     = 8192
	metaStored   = 1 << 15
	blockStored  = 1 << 24
	noFragment   = 1<<32 - 1
	maxBlock     = 1 << 20
	maxTable     = 1 << 20  // bytes of a table, unpacked
	maxPaperSize = 16 << 20 // bytes of one file
	maxPapers    = 64
)

// squash is the squashfs 4.0 with the medium's papers (fs/squashfs/squashfs_fs.h of
// Linux), of which only the files in the first folder are read. It is packed by
// zstd, or not at all.
type squash struct {
	r         io.ReaderAt
	size      int64
	block     int64
	dec       *zstd.Decoder
	super     []byte
	fragments []byte // 16 bytes each
}

// readPapers returns the files in the first folder of a squashfs.
func readPapers(r io.ReaderAt, size int64) (map[string][]byte, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(4*maxBlock), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	s := &squash{r: r, dec: dec}
	if err := s.open(size); err != nil {
		return nil, err
	}
	return s.files()
}

func bad(format string, args ...any) error {
	return ErrSeed.Of("seed partition", format, args...)
}

func (s *squash) open(room int64) error {
	s.super = make([]byte, 96)
	if _, err := s.r.ReadAt(s.super, 0); err != nil {
		return bad("%v", err)
	}
	le := binary.LittleEndian
	s.block, s.size = int64(le.Uint32(s.super[12:])), int64(le.Uint64(s.super[40:]))
	switch {
	case le.Uint32(s.super) != squashMagic || le.Uint16(s.super[28:]) != 4:
		return bad("it is no squashfs")
	case s.block < 4096 || s.block > maxBlock || s.block&(s.block-1) != 0 || s.size < 96 || s.size > room:
		return bad("its sizes are impossible")
	}
	count := int64(le.Uint32(s.super[16:]))
	if count == 0 {
		return nil
	}
	if count > maxPapers {
		return bad("too many fragments")
	}
	// The index has the place of each metadata block of the table; 512 entries fit one.
	index := make([]byte, 8)
	if err := s.readAt(index, int64(le.Uint64(s.super[80:]))); err != nil {
		return err
	}
	var err error
	if s.fragments, _, err = s.meta(int64(le.Uint64(index))); err == nil && int64(len(s.fragments)) < 16*count {
		err = bad("its table of fragments is short")
	}
	return err
}

func (s *squash) readAt(b []byte, at int64) error {
	if at < 0 || at > s.size-int64(len(b)) {
		return bad("something lies behind its end")
	}
	if _, err := s.r.ReadAt(b, at); err != nil {
		return bad("%v", err)
	}
	return nil
}

// unpack reads n bytes at a place, which hold at most most bytes.
func (s *squash) unpack(at, n int64, stored bool, most int64) ([]byte, error) {
	if n == 0 || n > most {
		return nil, bad("a block has an impossible size")
	}
	b := make([]byte, n)
	if err := s.readAt(b, at); err != nil || stored {
		return b, err
	}
	plain, err := s.dec.DecodeAll(b, make([]byte, 0, most))
	if err != nil || len(plain) == 0 || int64(len(plain)) > most {
		return nil, bad("a block is damaged")
	}
	return plain, nil
}

// meta reads the metadata block at a place, and says where the next one is.
func (s *squash) meta(at int64) (b []byte, next int64, err error) {
	head := make([]byte, 2)
	if err := s.readAt(head, at); err != nil {
		return nil, 0, err
	}
	h := binary.LittleEndian.Uint16(head)
	n := int64(h &^ metaStored)
	b, err = s.unpack(at+2, n, h&metaStored != 0, metaSize)
	return b, at + 2 + n, err
}

// table reads n bytes of metadata from a reference on: a block behind start, and an
// offset in it.
func (s *squash) table(start, ref, offset, n int64) ([]byte, error) {
	if n < 0 || offset < 0 || offset+n > maxTable || ref < 0 || start > s.size || ref > s.size {
		return nil, bad("a table is too large")
	}
	var all []byte
	for at := start + ref; int64(len(all)) < offset+n; {
		b, next, err := s.meta(at)
		if err != nil {
			return nil, err
		}
		all, at = append(all, b...), next
	}
	return all[offset : offset+n], nil
}

// inode reads n bytes of an inode; its kind is the first two of them.
func (s *squash) inode(ref, offset, n int64) ([]byte, error) {
	return s.table(int64(binary.LittleEndian.Uint64(s.super[64:])), ref, offset, n)
}

func (s *squash) files() (map[string][]byte, error) {
	le := binary.LittleEndian
	root := int64(le.Uint64(s.super[32:]))
	if root < 0 {
		return nil, bad("it has no first folder")
	}
	i, err := s.inode(root>>16, root&0xffff, 32)
	if err != nil {
		return nil, err
	}
	var ref, offset, size int64
	switch le.Uint16(i) {
	case 1:
		ref, size, offset = int64(le.Uint32(i[16:])), int64(le.Uint16(i[24:])), int64(le.Uint16(i[26:]))
	case 8: // extended
		if i, err = s.inode(root>>16, root&0xffff, 40); err != nil {
			return nil, err
		}
		size, ref, offset = int64(le.Uint32(i[20:])), int64(le.Uint32(i[24:])), int64(le.Uint16(i[34:]))
	default:
		return nil, bad("its first folder is none")
	}
	if size < 3 { // an empty folder: three bytes are for "." and ".."
		return nil, bad("its first folder is empty")
	}
	listing, err := s.table(int64(le.Uint64(s.super[72:])), ref, offset, size-3)
	if err != nil {
		return nil, err
	}
	return s.listed(listing)
}

// listed reads the files of a directory listing: runs of entries whose inodes share
// a metadata block.
func (s *squash) listed(b []byte) (map[string][]byte, error) {
	le, files := binary.LittleEndian, map[string][]byte{}
	for len(b) > 0 {
		if len(b) < 12 {
			return nil, bad("a folder is cut short")
		}
		count, block := int(le.Uint32(b))+1, int64(le.Uint32(b[4:]))
		if b = b[12:]; count > 256 || count < 1 {
			return nil, bad("a folder is too long")
		}
		for range count {
			if len(b) < 8 {
				return nil, bad("a folder is cut short")
			}
			offset, kind, n := int64(le.Uint16(b)), le.Uint16(b[4:]), int(le.Uint16(b[6:]))+1
			if len(b) < 8+n {
				return nil, bad("a folder is cut short")
			}
			name := string(b[8 : 8+n])
			if b = b[8+n:]; kind != 2 {
				continue
			}
			if len(files) == maxPapers {
				return nil, bad("more than %d files", maxPapers)
			}
			content, err := s.file(block, offset)
			if err != nil {
				return nil, err
			}
			files[name] = content
		}
	}
	return files, nil
}

// file reads a file by its inode.
func (s *squash) file(ref, offset int64) ([]byte, error) {
	le := binary.LittleEndian
	i, err := s.inode(ref, offset, 32)
	if err != nil {
		return nil, err
	}
	var start, size, fragment, inFragment, head int64
	switch le.Uint16(i) {
	case 2:
		start, fragment, inFragment, size, head = int64(le.Uint32(i[16:])), int64(le.Uint32(i[20:])), int64(le.Uint32(i[24:])), int64(le.Uint32(i[28:])), 32
	case 9: // extended
		if i, err = s.inode(ref, offset, 56); err != nil {
			return nil, err
		}
		start, size, fragment, inFragment, head = int64(le.Uint64(i[16:])), int64(le.Uint64(i[24:])), int64(le.Uint32(i[44:])), int64(le.Uint32(i[48:])), 56
	default:
		return nil, bad("a file is none")
	}
	if size < 0 || size > maxPaperSize || start < 0 {
		return nil, bad("a file is too large")
	}
	blocks := size / s.block
	if fragment == noFragment {
		blocks = (size + s.block - 1) / s.block
	}
	if i, err = s.inode(ref, offset, head+4*blocks); err != nil {
		return nil, err
	}
	return s.content(i[head:], start, size, fragment, inFragment)
}

// content joins the blocks of a file and its end in a block of fragments.
func (s *squash) content(sizes []byte, at, size, fragment, inFragment int64) ([]byte, error) {
	le := binary.LittleEndian
	var all []byte
	for ; len(sizes) > 0; sizes = sizes[4:] {
		w, want := le.Uint32(sizes), min(size-int64(len(all)), s.block)
		if w == 0 { // a hole
			all = append(all, make([]byte, want)...)
			continue
		}
		n := int64(w &^ blockStored)
		b, err := s.unpack(at, n, w&blockStored != 0, s.block)
		if err != nil {
			return nil, err
		}
		if int64(len(b)) != want {
			return nil, bad("a block is of another size than its file says")
		}
		all, at = append(all, b...), at+n
	}
	left := size - int64(len(all))
	if left == 0 {
		return all, nil
	}
	if fragment == noFragment || 16*(fragment+1) > int64(len(s.fragments)) {
		return nil, bad("the end of a file is missing")
	}
	e := s.fragments[16*fragment:]
	w := le.Uint32(e[8:])
	b, err := s.unpack(int64(le.Uint64(e)), int64(w&^blockStored), w&blockStored != 0, s.block)
	if err != nil {
		return nil, err
	}
	if inFragment+left > int64(len(b)) {
		return nil, bad("the end of a file is missing")
	}
	return append(all, b[inFragment:inFragment+left]...), nil
}
