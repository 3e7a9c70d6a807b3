package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/phasebased/phase/internal/image"
)

// merged are the folders that Debian has as links into /usr.
var merged = []string{"bin", "sbin", "lib", "lib64"}

// builder fills a guest's initramfs.
type builder struct {
	tree  image.Tree
	roots roots
	// supply tries to add a root that has the library; false: nobody has it.
	supply func(ctx context.Context, soname string) (bool, error)
}

// skeleton is what every system has: the folders to mount on, the links of a
// merged /usr, and users for the programs that look for some.
func (b *builder) skeleton() {
	for _, dir := range []string{"dev", "proc", "sys", "run", "root", "etc", "var/lib/misc", "var/run", "usr/sbin", "usr/bin"} {
		b.tree.Dir(dir, 0o755)
	}
	b.tree.Dir("tmp", 0o777)
	b.tree.Dir("var/tmp", 0o777)
	for _, dir := range merged {
		b.tree.Dir("usr/"+dir, 0o755)
		b.tree.Symlink(dir, "usr/"+dir)
	}
	b.tree.Bytes("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
	b.tree.Bytes("etc/group", 0o644, []byte("root:x:0:\nnetdev:x:101:\nnogroup:x:65534:\n"))
	b.tree.Bytes("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	b.tree.Bytes("etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files dns\n"))
}

// place is the name of an absolute path in the tree.
func place(name string) string {
	name = path.Clean("/" + name)[1:]
	first, _, _ := strings.Cut(name, "/")
	for _, dir := range merged {
		if first == dir {
			return "usr/" + name
		}
	}
	return name
}

// file carries one file of the host to a path in the guest. It reports false if
// that is there already.
func (b *builder) file(name, host string) (bool, error) {
	if b.tree.Has(place(name)) {
		return false, nil
	}
	info, err := os.Stat(host)
	if err != nil {
		return false, err
	}
	b.tree.File(place(name), info.Mode().Perm(), host)
	return true, b.tree.Err()
}

// program carries a program with all that it needs to start.
func (b *builder) program(ctx context.Context, name string) error {
	at, err := b.roots.program(name)
	if err != nil {
		return err
	}
	host, err := b.roots.find(at)
	if err != nil {
		return err
	}
	return b.executable(ctx, at, host)
}

// executable carries a program or library from the host's path to the guest's,
// its interpreter and its libraries. Libraries go to /usr/lib, where the dynamic
// linker looks on every distribution.
func (b *builder) executable(ctx context.Context, at, host string) error {
	if fresh, err := b.file(at, host); err != nil || !fresh {
		return err
	}
	n, err := needs(host)
	if err != nil {
		return err
	}
	if n.interp != "" {
		interp, err := b.roots.find(n.interp)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if err := b.executable(ctx, n.interp, interp); err != nil {
			return err
		}
	}
	for _, soname := range n.libs {
		lib, err := b.library(ctx, soname, n.dirs)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if err := b.executable(ctx, path.Join("/usr/lib", soname), lib); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) library(ctx context.Context, soname string, dirs []string) (string, error) {
	for {
		host, err := b.roots.library(soname, dirs)
		if err == nil || b.supply == nil {
			return host, err
		}
		more, supplyErr := b.supply(ctx, soname)
		if supplyErr != nil || !more {
			return "", errors.Join(err, supplyErr)
		}
	}
}

// add carries a file, or a folder with all that is in it, from a path in the
// roots to one in the guest; symbolic links are followed.
func (b *builder) add(name, from string) error {
	host, err := b.roots.find(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		_, err := b.file(name, host)
		return err
	}
	b.tree.Dir(place(name), info.Mode().Perm())
	entries, err := os.ReadDir(host)
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := b.add(path.Join(name, e.Name()), path.Join(from, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a link that leads nowhere
			return err
		}
	}
	return b.tree.Err()
}

// fileNames cuts an entry of Config.Files into absolute paths; relative ones
// belong to dir.
func fileNames(dir, entry string) (name, from string) {
	name, from, renamed := strings.Cut(entry, "=")
	if !renamed {
		from = name
	}
	return absolute(dir, name), absolute(dir, from)
}

func absolute(dir, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(dir, name)
}
