package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

// Geometry of the FAT32 file systems written here (Microsoft FAT specification
// 1.03). Clusters are 4 KiB because firmware is tested with what mkfs.fat and
// Windows choose for this size.
const (
	fatCluster     = 4096
	fatReserved    = 32 // sectors before the first FAT
	fatCopies      = 2
	fatRoot        = 2 // first cluster of the root directory
	fatEndOfChain  = 0x0fffffff
	fatMinClusters = 65525 // fewer make it FAT16 by definition
	dirEntryLen    = 32
	maxFATFile     = 1<<32 - 1
	maxFATDir      = 1 << 16 * dirEntryLen
)

// MinFAT32 is the smallest FAT32 file system in bytes: 260 MiB leave a margin
// over the 65,525 clusters below which the type changes.
const MinFAT32 = 260 << 20

// FAT32 describes a FAT32 file system. All its dates are Time, in UTC.
type FAT32 struct {
	Label  string    // volume label: at most 11 characters A–Z, 0–9, "-", "_", " "
	Serial uint32    // volume id
	Size   int64     // bytes, at least [MinFAT32] and a multiple of 4096
	Offset int64     // bytes from the start of the disk, recorded in the boot sector
	Time   time.Time // not before 1980
}

// Write writes the file system with the files of the tree to w, from position 0.
// The region must read as zeros: only blocks in use are written, so a sparse file
// stays sparse. Permissions are lost; links and devices are refused.
func (f FAT32) Write(w io.WriterAt, t *Tree) error {
	if err := f.check(); err != nil {
		return err
	}
	v, err := f.plan(t)
	if err != nil {
		return err
	}
	if err := v.writeSystem(w); err != nil {
		return fmt.Errorf("image: writing fat32: %w", err)
	}
	for _, n := range v.nodes {
		if err := v.writeNode(w, n); err != nil {
			return err
		}
	}
	return nil
}

func (f FAT32) check() error {
	if f.Size < MinFAT32 || f.Size%fatCluster != 0 || f.Size/sectorSize > 1<<32-1 {
		return fmt.Errorf("image: fat32: size %d is not a multiple of %d between %d and 2 TiB", f.Size, fatCluster, int64(MinFAT32))
	}
	if y := f.Time.UTC().Year(); y < 1980 || y > 2107 {
		return fmt.Errorf("image: fat32: year %d is outside 1980 to 2107", y)
	}
	if len(f.Label) == 0 || len(f.Label) > 11 || !isShort(f.Label, " ") {
		return fmt.Errorf("image: fat32: bad volume label %q", f.Label)
	}
	return nil
}

// volume is a planned file system: every node has its clusters.
type volume struct {
	FAT32
	fatSectors int64
	clusters   int64 // usable data clusters
	next       uint32
	nodes      []*fatNode // in cluster order
}

type fatNode struct {
	entry    *Entry // nil for the root
	short    [11]byte
	first    uint32 // first cluster, 0 if the file is empty
	count    uint32
	parent   *fatNode
	children []*fatNode
}

func (n *fatNode) isDir() bool { return n.entry == nil || n.entry.Mode.IsDir() }

func (f FAT32) plan(t *Tree) (*volume, error) {
	entries, err := t.Entries()
	if err != nil {
		return nil, err
	}
	v := &volume{FAT32: f, next: fatRoot}
	v.measure()
	root := &fatNode{}
	v.nodes = []*fatNode{root}
	byPath := map[string]*fatNode{".": root}
	for _, e := range entries {
		n := &fatNode{entry: e, parent: byPath[path.Dir(e.Path)]}
		if err := checkFATEntry(e); err != nil {
			return nil, err
		}
		n.parent.children = append(n.parent.children, n)
		byPath[e.Path] = n
		v.nodes = append(v.nodes, n)
	}
	for _, n := range v.nodes {
		if err := nameChildren(n); err != nil {
			return nil, err
		}
	}
	return v, v.allocate()
}

// measure sizes the FAT so that it covers the clusters that remain, and so that
// these begin with a cluster's worth of sectors: files then lie on whole sectors of
// every disk, and on those of a disc.
func (v *volume) measure() {
	sectors := v.Size / sectorSize
	const perCluster = fatCluster / sectorSize
	v.clusters = (sectors - fatReserved) / perCluster
	v.fatSectors = alignUp((v.clusters+2)*4, fatCluster/fatCopies) / sectorSize
	v.clusters = (sectors - fatReserved - fatCopies*v.fatSectors) / perCluster
}

func (v *volume) allocate() error {
	for _, n := range v.nodes {
		size := int64(0)
		if n.isDir() {
			size = int64(len(v.directory(n)))
			if size > maxFATDir {
				return &PathError{Path: n.entry.Path, Reason: "too many files in one directory"}
			}
		} else {
			size = n.entry.Size
		}
		n.count = uint32(alignUp(size, fatCluster) / fatCluster)
		if n.isDir() {
			n.count = max(n.count, 1)
		}
		if n.count > 0 {
			n.first = v.next
		}
		if int64(v.next-fatRoot)+int64(n.count) > v.clusters {
			return fmt.Errorf("image: fat32: %d bytes of files do not fit in %d", totalSize(v.nodes), v.Size)
		}
		v.next += n.count
	}
	return nil
}

func totalSize(nodes []*fatNode) (n int64) {
	for _, node := range nodes {
		if node.entry != nil {
			n += node.entry.Size
		}
	}
	return n
}

func checkFATEntry(e *Entry) error {
	switch {
	case e.Mode.Type() != 0 && e.Mode.Type() != fs.ModeDir:
		return &PathError{Path: e.Path, Reason: "FAT holds only files and directories"}
	case e.Size > maxFATFile:
		return &PathError{Path: e.Path, Reason: "larger than 4 GiB, which FAT cannot hold"}
	}
	return nil
}

