package image

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"math"
	"time"
)

// cpioTrailer is the name of the entry that ends an archive.
const cpioTrailer = "TRAILER!!!"

// WriteCPIO writes the tree as a cpio archive of the "new ASCII" form, the one
// the kernel unpacks as an initramfs (Documentation/driver-api/early-userspace/
// buffer-format.rst). All owners are root and all dates are mtime. The length is
// a multiple of 512, so archives may be written one after the other.
func WriteCPIO(w io.Writer, t *Tree, mtime time.Time) error {
	entries, err := t.Entries()
	if err != nil {
		return err
	}
	stamp, err := cpioTime(mtime)
	if err != nil {
		return err
	}
	bw := bufio.NewWriterSize(w, 1<<18)
	c := &cpioWriter{w: bw, mtime: stamp}
	for _, e := range entries {
		if err := c.entry(e); err != nil {
			return err
		}
	}
	c.header(cpioHeader{nlink: 1}, cpioTrailer)
	c.pad(512)
	if c.err != nil {
		return fmt.Errorf("image: writing cpio: %w", c.err)
	}
	return bw.Flush()
}

func cpioTime(t time.Time) (uint32, error) {
	s := t.Unix()
	if s < 0 || s > math.MaxUint32 {
		return 0, fmt.Errorf("image: time %v does not fit a cpio header", t)
	}
	return uint32(s), nil
}

// cpioWriter keeps the position, because names and contents are aligned, and the
// first write error.
type cpioWriter struct {
	w     io.Writer
	pos   int64
	ino   uint32
	mtime uint32
	err   error
}

type cpioHeader struct {
	ino, mode, nlink, mtime, size, major, minor uint32
}

func (c *cpioWriter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.pos += int64(n)
	c.err = err
	return n, err
}

func (c *cpioWriter) entry(e *Entry) error {
	size := e.Size
	if e.Link != "" {
		size = int64(len(e.Link))
	}
	if e.Path == cpioTrailer {
		return &PathError{Path: e.Path, Reason: "the name that ends a cpio archive"}
	}
	if size > math.MaxUint32 {
		return &PathError{Path: e.Path, Reason: "larger than 4 GiB, which cpio cannot hold"}
	}
	mode, err := unixMode(e)
	if err != nil {
		return err
	}
	nlink := uint32(1)
	if e.Mode.IsDir() {
		nlink = 2
	}
	c.ino++
	c.header(cpioHeader{ino: c.ino, mode: mode, nlink: nlink, mtime: c.mtime,
		size: uint32(size), major: e.Major, minor: e.Minor}, e.Path)
	if e.Link != "" {
		io.WriteString(c, e.Link)
	} else if err := copyEntry(c, e); err != nil {
		return err
	}
	c.pad(4)
	return c.err
}

func (c *cpioWriter) header(h cpioHeader, name string) {
	fmt.Fprintf(c, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		h.ino, h.mode, 0, 0, h.nlink, h.mtime, h.size, 0, 0, h.major, h.minor, len(name)+1, 0, name)
	c.pad(4)
}

func (c *cpioWriter) pad(align int64) {
	var zero [512]byte
	c.Write(zero[:(align-c.pos%align)%align])
}

// copyEntry copies the content of a regular file; other kinds have none.
func copyEntry(w io.Writer, e *Entry) error {
	if !e.Mode.IsRegular() || e.Size == 0 {
		return nil
	}
	rc, err := e.Open()
	if err != nil {
		return fmt.Errorf("image: opening %s: %w", e.Path, err)
	}
	defer rc.Close()
	n, err := io.Copy(w, rc)
	if err != nil {
		return fmt.Errorf("image: copying %s: %w", e.Path, err)
	}
	if n != e.Size {
		return fmt.Errorf("image: copying %s: %d bytes, expected %d", e.Path, n, e.Size)
	}
	return nil
}

// Type bits of st_mode, from <sys/stat.h>; written out because the package also
// builds where syscall does not have them.
const (
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modeChar    = 0o020000
)

func unixMode(e *Entry) (uint32, error) {
	perm := uint32(e.Mode.Perm())
	switch e.Mode.Type() {
	case 0:
		return modeRegular | perm, nil
	case fs.ModeDir:
		return modeDir | perm, nil
	case fs.ModeSymlink:
		return modeSymlink | perm, nil
	case fs.ModeDevice | fs.ModeCharDevice:
		return modeChar | perm, nil
	}
	return 0, &PathError{Path: e.Path, Reason: "unsupported file type " + e.Mode.Type().String()}
}
