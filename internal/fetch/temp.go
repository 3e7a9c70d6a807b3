package fetch

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

const partSuffix = ".part"

// temp is the target for files that appear under a name when they are complete.
// It lies beside that name, so that the rename stays in one file system, with the
// permissions that the file shall have (0644 without the umask).
//
// Its own name says what it is for, so that a later process finds it. Nothing in
// it is believed: whoever goes on with it hashes what is there.
type temp struct {
	*os.File        // nil at the end
	path     string // to be
	size     int64
	unique   bool // nobody will find it again
}

// openTemp goes on with the unfinished file for d beside path, or begins it. If
// somebody else has it, or made it, there is another one for us alone.
func openTemp(path string, d blob.Digest, size int64) (*temp, error) {
	dir, base := filepath.Split(filepath.Clean(path))
	prefix := filepath.Join(dir, durable.TempPrefix+base+"-")
	name := prefix + d.Hex()[:16] + partSuffix
	t := &temp{path: path, size: size}
	var err error
	if t.File, err = openOwn(name); err != nil {
		t.unique = true
		if t.File, err = os.OpenFile(prefix+rand.Text(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return nil, err
		}
	}
	removeOthers(prefix, name)
	if err := t.prepare(); err != nil {
		t.end(true)
		return nil, err
	}
	return t, nil
}

// prepare refuses what cannot be kept before it is fetched.
func (t *temp) prepare() error {
	info, err := t.Stat()
	if err != nil {
		return err
	}
	if info.Size() > t.size {
		if err := t.Truncate(0); err != nil {
			return err
		}
	}
	free, known := durable.FreeSpace(t.File)
	if need := t.size - allocated(info); known && need > free {
		return &noRoomError{need: need, free: free, dir: filepath.Dir(t.Name())}
	}
	return nil
}

// WriteAt implements io.WriterAt. Each MiB that is complete begins its way to the
// disk at once: otherwise all of it would wait for the flush at the end.
func (t *temp) WriteAt(p []byte, off int64) (int, error) {
	n, err := t.File.WriteAt(p, off)
	from, to := off&^(blob.ChunkSize-1), (off+int64(n))&^(blob.ChunkSize-1)
	if from < to {
		startWriting(t.File, from, to-from)
	}
	return n, err
}

// removeOthers removes what interrupted transfers of other blobs to the same
// path left.
func removeOthers(prefix, name string) {
	others, err := os.ReadDir(filepath.Dir(prefix))
	if err != nil {
		return
	}
	for _, o := range others {
		other := filepath.Join(filepath.Dir(prefix), o.Name())
		digest, ok := strings.CutPrefix(other, prefix)
		if !ok || other == name || len(digest) != 16+len(partSuffix) || !strings.HasSuffix(digest, partSuffix) {
			continue
		}
		if f, err := openOwn(other); err == nil {
			os.Remove(other)
			f.Close()
		}
	}
}

// commit flushes the content, then names it, then flushes the name.
func (t *temp) commit() error {
	if err := t.Truncate(t.size); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := t.still(t.Name()); err != nil {
		return err
	}
	if err := os.Rename(t.Name(), t.path); err != nil {
		return err
	}
	if err := t.still(t.path); err != nil {
		return err
	}
	err := t.Close()
	t.File = nil
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(t.path))
}

// still makes sure that a name is that of the file whose bytes were hashed.
func (t *temp) still(name string) error {
	ours, err := t.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if !os.SameFile(ours, there) {
		return fmt.Errorf("%s was exchanged by somebody else meanwhile", name)
	}
	return nil
}

// end closes what was not committed. It stays for another time if keep, and if
// there is anything in it.
func (t *temp) end(keep bool) {
	if t.File == nil {
		return
	}
	if info, err := t.Stat(); !keep || t.unique || err == nil && info.Size() == 0 {
		os.Remove(t.Name())
	}
	t.Close()
	t.File = nil
}

// namelessBeside is a file beside path that nobody else can open.
func namelessBeside(path string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), durable.TempPrefix+"*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// noRoomError says that the disk is too small, before anything is fetched.
type noRoomError struct {
	need, free int64
	dir        string
}

func (e *noRoomError) Error() string {
	return fmt.Sprintf("%d MiB are still to come, and only %d MiB are free in %s", mib(e.need), mib(e.free), e.dir)
}

func (e *noRoomError) Unwrap() error { return errNoSpace }

func mib(n int64) int64 { return (n + 1<<20 - 1) >> 20 }
