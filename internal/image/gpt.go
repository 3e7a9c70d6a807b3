package image

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"

	"github.com/phasebased/phase/internal/gpt"
	"github.com/phasebased/phase/internal/guid"
)

const (
	sectorSize = 512
	gptTable   = gpt.TableSize / sectorSize // sectors of one partition table
	gptFirst   = 2 + gptTable               // first usable sector
	// PartitionAlign is the alignment in bytes of partitions: 1 MiB, a multiple of
	// every erase block and physical sector in use.
	PartitionAlign = 1 << 20
)

// TypeESP is the EFI system partition (UEFI 2.10, table 5-7).
func TypeESP() guid.GUID { return guid.Must("c12a7328-f81f-11d2-ba4b-00a0c93ec93b") }

// TypeLinux is "Linux file system data".
func TypeLinux() guid.GUID { return guid.Must("0fc63daf-8483-4772-8e79-3d69d8477de4") }

// A Partition of a GPT disk. Size is in bytes and is rounded up to
// [PartitionAlign]; Offset is set by [Layout].
type Partition struct {
	Label  string // PARTLABEL, at most 36 UTF-16 units
	Type   guid.GUID
	ID     guid.GUID // unique partition GUID (PARTUUID)
	Size   int64
	Offset int64
}

// Layout places the partitions one after the other and returns them with Offset
// and the rounded Size set, and the size in bytes of the whole disk.
func Layout(parts []Partition) ([]Partition, int64, error) {
	if len(parts) == 0 || len(parts) > gpt.Entries {
		return nil, 0, fmt.Errorf("image: gpt: %d partitions, need 1 to %d", len(parts), gpt.Entries)
	}
	placed := make([]Partition, len(parts))
	next := int64(PartitionAlign)
	for i, p := range parts {
		if p.Size <= 0 || p.Size > 1<<50 {
			return nil, 0, fmt.Errorf("image: gpt: partition %q: bad size %d", p.Label, p.Size)
		}
		if len(utf16.Encode([]rune(p.Label))) > 36 {
			return nil, 0, fmt.Errorf("image: gpt: partition label %q is longer than 36 characters", p.Label)
		}
		p.Size = alignUp(p.Size, PartitionAlign)
		p.Offset = next
		next += p.Size
		placed[i] = p
	}
	return placed, next + PartitionAlign, nil // the last MiB holds the backup table
}

// WriteGPT writes a protective MBR, the primary and the backup partition table
// for partitions placed by [Layout] onto a disk of size bytes (UEFI 2.10, section
// 5.3). It touches nothing inside the partitions.
func WriteGPT(w io.WriterAt, disk guid.GUID, parts []Partition, size int64) error {
	table := gptEntryArray(parts)
	last := uint64(size/sectorSize) - 1
	primary := gptHeader(disk, 1, last, 2, last, table)
	backup := gptHeader(disk, last, 1, last-gptTable, last, table)
	for _, write := range []struct {
		sector uint64
		data   []byte
	}{
		{0, protectiveMBR(last)},
		{1, primary},
		{2, table},
		{last - gptTable, table},
		{last, backup},
	} {
		if _, err := w.WriteAt(write.data, int64(write.sector)*sectorSize); err != nil {
			return fmt.Errorf("image: writing gpt: %w", err)
		}
	}
	return nil
}

func gptEntryArray(parts []Partition) []byte {
	table := make([]byte, 0, gpt.TableSize)
	for _, p := range parts {
		e := gpt.Entry{Type: p.Type, ID: p.ID, First: uint64(p.Offset / sectorSize), Last: uint64((p.Offset+p.Size)/sectorSize) - 1}
		copy(e.Name[:], utf16.Encode([]rune(p.Label)))
		table = append(table, e.Bytes()...)
	}
	return table[:gpt.TableSize]
}

// gptHeader returns the header sector that lies at self.
func gptHeader(disk guid.GUID, self, other, tableAt, last uint64, table []byte) []byte {
	header := gpt.Header{
		Signature: [8]byte([]byte(gpt.Signature)), Revision: 0x00010000, Length: gpt.HeaderSize, Self: self, Other: other,
		FirstUsable: gptFirst, LastUsable: last - gptTable - 1, Disk: disk, TableAt: tableAt,
		Entries: gpt.Entries, EntrySize: gpt.EntrySize, TableChecksum: crc32.ChecksumIEEE(table),
	}.Bytes()
	gpt.Seal(header)
	return append(header, make([]byte, sectorSize-len(header))...)
}

// protectiveMBR claims the whole disk for GPT, so that tools that know only MBR
// leave it alone (UEFI 2.10, section 5.2.3).
func protectiveMBR(last uint64) []byte {
	mbr := make([]byte, sectorSize)
	entry := mbr[446:]
	copy(entry, []byte{0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], 1)
	binary.LittleEndian.PutUint32(entry[12:], uint32(min(last, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}

func alignUp(n, align int64) int64 { return (n + align - 1) / align * align }
