package oneshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrTable is wrapped by the errors of readGPT.
var ErrTable = errors.New("malformed partition table")

// Limits of a partition table.
const (
	maxPartitions = 1024
	maxTable      = 1 << 20 // bytes of all its entries
)

// partition is one of a disk.
type partition struct {
	Number int // from 1, as the kernel counts
	Type   guid
	ID     guid
}

// readGPT reads a disk's partition table (UEFI 2.10, 5.3), the primary one: the
// kernel, which made the partitions' devices, has read the same. sector is the
// disk's logical sector size in bytes.
func readGPT(disk io.ReaderAt, sector int) ([]partition, error) {
	const fixed = 92 // bytes of the header that are defined
	if sector < 512 || sector > 64<<10 {
		return nil, fmt.Errorf("%w: sectors of %d bytes", ErrTable, sector)
	}
	h := make([]byte, sector)
	if _, err := disk.ReadAt(h, int64(sector)); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrTable, err)
	}
	le := binary.LittleEndian
	size := le.Uint32(h[12:])
	if string(h[:8]) != "EFI PART" || size < fixed || int(size) > sector {
		return nil, fmt.Errorf("%w: no GPT", ErrTable)
	}
	sum := le.Uint32(h[16:])
	copy(h[16:20], make([]byte, 4))
	if crc32.ChecksumIEEE(h[:size]) != sum {
		return nil, fmt.Errorf("%w: header checksum", ErrTable)
	}
	at, count, each := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if count == 0 || count > maxPartitions || each < 128 || each%128 != 0 || each > maxTable/count || at < 2 || at > 1<<40 {
		return nil, fmt.Errorf("%w: %d entries of %d bytes at sector %d", ErrTable, count, each, at)
	}
	table := make([]byte, count*each)
	if _, err := disk.ReadAt(table, int64(at)*int64(sector)); err != nil {
		return nil, fmt.Errorf("%w: entries: %w", ErrTable, err)
	}
	if crc32.ChecksumIEEE(table) != le.Uint32(h[88:]) {
		return nil, fmt.Errorf("%w: checksum of the entries", ErrTable)
	}
	return entries(table, int(each)), nil
}

func entries(table []byte, each int) (list []partition) {
	for i := 0; len(table) >= each; i++ {
		var unused guid
		if !bytes.Equal(table[:16], unused[:]) {
			list = append(list, partition{Number: i + 1, Type: guid(table[:16]), ID: guid(table[16:32])})
		}
		table = table[each:]
	}
	return list
}
