package diskformat

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/phasebased/phase/internal/guid"
)

// VMDK, "monolithicSparse" (VMware, Virtual Disk Format 5.0): one file with its
// own descriptor that a machine can write to. VMware Workstation and Fusion,
// VirtualBox, Parallels and QEMU start from it; ESXi wants it converted.
//
// The sectors are: header, descriptor, a directory with its tables, the same
// again as a spare, and from the next grain on the data.
const (
	sector         = 512
	vmdkGrain      = 64 << 10
	vmdkTable      = 512 // entries of a grain table
	vmdkSpan       = vmdkTable * vmdkGrain
	vmdkDescriptor = 20 // sectors
)

type vmdk struct {
	*sink
	size   int64
	name   string
	tables int64 // number of grain tables
	spare  int64 // offset of the first directory, which is the spare
	main   int64 // offset of the second
	data   int64 // offset of the first grain
	next   int64
	table  []uint32
	open   int64 // number of the table that table holds; -1: none
}

func newVMDK(out *sink, size int64, name string) *vmdk {
	v := &vmdk{sink: out, size: roundUp(size, sector), name: name, open: -1, table: make([]uint32, vmdkTable)}
	v.tables = roundUp(v.size, vmdkSpan) / vmdkSpan
	v.spare = (1 + vmdkDescriptor) * sector
	v.main = v.tableAt(v.spare, v.tables)
	v.data = roundUp(v.tableAt(v.main, v.tables), vmdkGrain)
	v.next = v.data
	v.grow(v.data)
	return v
}

func (v *vmdk) directorySize() int64 { return roundUp(v.tables*4, sector) }

func (v *vmdk) blockSize() int64 { return vmdkGrain }

func (v *vmdk) block(index int64, data []byte) error {
	if n := index / vmdkTable; n != v.open {
		if err := v.closeTable(); err != nil {
			return err
		}
		v.open = n
	}
	at := v.next
	v.next += vmdkGrain
	v.table[index%vmdkTable] = uint32(at / sector)
	return v.put(data, at)
}

func (v *vmdk) closeTable() error {
	if v.open < 0 {
		return nil
	}
	data := pack(binary.LittleEndian, v.table)
	clear(v.table)
	for _, directory := range []int64{v.spare, v.main} {
		if err := v.put(data, v.tableAt(directory, v.open)); err != nil {
			return err
		}
	}
	return nil
}

func (v *vmdk) tableAt(directory, n int64) int64 {
	return directory + v.directorySize() + n*vmdkTable*4
}

func (v *vmdk) finish(id guid.GUID) error {
	if err := v.closeTable(); err != nil {
		return err
	}
	for _, at := range []int64{v.spare, v.main} {
		directory := make([]uint32, v.tables)
		for i := range directory {
			directory[i] = uint32(v.tableAt(at, int64(i)) / sector)
		}
		if err := v.put(pack(binary.LittleEndian, directory), at); err != nil {
			return err
		}
	}
	descriptor, err := vmdkText("monolithicSparse", v.name, v.size, id)
	if err != nil {
		return err
	}
	if err := v.put(descriptor, sector); err != nil {
		return err
	}
	return v.put(vmdkHeader{
		Version: 1, Flags: 3, Capacity: uint64(v.size / sector), DescriptorSize: vmdkDescriptor,
		Spare: uint64(v.spare / sector), Directory: uint64(v.main / sector),
		Overhead: uint64(v.data / sector),
	}.bytes(), 0)
}

// vmdkHeader is what the two kinds of sparse extents differ in.
type vmdkHeader struct {
	Version, Flags                       uint32
	Capacity, DescriptorSize             uint64
	Spare, Directory, Overhead, StreamAt uint64
	Compression                          uint16
}

func (h vmdkHeader) bytes() []byte {
	return pack(binary.LittleEndian, struct {
		Magic                      [4]byte
		Version, Flags             uint32
		Capacity, Grain            uint64
		Descriptor, DescriptorSize uint64
		TableEntries               uint32
		Spare, Directory, Overhead uint64
		Unclean                    uint8
		Newlines                   [4]byte // shows a transfer that changed line ends
		Compression                uint16
		_                          [433]byte
	}{
		Magic: [4]byte([]byte("KDMV")), Version: h.Version, Flags: h.Flags, Capacity: h.Capacity, Grain: vmdkGrain / sector,
		Descriptor: 1, DescriptorSize: h.DescriptorSize, TableEntries: vmdkTable,
		Spare: h.Spare, Directory: h.Directory, Overhead: h.Overhead,
		Newlines: [4]byte([]byte("\n \r\n")), Compression: h.Compression,
	})
}

// vmdkText is the descriptor, filled up to its sectors. The geometry is that of
// VMware's SCSI disks, which no system of today goes by.
func vmdkText(kind, name string, size int64, id guid.GUID) ([]byte, error) {
	if strings.ContainsAny(name, "\"\n\r") {
		return nil, fmt.Errorf("a VMDK cannot be named %q", name)
	}
	sectors, cid := size/sector, binary.LittleEndian.Uint32(id[:])&0x7fffffff
	text := fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=%08x
parentCID=ffffffff
createType="%s"

# Extent description
RW %d SPARSE "%s"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.uuid.image = "%s"
ddb.uuid.parent = "00000000-0000-0000-0000-000000000000"
ddb.virtualHWVersion = "10"
`, cid, kind, sectors, name, sectors/(255*63), derive(id.Ordered(), "vmdk"))
	if len(text) > vmdkDescriptor*sector {
		return nil, fmt.Errorf("the name of the VMDK is too long: %d bytes", len(name))
	}
	return append([]byte(text), make([]byte, vmdkDescriptor*sector-len(text))...), nil
}
