package system

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/image"
)

// maxDependencies bounds the packages that are looked through for libraries.
const maxDependencies = 64

// A LibraryError reports a shared library that no package has.
type LibraryError struct {
	Library  string // as the program names it
	NeededBy string
	Searched []string // packages
}

func (e *LibraryError) Error() string {
	return fmt.Sprintf("system: %s needs the library %s, which none of its packages has (%s)", e.NeededBy, e.Library, strings.Join(e.Searched, ", "))
}

// Hint says what to do.
func (e *LibraryError) Hint() string {
	return "The packages in the cache do not fit together: build once without --offline, after sudo apt-get update."
}

// content is what one package has where programs, libraries and firmware are.
type content struct {
	pkg   debpkg.Package
	files map[string][]byte // by clean path, without a leading usr/
	links map[string]string // likewise; targets are clean paths too
}

// plainPath is a path with the merge of /usr done (Debian since 12 links /lib,
// /bin and /sbin to /usr, while packages name either).
func plainPath(name string) string { return strings.TrimPrefix(path.Clean(name), "usr/") }

// readPackage reads the files of a package that want likes, and all links.
func readPackage(ctx context.Context, pkg debpkg.Package, want func(name string) bool) (*content, error) {
	c := &content{pkg: pkg, files: map[string][]byte{}, links: map[string]string{}}
	left := int64(maxUnpacked) // all of it is held in memory
	err := pkg.Files(ctx, func(name string, hdr *tar.Header, r io.Reader) error {
		name = plainPath(name)
		switch {
		case hdr.Typeflag == tar.TypeSymlink && path.IsAbs(hdr.Linkname):
			c.links[name] = plainPath(hdr.Linkname[1:])
		case hdr.Typeflag == tar.TypeSymlink:
			c.links[name] = plainPath(path.Join(path.Dir(name), hdr.Linkname))
		case hdr.Typeflag == tar.TypeReg && want(name):
			if left -= hdr.Size; left < 0 {
				return &sizeError{"what is wanted of the package", maxUnpacked}
			}
			data, err := io.ReadAll(r) // of exactly that size
			c.files[name] = data
			return err
		}
		return nil
	})
	return c, err
}

// find follows links inside the package.
func (c *content) find(name string) ([]byte, bool) {
	for range 8 {
		if data, ok := c.files[name]; ok {
			return data, true
		}
		target, ok := c.links[name]
		if !ok {
			return nil, false
		}
		name = target
	}
	return nil, false
}

// linker collects a program with all the shared libraries that it needs.
type linker struct {
	get      func(ctx context.Context, name string) (debpkg.Package, error)
	fetch    func(ctx context.Context, names []string) // at once, for get to have them; nil: one by one
	arch     string
	dirs     []string          // where libraries are, without usr/
	packages []*content        // looked through so far
	next     []string          // packages to look through next
	seen     map[string]bool   // packages
	files    map[string][]byte // the result: path on the medium to content
	used     []debpkg.Package
}

// triplets name the library folders of Debian's architectures.
var triplets = map[string]string{image.ArchX8664: "x86_64-linux-gnu", image.ArchARM64: "aarch64-linux-gnu"}

func newLinker(arch string, get func(context.Context, string) (debpkg.Package, error)) *linker {
	return &linker{get: get, arch: arch, dirs: []string{"lib/" + triplets[arch], "lib", "lib64"}, seen: map[string]bool{}, files: map[string][]byte{}}
}

// add puts a program of a package at usr/<name>, with its libraries beside it in
// the folder that the dynamic loader searches, and the loader where the program
// names it.
func (l *linker) add(ctx context.Context, pkg, program string) error {
	if err := l.open(ctx, pkg); err != nil {
		return err
	}
	c := l.packages[len(l.packages)-1]
	data, ok := c.find(program)
	if !ok {
		return fmt.Errorf("system: package %s has no %s", pkg, program)
	}
	l.use(c)
	return l.place(ctx, "usr/"+program, data, true)
}

// open reads a package and queues what it depends on.
func (l *linker) open(ctx context.Context, name string) error {
	l.seen[name] = true
	pkg, err := l.get(ctx, name)
	if err != nil {
		return err
	}
	c, err := readPackage(ctx, pkg, func(name string) bool {
		return path.Dir(name) == "sbin" || path.Dir(name) == "bin" || strings.Contains(path.Base(name), ".so") && slices.Contains(l.dirs, path.Dir(name))
	})
	if err != nil {
		return err
	}
	l.packages = append(l.packages, c)
	depends, err := pkg.Depends(ctx)
	for _, d := range depends {
		if (strings.HasPrefix(d, "lib") || d == "zlib1g") && !l.seen[d] {
			l.seen[d] = true
			l.next = append(l.next, d)
		}
	}
	return err
}

