package wasm

import (
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/experimental/sys"
	wasys "github.com/tetratelabs/wazero/sys"

	"github.com/phasebased/phase/internal/fuel"
)

// InputFile is a file that a guest can read, and nobody changes.
type InputFile struct {
	Name string
	Data []byte
}

// inputFolder is all of a file system that a guest gets: one folder that holds the
// job's inputs and nothing else. Nothing in it can be changed, made or removed, and
// every node shows the same: names in the order of their bytes, numbers from 2 on in
// that order, and the instant at which a guest's clock starts as every time. It is used
// by the guest's own thread alone.
//
// The engine keeps what a guest has open in memory, and joins the name of an open
// folder with each path that is looked up in it; so both are bounded here.
type inputFolder struct {
	sys.UnimplementedFS
	files []InputFile // in the order of their names
	open  int
	pay   func(bytes int) // charges the guest for what it reads
}

// Bounds of what a guest can make the host keep.
const (
	maxOpenFiles = 256
	maxPathBytes = 1 << 10
)

// The folder's number among the files, and what all of them have in common.
const (
	folderNumber = 1
	inputDevice  = 1
	inputTime    = 1_640_995_200_000_000_000 // 2022-01-01 UTC, as the engine's clock
)

func newInputFolder(files []InputFile) *inputFolder {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b InputFile) int { return strings.Compare(a.Name, b.Name) })
	return &inputFolder{files: files, pay: func(int) {}}
}

// folderItself is what find says of the folder.
const folderItself = -1

// find gives the index of what p names.
func (d *inputFolder) find(p string) (int, sys.Errno) {
	if len(p) > maxPathBytes {
		return 0, sys.ENAMETOOLONG
	}
	name := strings.Trim(path.Clean("/"+p), "/")
	if name == "" {
		return folderItself, 0
	}
	name, below, deeper := strings.Cut(name, "/")
	i, known := slices.BinarySearchFunc(d.files, name, func(f InputFile, name string) int { return strings.Compare(f.Name, name) })
	switch {
	case !known:
		return 0, sys.ENOENT
	case deeper && below != "", strings.HasSuffix(p, "/"):
		return 0, sys.ENOTDIR
	}
	return i, 0
}

// OpenFile opens for reading.
func (d *inputFolder) OpenFile(p string, flag sys.Oflag, _ fs.FileMode) (sys.File, sys.Errno) {
	i, errno := d.find(p)
	changes := flag&(sys.O_RDWR|sys.O_WRONLY|sys.O_APPEND|sys.O_CREAT|sys.O_TRUNC) != 0
	switch {
	case errno == sys.ENOENT && flag&sys.O_CREAT != 0:
		return nil, sys.EROFS
	case errno != 0:
		return nil, errno
	case flag&sys.O_CREAT != 0 && flag&sys.O_EXCL != 0:
		return nil, sys.EEXIST
	case changes && i == folderItself:
		return nil, sys.EISDIR
	case changes:
		return nil, sys.EROFS
	case flag&sys.O_DIRECTORY != 0 && i != folderItself:
		return nil, sys.ENOTDIR
	case d.open >= maxOpenFiles:
		return nil, sys.EAGAIN // there is no better one to be had
	}
	d.open++
	if i == folderItself {
		return &openFolder{dir: d}, 0
	}
	return &openInput{dir: d, index: i}, 0
}

// Stat describes what p names.
func (d *inputFolder) Stat(p string) (wasys.Stat_t, sys.Errno) {
	i, errno := d.find(p)
	if errno != 0 {
		return wasys.Stat_t{}, errno
	}
	return d.stat(i), 0
}

// Lstat is Stat, as there are no links.
func (d *inputFolder) Lstat(p string) (wasys.Stat_t, sys.Errno) { return d.Stat(p) }

func (d *inputFolder) stat(i int) wasys.Stat_t {
	st := wasys.Stat_t{Dev: inputDevice, Ino: folderNumber, Mode: fs.ModeDir | 0o555, Nlink: 1, Atim: inputTime, Mtim: inputTime, Ctim: inputTime}
	if i != folderItself {
		st.Ino, st.Mode, st.Size = d.number(i), 0o444, int64(len(d.files[i].Data))
	}
	return st
}

func (d *inputFolder) number(i int) wasys.Inode { return folderNumber + 1 + wasys.Inode(i) }

// Readlink finds no links.
func (d *inputFolder) Readlink(p string) (string, sys.Errno) {
	if _, errno := d.find(p); errno != 0 {
		return "", errno
	}
	return "", sys.EINVAL
}

// All that would change something is refused, whether it is there or not.

