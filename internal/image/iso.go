package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// Geometry of a disc (ECMA-119, El Torito 1.0).
const (
	isoSector   = 2048
	isoPrimary  = 16 // sectors of the volume descriptors and what follows them
	isoBoot     = 17
	isoEnd      = 18
	isoCatalog  = 19
	isoTableLE  = 20
	isoTableBE  = 21
	isoFirstDir = 22
)

// SeedFile is where the seed partition's file system lies on a disc: drives have
// no partitions.
const SeedFile = "phase/seed.squashfs"

// An ISO is a disc that UEFI machines start from, made of a raw image. The disc
// holds the image's EFI system partition as it is, as the boot image of El Torito
// (UEFI 2.10, 13.3.2) and as a partition, should the disc be written to a stick;
// and its seed partition. The disc's own directory names the files inside the
// system partition where they lie, so nothing is there twice. The cache is left
// out: discs cannot be written to.
type ISO struct {
	Label string    // volume identifier: at most 32 characters A–Z, 0–9, "_"
	Name  string    // what the identifiers are derived from
	Time  time.Time // every date on the disc
}

// isoNode is a file or directory of the disc.
type isoNode struct {
	name     string // as Rock Ridge has it
	id       string // as ECMA-119 wants it
	dir      bool
	children []*isoNode
	parent   *isoNode
	at       int64 // first sector
	size     int64 // bytes
	number   int   // of a directory in the path table
}

// Write writes the disc to w, which must read as zeros, and returns its size. raw
// is a disk image of size bytes that package system has written.
func (d ISO) Write(w io.WriterAt, raw io.ReaderAt, size int64) (int64, error) {
	if len(d.Label) == 0 || len(d.Label) > 32 || !isShort(strings.ReplaceAll(d.Label, "-", "!"), "") {
		return 0, fmt.Errorf("image: iso: bad volume label %q", d.Label)
	}
	from, err := bootPartitions(raw, size)
	if err != nil {
		return 0, err
	}
	to, total, err := Layout(from)
	if err != nil {
		return 0, err
	}
	root, err := d.tree(io.NewSectionReader(raw, from[0].Offset, from[0].Size), to)
	if err != nil {
		return 0, err
	}
	dirs, err := layoutDirs(root)
	if err != nil {
		return 0, err
	}
	if err := d.writeVolume(w, root, dirs, to[0], total); err != nil {
		return 0, fmt.Errorf("image: writing iso: %w", err)
	}
	if err := WriteGPT(w, DeriveGUID(d.Name, "iso"), to, total); err != nil {
		return 0, err
	}
	for i := range from {
		part := struct{ io.Reader }{io.NewSectionReader(raw, from[i].Offset, from[i].Size)}
		if _, err := io.CopyBuffer(&sparseWriter{w: w, at: to[i].Offset}, part, make([]byte, 64<<10)); err != nil {
			return 0, fmt.Errorf("image: writing iso: %w", err)
		}
	}
	return total, nil
}

// bootPartitions are the two that a disc is made of.
func bootPartitions(raw io.ReaderAt, size int64) ([]Partition, error) {
	all, err := ReadGPT(raw, size)
	if err != nil {
		return nil, err
	}
	var found []Partition
	for _, label := range []string{"phase-esp", "phase-seed"} {
		i := slices.IndexFunc(all, func(p Partition) bool { return p.Label == label })
		if i < 0 {
			return nil, fmt.Errorf("image: %w: there is no partition %s", ErrNoDisk, label)
		}
		found = append(found, all[i])
	}
	return found, nil
}

// Boots lists the architectures that a raw image of size bytes starts, by the
// loaders that firmware looks for on removable media (UEFI 2.10, 3.5.1.1): arm64,
// x86_64, or both.
func Boots(raw io.ReaderAt, size int64) ([]string, error) {
	parts, err := bootPartitions(raw, size)
	if err != nil {
		return nil, err
	}
	files, err := readFAT32(io.NewSectionReader(raw, parts[0].Offset, parts[0].Size), parts[0].Size)
	if err != nil {
		return nil, err
	}
	var arches []string
	for _, loader := range [][2]string{{"EFI/BOOT/BOOTAA64.EFI", "arm64"}, {"EFI/BOOT/BOOTX64.EFI", "x86_64"}} {
		if slices.ContainsFunc(files, func(f fatFile) bool { return f.path == loader[0] }) {
			arches = append(arches, loader[1])
		}
	}
	return arches, nil
}

