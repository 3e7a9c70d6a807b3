package diskformat

import (
	"encoding/binary"
	"hash/crc32"
	"unicode/utf16"

	"github.com/phasebased/phase/internal/guid"
)

// VHDX, dynamic ([MS-VHDX]): identifier, two headers and two region tables in the
// first MiB, then an empty log, the metadata, the block allocation table and the
// blocks, each at a whole MiB.
const (
	vhdxBlock    = 1 << 20 // the smallest: file systems of Linux spread their metadata
	vhdxRatio    = 4096    // blocks that one bitmap block stands for: 2^23 × 512 / block size
	vhdxLog      = 1 << 20
	vhdxMetadata = 2 << 20
	vhdxTable    = 3 << 20
	vhdxItems    = 64 << 10 // in the metadata region
	vhdxZero     = 2        // state of a block: reads as zeros
	vhdxPresent  = 6        // state of a block: all of it is in the file
)

type vhdx struct {
	*sink
	size  int64
	table []uint64
	next  int64
}

func newVHDX(out *sink, size int64) *vhdx {
	v := &vhdx{sink: out, size: roundUp(size, mebibyte)}
	blocks := v.size / vhdxBlock
	v.table = make([]uint64, blocks+(blocks-1)/vhdxRatio)
	for i := range v.table {
		// Not "not present": that lets a reader give anything.
		v.table[i] = vhdxZero
		if (i+1)%(vhdxRatio+1) == 0 {
			v.table[i] = 0 // no bitmap: there is no parent
		}
	}
	v.next = vhdxTable + v.tableSize()
	v.grow(v.next)
	return v
}

func (v *vhdx) tableSize() int64 { return roundUp(int64(len(v.table))*8, mebibyte) }

func (v *vhdx) blockSize() int64 { return vhdxBlock }

func (v *vhdx) block(index int64, data []byte) error {
	v.table[index+index/vhdxRatio] = uint64(v.next) | vhdxPresent // the offset in MiB, from bit 20
	err := v.put(data, v.next)
	v.next += vhdxBlock
	return err
}

func (v *vhdx) finish(id guid.GUID) error {
	metadata := v.metadata(id)
	regions := v.regions()
	for _, part := range []struct {
		data []byte
		at   int64
	}{
		{pack(binary.LittleEndian, v.table), vhdxTable},
		{metadata, vhdxMetadata},
		{regions, 192 << 10}, {regions, 256 << 10},
		{v.header(id, 1), 64 << 10}, {v.header(id, 2), 128 << 10},
	} {
		if err := v.put(part.data, part.at); err != nil {
			return err
		}
	}
	return v.put(v.identifier(), 0)
}

func (v *vhdx) identifier() []byte {
	b := []byte("vhdxfile")
	for _, unit := range utf16.Encode([]rune("Phase Boot")) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// header of a file that nobody has open: no log to replay. The one with the
// higher sequence number holds.
func (v *vhdx) header(id guid.GUID, sequence uint64) []byte {
	b := pack(binary.LittleEndian, struct {
		Signature            [4]byte
		Checksum             uint32
		Sequence             uint64
		FileWrite, DataWrite guid.GUID
		Log                  guid.GUID
		LogVersion, Version  uint16
		LogSize              uint32
		LogAt                uint64
		_                    [4016]byte
	}{
		Signature: [4]byte([]byte("head")), Sequence: sequence,
		FileWrite: derive(id.Ordered(), "vhdx file"), DataWrite: derive(id.Ordered(), "vhdx data"),
		Version: 1, LogSize: mebibyte, LogAt: vhdxLog,
	})
	return checksummed(b)
}

func (v *vhdx) regions() []byte {
	type region struct {
		ID             guid.GUID
		At             uint64
		Size, Required uint32
	}
	b := pack(binary.LittleEndian, struct {
		Signature            [4]byte
		Checksum, Entries, _ uint32
		Table, Metadata      region
	}{
		Signature: [4]byte([]byte("regi")), Entries: 2,
		Table:    region{guid.Must("2dc27766-f623-4200-9d64-115e9bfd4a08"), vhdxTable, uint32(v.tableSize()), 1},
		Metadata: region{guid.Must("8b7ca206-4790-4b9a-b8fe-575f050f886e"), vhdxMetadata, mebibyte, 1},
	})
	return checksummed(append(b, make([]byte, 64<<10-len(b))...))
}

// checksummed fills in the CRC-32C at byte 4, which covers all of b.
func checksummed(b []byte) []byte {
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b[4:], sum)
	return b
}

// metadata is the region's table and, 64 KiB further on, its items.
func (v *vhdx) metadata(id guid.GUID) []byte {
	const required, ofDisk = 4, 2
	le := binary.LittleEndian
	diskID := derive(id.Ordered(), "vhdx disk")
	items := []struct {
		id    string
		data  []byte
		flags uint32
	}{
		{"caa16737-fa36-4d43-b3b6-33f0aa44e76b", le.AppendUint64(nil, vhdxBlock), required}, // and no flags
		{"2fa54224-cd1b-4876-b211-5dbed83bf4b8", le.AppendUint64(nil, uint64(v.size)), required | ofDisk},
		{"beca12ab-b2e6-4523-93ef-c309e000c746", diskID[:], required | ofDisk},
		{"8141bf1d-a96f-4709-ba47-f233a8faab5f", le.AppendUint32(nil, sector), required | ofDisk},
		{"cda348c7-445d-4471-9cc9-e9885251c556", le.AppendUint32(nil, pageSize), required | ofDisk},
	}
	table := append([]byte("metadata"), 0, 0, byte(len(items)), 0)
	table = append(table, make([]byte, 20)...)
	var data []byte
	for _, item := range items {
		known := guid.Must(item.id)
		table = append(table, known[:]...)
		table = le.AppendUint32(table, uint32(vhdxItems+len(data)))
		table = le.AppendUint32(table, uint32(len(item.data)))
		table = le.AppendUint32(table, item.flags)
		table = le.AppendUint32(table, 0)
		data = append(data, item.data...)
	}
	return append(append(table, make([]byte, vhdxItems-len(table))...), data...)
}
