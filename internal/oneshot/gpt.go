package oneshot

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/phasebased/phase/internal/gpt"
	"github.com/phasebased/phase/internal/guid"
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
	Type   guid.GUID
	ID     guid.GUID
}

// readGPT reads a disk's partition table (UEFI 2.10, 5.3), the primary one: the
// kernel, which made the partitions' devices, has read the same. sector is the
// disk's logical sector size in bytes.
func readGPT(disk io.ReaderAt, sector int) ([]partition, error) {
	if sector < 512 || sector > 64<<10 {
		return nil, fmt.Errorf("%w: sectors of %d bytes", ErrTable, sector)
	}
	h := make([]byte, sector)
	if _, err := disk.ReadAt(h, int64(sector)); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrTable, err)
	}
	header := gpt.ParseHeader(h)
	size := header.Length
	if string(header.Signature[:]) != gpt.Signature || size < gpt.HeaderSize || int(size) > sector {
		return nil, fmt.Errorf("%w: no GPT", ErrTable)
	}
	if gpt.Checksum(h[:size]) != header.Checksum {
		return nil, fmt.Errorf("%w: header checksum", ErrTable)
	}
	at, count, each := header.TableAt, header.Entries, header.EntrySize
	if count == 0 || count > maxPartitions || each < gpt.EntrySize || each%gpt.EntrySize != 0 || each > maxTable/count || at < 2 || at > 1<<40 {
		return nil, fmt.Errorf("%w: %d entries of %d bytes at sector %d", ErrTable, count, each, at)
	}
	table := make([]byte, count*each)
	if _, err := disk.ReadAt(table, int64(at)*int64(sector)); err != nil {
		return nil, fmt.Errorf("%w: entries: %w", ErrTable, err)
	}
	if crc32.ChecksumIEEE(table) != header.TableChecksum {
		return nil, fmt.Errorf("%w: checksum of the entries", ErrTable)
	}
	return entries(table, int(each)), nil
}

func entries(table []byte, each int) (list []partition) {
	for i := 0; len(table) >= each; i++ {
		if e := gpt.ParseEntry(table); e.Used() {
			list = append(list, partition{Number: i + 1, Type: e.Type, ID: e.ID})
		}
		table = table[each:]
	}
	return list
}
