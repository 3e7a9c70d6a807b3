package stick

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// An Image is a raw image that is fit for a stick.
type Image struct {
	Path       string
	Size       int64
	Partitions []Partition

	f      *os.File
	opened fs.FileInfo
	table  *table
}

// bootLabel is the name that the boot partition of every image of ours has.
const bootLabel = "phase-esp"

// typeESP is an EFI system partition, as it is on disk.
var typeESP = [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

// OpenImage opens an image and refuses what is none, or would not start.
func OpenImage(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, imageError(path, err)
	}
	m := &Image{Path: path, f: f}
	if err := m.examine(); err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

func imageError(path string, err error) *Error {
	text := "cannot be read"
	if errors.Is(err, fs.ErrNotExist) {
		text = "does not exist"
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &Error{Reason: NoImage, Path: path, Text: text, Err: err}
}

// Close closes the file.
func (m *Image) Close() error { return m.f.Close() }

func (m *Image) examine() error {
	info, err := m.f.Stat()
	if err != nil {
		return imageError(m.Path, err)
	}
	if !info.Mode().IsRegular() {
		return refuse(NoImage, m.Path, "is no file")
	}
	m.Size, m.opened = info.Size(), info
	head := make([]byte, 32<<10+6)
	n, err := m.f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return imageError(m.Path, err)
	}
	if format := foreign(head[:n]); format != "" {
		return refuse(NoImage, m.Path, "is %s, not a raw image", format)
	}
	if m.table, err = readTable(m.f, m.Size); err != nil {
		reason := BrokenImage
		if n < 2*sector || head[510] != 0x55 || head[511] != 0xaa {
			reason = NoImage
		}
		return &Error{Reason: reason, Path: m.Path, Text: "has no complete partition table", Err: err}
	}
	m.Partitions = m.table.parts
	return m.bootable()
}

// unchanged refuses an image that somebody has written to since it was opened.
func (m *Image) unchanged() error {
	now, err := m.f.Stat()
	if err != nil {
		return imageError(m.Path, err)
	}
	if now.Size() != m.Size || !now.ModTime().Equal(m.opened.ModTime()) {
		return refuse(ImageChanged, m.Path, "has changed while it was written")
	}
	return nil
}

// bootable refuses an image without a boot partition of ours.
func (m *Image) bootable() error {
	for _, p := range m.Partitions {
		if p.Offset < edge || p.Offset+p.Size > m.Size-edge {
			return refuse(NoImage, m.Path, "has a partition in its first or last MiB, which no image of Phase Boot has")
		}
	}
	for _, p := range m.Partitions {
		if p.Label != bootLabel || p.Type != typeESP {
			continue
		}
		boot := make([]byte, sector)
		if _, err := m.f.ReadAt(boot, p.Offset); err != nil {
			return imageError(m.Path, err)
		}
		if !bytes.Equal(boot[510:], []byte{0x55, 0xaa}) || !bytes.HasPrefix(boot[54:], []byte("FAT")) && !bytes.HasPrefix(boot[82:], []byte("FAT32")) {
			return refuse(BrokenImage, m.Path, "has a boot partition without a file system")
		}
		return nil
	}
	return refuse(NoImage, m.Path, "has no partition %s: it is no image of Phase Boot", bootLabel)
}

// foreign names formats that people mistake for raw images.
func foreign(head []byte) string {
	for _, f := range []struct{ magic, name string }{
		{"QFI\xfb", "a QCOW2 image"}, {"KDMV", "a VMDK image"}, {"# Disk DescriptorFile", "a VMDK image"},
		{"vhdxfile", "a VHDX image"}, {"conectix", "a VHD image"}, {"\x28\xb5\x2f\xfd", "compressed by zstd"},
		{"\x1f\x8b", "compressed by gzip"}, {"\xfd7zXZ\x00", "compressed by xz"}, {"BZh", "compressed by bzip2"}, {"PK\x03\x04", "a ZIP archive"},
	} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return f.name
		}
	}
	return ""
}

// heads are where the partitions begin. What is there makes them file systems, and
// is written last.
func heads(parts []Partition) []extent {
	var out []extent
	for _, p := range parts {
		out = append(out, extent{p.Offset, min(p.Size, headSize)})
	}
	return out
}

// headSize covers what makes a partition a file system to whoever looks for one:
// boot sectors of FAT and their copies, superblocks of ext4, squashfs and EROFS.
const headSize = 64 << 10

// An extent is a range of bytes.
type extent struct{ at, n int64 }

// body is the image as it is written first: without its ends and heads, which are
// zeros. A part of a stick that is larger than the image has no ends of the image.
func (m *Image) body() *masked {
	hidden := append([]extent{{0, edge}, {m.Size - edge, edge}}, heads(m.Partitions)...)
	return &masked{r: m.f, hidden: hidden}
}

// masked reads zeros in some places.
type masked struct {
	r      io.ReaderAt
	hidden []extent
}

// ReadAt reads like the file, whose hidden places are zeros.
func (m *masked) ReadAt(p []byte, at int64) (int, error) {
	n, err := m.r.ReadAt(p, at)
	m.hide(p[:n], at)
	return n, err
}

// hide clears what of p, the bytes at a place, is hidden.
func (m *masked) hide(p []byte, at int64) {
	for _, e := range m.hidden {
		from, to := max(e.at, at), min(e.at+e.n, at+int64(len(p)))
		if from < to {
			clear(p[from-at : to-at])
		}
	}
}
