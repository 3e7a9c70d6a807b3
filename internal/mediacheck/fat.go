package mediacheck

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/phasebased/phase/blob"
)

const (
	maxFAT      = 64 << 20 // bytes of a table: 64 GiB in clusters of 4 KiB
	maxDirBytes = 2 << 20
	maxDepth    = 8
	maxFiles    = 4096
	endOfChain  = 0x0ffffff8
	chainMask   = 0x0fffffff
)

// fat is a FAT32 file system that is read (Microsoft FAT specification 1.03).
type fat struct {
	r       io.ReaderAt
	table   []byte
	cluster int64 // bytes
	data    int64 // where cluster 2 begins
	count   uint32
	root    uint32
	entries int   // read so far
	left    int64 // bytes that may still be read: no cluster has two owners
}

func openFAT(r io.ReaderAt, size int64) (*fat, error) {
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, ErrBoot.Of("boot partition", "%v", err)
	}
	le := binary.LittleEndian
	perCluster, reserved, copies := int64(b[13]), int64(le.Uint16(b[14:])), int64(b[16])
	sectors, perFAT := int64(le.Uint32(b[32:])), int64(le.Uint32(b[36:]))
	switch {
	case le.Uint16(b[11:]) != sector || b[510] != 0x55 || b[511] != 0xaa || le.Uint16(b[22:]) != 0 || le.Uint16(b[17:]) != 0:
		return nil, ErrBoot.Of("boot partition", "it is no FAT32 file system")
	case perCluster == 0 || perCluster&(perCluster-1) != 0 || reserved == 0 || copies != 2:
		return nil, ErrBoot.Of("boot partition", "its geometry is unusual")
	case sectors*sector > size || perFAT == 0 || perFAT*sector > maxFAT || reserved+copies*perFAT >= sectors:
		return nil, ErrBoot.Of("boot partition", "it is larger than its partition")
	}
	start := reserved + copies*perFAT
	f := &fat{r: r, cluster: perCluster * sector, data: start * sector, count: uint32((sectors - start) / perCluster), root: le.Uint32(b[44:])}
	if int64(f.count)+2 > perFAT*sector/4 {
		return nil, ErrBoot.Of("boot partition", "its table is too short")
	}
	f.left = int64(f.count) * f.cluster
	second := make([]byte, perFAT*sector)
	f.table = make([]byte, perFAT*sector)
	for i, t := range [][]byte{f.table, second} {
		if _, err := r.ReadAt(t, (reserved+int64(i)*perFAT)*sector); err != nil {
			return nil, ErrBoot.Of("boot partition", "%v", err)
		}
	}
	if !slices.Equal(f.table, second) {
		return nil, ErrBoot.Of("boot partition", "the two copies of its table differ")
	}
	return f, nil
}

// chain returns the clusters from first on, at most most of them.
func (f *fat) chain(first uint32, most int64) ([]uint32, error) {
	var list []uint32
	for c := first; c < endOfChain; {
		if c < 2 || c >= f.count+2 || int64(len(list)) >= most {
			return nil, ErrBoot.Of("boot partition", "a chain of clusters leads nowhere")
		}
		list = append(list, c)
		c = binary.LittleEndian.Uint32(f.table[4*c:]) & chainMask
	}
	return list, nil
}

