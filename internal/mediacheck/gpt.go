package mediacheck

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"unicode/utf16"
)

const (
	sector    = 512
	entries   = 128
	entryLen  = 128
	tableLen  = entries * entryLen
	headerLen = 92
	maxDisk   = 1 << 50 // bytes; no medium is larger
)

// A Partition of the medium.
type Partition struct {
	Label  string `json:"label"`
	Type   string `json:"type"` // GUID
	ID     string `json:"id"`   // GUID
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// Layout is what the partition tables say.
type Layout struct {
	Disk       string      `json:"disk"` // GUID
	Size       int64       `json:"size"` // bytes from the start to the end of the second table: the image
	Partitions []Partition `json:"partitions"`
}

// header is what is read of a GPT header (UEFI 2.10, section 5.3.2).
type header struct {
	self, other, first, last, tableAt uint64
	disk                              [16]byte
	tableSum                          uint32
}

// readLayout reads both partition tables of a medium with room bytes, and refuses
// them unless each is whole and they say the same. The second one is looked for
// where the first says, as it is on an image and on a stick to which an image was
// written.
func readLayout(r io.ReaderAt, room int64) (*Layout, error) {
	var mbr [sector]byte
	if _, err := r.ReadAt(mbr[:], 0); err != nil {
		return nil, refuse("partition table", ErrTable, "%v", err)
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa || mbr[450] != 0xee {
		return nil, refuse("partition table", ErrTable, "the first sector does not say that it is a GPT disk")
	}
	one, err := readHeader(r, 1, room, "first")
	if err != nil {
		return nil, err
	}
	end := int64(one.other)*sector + sector
	if one.other < 67 || one.other > maxDisk/sector || one.first < 34 || one.last < one.first || one.last >= one.other-32 || one.tableAt != 2 {
		return nil, refuse("partition table", ErrTable, "the first copy contradicts itself")
	}
	if end > room {
		return nil, refuse("image", ErrSize, "it should have %d bytes and has %d", end, room)
	}
	two, err := readHeader(r, int64(one.other), room, "second")
	if err != nil {
		return nil, err
	}
	if two.self != one.other || two.other != 1 || two.first != one.first || two.last != one.last || two.disk != one.disk || two.tableAt != one.other-32 {
		return nil, refuse("partition table", ErrTable, "the two copies contradict each other")
	}
	a, err := readTable(r, one, "first")
	if err != nil {
		return nil, err
	}
	b, err := readTable(r, two, "second")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(a, b) {
		return nil, refuse("partition table", ErrTable, "the two copies name other partitions")
	}
	parts, err := readEntries(a, one)
	return &Layout{Disk: guid(one.disk[:]), Size: end, Partitions: parts}, err
}

func readHeader(r io.ReaderAt, at, room int64, which string) (h header, err error) {
	if at*sector+sector > room {
		return h, refuse("partition table", ErrTable, "the %s copy lies behind the end", which)
	}
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, at*sector); err != nil {
		return h, refuse("partition table", ErrTable, "%s copy: %v", which, err)
	}
	le := binary.LittleEndian
	sum := le.Uint32(b[16:])
	own := bytes.Clone(b[:headerLen])
	clear(own[16:20])
	switch {
	case string(b[:8]) != "EFI PART":
		return h, refuse("partition table", ErrTable, "there is no %s copy", which)
	case le.Uint32(b[12:]) != headerLen || le.Uint32(b[80:]) != entries || le.Uint32(b[84:]) != entryLen:
		return h, refuse("partition table", ErrTable, "the %s copy has an unusual size", which)
	case crc32.ChecksumIEEE(own) != sum:
		return h, refuse("partition table", ErrTable, "the checksum of the %s copy's header is wrong", which)
	case le.Uint64(b[24:]) != uint64(at):
		return h, refuse("partition table", ErrTable, "the %s copy belongs elsewhere", which)
	}
	return header{
		self: le.Uint64(b[24:]), other: le.Uint64(b[32:]), first: le.Uint64(b[40:]), last: le.Uint64(b[48:]),
		disk: [16]byte(b[56:72]), tableAt: le.Uint64(b[72:]), tableSum: le.Uint32(b[88:]),
	}, nil
}

func readTable(r io.ReaderAt, h header, which string) ([]byte, error) {
	table := make([]byte, tableLen)
	if _, err := r.ReadAt(table, int64(h.tableAt)*sector); err != nil {
		return nil, refuse("partition table", ErrTable, "%s copy: %v", which, err)
	}
	if crc32.ChecksumIEEE(table) != h.tableSum {
		return nil, refuse("partition table", ErrTable, "the checksum of the %s copy's entries is wrong", which)
	}
	return table, nil
}

// readEntries returns the partitions in the order of their places. They lie
// inside the disk and do not overlap.
func readEntries(table []byte, h header) ([]Partition, error) {
	le := binary.LittleEndian
	var parts []Partition
	for e := range slices.Chunk(table, entryLen) {
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first < h.first || last < first || last > h.last {
			return nil, refuse("partition table", ErrTable, "a partition lies outside of the disk")
		}
		var name []uint16
		for i := 56; i < entryLen && le.Uint16(e[i:]) != 0; i += 2 {
			name = append(name, le.Uint16(e[i:]))
		}
		parts = append(parts, Partition{
			Label: string(utf16.Decode(name)), Type: guid(e[:16]), ID: guid(e[16:32]),
			Offset: int64(first) * sector, Size: int64(last-first+1) * sector,
		})
	}
	slices.SortFunc(parts, func(a, b Partition) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(parts); i++ {
		if parts[i-1].Offset+parts[i-1].Size > parts[i].Offset {
			return nil, refuse("partition table", ErrTable, "partitions overlap")
		}
	}
	return parts, nil
}

// find returns the only partition with a label.
func (l *Layout) find(label string) (Partition, error) {
	var found []Partition
	for _, p := range l.Partitions {
		if p.Label == label {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return Partition{}, refuse("partition table", ErrTable, "%d partitions are called %s, expected one", len(found), label)
	}
	return found[0], nil
}

// guid is the text form of the mixed-endian form on disk (UEFI 2.10, appendix A).
func guid(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}
