package handover

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// archive writes the few entries that the hand-over adds, in the "newc" form of
// cpio (Documentation/driver-api/early-userspace/buffer-format.rst). It knows
// what one needs to append to an initramfs and nothing else.
type archive struct {
	out io.Writer
	ino int
	err error
}

const (
	modeDir  = 0o040000
	modeFile = 0o100000
	// maxEntry is what the eight hexadecimal digits of a size can say.
	maxEntry = 1<<32 - 1
)

// header writes one entry's header and name; size bytes must follow.
func (a *archive) header(name string, mode uint32, size int64) {
	if size < 0 || size > maxEntry {
		a.fail(fmt.Errorf("%s has %d bytes, more than an initramfs can hold", name, size))
		return
	}
	a.ino++
	h := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	a.write(h)
	a.pad(int64(len(h)))
}

// bytes writes an entry with content from memory.
func (a *archive) bytes(name string, perm uint32, content []byte) {
	a.header(name, modeFile|perm, int64(len(content)))
	a.write(string(content))
	a.pad(int64(len(content)))
}

// file writes an entry with exactly size bytes from f.
func (a *archive) file(name string, perm uint32, size int64, f *os.File) {
	a.header(name, modeFile|perm, size)
	if a.err == nil {
		a.fail(copyWhole(a.out, f, size))
	}
	a.pad(size)
}

func (a *archive) end() { a.header("TRAILER!!!", 0, 0) }

// pad writes zeros up to a multiple of four after n bytes.
func (a *archive) pad(n int64) { a.write(strings.Repeat("\x00", int(-n&3))) }

func (a *archive) write(s string) {
	if a.err == nil {
		_, err := io.WriteString(a.out, s)
		a.fail(err)
	}
}

func (a *archive) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// copyWhole writes the first size bytes of a file. Between two files the kernel
// copies by itself (copy_file_range), which saves a third of the time.
func copyWhole(out io.Writer, f *os.File, size int64) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(out, f, size)
	return err
}
