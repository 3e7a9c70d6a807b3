package diskformat

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/phasebased/phase/internal/guid"
)

// VHD, dynamic (Microsoft, Virtual Hard Disk Image Format Specification 1.0):
// a copy of the footer, the header, the block allocation table, the blocks with a
// bitmap of their sectors each, the footer.
const (
	vhdBlock  = 2 << 20
	vhdBitmap = vhdBlock / sector / 8 // 512 bytes
	vhdTable  = 512 + 1024
	mebibyte  = 1 << 20
)

type vhd struct {
	*sink
	size  int64
	stamp uint32
	table []uint32
	next  int64
}

func newVHD(out *sink, size int64, at time.Time) (*vhd, error) {
	// Azure wants whole MiB, and takes the size from the footer, not from the
	// geometry.
	v := &vhd{sink: out, size: roundUp(size, mebibyte)}
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	stamp := at.Unix() - epoch
	if stamp < 0 || stamp > math.MaxUint32 {
		return nil, fmt.Errorf("a VHD cannot be of %s", at.UTC().Format(time.DateOnly))
	}
	v.stamp = uint32(stamp)
	v.table = make([]uint32, roundUp(v.size, vhdBlock)/vhdBlock)
	for i := range v.table {
		v.table[i] = math.MaxUint32 // no such block
	}
	v.next = vhdTable + roundUp(int64(len(v.table))*4, sector)
	return v, nil
}

func (v *vhd) blockSize() int64 { return vhdBlock }

func (v *vhd) block(index int64, data []byte) error {
	bitmap := make([]byte, vhdBitmap)
	for i := range bitmap {
		bitmap[i] = 0xff
	}
	v.table[index] = uint32(v.next / sector)
	if err := v.put(bitmap, v.next); err != nil {
		return err
	}
	err := v.put(data, v.next+vhdBitmap)
	v.next += vhdBitmap + vhdBlock
	return err
}

func (v *vhd) finish(id guid.GUID) error {
	table := pack(binary.BigEndian, v.table)
	for len(table)%sector != 0 {
		table = append(table, 0xff)
	}
	footer := v.footer(derive(id.Ordered(), "vhd"))
	for _, part := range []struct {
		data []byte
		at   int64
	}{{table, vhdTable}, {v.header(), 512}, {footer, v.next}, {footer, 0}} {
		if err := v.put(part.data, part.at); err != nil {
			return err
		}
	}
	return nil
}

func (v *vhd) footer(id guid.GUID) []byte {
	cylinders, heads, sectors := vhdGeometry(v.size / sector)
	footer := pack(binary.BigEndian, struct {
		Cookie         [8]byte
		Features       uint32
		Version        uint32
		Header         uint64
		Stamp          uint32
		Creator        [4]byte
		CreatorVersion uint32
		CreatorHost    [4]byte
		Original, Size uint64
		Cylinders      uint16
		Heads, Sectors uint8
		Type, Checksum uint32
		ID             [16]byte
		_              [428]byte
	}{
		Cookie: [8]byte([]byte("conectix")), Features: 2, Version: 0x00010000, Header: 512, Stamp: v.stamp,
		// Readers decide by the creator whether the geometry or the size counts. This
		// is the one that all of them know to mean the size.
		Creator: [4]byte([]byte("win ")), CreatorVersion: 0x000a0000, CreatorHost: [4]byte([]byte("Wi2k")),
		Original: uint64(v.size), Size: uint64(v.size),
		Cylinders: cylinders, Heads: heads, Sectors: sectors, Type: 3, ID: id.Ordered(),
	})
	binary.BigEndian.PutUint32(footer[64:], onesComplement(footer))
	return footer
}

func (v *vhd) header() []byte {
	header := pack(binary.BigEndian, struct {
		Cookie                  [8]byte
		Next, Table             uint64
		Version, Entries, Block uint32
		Checksum                uint32
		_                       [984]byte // of a parent
	}{
		Cookie: [8]byte([]byte("cxsparse")), Next: math.MaxUint64, Table: vhdTable,
		Version: 0x00010000, Entries: uint32(len(v.table)), Block: vhdBlock,
	})
	binary.BigEndian.PutUint32(header[36:], onesComplement(header))
	return header
}

func onesComplement(data []byte) uint32 {
	var n uint32
	for _, b := range data {
		n += uint32(b)
	}
	return ^n
}

// vhdGeometry is the calculation of the specification's appendix.
func vhdGeometry(total int64) (cylinders uint16, heads, sectors uint8) {
	total = min(total, 65535*16*255)
	perTrack, tracks, head := int64(17), int64(0), int64(0)
	if total >= 65535*16*63 {
		perTrack, head = 255, 16
		tracks = total / perTrack
	} else {
		tracks = total / perTrack
		head = max((tracks+1023)/1024, 4)
		if tracks >= head*1024 || head > 16 {
			perTrack, head = 31, 16
			tracks = total / perTrack
		}
		if tracks >= head*1024 {
			perTrack, head = 63, 16
			tracks = total / perTrack
		}
	}
	return uint16(tracks / head), uint8(head), uint8(perTrack)
}
