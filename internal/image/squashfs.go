package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// Squashfs describes a compressed read-only file system.
type Squashfs struct {
	Time       time.Time // of every file and of the file system
	BlockSize  int       // bytes; 0 means 256 KiB
	Processors int       // 0 means all; does not change the result
}

// Write makes a squashfs of the tree at path, replacing what is there, with
// mksquashfs 4.5 or newer. Owners are root and there are no extended attributes.
//
// Data blocks are compressed here and not by mksquashfs, with the codec of package
// delta, so that a machine can make the same bytes again from a patch of their
// contents. The tables are not compressed, which costs 0.6 % of a Debian system.
//
// Equal files are stored twice: where it looks for duplicates among fragments that
// are not compressed, mksquashfs 4.5.1 now and then mixes up the ends of different
// files. So the result is checked against the tree.
func (s Squashfs) Write(ctx context.Context, path string, t *Tree) error {
	entries, err := t.Entries()
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return errors.New("image: squashfs: the tree is empty")
	}
	plain := path + ".plain"
	defer os.Remove(plain)
	for _, old := range []string{path, plain} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("image: squashfs: %w", err)
		}
	}
	if err := s.writePlain(ctx, plain, entries); err != nil {
		return err
	}
	err = s.pack(path, plain)
	if err == nil {
		err = checkSquashfs(path, entries)
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// writePlain makes a squashfs in which nothing is compressed.
func (s Squashfs) writePlain(ctx context.Context, path string, entries []*Entry) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := writeTar(w, entries, s.Time)
		w.CloseWithError(err)
		packed <- err
	}()
	err := runTool(ctx, "squashfs-tools", r, nil, "mksquashfs", s.args(path)...)
	r.Close() // releases the packer if the tool ended early
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		err = perr // the cause; the tool only saw its input end
	}
	return err
}

func (s Squashfs) pack(path, plain string) error {
	in, err := os.Open(plain)
	if err != nil {
		return fmt.Errorf("image: squashfs: %w", err)
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("image: squashfs: %w", err)
	}
	return errors.Join(packSquashfs(out, in, s.Processors), out.Close())
}

func (s Squashfs) args(path string) []string {
	stamp := strconv.FormatInt(s.Time.Unix(), 10)
	block := s.BlockSize
	if block == 0 {
		block = 256 << 10
	}
	args := []string{"-", path, "-tar", "-noappend", "-quiet", "-no-progress", "-no-xattrs", "-all-root",
		"-reproducible", "-mkfs-time", stamp, "-all-time", stamp, "-root-mode", "0755",
		"-comp", "zstd", "-noD", "-noF", "-noI", "-noId", "-no-duplicates", "-b", strconv.Itoa(block)}
	if s.Processors > 0 {
		args = append(args, "-processors", strconv.Itoa(s.Processors))
	}
	return args
}

// writeTar streams entries as a tar archive for a tool that builds a file system
// without root.
func writeTar(w io.Writer, entries []*Entry, mtime time.Time) error {
	tw := tar.NewWriter(w)
	for _, e := range entries {
		hdr := &tar.Header{Name: e.Path, Mode: int64(e.Mode.Perm()), ModTime: mtime, Format: tar.FormatPAX}
		switch e.Mode.Type() {
		case 0:
			hdr.Typeflag, hdr.Size = tar.TypeReg, e.Size
		case fs.ModeDir:
			hdr.Typeflag, hdr.Name = tar.TypeDir, e.Path+"/"
		case fs.ModeSymlink:
			// Of a target in a PAX record, mksquashfs 4.5.1 drops a leading "../".
			hdr.Typeflag, hdr.Linkname, hdr.Format = tar.TypeSymlink, e.Link, tar.FormatGNU
		default:
			return &PathError{Path: e.Path, Reason: "devices are only written to cpio archives"}
		}
		if err := tw.WriteHeader(hdr); err != nil {
			return fmt.Errorf("image: packing %s: %w", e.Path, err)
		}
		if err := copyEntry(tw, e); err != nil {
			return err
		}
	}
	return tw.Close()
}
