// Package diskformat writes a raw disk image in the formats of hypervisors:
// QCOW2, VMDK, VHD and VHDX.
//
// All writers are sparse, deterministic and of one pass. The source is read in
// the format's blocks, holes are skipped where the file system tells them, and
// blocks of zeros take no room. The same bytes give the same file: what these
// formats want of identifiers is derived from the content (so two different disks
// can be registered side by side), dates are the caller's. Memory is bounded by
// the format's tables: a few megabytes per TiB of disk.
//
// Trust: the content of the source is copied, never interpreted. What is written
// has its headers last, gets its name only when it is complete, and replaces
// nothing unless that is asked for.
package diskformat

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/guid"
)

// The formats.
const (
	QCOW2 = "qcow2" // QEMU, libvirt, UTM: version 3, clusters of 64 KiB
	VMDK  = "vmdk"  // VMware, VirtualBox, Parallels: one sparse file that can be written to
	// VMDKStream is the read-only, compressed VMDK that appliances (OVA) hold and
	// that uploads to ESXi take.
	VMDKStream = "vmdk-stream"
	VHD        = "vhd"  // Azure: dynamic
	VHDX       = "vhdx" // Hyper-V generation 2: dynamic
)

// MaxSize is the largest disk in bytes that all formats hold: 2040 GiB, VHD's.
const MaxSize = 2040 << 30

// Config says what to write.
type Config struct {
	Format string
	Out    string    // the file; its folder must exist
	Time   time.Time // of formats that hold a date: SOURCE_DATE_EPOCH
	// Replace lets an existing file be replaced, at once and only when the new one
	// is complete.
	Replace bool
	// Progress is told how many bytes of the source are done, of how many. It is
	// called from the goroutine of Write, often. Nil: nobody is told.
	Progress func(done, total int64)
}

// Formats are all of them.
func Formats() []string { return []string{QCOW2, VMDK, VMDKStream, VHD, VHDX} }

// A FormatError reports a format that this package does not write.
type FormatError struct{ Format string }

func (e *FormatError) Error() string { return fmt.Sprintf("unknown disk format %q", e.Format) }

// Hint names those that it does.
func (e *FormatError) Hint() string { return "Choose one of: " + strings.Join(Formats(), ", ") + "." }

// writer is one format: it is given the blocks that are not all zeros, in order,
// each of blockSize bytes, then the identifier of what it was given.
type writer interface {
	blockSize() int64
	block(index int64, data []byte) error
	finish(id guid.GUID) error
}

// derive makes an identifier for a purpose from 16 bytes: another one's, ordered.
func derive(id [16]byte, purpose string) guid.GUID {
	return guid.Of(sha256.Sum256(append([]byte("phase disk id\x00"+purpose+"\x00"), id[:]...)))
}

// Write writes size bytes of src as a disk. Sizes that the format cannot express
// are rounded up, with zeros: QCOW2 and VMDK to 512 bytes, VHD and VHDX to 1 MiB.
// Files are asked for their holes; another src is read in full.
func Write(ctx context.Context, src io.ReaderAt, size int64, c Config) error {
	if size <= 0 || size > MaxSize {
		return fmt.Errorf("a disk of %d bytes: it must have 1 to %d", size, int64(MaxSize))
	}
	return Produce(c.Out, c.Replace, func(f *os.File) error {
		out := &sink{w: f}
		w, err := newWriter(out, size, c)
		if err != nil {
			return err
		}
		if err := copyBlocks(ctx, w, source{src, size}, c.Progress); err != nil {
			return err
		}
		return f.Truncate(out.end)
	})
}

func newWriter(out *sink, size int64, c Config) (writer, error) {
	switch c.Format {
	case QCOW2:
		return newQCOW2(out, size), nil
	case VMDK:
		return newVMDK(out, size, filepath.Base(c.Out)), nil
	case VMDKStream:
		return newStream(out, size, filepath.Base(c.Out))
	case VHD:
		return newVHD(out, size, c.Time)
	case VHDX:
		return newVHDX(out, size), nil
	}
	return nil, &FormatError{c.Format}
}

func copyBlocks(ctx context.Context, w writer, src source, progress func(done, total int64)) error {
	content := sha256.New()
	err := src.blocks(ctx, w.blockSize(), progress, func(index int64, data []byte) error {
		sum(content, index, data)
		return w.block(index, data)
	})
	if err != nil {
		return err
	}
	return w.finish(derive([16]byte(content.Sum(nil)), "content"))
}

func sum(h hash.Hash, index int64, data []byte) {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(index))
	h.Write(at[:])
	h.Write(data)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }
