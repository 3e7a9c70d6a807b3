package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf16"
)

// ErrFAT is wrapped by the errors of readFAT32.
var ErrFAT = errors.New("not a FAT32 file system as this project writes it")

// Bounds on a file system that is read.
const (
	maxFATTable = 16 << 20 // bytes
	maxFATFiles = 4096
	maxFATDepth = 8
)

// fatFile is a file or directory of a FAT32 file system. Its bytes lie together.
type fatFile struct {
	path         string
	dir          bool
	offset, size int64 // from the beginning of the file system; 0 of directories
}

// fatReader reads a FAT32 file system whose files are contiguous.
type fatReader struct {
	r       io.ReaderAt
	size    int64
	cluster int64 // bytes
	data    int64 // offset of cluster 2
	table   []byte
	files   []fatFile
}

// readFAT32 lists the files of a file system of size bytes. A directory stands
// before what is in it.
func readFAT32(r io.ReaderAt, size int64) ([]fatFile, error) {
	f := &fatReader{r: r, size: size}
	root, err := f.open()
	if err == nil {
		err = f.walk(root, "", 0)
	}
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return f.files, nil
}

func fatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFAT, fmt.Sprintf(format, args...))
}

// open reads the boot sector and the first FAT, and returns the root's cluster.
func (f *fatReader) open() (uint32, error) {
	var b [sectorSize]byte
	if _, err := f.r.ReadAt(b[:], 0); err != nil {
		return 0, fmt.Errorf("%w: boot sector: %w", ErrFAT, err)
	}
	le := binary.LittleEndian
	perCluster, reserved, copies := int64(b[13]), int64(le.Uint16(b[14:])), int64(b[16])
	sectors, tableSectors := int64(le.Uint32(b[32:])), int64(le.Uint32(b[36:]))
	if b[510] != 0x55 || b[511] != 0xaa || le.Uint16(b[11:]) != sectorSize || perCluster == 0 || perCluster&(perCluster-1) != 0 ||
		reserved == 0 || copies == 0 || copies > 2 || tableSectors == 0 || tableSectors*sectorSize > maxFATTable || sectors*sectorSize > f.size {
		return 0, fatError("its boot sector")
	}
	f.cluster, f.data = perCluster*sectorSize, (reserved+copies*tableSectors)*sectorSize
	f.table = make([]byte, tableSectors*sectorSize)
	if _, err := f.r.ReadAt(f.table, reserved*sectorSize); err != nil {
		return 0, fmt.Errorf("%w: table: %w", ErrFAT, err)
	}
	return le.Uint32(b[44:]), nil
}

// extent is where a chain of clusters lies, which must be contiguous and inside.
func (f *fatReader) extent(first uint32) (offset, size int64, err error) {
	for at := first; ; at++ {
		if at < fatRoot || int64(at)*4+4 > int64(len(f.table)) {
			return 0, 0, fatError("cluster %d", at)
		}
		size += f.cluster
		next := binary.LittleEndian.Uint32(f.table[at*4:]) & 0x0fffffff
		if next >= 0x0ffffff8 {
			break
		}
		if next != at+1 {
			return 0, 0, fatError("a file is in pieces at cluster %d", at)
		}
	}
	offset = f.data + int64(first-fatRoot)*f.cluster
	if offset+size > f.size {
		return 0, 0, fatError("cluster %d lies outside", first)
	}
	return offset, size, nil
}

func (f *fatReader) walk(first uint32, dir string, depth int) error {
	offset, size, err := f.extent(first)
	if err != nil {
		return err
	}
	if size > maxFATDir || depth > maxFATDepth {
		return fatError("directory %q is too large or too deep", dir)
	}
	raw := make([]byte, size)
	if _, err := f.r.ReadAt(raw, offset); err != nil {
		return fmt.Errorf("%w: directory: %w", ErrFAT, err)
	}
	var long []uint16
	for ; len(raw) >= dirEntryLen && raw[0] != 0; raw = raw[dirEntryLen:] {
		e := raw[:dirEntryLen]
		switch attr := e[11]; {
		case e[0] == 0xe5: // deleted
			long = nil
		case attr&0x3f == 0x0f:
			long = append(longNamePart(e), long...)
			if len(long) > 20*13 {
				return fatError("a name of %q is too long", dir)
			}
		case attr&0x08 != 0 || e[0] == '.': // the label, "." and ".."
			long = nil
		default:
			if err := f.entry(e, entryName(e, long), dir, depth); err != nil {
				return err
			}
			long = nil
		}
	}
	return nil
}

func (f *fatReader) entry(e []byte, name, dir string, depth int) error {
	le := binary.LittleEndian
	first, size := uint32(le.Uint16(e[20:]))<<16|uint32(le.Uint16(e[26:])), int64(le.Uint32(e[28:]))
	file := fatFile{path: path.Join(dir, name), dir: e[11]&0x10 != 0, size: size}
	if len(f.files) == maxFATFiles || name == "" || strings.ContainsAny(name, "/\x00") {
		return fatError("too many files, or one named %q", name)
	}
	if file.dir {
		file.size = 0
		f.files = append(f.files, file)
		return f.walk(first, file.path, depth+1)
	}
	if size > 0 {
		offset, room, err := f.extent(first)
		if err != nil {
			return err
		}
		if size > room {
			return fatError("%s is longer than its clusters", file.path)
		}
		file.offset = offset
	}
	f.files = append(f.files, file)
	return nil
}

// longNamePart is the thirteen UTF-16 units of one entry, without what follows
// the name's end.
func longNamePart(e []byte) []uint16 {
	var units []uint16
	for _, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
		u := binary.LittleEndian.Uint16(e[at:])
		if u == 0 || u == 0xffff {
			break
		}
		units = append(units, u)
	}
	return units
}

func entryName(e []byte, long []uint16) string {
	if len(long) > 0 {
		return string(utf16.Decode(long))
	}
	base, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if ext != "" {
		base += "." + ext
	}
	return base
}