func (*inputFolder) Mkdir(string, fs.FileMode) sys.Errno        { return sys.EROFS }
func (*inputFolder) Chmod(string, fs.FileMode) sys.Errno        { return sys.EROFS }
func (*inputFolder) Rename(string, string) sys.Errno            { return sys.EROFS }
func (*inputFolder) Rmdir(string) sys.Errno                     { return sys.EROFS }
func (*inputFolder) Link(string, string) sys.Errno              { return sys.EROFS }
func (*inputFolder) Symlink(string, string) sys.Errno           { return sys.EROFS }
func (*inputFolder) Unlink(string) sys.Errno                    { return sys.EROFS }
func (*inputFolder) Utimens(string, int64, int64) (_ sys.Errno) { return sys.EROFS }

// offset is a position in a file. It has a name of its own because the engine's files
// differ from io.Seeker in their errors, which go vet takes for a mistake.
type offset = int64

// openInput is an open file.
type openInput struct {
	sys.UnimplementedFile
	dir   *inputFolder
	index int
	at    int64 // may be behind the end
}

func (f *openInput) data() []byte { return f.dir.files[f.index].Data }

func (f *openInput) Dev() (uint64, sys.Errno)        { return inputDevice, 0 }
func (f *openInput) Ino() (wasys.Inode, sys.Errno)   { return f.dir.number(f.index), 0 }
func (f *openInput) Stat() (wasys.Stat_t, sys.Errno) { return f.dir.stat(f.index), 0 }

// Read reads on.
func (f *openInput) Read(b []byte) (int, sys.Errno) {
	n, errno := f.Pread(b, f.at)
	f.at += int64(n)
	return n, errno
}

// Pread gives all there is, up to the length of b, so that every guest reads alike.
func (f *openInput) Pread(b []byte, off int64) (int, sys.Errno) {
	data := f.data()
	switch {
	case off < 0:
		return 0, sys.EINVAL
	case off >= int64(len(data)):
		return 0, 0
	}
	n := copy(b, data[off:])
	f.dir.pay(n)
	return n, 0
}

// Seek goes anywhere, also behind the end.
func (f *openInput) Seek(off offset, whence int) (int64, sys.Errno) {
	var from int64
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		from = f.at
	case io.SeekEnd:
		from = int64(len(f.data()))
	default:
		return 0, sys.EINVAL
	}
	if off > math.MaxInt64-from || from+off < 0 { // from is not negative
		return 0, sys.EINVAL
	}
	f.at = from + off
	return f.at, 0
}

// SetAppend, Write, Pwrite, Truncate and Utimens change nothing, and say so.

func (*openInput) SetAppend(on bool) sys.Errno {
	if on {
		return sys.EROFS
	}
	return 0
}
func (*openInput) Write([]byte) (int, sys.Errno)         { return 0, sys.EBADF }
func (*openInput) Pwrite([]byte, int64) (int, sys.Errno) { return 0, sys.EBADF }
func (*openInput) Truncate(int64) sys.Errno              { return sys.EROFS }
func (*openInput) Utimens(int64, int64) sys.Errno        { return sys.EROFS }

// Close gives its place back.
func (f *openInput) Close() sys.Errno {
	f.dir.open--
	return 0
}

// openFolder is the folder, opened to be listed.
type openFolder struct {
	sys.DirFile
	dir *inputFolder
	at  int // of the files
}

func (f *openFolder) Dev() (uint64, sys.Errno)        { return inputDevice, 0 }
func (f *openFolder) Ino() (wasys.Inode, sys.Errno)   { return folderNumber, 0 }
func (f *openFolder) Stat() (wasys.Stat_t, sys.Errno) { return f.dir.stat(folderItself), 0 }

// Readdir lists up to n files more; below zero, all.
func (f *openFolder) Readdir(n int) ([]sys.Dirent, sys.Errno) {
	rest := f.dir.files[f.at:]
	if n >= 0 {
		rest = rest[:min(n, len(rest))]
	}
	list := make([]sys.Dirent, 0, len(rest))
	for _, file := range rest {
		list = append(list, sys.Dirent{Ino: f.dir.number(f.at), Name: file.Name})
		f.at++
	}
	return list, 0
}

// Seek begins again.
func (f *openFolder) Seek(off offset, whence int) (int64, sys.Errno) {
	if off != 0 || whence != io.SeekStart {
		return 0, sys.EINVAL
	}
	f.at = 0
	return 0, 0
}

// Sync, Datasync and Utimens have nothing to do.

func (*openFolder) Sync() sys.Errno                { return 0 }
func (*openFolder) Datasync() sys.Errno            { return 0 }
func (*openFolder) Utimens(int64, int64) sys.Errno { return sys.EROFS }

// Close gives its place back.
func (f *openFolder) Close() sys.Errno {
	f.dir.open--
	return 0
}

var (
	_ sys.FS   = (*inputFolder)(nil)
	_ sys.File = (*openInput)(nil)
	_ sys.File = (*openFolder)(nil)
)

// payFor charges a running guest for bytes that it has read. The counter may fall below
// zero; the guest ends where it looks at it next.
func payFor(counter interface {
	Get() uint64
	Set(uint64)
}) func(int) {
	return func(bytes int) { counter.Set(counter.Get() - uint64(fuel.ReadPrice(int64(bytes)))) }
}
