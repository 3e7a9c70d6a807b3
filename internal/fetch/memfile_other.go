//go:build !linux

package fetch

import "os"

// memFile stands in for a memory file: a temporary file whose name is gone
// before it holds a byte, so that nobody else can open it.
type memFile struct{ file, ro *os.File }

func newMemory(name string, _ int64) (*memFile, error) {
	f, err := os.CreateTemp("", "phase-"+name+"-*")
	if err != nil {
		return nil, err
	}
	ro, err := os.Open(f.Name())
	if err == nil {
		err = os.Remove(f.Name())
	}
	m := &memFile{file: f, ro: ro}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) { return m.file.WriteAt(p, off) }
func (m *memFile) ReadAt(p []byte, off int64) (int, error)  { return m.file.ReadAt(p, off) }

// Seal returns the read-only descriptor and closes the writable one.
func (m *memFile) Seal() (*os.File, error) {
	ro := m.ro
	m.ro = nil
	if err := m.Close(); err != nil {
		ro.Close()
		return nil, err
	}
	return ro, nil
}

// Close drops what is still held.
func (m *memFile) Close() error {
	if m.ro != nil {
		m.ro.Close()
		m.ro = nil
	}
	if m.file == nil {
		return nil
	}
	err := m.file.Close()
	m.file = nil
	return err
}