// tree is the disc's directory: what is in the system partition, and the seed.
func (d ISO) tree(esp io.ReaderAt, parts []Partition) (*isoNode, error) {
	files, err := readFAT32(esp, parts[0].Size)
	if err != nil {
		return nil, err
	}
	root := &isoNode{dir: true}
	root.parent = root
	for _, f := range files {
		at := parts[0].Offset + f.offset
		if at%isoSector != 0 {
			return nil, fmt.Errorf("image: iso: %s does not begin with a sector of the disc", f.path)
		}
		root.add(f.path, f.dir, at, f.size)
	}
	root.add(SeedFile, false, parts[1].Offset, parts[1].Size)
	return root, root.sort()
}

// add makes a node, and the directories above it.
func (n *isoNode) add(name string, dir bool, at, size int64) {
	for {
		first, rest, deeper := strings.Cut(name, "/")
		i := slices.IndexFunc(n.children, func(c *isoNode) bool { return c.name == first })
		if i < 0 {
			n.children = append(n.children, &isoNode{name: first, dir: deeper || dir, parent: n})
			i = len(n.children) - 1
		}
		n = n.children[i]
		if !deeper {
			break
		}
		name = rest
	}
	if !dir {
		n.at, n.size = at/isoSector, size
	}
}

// sort names the children as ECMA-119 wants them and puts them in its order.
func (n *isoNode) sort() error {
	seen := map[string]bool{}
	for _, c := range n.children {
		c.id = isoName(c.name, c.dir)
		if seen[c.id] || len(c.id) > 32 {
			return fmt.Errorf("image: iso: the name %q cannot stand beside others", c.name)
		}
		seen[c.id] = true
		if err := c.sort(); err != nil {
			return err
		}
	}
	slices.SortFunc(n.children, func(a, b *isoNode) int { return strings.Compare(a.id, b.id) })
	return nil
}

// isoName is a name of interchange level 2: one dot, capitals, digits, "_", and a
// version. Whoever knows Rock Ridge sees the real one.
func isoName(name string, dir bool) string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
	if dir {
		return plain
	}
	if ext := path.Ext(name); len(ext) > 1 {
		plain = plain[:len(plain)-len(ext)] + "." + plain[len(plain)-len(ext)+1:]
	} else {
		plain += "."
	}
	return plain + ";1"
}

// layoutDirs places the directories, parents first, and returns them in the path
// table's order: by level, then by parent, then by name.
func layoutDirs(root *isoNode) ([]*isoNode, error) {
	dirs, next := []*isoNode{root}, int64(isoFirstDir)
	for i := 0; i < len(dirs); i++ {
		n := dirs[i]
		n.number = i + 1
		n.at = next
		n.size = int64(len(ISO{}.directory(n)))
		next += n.size / isoSector
		for _, c := range n.children {
			if c.dir {
				dirs = append(dirs, c)
			}
		}
	}
	if next*isoSector > PartitionAlign || len(pathTable(dirs, binary.LittleEndian)) > isoSector {
		return nil, errors.New("image: iso: too many directories")
	}
	return dirs, nil
}

func (d ISO) writeVolume(w io.WriterAt, root *isoNode, dirs []*isoNode, esp Partition, total int64) error {
	blocks := []struct {
		sector int64
		data   []byte
	}{
		{isoPrimary, d.primary(root, dirs, total)},
		{isoBoot, bootRecord()},
		{isoEnd, append([]byte{255}, "CD001\x01"...)},
		{isoCatalog, bootCatalog(esp)},
		{isoTableLE, pathTable(dirs, binary.LittleEndian)},
		{isoTableBE, pathTable(dirs, binary.BigEndian)},
	}
	for _, b := range blocks {
		if _, err := w.WriteAt(b.data, b.sector*isoSector); err != nil {
			return err
		}
	}
	for _, n := range dirs {
		if _, err := w.WriteAt(d.directory(n), n.at*isoSector); err != nil {
			return err
		}
	}
	return nil
}

