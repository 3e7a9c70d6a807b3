package image

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/phasebased/phase/internal/gpt"
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
	header, table := head[sectorSize:sectorSize+gpt.HeaderSize], head[2*sectorSize:]
	h := gpt.ParseHeader(header)
	if string(h.Signature[:]) != gpt.Signature || h.Length != gpt.HeaderSize ||
		h.TableAt != 2 || h.Entries != gpt.Entries || h.EntrySize != gpt.EntrySize {
		return nil, fmt.Errorf("image: %w", ErrNoDisk)
	}
	if gpt.Checksum(header) != h.Checksum || crc32.ChecksumIEEE(table) != h.TableChecksum {
		return nil, fmt.Errorf("image: %w: its checksums are wrong", ErrNoDisk)
	}
	var parts []Partition
	for raw := range slices.Chunk(table, gpt.EntrySize) {
		e := gpt.ParseEntry(raw)
		if !e.Used() {
			continue
		}
		if e.First < gptFirst || e.Last < e.First || e.Last >= uint64(size/sectorSize) {
			return nil, fmt.Errorf("image: %w: partition %d lies outside", ErrNoDisk, len(parts)+1)
		}
		parts = append(parts, Partition{
			Label: e.Label(), Type: e.Type, ID: e.ID,
			Offset: int64(e.First) * sectorSize, Size: int64(e.Last-e.First+1) * sectorSize,
		})
	}
	return parts, nil
}
