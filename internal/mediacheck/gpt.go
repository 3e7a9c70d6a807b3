package mediacheck

import (
	"bytes"
	"cmp"
	"hash/crc32"
	"io"
	"slices"

	"github.com/phasebased/phase/internal/gpt"
)

const (
	sector  = 512
	maxDisk = 1 << 50 // bytes; no medium is larger
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

// readLayout reads both partition tables of a medium with room bytes, and refuses
// them unless each is whole and they say the same. The second one is looked for
// where the first says, as it is on an image and on a stick to which an image was
// written.
func readLayout(r io.ReaderAt, room int64) (*Layout, error) {
	var mbr [sector]byte
	if _, err := r.ReadAt(mbr[:], 0); err != nil {
		return nil, ErrTable.Of("partition table", "%v", err)
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa || mbr[450] != 0xee {
		return nil, ErrTable.Of("partition table", "the first sector does not say that it is a GPT disk")
	}
	one, err := readHeader(r, 1, room, "first")
	if err != nil {
		return nil, err
	}
	end := int64(one.Other)*sector + sector
	if one.Other < 67 || one.Other > maxDisk/sector || one.FirstUsable < 34 || one.LastUsable < one.FirstUsable || one.LastUsable >= one.Other-32 || one.TableAt != 2 {
		return nil, ErrTable.Of("partition table", "the first copy contradicts itself")
	}
	if end > room {
		return nil, ErrSize.Of("image", "it should have %d bytes and has %d", end, room)
	}
	two, err := readHeader(r, int64(one.Other), room, "second")
	if err != nil {
		return nil, err
	}
	if two.Self != one.Other || two.Other != 1 || two.FirstUsable != one.FirstUsable || two.LastUsable != one.LastUsable || two.Disk != one.Disk || two.TableAt != one.Other-32 {
		return nil, ErrTable.Of("partition table", "the two copies contradict each other")
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
		return nil, ErrTable.Of("partition table", "the two copies name other partitions")
	}
	parts, err := readEntries(a, one)
	return &Layout{Disk: one.Disk.String(), Size: end, Partitions: parts}, err
}

func readHeader(r io.ReaderAt, at, room int64, which string) (h gpt.Header, err error) {
	if at*sector+sector > room {
		return h, ErrTable.Of("partition table", "the %s copy lies behind the end", which)
	}
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, at*sector); err != nil {
		return h, ErrTable.Of("partition table", "%s copy: %v", which, err)
	}
	h = gpt.ParseHeader(b)
	switch {
	case string(h.Signature[:]) != gpt.Signature:
		return h, ErrTable.Of("partition table", "there is no %s copy", which)
	case h.Length != gpt.HeaderSize || h.Entries != gpt.Entries || h.EntrySize != gpt.EntrySize:
		return h, ErrTable.Of("partition table", "the %s copy has an unusual size", which)
	case gpt.Checksum(b[:gpt.HeaderSize]) != h.Checksum:
		return h, ErrTable.Of("partition table", "the checksum of the %s copy's header is wrong", which)
	case h.Self != uint64(at):
		return h, ErrTable.Of("partition table", "the %s copy belongs elsewhere", which)
	}
	return h, nil
}

func readTable(r io.ReaderAt, h gpt.Header, which string) ([]byte, error) {
	table := make([]byte, gpt.TableSize)
	if _, err := r.ReadAt(table, int64(h.TableAt)*sector); err != nil {
		return nil, ErrTable.Of("partition table", "%s copy: %v", which, err)
	}
	if crc32.ChecksumIEEE(table) != h.TableChecksum {
		return nil, ErrTable.Of("partition table", "the checksum of the %s copy's entries is wrong", which)
	}
	return table, nil
}

// readEntries returns the partitions in the order of their places. They lie
// inside the disk and do not overlap.
func readEntries(table []byte, h gpt.Header) ([]Partition, error) {
	var parts []Partition
	for raw := range slices.Chunk(table, gpt.EntrySize) {
		e := gpt.ParseEntry(raw)
		if !e.Used() {
			continue
		}
		if e.First < h.FirstUsable || e.Last < e.First || e.Last > h.LastUsable {
			return nil, ErrTable.Of("partition table", "a partition lies outside of the disk")
		}
		parts = append(parts, Partition{
			Label: e.Label(), Type: e.Type.String(), ID: e.ID.String(),
			Offset: int64(e.First) * sector, Size: int64(e.Last-e.First+1) * sector,
		})
	}
	slices.SortFunc(parts, func(a, b Partition) int { return cmp.Compare(a.Offset, b.Offset) })
	for i := 1; i < len(parts); i++ {
		if parts[i-1].Offset+parts[i-1].Size > parts[i].Offset {
			return nil, ErrTable.Of("partition table", "partitions overlap")
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
		return Partition{}, ErrTable.Of("partition table", "%d partitions are called %s, expected one", len(found), label)
	}
	return found[0], nil
}
