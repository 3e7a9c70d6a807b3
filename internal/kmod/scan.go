package kmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxModule bounds one module file, decompressed. The largest seen is 10 MB.
const maxModule = 128 << 20

// Module is what a module says about itself in its .modinfo section.
type Module struct {
	Path     string   // relative to the module directory
	Release  string   // of the kernel that it is for, as uname -r says it
	Depends  []string // names of the modules whose symbols it uses
	Aliases  []string // patterns
	Softdeps []string // "pre: a b post: c"
	Firmware []string // files it may ask for
}

// Tree is every module of one kernel, in the order of modules.order.
type Tree struct {
	Modules []Module
	builtin map[string][]byte // the index files that a package does contain
}

// Decompress opens a compressed module; ext is ".xz", ".zst" or ".gz".
type Decompress func(ext string, r io.Reader) (io.Reader, error)

// Scan reads the modules below dir of fsys themselves, as depmod does, for a
// package that comes without index files. The kernel's build has written the
// dependencies into each module, so that no symbol needs to be looked up.
// decompress may be nil if no module is compressed. Scan reads every module
// (90 MB for a cloud kernel): it belongs to image building, not to booting.
func Scan(fsys fs.FS, dir string, decompress Decompress) (*Tree, error) {
	t := &Tree{builtin: make(map[string][]byte)}
	for _, name := range []string{fileBuiltin, fileBuiltinModinfo} {
		data, err := readBounded(fsys, path.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("scan modules: %w", err)
		}
		t.builtin[name] = data
	}
	order, err := readBounded(fsys, path.Join(dir, "modules.order"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("scan modules: %w", err)
	}
	err = fs.WalkDir(fsys, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !isModule(name) {
			return err
		}
		m, err := readModule(fsys, name, decompress)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		m.Path = strings.TrimPrefix(strings.TrimPrefix(name, dir), "/")
		t.Modules = append(t.Modules, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scan modules: %w", err)
	}
	t.sort(order)
	return t, nil
}

func isModule(file string) bool {
	base := path.Base(file)
	i := strings.LastIndex(base, ".ko")
	return i > 0 && slices.Contains([]string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}, base[i:])
}

// sort brings the modules into the order of modules.order, which is the order
// of preference where two drivers know one device; others follow by path.
func (t *Tree) sort(order []byte) {
	place := make(map[string]int)
	eachLine(string(order), func(line string) { place[Name(line)] = len(place) + 1 })
	slices.SortFunc(t.Modules, func(a, b Module) int {
		pa, pb := place[Name(a.Path)], place[Name(b.Path)]
		switch {
		case pa != pb && pa != 0 && pb != 0:
			return pa - pb
		case pa != 0 && pb == 0:
			return -1
		case pa == 0 && pb != 0:
			return 1
		}
		return strings.Compare(a.Path, b.Path)
	})
}

func readModule(fsys fs.FS, name string, decompress Decompress) (Module, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return Module{}, err
	}
	defer f.Close()
	var r io.Reader = f
	if ext := path.Ext(name); ext != ".ko" {
		if decompress == nil {
			return Module{}, errors.New("compressed, and no way given to decompress it")
		}
		if r, err = decompress(ext, f); err != nil {
			return Module{}, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return Module{}, err
	}
	if len(data) > maxModule {
		return Module{}, fmt.Errorf("over %d bytes", maxModule)
	}
	return ParseModule(data)
}

// ParseModule reads the .modinfo section of a module, an ELF file.
func ParseModule(data []byte) (Module, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return Module{}, fmt.Errorf("not a kernel module: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil || section.Size > uint64(len(data)) {
		return Module{}, errors.New("not a kernel module: no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return Module{}, fmt.Errorf("not a kernel module: %w", err)
	}
	return parseModinfo(string(info)), nil
}

func parseModinfo(info string) Module {
	var m Module
	for record := range strings.SplitSeq(info, "\x00") {
		name, value, _ := strings.Cut(record, "=")
		if value == "" || strings.ContainsAny(value, "\n") {
			continue
		}
		switch name {
		case "depends":
			m.Depends = append(m.Depends, strings.Split(value, ",")...)
		case "alias":
			m.Aliases = append(m.Aliases, value)
		case "softdep":
			m.Softdeps = append(m.Softdeps, value)
		case "firmware":
			m.Firmware = append(m.Firmware, value)
		case "vermagic":
			m.Release, _, _ = strings.Cut(value, " ")
		}
	}
	return m
}

// Files gives the index files of the tree by name, to be put into an image
// beside the modules. Equal trees give equal bytes. modules.dep lists direct
// dependencies only; modprobe's lists all of them, and Load reads both.
func (t *Tree) Files() map[string][]byte {
	paths := make(map[string]string, len(t.Modules))
	for _, m := range t.Modules {
		paths[Name(m.Path)] = m.Path
	}
	var dep, alias, soft bytes.Buffer
	for _, m := range t.Modules {
		name := Name(m.Path)
		dep.WriteString(m.Path + ":")
		for _, d := range m.Depends {
			if p, ok := paths[Name(d)]; ok {
				dep.WriteString(" " + p)
			} else if !t.isBuiltin(d) {
				dep.WriteString(" " + Name(d) + ".ko") // Closure will name it as missing
			}
		}
		dep.WriteByte('\n')
		for _, a := range m.Aliases {
			fmt.Fprintf(&alias, "alias %s %s\n", a, name)
		}
		for _, s := range m.Softdeps {
			fmt.Fprintf(&soft, "softdep %s %s\n", name, s)
		}
	}
	return map[string][]byte{
		fileDep: dep.Bytes(), fileAlias: alias.Bytes(), fileSoftdep: soft.Bytes(),
		fileBuiltin: t.builtin[fileBuiltin], fileBuiltinModinfo: t.builtin[fileBuiltinModinfo],
	}
}

func (t *Tree) isBuiltin(name string) bool {
	return bytes.Contains(t.builtin[fileBuiltin], []byte("/"+name+".ko")) ||
		bytes.Contains(t.builtin[fileBuiltin], []byte("/"+strings.ReplaceAll(name, "_", "-")+".ko"))
}

// Index is what Load would give for Files.
func (t *Tree) Index() *Index { return parse(t.Files()) }
