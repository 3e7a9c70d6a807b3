package stick

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/phasebased/phase/internal/gpt"
)

const (
	sector = 512
	mib    = 1 << 20
	// edge is what is at both ends of a medium and makes it a medium: partition
	// tables lie in the first and the last MiB, which belong to no partition.
	edge = mib

	tableLength = gpt.TableSize
	maxMedium   = 1 << 50
)

// A Partition of an image.
type Partition struct {
	Label  string
	Type   [16]byte // as on disk: mixed-endian (UEFI 2.10, appendix A)
	Offset int64    // bytes
	Size   int64    // bytes
}

// A table is a GPT that both copies agree on (UEFI 2.10, section 5.3).
type table struct {
	mbr     []byte // the first sector
	header  []byte // the primary's, one sector
	entries []byte
	parts   []Partition
}

// readTable reads the partition table of an image or a medium of size bytes and
// checks everything that firmware and sgdisk -v check: both copies, all checksums,
// places that lie apart from each other.
func readTable(r io.ReaderAt, size int64) (*table, error) {
	if size < 4*edge || size%sector != 0 || size > maxMedium {
		return nil, fmt.Errorf("%d bytes are no size of a medium", size)
	}
	t := &table{mbr: make([]byte, sector)}
	if _, err := r.ReadAt(t.mbr, 0); err != nil {
		return nil, err
	}
	if t.mbr[510] != 0x55 || t.mbr[511] != 0xaa || t.mbr[446+4] != 0xee {
		return nil, errors.New("it does not begin with a protective MBR")
	}
	last := uint64(size/sector) - 1
	main, err := readCopy(r, 1, last, last)
	if err != nil {
		return nil, fmt.Errorf("partition table: %w", err)
	}
	spare, err := readCopy(r, last, 1, last)
	if err != nil {
		return nil, fmt.Errorf("second copy of the partition table: %w", err)
	}
	if !bytes.Equal(main.entries, spare.entries) {
		return nil, errors.New("the two copies of the partition table differ")
	}
	t.header, t.entries = main.raw, main.entries
	t.parts, err = parseEntries(main.entries, main.h.FirstUsable, main.h.LastUsable)
	return t, err
}

// gptCopy is one of the two copies of a table.
type gptCopy struct {
	h       gpt.Header
	raw     []byte // the header's sector
	entries []byte
}

// readCopy reads the copy whose header lies in the sector self.
func readCopy(r io.ReaderAt, self, other, last uint64) (gptCopy, error) {
	c := gptCopy{raw: make([]byte, sector), entries: make([]byte, tableLength)}
	if _, err := r.ReadAt(c.raw, int64(self)*sector); err != nil {
		return c, err
	}
	c.h = gpt.ParseHeader(c.raw)
	h := c.h
	switch {
	case string(h.Signature[:]) != gpt.Signature:
		return c, errors.New("there is none")
	case h.Revision != 0x10000 || h.Length != gpt.HeaderSize || h.Entries != gpt.Entries || h.EntrySize != gpt.EntrySize:
		return c, errors.New("it has a form that nobody makes")
	case gpt.Checksum(c.raw[:gpt.HeaderSize]) != h.Checksum:
		return c, errors.New("wrong checksum of the header")
	case h.Self != self || h.Other != other:
		return c, errors.New("it is for a medium of another size")
	case h.FirstUsable < 2+tableLength/sector || h.LastUsable < h.FirstUsable || h.LastUsable >= last-tableLength/sector:
		return c, errors.New("the room for partitions is impossible")
	case self == 1 && h.TableAt != 2 || self == last && h.TableAt != last-tableLength/sector:
		return c, errors.New("the list of partitions is at an unusual place")
	}
	if _, err := r.ReadAt(c.entries, int64(h.TableAt)*sector); err != nil {
		return c, err
	}
	if crc32.ChecksumIEEE(c.entries) != h.TableChecksum {
		return c, errors.New("wrong checksum of the list of partitions")
	}
	return c, nil
}

func parseEntries(raw []byte, first, last uint64) ([]Partition, error) {
	var out []Partition
	for each := range slices.Chunk(raw, gpt.EntrySize) {
		e := gpt.ParseEntry(each)
		if !e.Used() {
			continue
		}
		if e.First < first || e.Last > last || e.Last < e.First {
			return nil, errors.New("a partition lies outside of the medium")
		}
		out = append(out, Partition{Label: e.Label(), Type: e.Type, Offset: int64(e.First) * sector, Size: int64(e.Last-e.First+1) * sector})
	}
	slices.SortFunc(out, func(a, b Partition) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	for i := 1; i < len(out); i++ {
		if out[i].Offset < out[i-1].Offset+out[i-1].Size {
			return nil, errors.New("partitions overlap")
		}
	}
	return out, nil
}

// ends are the bytes at both ends of a medium of size bytes that has this table:
// the MBR, the header and the list at its beginning, the list and the header at its
// end. The identifiers stay; what depends on the size is what changes.
func (t *table) ends(size int64) (front, back []byte) {
	last := uint64(size/sector) - 1
	mbr := slices.Clone(t.mbr)
	binary.LittleEndian.PutUint32(mbr[446+12:], uint32(min(last, 0xffffffff)))
	front = slices.Concat(mbr, t.headerAt(1, last, 2, last), t.entries)
	back = slices.Concat(t.entries, t.headerAt(last, 1, last-tableLength/sector, last))
	return front, back
}

// headerAt is the header for the sector self of a medium whose last one is last.
func (t *table) headerAt(self, other, entriesAt, last uint64) []byte {
	raw := slices.Clone(t.header)
	le := binary.LittleEndian
	le.PutUint64(raw[24:], self)
	le.PutUint64(raw[32:], other)
	le.PutUint64(raw[48:], last-tableLength/sector-1)
	le.PutUint64(raw[72:], entriesAt)
	gpt.Seal(raw)
	return raw
}
