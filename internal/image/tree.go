package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

const (
	maxName = 255  // bytes in one path element, as on ext4, squashfs and FAT
	maxPath = 1024 // bytes in a whole path; the kernel's initramfs reader stops at PATH_MAX
)

// A PathError reports a name that cannot be an entry of a [Tree].
type PathError struct {
	Path   string // the name as given
	Reason string
}

func (e *PathError) Error() string { return fmt.Sprintf("image: path %q: %s", e.Path, e.Reason) }

// An Entry is one file, directory, symbolic link or device of a [Tree].
type Entry struct {
	Path         string      // slash-separated, relative to the root, clean
	Mode         fs.FileMode // type and permission bits
	Size         int64       // bytes of content; 0 unless a regular file
	Link         string      // target, if a symbolic link
	Major, Minor uint32      // device numbers, if a device

	open func() (io.ReadCloser, error)
}

// Open returns the content of a regular file. It yields exactly Size bytes or
// fails: a source file that changes while it is copied is an error.
func (e *Entry) Open() (io.ReadCloser, error) {
	if e.open == nil {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	rc, err := e.open()
	if err != nil {
		return nil, err
	}
	return &exactReader{rc: rc, left: e.Size, name: e.Path}, nil
}

// A Tree is the content of a file system or archive, held as a list of names;
// file contents stay where they are until a writer copies them.
//
// The first mistake is remembered and returned by [Tree.Err] and by every
// writer, so that a list of additions needs no error check on each line. Parent
// directories that were not named are added with mode 0755. A Tree is not safe
// for concurrent changes; once filled, any number of writers may read it.
type Tree struct {
	entries map[string]*Entry
	err     error
}

// Dir adds a directory. Adding one that exists sets its permissions.
func (t *Tree) Dir(name string, perm fs.FileMode) {
	t.add(&Entry{Path: name, Mode: fs.ModeDir | clean(perm)})
}

// Bytes adds a regular file with the given content, which must not change.
func (t *Tree) Bytes(name string, perm fs.FileMode, data []byte) {
	t.add(&Entry{Path: name, Mode: clean(perm), Size: int64(len(data)),
		open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }})
}

// File adds a regular file whose content is the file at host. The size is taken
// now; the content is read when the tree is written.
func (t *Tree) File(name string, perm fs.FileMode, host string) {
	info, err := os.Stat(host)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", host)
	}
	if err != nil {
		t.fail(fmt.Errorf("image: adding %s: %w", name, err))
		return
	}
	t.add(&Entry{Path: name, Mode: clean(perm), Size: info.Size(),
		open: func() (io.ReadCloser, error) { return os.Open(host) }})
}

// Symlink adds a symbolic link. The target is not resolved: it is a name in the
// system that will use the tree.
func (t *Tree) Symlink(name, target string) {
	if target == "" || len(target) > maxPath || strings.ContainsRune(target, 0) {
		t.fail(&PathError{Path: name, Reason: "bad symbolic link target"})
		return
	}
	t.add(&Entry{Path: name, Mode: fs.ModeSymlink | 0o777, Link: target})
}

// CharDevice adds a character device node. Only cpio archives can carry one.
func (t *Tree) CharDevice(name string, perm fs.FileMode, major, minor uint32) {
	t.add(&Entry{Path: name, Mode: fs.ModeDevice | fs.ModeCharDevice | clean(perm), Major: major, Minor: minor})
}

// Err returns the first mistake made while the tree was filled.
func (t *Tree) Err() error { return t.err }

// Has reports whether the tree has an entry of that name.
func (t *Tree) Has(name string) bool { return t.entries[name] != nil }

// Len returns the number of entries, parents included.
func (t *Tree) Len() int { return len(t.entries) }

// Size returns the bytes of all regular files.
func (t *Tree) Size() int64 {
	var n int64
	for _, e := range t.entries {
		n += e.Size
	}
	return n
}

// Entries returns the entries sorted by path, so that a directory stands before
// what it holds, or the first mistake made while the tree was filled.
func (t *Tree) Entries() ([]*Entry, error) {
	if t.err != nil {
		return nil, t.err
	}
	list := make([]*Entry, 0, len(t.entries))
	for _, e := range t.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *Entry) int { return comparePaths(a.Path, b.Path) })
	return list, nil
}

// comparePaths orders "a" < "a/b" < "a-b": element by element, not byte by byte,
// which keeps every directory's contents together.
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

func (t *Tree) add(e *Entry) {
	if t.err != nil {
		return
	}
	if err := checkPath(e.Path); err != nil {
		t.fail(err)
		return
	}
	if t.entries == nil {
		t.entries = make(map[string]*Entry)
	}
	if old := t.entries[e.Path]; old != nil && !(old.Mode.IsDir() && e.Mode.IsDir()) {
		t.fail(&PathError{Path: e.Path, Reason: "added twice"})
		return
	}
	t.addParents(e.Path)
	t.entries[e.Path] = e
}

func (t *Tree) addParents(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		switch old := t.entries[dir]; {
		case old == nil:
			t.entries[dir] = &Entry{Path: dir, Mode: fs.ModeDir | 0o755}
		case !old.Mode.IsDir():
			t.fail(&PathError{Path: name, Reason: dir + " is not a directory"})
			return
		}
	}
}

func (t *Tree) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func checkPath(name string) error {
	switch {
	case name == "" || name == ".":
		return &PathError{Path: name, Reason: "empty"}
	case !fs.ValidPath(name):
		return &PathError{Path: name, Reason: "not a clean relative path of valid UTF-8"}
	case len(name) > maxPath:
		return &PathError{Path: name[:64] + "…", Reason: fmt.Sprintf("longer than %d bytes", maxPath)}
	}
	for elem := range strings.SplitSeq(name, "/") {
		if len(elem) > maxName {
			return &PathError{Path: elem[:64] + "…", Reason: fmt.Sprintf("name longer than %d bytes", maxName)}
		}
		if strings.ContainsFunc(elem, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return &PathError{Path: name, Reason: "control character"}
		}
	}
	return nil
}

// clean keeps the permission bits: set-user-id has no place on these media.
func clean(perm fs.FileMode) fs.FileMode { return perm.Perm() }

// exactReader fails when its source is shorter or longer than announced.
type exactReader struct {
	rc   io.ReadCloser
	left int64
	name string
}

func (r *exactReader) Read(p []byte) (int, error) {
	n, err := r.rc.Read(p)
	r.left -= int64(n)
	if r.left < 0 || (errors.Is(err, io.EOF) && r.left > 0) {
		return 0, fmt.Errorf("image: %s changed its size while it was copied", r.name)
	}
	return n, err
}

func (r *exactReader) Close() error { return r.rc.Close() }
