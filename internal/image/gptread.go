package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// ErrNoDisk is wrapped by the error for what is no raw disk image with a GPT.
var ErrNoDisk = errors.New("no raw disk image with a partition table")

// ReadGPT reads the partitions of a raw disk image of size bytes, as [WriteGPT]
// writes them: the primary table, 128 entries, checksums and bounds checked.
func ReadGPT(r io.ReaderAt, size int64) ([]Partition, error) {
	head := make([]byte, gptFirst*sectorSize)
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("image: gpt: %w", err)
	}
	le := binary.LittleEndian
	header, table := head[sectorSize:sectorSize+92:sectorSize+92], head[2*sectorSize:]
	if string(header[:8]) != "EFI PART" || le.Uint32(header[12:]) != 92 ||
		le.Uint64(header[72:]) != 2 || le.Uint32(header[80:]) != gptEntries || le.Uint32(header[84:]) != gptEntryLen {
		return nil, fmt.Errorf("image: %w", ErrNoDisk)
	}
	sum := le.Uint32(header[16:])
	plain := bytes.Clone(header)
	clear(plain[16:20])
	if crc32.ChecksumIEEE(plain) != sum || crc32.ChecksumIEEE(table) != le.Uint32(header[88:]) {
		return nil, fmt.Errorf("image: %w: its checksums are wrong", ErrNoDisk)
	}
	var parts []Partition
	for e := table; len(e) > 0; e = e[gptEntryLen:] {
		if (GUID)(e[:16]) == (GUID{}) {
			continue
		}
		first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
		if first < gptFirst || last < first || last >= uint64(size/sectorSize) {
			return nil, fmt.Errorf("image: %w: partition %d lies outside", ErrNoDisk, len(parts)+1)
		}
		parts = append(parts, Partition{
			Label: partitionName(e[56:128]), Type: GUID((GUID)(e[:16]).disk()), ID: GUID((GUID)(e[16:32]).disk()),
			Offset: int64(first) * sectorSize, Size: int64(last-first+1) * sectorSize,
		})
	}
	return parts, nil
}

func partitionName(raw []byte) string {
	var units []uint16
	for ; len(raw) >= 2 && (raw[0] != 0 || raw[1] != 0); raw = raw[2:] {
		units = append(units, binary.LittleEndian.Uint16(raw))
	}
	return string(utf16.Decode(units))
}
