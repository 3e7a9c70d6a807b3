package stick

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/disks"
)

// A Source is a raw image, or a stick as the image that was written to it: a stick
// has the partition table's second copy at its own end, which is not where the image
// has it. All else is the same, so what this reads can be compared with the image by
// digest, as long as no machine has used the stick: then the cache partition changes.
type Source struct {
	Size       int64 // of the image
	Medium     int64 // of the file or the stick
	Device     bool  // read from a disk, past this machine's caches
	Partitions []Partition

	f           *os.File
	front, back []byte // the ends, as the image has them
}

// OpenSource opens an image or a disk to read it. It refuses what has no complete
// partition table; whether the image is one of ours is not looked at.
func OpenSource(ctx context.Context, path string) (*Source, error) {
	s, err := openSource(ctx, path)
	if err != nil {
		return nil, err
	}
	t, err := readTable(sectors{s.f}, s.Medium)
	if err != nil {
		s.f.Close()
		return nil, &Error{Reason: BrokenImage, Path: path, Text: "has no complete partition table", Err: err}
	}
	s.Partitions, s.Size = t.parts, s.Medium
	if n := len(t.parts); n > 0 { // images end a MiB behind their last partition
		s.Size = min(s.Medium, t.parts[n-1].Offset+t.parts[n-1].Size+edge)
	}
	s.front, s.back = t.ends(s.Size)
	return s, nil
}

func openSource(ctx context.Context, path string) (*Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, imageError(path, err)
	}
	if info.Mode().IsRegular() {
		f, err := os.Open(path)
		if err != nil {
			return nil, imageError(path, err)
		}
		return &Source{f: f, Medium: info.Size()}, nil
	}
	d, part, err := disks.Find(ctx, path)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, refuse(Unsupported, path, "cannot be read by this program: it knows the disks of Linux and macOS only")
	}
	if err != nil {
		return nil, &Error{Reason: NotDevice, Path: path, Text: "is neither a file nor a disk", Err: err}
	}
	if part != "" {
		return nil, notDisk(d, part)
	}
	f, err := openToRead(d)
	if err != nil {
		return nil, err
	}
	return &Source{f: f, Medium: d.Size, Device: true}, nil
}

// Close closes the file or disk.
func (s *Source) Close() error { return s.f.Close() }

// ReadAt reads the image. From a disk, whole pages into memory that begins at one are
// read directly, and the rest by way of a copy.
func (s *Source) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 || at >= s.Size {
		return 0, io.EOF
	}
	short := int64(len(p)) > s.Size-at
	if short {
		p = p[:s.Size-at]
	}
	n, err := sectors{s.f}.ReadAt(p, at)
	for _, e := range []piece{{0, s.front}, {s.Size - int64(len(s.back)), s.back}} {
		from, to := max(e.at, at), min(e.at+int64(len(e.data)), at+int64(n))
		if from < to {
			copy(p[from-at:to-at], e.data[from-e.at:to-e.at])
		}
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Digest sums up n bytes of the image from a place on; progress may be nil.
func (s *Source) Digest(ctx context.Context, at, n int64, progress func(done, total int64)) (blob.Digest, error) {
	sum, buf := sha256.New(), aligned(chunk)
	for done := int64(0); done < n; {
		if err := ctx.Err(); err != nil {
			return blob.Digest{}, err
		}
		p := buf[:min(chunk, n-done)]
		got, err := s.ReadAt(p, at+done)
		if got < len(p) {
			return blob.Digest{}, errors.Join(err, io.ErrUnexpectedEOF)
		}
		sum.Write(p)
		done += int64(got)
		if progress != nil {
			progress(done, n)
		}
	}
	return blob.FromSum([32]byte(sum.Sum(nil))), nil
}

// sectors reads a file that may be open for direct reads: in whole sectors, into
// memory that begins at a page.
type sectors struct{ f *os.File }

func (s sectors) ReadAt(p []byte, at int64) (int, error) {
	if at%sector == 0 && len(p)%sector == 0 && isAligned(p) {
		return s.f.ReadAt(p, at)
	}
	begin := at / sector * sector
	end := (at + int64(len(p)) + sector - 1) / sector * sector
	buf := aligned(int(end - begin))
	n, err := s.f.ReadAt(buf, begin)
	got := copy(p, buf[min(int(at-begin), n):n])
	if got == len(p) {
		err = nil
	}
	return got, err
}
