package fetch

import (
	"crypto/rand"
	"io"
	"os"
	"path/filepath"

	"github.com/phasebased/phase/internal/durable"
)

// temp is the sink for files that appear under a name when they are complete.
type temp struct{ file *os.File }

// newTemp makes a file beside path, so that the rename stays in one file
// system, with the permissions that path shall have (0644).
func newTemp(path string) (*temp, error) {
	name := durable.TempPrefix + filepath.Base(path) + "-" + rand.Text()
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &temp{f}, nil
}

func (t *temp) Write(p []byte) (int, error) { return t.file.Write(p) }

func (t *temp) Reset() error { return rewind(t.file) }

// Commit flushes the content, then names it, then flushes the name.
func (t *temp) Commit(path string) error {
	if err := t.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(t.file.Name(), path); err != nil {
		return err
	}
	err := t.file.Close()
	t.file = nil
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// Abort removes what was not committed.
func (t *temp) Abort() {
	if t.file != nil {
		t.file.Close()
		os.Remove(t.file.Name())
	}
}

func rewind(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}