// copy writes the first size bytes of a chain.
func (f *fat) copy(w io.Writer, clusters []uint32, size int64) error {
	if f.left -= int64(len(clusters)) * f.cluster; f.left < 0 {
		return ErrBoot.Of("boot partition", "its files are larger than it is")
	}
	buf := make([]byte, f.cluster)
	for _, c := range clusters {
		part := buf[:min(size, f.cluster)]
		if _, err := f.r.ReadAt(part, f.data+int64(c-2)*f.cluster); err != nil {
			return ErrBoot.Of("boot partition", "%v", err)
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		size -= int64(len(part))
	}
	return nil
}

// ESPFile is a file on the boot partition.
type ESPFile struct {
	Path   string      `json:"path"` // from "/" on
	Size   int64       `json:"size"`
	SHA256 blob.Digest `json:"sha256"`
}

// files reads everything, sorted by path. tell is told of bytes that were read.
func (f *fat) files(tell func(n int64) error) ([]ESPFile, error) {
	var list []ESPFile
	err := f.walk("", f.root, 0, func(path string, first uint32, size int64) error {
		if len(list) == maxFiles {
			return ErrBoot.Of("boot partition", "more than %d files", maxFiles)
		}
		h := sha256.New()
		if err := f.read(h, path, first, size); err != nil {
			return err
		}
		list = append(list, ESPFile{path, size, blob.FromSum([sha256.Size]byte(h.Sum(nil)))})
		return tell(size)
	})
	slices.SortFunc(list, func(a, b ESPFile) int { return strings.Compare(a.Path, b.Path) })
	return list, err
}

func (f *fat) read(w io.Writer, path string, first uint32, size int64) error {
	if size == 0 {
		return nil
	}
	need := (size + f.cluster - 1) / f.cluster
	clusters, err := f.chain(first, need)
	if err != nil {
		return err
	}
	if int64(len(clusters)) != need {
		return ErrBoot.Of("boot partition", "%.200q is cut short", path)
	}
	return f.copy(w, clusters, size)
}

// walk calls visit for every file below the directory that begins at a cluster.
func (f *fat) walk(dir string, first uint32, depth int, visit func(path string, first uint32, size int64) error) error {
	if depth > maxDepth {
		return ErrBoot.Of("boot partition", "folders are more than %d deep", maxDepth)
	}
	clusters, err := f.chain(first, maxDirBytes/f.cluster)
	if err != nil {
		return err
	}
	var raw strings.Builder
	if err := f.copy(&raw, clusters, int64(len(clusters))*f.cluster); err != nil {
		return err
	}
	var long []uint16 // of the name that precedes its entry
	for e := range slices.Chunk([]byte(raw.String()), 32) {
		if e[0] == 0 {
			return nil
		}
		if f.entries++; f.entries > 1<<16 || len(long) > 255+13 {
			return ErrBoot.Of("boot partition", "too many names, or one that is too long")
		}
		switch {
		case e[0] == 0xe5, e[11]&0x3f != 0x0f && (e[11]&0x08 != 0 || e[0] == '.'): // deleted; the label; the folder itself, its parent
			long = nil
		case e[11]&0x3f == 0x0f:
			long = append(longPart(e), long...)
		default:
			if err := f.entry(dir, e, long, depth, visit); err != nil {
				return err
			}
			long = nil
		}
	}
	return nil
}

// entry follows the entry of a file or folder, which may have a long name.
func (f *fat) entry(dir string, e []byte, long []uint16, depth int, visit func(path string, first uint32, size int64) error) error {
	name := shortName(e)
	if long != nil {
		name = longName(long)
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") {
		return ErrBoot.Of("boot partition", "the name %.80q is not allowed", name)
	}
	start := uint32(binary.LittleEndian.Uint16(e[20:]))<<16 | uint32(binary.LittleEndian.Uint16(e[26:]))
	if e[11]&0x10 != 0 {
		return f.walk(dir+"/"+name, start, depth+1, visit)
	}
	return visit(dir+"/"+name, start, int64(binary.LittleEndian.Uint32(e[28:])))
}

// longPart is the 13 characters of a long name that one entry holds.
func longPart(e []byte) []uint16 {
	var part []uint16
	for _, span := range [][2]int{{1, 11}, {14, 26}, {28, 32}} {
		for i := span[0]; i < span[1]; i += 2 {
			part = append(part, binary.LittleEndian.Uint16(e[i:]))
		}
	}
	return part
}

func longName(units []uint16) string {
	if i := slices.Index(units, 0); i >= 0 {
		units = units[:i]
	}
	return string(utf16.Decode(units))
}

// shortName is the 8.3 name, with the case that Windows NT notes in byte 12.
func shortName(e []byte) string {
	base, ext := strings.TrimRight(string(e[:8]), " "), strings.TrimRight(string(e[8:11]), " ")
	if e[12]&0x08 != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&0x10 != 0 {
		ext = strings.ToLower(ext)
	}
	if ext != "" {
		base += "." + ext
	}
	return base
}