// primary is the volume descriptor (ECMA-119, 8.4).
func (d ISO) primary(root *isoNode, dirs []*isoNode, total int64) []byte {
	b := append([]byte{1}, "CD001\x01\x00"...)
	b = append(b, padded("", 32)...)
	b = append(b, padded(d.Label, 32)...)
	b = append(b, make([]byte, 8)...)
	b = both32(b, uint32(total/isoSector))
	b = append(b, make([]byte, 32)...)
	b = both16(both16(both16(b, 1), 1), isoSector)
	b = both32(b, uint32(len(pathTable(dirs, binary.LittleEndian))))
	b = binary.LittleEndian.AppendUint32(b, isoTableLE)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, isoTableBE)
	b = append(b, 0, 0, 0, 0)
	b = append(b, d.record(root, "\x00", nil)...)
	b = append(b, padded("", 128)...)           // set
	b = append(b, padded("", 128)...)           // publisher
	b = append(b, padded("", 128)...)           // preparer
	b = append(b, padded("PHASE BOOT", 128)...) // application
	b = append(b, padded("", 37+37+37)...)      // files with its rights
	stamp := append([]byte(d.Time.UTC().Format("20060102150405")), "00\x00"...)
	never := append([]byte("0000000000000000"), 0)
	b = append(b, slices.Concat(stamp, stamp, never, stamp)...) // created, changed, expires, effective
	return append(b, 1)
}

func padded(s string, n int) []byte { return []byte(s + strings.Repeat(" ", n-len(s))) }

func both16(b []byte, v uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, v), v)
}

func both32(b []byte, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, v), v)
}

// bootRecord points to the boot catalog (El Torito, figure 7).
func bootRecord() []byte {
	b := append([]byte{0}, "CD001\x01EL TORITO SPECIFICATION"...)
	b = append(b, make([]byte, 0x47-len(b))...)
	return binary.LittleEndian.AppendUint32(b, isoCatalog)
}

// bootCatalog names one boot image, for EFI, that is not an emulated floppy. Its
// number of sectors does not fit in the field; zero lets it reach to the disc's
// end, and the file system inside knows its own size.
func bootCatalog(esp Partition) []byte {
	const efi = 0xef
	b := make([]byte, 64)
	b[0], b[1] = 1, efi
	copy(b[4:], "PHASE BOOT")
	b[30], b[31] = 0x55, 0xaa
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += binary.LittleEndian.Uint16(b[i:])
	}
	binary.LittleEndian.PutUint16(b[28:], -sum)
	b[32] = 0x88
	binary.LittleEndian.PutUint32(b[40:], uint32(esp.Offset/isoSector))
	return b
}

func pathTable(dirs []*isoNode, order binary.AppendByteOrder) []byte {
	var b []byte
	for _, n := range dirs {
		id := n.id
		if n.parent == n {
			id = "\x00"
		}
		b = append(b, byte(len(id)), 0)
		b = order.AppendUint32(b, uint32(n.at))
		b = order.AppendUint16(b, uint16(n.parent.number))
		b = append(b, id...)
		if len(id)%2 == 1 {
			b = append(b, 0)
		}
	}
	return b
}

// directory is the records of a directory, in whole sectors. A record does not
// reach into the next one.
func (d ISO) directory(n *isoNode) []byte {
	var self []byte
	if n.parent == n {
		self = append([]byte("SP\x07\x01\xbe\xef\x00"), "ER\x12\x01\x0a\x00\x00\x01RRIP_1991A"...) // SUSP and Rock Ridge are used
	}
	records := [][]byte{d.record(n, "\x00", self), d.record(n.parent, "\x01", nil)}
	for _, c := range n.children {
		name := append([]byte{'N', 'M', byte(5 + len(c.name)), 1, 0}, c.name...)
		records = append(records, d.record(c, c.id, name))
	}
	var b []byte
	for _, r := range records {
		if room := isoSector - len(b)%isoSector; room < len(r) {
			b = append(b, make([]byte, room)...)
		}
		b = append(b, r...)
	}
	return append(b, make([]byte, (isoSector-len(b)%isoSector)%isoSector)...)
}

// record is a directory record (ECMA-119, 9.1) with system use entries of SUSP.
func (d ISO) record(n *isoNode, id string, use []byte) []byte {
	t := d.Time.UTC()
	flags := byte(0)
	if n.dir {
		flags = 2
	}
	b := []byte{0, 0}
	b = both32(b, uint32(n.at))
	b = both32(b, uint32(n.size))
	b = append(b, byte(t.Year()-1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0)
	b = append(b, flags, 0, 0)
	b = both16(b, 1)
	b = append(b, byte(len(id)))
	b = append(b, id...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b = append(b, use...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b[0] = byte(len(b))
	return bytes.Clone(b)
}