// writeSystem writes the boot sectors and both FATs. Chains are contiguous, so
// that firmware reads each file in one run.
func (v *volume) writeSystem(w io.WriterAt) error {
	boot, info := v.bootSector(), v.infoSector()
	for _, at := range []int64{0, 6} { // the primary and the backup copy
		if _, err := w.WriteAt(append(append([]byte{}, boot...), info...), at*sectorSize); err != nil {
			return err
		}
	}
	fat := v.table()
	for i := range int64(fatCopies) {
		if _, err := w.WriteAt(fat, (fatReserved+i*v.fatSectors)*sectorSize); err != nil {
			return err
		}
	}
	return nil
}

func (v *volume) table() []byte {
	fat := make([]byte, v.next*4)
	put := func(cluster, value uint32) { binary.LittleEndian.PutUint32(fat[cluster*4:], value) }
	put(0, 0x0ffffff8)
	put(1, fatEndOfChain) // no dirty or error bits
	for _, n := range v.nodes {
		for i := range n.count {
			put(n.first+i, n.first+i+1)
		}
		if n.count > 0 {
			put(n.first+n.count-1, fatEndOfChain)
		}
	}
	return fat
}

func (v *volume) bootSector() []byte {
	label := [11]byte(bytes.Repeat([]byte{' '}, 11))
	copy(label[:], v.Label)
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, struct {
		Jump               [3]byte
		OEM                [8]byte
		SectorBytes        uint16
		ClusterSectors     uint8
		Reserved           uint16
		Copies             uint8
		RootEntries        uint16
		Sectors16          uint16
		Media              uint8
		FATSectors16       uint16
		TrackSectors       uint16
		Heads              uint16
		Hidden             uint32
		Sectors            uint32
		FATSectors         uint32
		Flags, Version     uint16
		Root               uint32
		Info, Backup       uint16
		_                  [12]byte
		Drive, _, Extended uint8
		Serial             uint32
		Label              [11]byte
		Type               [8]byte
	}{Jump: [3]byte{0xeb, 0x58, 0x90}, OEM: [8]byte([]byte("PHASE   ")), SectorBytes: sectorSize,
		ClusterSectors: fatCluster / sectorSize, Reserved: fatReserved, Copies: fatCopies, Media: 0xf8,
		TrackSectors: 63, Heads: 255, Hidden: uint32(min(v.Offset/sectorSize, 1<<32-1)), Sectors: uint32(v.Size / sectorSize),
		FATSectors: uint32(v.fatSectors), Root: fatRoot, Info: 1, Backup: 6,
		Drive: 0x80, Extended: 0x29, Serial: v.Serial, Label: label, Type: [8]byte([]byte("FAT32   "))})
	return signSector(b.Bytes())
}

func (v *volume) infoSector() []byte {
	s := make([]byte, 484, sectorSize)
	copy(s, "RRaA")
	s = append(s, "rrAa"...)
	s = binary.LittleEndian.AppendUint32(s, uint32(v.clusters)-(v.next-fatRoot)) // free clusters
	s = binary.LittleEndian.AppendUint32(s, v.next)                              // where to look for one
	return signSector(s)
}

func signSector(s []byte) []byte {
	s = append(s, make([]byte, sectorSize-len(s))...)
	s[510], s[511] = 0x55, 0xaa
	return s
}

func (v *volume) offset(cluster uint32) int64 {
	return (fatReserved+fatCopies*v.fatSectors)*sectorSize + int64(cluster-fatRoot)*fatCluster
}

func (v *volume) writeNode(w io.WriterAt, n *fatNode) error {
	if n.count == 0 {
		return nil
	}
	out := io.NewOffsetWriter(w, v.offset(n.first))
	if n.isDir() {
		if _, err := out.Write(v.directory(n)); err != nil {
			return fmt.Errorf("image: writing fat32: %w", err)
		}
		return nil
	}
	return copyEntry(out, n.entry)
}

// directory returns the entries of a directory: the volume label in the root,
// "." and ".." elsewhere, then the children with their long names.
func (v *volume) directory(n *fatNode) []byte {
	var d []byte
	if n.parent == nil {
		d = v.dirEntry(d, padName(v.Label), 0x08, 0, 0)
	} else {
		d = v.dirEntry(d, padName("."), 0x10, n.first, 0)
		up := n.parent.first
		if n.parent.parent == nil {
			up = 0 // the specification's name for the root
		}
		d = v.dirEntry(d, padName(".."), 0x10, up, 0)
	}
	for _, c := range n.children {
		d = appendLongName(d, path.Base(c.entry.Path), c.short)
		attr := byte(0x20)
		if c.isDir() {
			attr = 0x10
		}
		d = v.dirEntry(d, c.short, attr, c.first, uint32(c.entry.Size))
	}
	return d
}

func (v *volume) dirEntry(d []byte, name [11]byte, attr byte, first, size uint32) []byte {
	t := v.Time.UTC()
	date := uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	clock := uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
	le := binary.LittleEndian
	d = append(d, name[:]...)
	d = append(d, attr, 0, 0)
	d = le.AppendUint16(d, clock) // created
	d = le.AppendUint16(d, date)
	d = le.AppendUint16(d, date) // accessed
	d = le.AppendUint16(d, uint16(first>>16))
	d = le.AppendUint16(d, clock) // written
	d = le.AppendUint16(d, date)
	d = le.AppendUint16(d, uint16(first))
	return le.AppendUint32(d, size)
}