func (l *linker) use(c *content) {
	if !slices.Contains(l.used, c.pkg) {
		l.used = append(l.used, c.pkg)
	}
}

// place puts a file on the medium, and what it needs.
func (l *linker) place(ctx context.Context, at string, data []byte, program bool) error {
	if _, ok := l.files[at]; ok {
		return nil
	}
	needs, interp, err := readELF(data, l.arch)
	if err != nil {
		return fmt.Errorf("system: %s: %w", at, err)
	}
	l.files[at] = data
	if program && interp != "" {
		loader, err := l.library(ctx, path.Base(interp), at)
		if err != nil {
			return err
		}
		l.files[strings.TrimPrefix(interp, "/")] = loader
	}
	l.foresee(ctx, needs)
	for _, soname := range needs {
		lib, err := l.library(ctx, soname, at)
		if err != nil {
			return err
		}
		if soname == path.Base(interp) || strings.HasPrefix(soname, "ld-linux") {
			continue // it is there already, by its full name
		}
		if err := l.place(ctx, path.Join(l.dirs[0], soname), lib, false); err != nil {
			return err
		}
	}
	return nil
}

// library finds a library by its soname, and reads further packages as long as
// none has it.
func (l *linker) library(ctx context.Context, soname, neededBy string) ([]byte, error) {
	for i := 0; ; i++ {
		for ; i < len(l.packages); i++ {
			for _, dir := range l.dirs {
				if data, ok := l.packages[i].find(path.Join(dir, soname)); ok {
					l.use(l.packages[i])
					return data, nil
				}
			}
		}
		if len(l.next) == 0 || len(l.packages) >= maxDependencies {
			return nil, &LibraryError{Library: soname, NeededBy: neededBy, Searched: l.names()}
		}
		name := l.pick(soname)
		if err := l.open(ctx, name); err != nil {
			return nil, err
		}
		i = len(l.packages) - 2
	}
}

// pick takes the package that a library most likely is in from the queue, or
// else the first: each one that need not be downloaded saves a second.
func (l *linker) pick(soname string) string {
	at := max(0, l.likely(soname))
	name := l.next[at]
	l.next = slices.Delete(l.next, at, at+1)
	return name
}

// foresee fetches the packages of the queue that libraries most likely are in.
func (l *linker) foresee(ctx context.Context, sonames []string) {
	var names []string
	for _, soname := range sonames {
		if at := l.likely(soname); at >= 0 && !slices.Contains(names, l.next[at]) {
			names = append(names, l.next[at])
		}
	}
	if l.fetch != nil && len(names) > 1 {
		l.fetch(ctx, names)
	}
}

// likely is where in the queue the package is that a library most likely is in; -1
// if nothing tells.
func (l *linker) likely(soname string) int {
	base, version, _ := strings.Cut(soname, ".so.")
	likely := []string{strings.ToLower(base + version), strings.ToLower(base + "-" + version)}
	if slices.Contains([]string{"libc", "libm", "libdl", "librt", "libpthread"}, base) || strings.HasPrefix(soname, "ld-linux") {
		likely = []string{"libc6"}
	}
	return slices.IndexFunc(l.next, func(name string) bool { return slices.Contains(likely, name) })
}

func (l *linker) names() []string {
	var names []string
	for _, c := range l.packages {
		names = append(names, c.pkg.Name)
	}
	return names
}

// readELF returns the libraries and the dynamic loader that a program or library
// names, and requires it to be for arch.
func readELF(data []byte, arch string) (needs []string, interp string, err error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, "", err
	}
	if want := map[string]elf.Machine{image.ArchX8664: elf.EM_X86_64, image.ArchARM64: elf.EM_AARCH64}[arch]; f.Machine != want {
		return nil, "", fmt.Errorf("it is for %v, not for %s", f.Machine, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(io.LimitReader(p.Open(), 256))
			if err != nil {
				return nil, "", err
			}
			interp = strings.TrimRight(string(name), "\x00")
		}
	}
	if interp != "" && (!path.IsAbs(interp) || path.Clean(interp) != interp) {
		return nil, "", fmt.Errorf("its loader %q has no clean path", interp)
	}
	needs, err = f.ImportedLibraries()
	for _, soname := range needs {
		if path.Base(soname) != soname || soname == ".." {
			return nil, "", fmt.Errorf("its library %q is no file name", soname)
		}
	}
	return needs, interp, err
}
