// Package kmod knows which kernel modules a device wants and in which order
// they load, from the index files that belong to the kernel: modules.dep,
// modules.alias, modules.softdep, modules.builtin, modules.builtin.modinfo.
//
// Nothing is loaded here. The image builder asks which modules to take; PID 1
// asks what a device's modalias means. Both ask the same code, so that what is
// found in one place works in the other. A kernel package without the index
// files (Debian makes them on installation) is scanned instead: see Scan.
//
// The files come from the same package as the kernel and are trusted as much
// as the kernel is. They are bounded all the same, and a broken line is an
// error or is passed over, never a panic.
//
// PID 1 reads the index of a full distribution kernel (30,000 aliases) while a
// person waits, often under emulation. So Load only notes where lines are;
// names and dependencies are cut out when somebody asks, and aliases are found
// through the fixed beginning of their pattern.
package kmod

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// The index files, relative to the module directory.
const (
	fileDep            = "modules.dep"
	fileAlias          = "modules.alias"
	fileSoftdep        = "modules.softdep"
	fileBuiltin        = "modules.builtin"
	fileBuiltinModinfo = "modules.builtin.modinfo"
)

// maxIndexFile bounds each index file. The largest seen is 3 MB.
const maxIndexFile = 64 << 20

// Index answers questions about one kernel's modules. It does not change after
// Load, and is safe for use by several goroutines.
type Index struct {
	deps    map[string]depLine // by normal name
	soft    map[string]softdep
	builtin map[string]bool
	aliases aliasTable
}

// depLine is one line of modules.dep, not yet cut apart.
type depLine struct{ path, deps string }

type softdep struct{ pre, post []string }

// Load reads the index files in dir ("lib/modules/6.1.0-56-cloud-amd64") of
// fsys. Only modules.dep must exist.
func Load(fsys fs.FS, dir string) (*Index, error) {
	files := make(map[string][]byte)
	for _, name := range []string{fileDep, fileAlias, fileSoftdep, fileBuiltin, fileBuiltinModinfo} {
		data, err := readBounded(fsys, path.Join(dir, name))
		if err != nil && (name == fileDep || !errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("module index: %w", err)
		}
		files[name] = data
	}
	return parse(files), nil
}

func parse(files map[string][]byte) *Index {
	x := &Index{
		deps:    parseDep(files[fileDep]),
		soft:    parseSoftdep(files[fileSoftdep]),
		builtin: parseBuiltin(files[fileBuiltin]),
	}
	x.aliases.addFile(string(files[fileAlias]))
	x.addBuiltinInfo(string(files[fileBuiltinModinfo]))
	return x
}

func readBounded(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var buf bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Size() <= maxIndexFile {
		buf.Grow(int(info.Size()) + bytes.MinRead) // one allocation, no growing copies
	}
	n, err := buf.ReadFrom(io.LimitReader(f, maxIndexFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if n > maxIndexFile {
		return nil, fmt.Errorf("read %s: over %d bytes", name, maxIndexFile)
	}
	return buf.Bytes(), nil
}

// Name is the name of a module as the kernel writes it: the file's base name
// without .ko, .ko.xz, .ko.zst or .ko.gz, and '-' as '_'.
func Name(file string) string {
	base := file[strings.LastIndexByte(file, '/')+1:]
	if i := strings.LastIndex(base, ".ko"); i >= 0 {
		switch base[i:] {
		case ".ko", ".ko.xz", ".ko.zst", ".ko.gz":
			base = base[:i]
		}
	}
	return normal(base)
}

func normal(name string) string {
	if strings.IndexByte(name, '-') < 0 {
		return name
	}
	return strings.ReplaceAll(name, "-", "_")
}

// Has tells whether the kernel's package has a module of that name as a file.
func (x *Index) Has(name string) bool {
	_, ok := x.deps[Name(name)]
	return ok
}

// Builtin tells whether that module is part of the kernel itself.
func (x *Index) Builtin(name string) bool { return x.builtin[Name(name)] }

// Path is the file of a module, relative to the module directory.
func (x *Index) Path(name string) (string, bool) {
	line, ok := x.deps[Name(name)]
	return line.path, ok
}

// Resolve gives the modules that a device's modalias ("virtio:d00000001v…"), an
// alias ("fs-vfat") or a plain name asks for, in the order of modules.alias.
// Builtin is true if a part of the kernel itself matches; that, or no module at
// all, is not an error: most devices need nothing.
func (x *Index) Resolve(modalias string) (names []string, builtin bool) {
	seen := make(map[string]bool)
	x.aliases.match(modalias, func(name string) {
		switch {
		case x.builtin[name]:
			builtin = true
		case !seen[name]:
			seen[name] = true
			names = append(names, name)
		}
	})
	if len(names) == 0 && !builtin {
		name := Name(modalias)
		if builtin = x.builtin[name]; !builtin && x.Has(name) {
			names = []string{name}
		}
	}
	return names, builtin
}
