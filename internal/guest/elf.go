package guest

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// roots are folders that look like the root of a file system, the first first:
// unpacked packages, then the host's own.
type roots []string

// find returns the host's name of a file, with symbolic links followed as if its
// root were "/". Name is absolute, as in the guest.
func (r roots) find(name string) (string, error) {
	for _, root := range r {
		if host, err := resolve(root, name); err == nil {
			return host, nil
		}
	}
	return "", &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
}

// maxLinks is how many symbolic links are followed, as in the kernel.
const maxLinks = 40

// resolve follows name below root; every absolute link starts at root again.
func resolve(root, name string) (string, error) {
	todo := strings.Split(path.Clean("/" + name)[1:], "/")
	done, links := "/", 0
	for len(todo) > 0 {
		next := path.Join(done, todo[0])
		todo = todo[1:]
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			done = next // no link; a file that is not there shows below
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: errors.New("too many symbolic links")}
		}
		if !path.IsAbs(target) {
			target = path.Join(done, target)
		}
		todo = append(strings.Split(path.Clean(target)[1:], "/"), todo...)
		done = "/"
	}
	host := filepath.Join(root, done)
	_, err := os.Stat(host)
	return host, err
}

// programDirs are where programs are, in the order of a root's PATH.
var programDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// program finds a program by its name or absolute path and returns its path in
// the guest.
func (r roots) program(name string) (string, error) {
	candidates := []string{name}
	if !path.IsAbs(name) {
		candidates = nil
		for _, dir := range programDirs {
			candidates = append(candidates, path.Join(dir, name))
		}
	}
	for _, root := range r {
		for _, c := range candidates {
			host, err := resolve(root, c)
			if err != nil {
				continue
			}
			if info, err := os.Stat(host); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return c, nil
			}
		}
	}
	return "", &fs.PathError{Op: "find program", Path: name, Err: fs.ErrNotExist}
}

// libraryDirs are where the dynamic linker looks (Debian's multiarch folders
// included), and where programs with private libraries have them.
var libraryDirs = []string{
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
	"/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib",
}

// library finds a shared library by its soname, in the linker's folders and in
// those that the file which needs it names itself.
func (r roots) library(soname string, more []string) (string, error) {
	for _, dir := range append(more, libraryDirs...) {
		if host, err := r.find(path.Join(dir, soname)); err == nil {
			return host, nil
		}
	}
	return "", &fs.PathError{Op: "find library", Path: soname, Err: fs.ErrNotExist}
}

// needed is what a program cannot start without.
type needed struct {
	interp string   // the dynamic linker, or a script's interpreter; empty: none
	libs   []string // sonames
	dirs   []string // where the file itself says that they are
}

// needs reads a program or library. A file that is neither needs nothing.
func needs(host string) (needed, error) {
	f, err := os.Open(host)
	if err != nil {
		return needed{}, err
	}
	defer f.Close()
	head, err := bufio.NewReader(io.LimitReader(f, 256)).Peek(4)
	if err != nil || !bytes.Equal(head, []byte(elf.ELFMAG)) {
		return script(f)
	}
	file, err := elf.NewFile(f)
	if err != nil {
		return needed{}, fmt.Errorf("%s: %w", host, err)
	}
	var n needed
	if n.libs, err = file.ImportedLibraries(); err != nil {
		return n, fmt.Errorf("%s: %w", host, err)
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		values, err := file.DynString(tag)
		if err != nil {
			return n, fmt.Errorf("%s: %w", host, err)
		}
		for _, dir := range strings.Split(strings.Join(values, ":"), ":") {
			if path.IsAbs(dir) {
				n.dirs = append(n.dirs, dir)
			}
		}
	}
	n.interp, err = interpreter(file)
	return n, err
}

func interpreter(file *elf.File) (string, error) {
	for _, p := range file.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
		return strings.TrimRight(string(name), "\x00"), err
	}
	return "", nil
}

// script reads a first line "#!/bin/sh -e".
func script(f io.ReaderAt) (needed, error) {
	line, err := bufio.NewReader(io.NewSectionReader(f, 0, 256)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return needed{}, err
	}
	if words := strings.Fields(strings.TrimPrefix(line, "#!")); strings.HasPrefix(line, "#!") && len(words) > 0 {
		return needed{interp: words[0]}, nil
	}
	return needed{}, nil
}
