package deb

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/packaging"
)

// A tree is a package's files, before dpkg-deb takes them. The first error stays, and
// the rest does nothing.
type tree struct {
	dir   string
	files []treeFile
	err   error
}

type treeFile struct {
	name string
	sum  [md5.Size]byte
	size int64
}

// add writes a file with exactly these permissions, and its folders with 0755.
func (t *tree) add(name string, data []byte, mode fs.FileMode) {
	if t.err != nil {
		return
	}
	path := filepath.Join(t.dir, name)
	if t.err = os.MkdirAll(filepath.Dir(path), 0o755); t.err != nil {
		return
	}
	if t.err = os.WriteFile(path, data, mode); t.err != nil {
		return
	}
	t.err = os.Chmod(path, mode) // whatever the umask
	t.files = append(t.files, treeFile{name, md5.Sum(data), int64(len(data))})
}

// addOurs adds a file of packaging.
func (t *tree) addOurs(name, from string, mode fs.FileMode) {
	data, err := packaging.Files.ReadFile(from)
	if err != nil && t.err == nil {
		t.err = err
	}
	t.add(name, data, mode)
}

// addPacked compresses, without a date and a name (policy 12.7 wants the best that
// gzip can).
func (t *tree) addPacked(name string, data []byte) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil && t.err == nil {
		t.err = err
	}
	t.add(name, packed.Bytes(), 0o644)
}

// size is what the package takes when it is installed, in KiB (policy 5.6.20).
func (t *tree) size() (kib int64) {
	for _, f := range t.files {
		if !strings.HasPrefix(f.name, "DEBIAN/") {
			kib += (f.size + 1023) / 1024
		}
	}
	return kib
}

// sums are what dpkg --verify compares with. MD5 is the format's.
func (t *tree) sums() []byte {
	var lines []string
	for _, f := range t.files {
		if !strings.HasPrefix(f.name, "DEBIAN/") && !strings.HasPrefix(f.name, "etc/") {
			lines = append(lines, fmt.Sprintf("%x  %s\n", f.sum, f.name))
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2*md5.Size:], b[2*md5.Size:]) })
	return []byte(strings.Join(lines, ""))
}

// date gives everything one date, and folders their permissions, whatever the umask.
func (t *tree) date(at time.Time) error {
	return filepath.WalkDir(t.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		if err != nil {
			return err
		}
		return os.Chtimes(path, at, at)
	})
}
