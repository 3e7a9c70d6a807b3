//go:build linux || darwin

package stick

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// plainFile is a file that stands for a stick.
type plainFile struct {
	f    *os.File
	size int64
}

// openFile opens a file that is there, and nobody else's to write.
func openFile(path string) (*plainFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	m := &plainFile{f: f}
	if err := m.check(path); err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

func (m *plainFile) check(path string) error {
	info, err := m.f.Stat()
	switch {
	case err != nil:
		return openError(path, err)
	case !info.Mode().IsRegular():
		return refuse(NotDevice, path, "is neither a disk nor a file")
	case info.Size()%sector != 0:
		return refuse(TooSmall, path, "has %d bytes, which is no multiple of %d", info.Size(), sector)
	}
	m.size = info.Size()
	if err := unix.Flock(int(m.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return openError(path, err)
	}
	return nil
}

func (m *plainFile) Size() int64                             { return m.size }
func (m *plainFile) ReadAt(p []byte, at int64) (int, error)  { return m.f.ReadAt(p, at) }
func (m *plainFile) WriteAt(p []byte, at int64) (int, error) { return m.f.WriteAt(p, at) }
func (m *plainFile) Sync() error                             { return m.f.Sync() }
func (m *plainFile) Zero(at, n int64) (bool, error)          { return punch(m.f, at, n) }
func (m *plainFile) Drop() error                             { return drop(m.f) }
func (m *plainFile) Gone(error) bool                         { return false }
func (m *plainFile) Close() error                            { return m.f.Close() }
func (m *plainFile) reread()                                 {}

// openError says why something cannot be opened.
func openError(path string, err error) error {
	reason, text := NoDevice, "cannot be opened"
	switch {
	case errors.Is(err, unix.ENOENT):
		text = "does not exist"
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EWOULDBLOCK):
		reason, text = IsBusy, "is busy: another program has it open for itself"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		reason, text = NotAllowed, "may not be written to by this user"
	case errors.Is(err, unix.EROFS):
		reason, text = IsReadOnly, "is read-only"
	case noMedium(err):
		reason, text = NoMedium, "is empty: there is no medium in the drive"
	}
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return &Error{Reason: reason, Path: path, Text: text, Err: err}
}
