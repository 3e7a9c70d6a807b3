// Package debpkg gets Debian packages and reads what is inside them.
//
// Packages are downloaded by the build machine's own apt, as an ordinary user,
// into a cache folder. Trust: apt checks the archive's signature and the
// package's checksum; nothing is installed and no package script runs. What was
// obtained is recorded in a lock file with name, version, architecture and
// digest. A package in the lock file whose file is still there with that digest
// is used as it is: a second build needs no network and gets the same bytes,
// until [Cache.Update] asks for newer ones. Packages of another architecture than
// this machine's need no change of the machine: see apt.
package debpkg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

// A Package is one .deb file in the cache.
type Package struct {
	Name    string      `json:"name"`
	Version string      `json:"version"`
	Arch    string      `json:"arch"` // Debian's name: amd64, arm64 or all
	SHA256  blob.Digest `json:"sha256"`
	File    string      `json:"file"` // base name inside the cache folder

	dir string
}

// Path is where the .deb file is.
func (p Package) Path() string { return filepath.Join(p.dir, p.File) }

// A Cache is a folder of downloaded packages. It may be used by one build at a
// time; its methods are not safe for concurrent use.
type Cache struct {
	Dir     string       // created if missing
	Lists   string       // folder for apt's lists of other architectures than this machine's; "": Dir/lists
	Offline bool         // never start apt; what is not in the cache is an error
	Update  bool         // ask apt for the newest version although the lock file has one
	Log     *slog.Logger // nil: silent
}

// Get returns the package of that name for a Debian architecture ("amd64"),
// from the cache or else by apt.
func (c *Cache) Get(ctx context.Context, name, arch string) (Package, error) {
	pkgs, err := c.get(ctx, name, arch, func(context.Context, apt) ([]string, error) { return []string{name}, nil })
	if err != nil {
		return Package{}, err
	}
	return pkgs[0], nil
}

// GetKernel returns the packages that hold the kernel and the modules that a
// name from [KernelPackage] stands for: the dependencies of a meta package, or
// the package itself if it already is one of a certain kernel.
func (c *Cache) GetKernel(ctx context.Context, name, arch string) ([]Package, error) {
	return c.get(ctx, name, arch, func(ctx context.Context, a apt) ([]string, error) { return a.resolveKernel(ctx, name) })
}

// Fetch gets what the cache lacks of several packages in one run of apt, which takes
// about as long as for one of them. Afterwards Get has them.
func (c *Cache) Fetch(ctx context.Context, arch string, names ...string) error {
	if c.Offline {
		return nil // Get says what is missing
	}
	lock, err := readLock(c.Dir)
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range names {
		if !validName(name) || !validName(arch) {
			return fmt.Errorf("debpkg: bad package name %q or architecture %q", name, arch)
		}
		if c.Update || lock.usable(c.Dir, name+":"+arch) == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("debpkg: %w", err)
	}
	a, err := c.apt(ctx, arch)
	if err != nil {
		return err
	}
	pkgs, err := c.again(ctx, a, func() ([]Package, error) { return c.download(ctx, a, missing) })
	if err != nil {
		return err
	}
	for i, name := range missing {
		lock.Requests[name+":"+arch] = pkgs[i : i+1]
	}
	return lock.write(c.Dir)
}

// get answers a request from the lock file or, failing that, resolves it to
// package names, downloads those and records them under the request.
func (c *Cache) get(ctx context.Context, name, arch string, resolve func(context.Context, apt) ([]string, error)) ([]Package, error) {
	if !validName(name) || !validName(arch) {
		return nil, fmt.Errorf("debpkg: bad package name %q or architecture %q", name, arch)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("debpkg: %w", err)
	}
	lock, err := readLock(c.Dir)
	if err != nil {
		return nil, err
	}
	key := name + ":" + arch
	if !c.Update || c.Offline {
		if pkgs := lock.usable(c.Dir, key); pkgs != nil {
			return pkgs, nil
		}
	}
	if c.Offline {
		return nil, &MissingError{Package: key, Err: errors.New("not in the package cache, and this build is offline")}
	}
	a, err := c.apt(ctx, arch)
	if err != nil {
		return nil, err
	}
	pkgs, err := c.again(ctx, a, func() ([]Package, error) {
		names, err := resolve(ctx, a)
		if err != nil {
			return nil, err
		}
		return c.download(ctx, a, names)
	})
	if err != nil {
		return nil, err
	}
	lock.Requests[key] = pkgs
	return pkgs, lock.write(c.Dir)
}

// download runs apt in a fresh folder, so that the packages found there afterwards
// are those asked for, and moves them into the cache. It returns them in the order
// of their names.
func (c *Cache) download(ctx context.Context, a apt, names []string) ([]Package, error) {
	tmp, err := os.MkdirTemp(c.Dir, "download-")
	if err != nil {
		return nil, fmt.Errorf("debpkg: %w", err)
	}
	defer os.RemoveAll(tmp)
	if c.Log != nil {
		c.Log.Info("downloading packages", "names", names, "arch", a.arch)
	}
	args := []string{"download"}
	for _, name := range names {
		args = append(args, name+":"+a.arch)
	}
	all := strings.Join(names, ", ")
	if _, err := a.run(ctx, tmp, "apt-get", args...); err != nil {
		return nil, missing(all, a, err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != len(names) {
		return nil, &MissingError{Package: all + ":" + a.arch, Err: fmt.Errorf("apt-get left %d packages, expected %d", len(debs), len(names))}
	}
	pkgs := make([]Package, len(names))
	for _, deb := range debs {
		if err := c.accept(ctx, deb, a.arch, names, pkgs); err != nil {
			return nil, err
		}
	}
	return pkgs, nil
}

// accept moves a downloaded package into the cache, and puts it where its name is.
func (c *Cache) accept(ctx context.Context, deb, arch string, names []string, pkgs []Package) error {
	p, err := inspect(ctx, deb)
	if err != nil {
		return err
	}
	at := slices.Index(names, p.Name)
	if at < 0 || pkgs[at].Name != "" || p.Arch != arch && p.Arch != "all" {
		return fmt.Errorf("debpkg: asked for %s:%s, got %s:%s", strings.Join(names, ", "), arch, p.Name, p.Arch)
	}
	p.File, p.dir = fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Arch), c.Dir
	if err := os.Rename(deb, p.Path()); err != nil {
		return fmt.Errorf("debpkg: %w", err)
	}
	pkgs[at] = p
	return nil
}

// inspect reads a package's own idea of what it is, and its digest.
func inspect(ctx context.Context, path string) (Package, error) {
	out, err := runIn(ctx, "", "dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n${Architecture}\n", path)
	if err != nil {
		return Package{}, err
	}
	fields := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(fields) != 3 || !validName(fields[0]) || !validName(fields[2]) || !validVersion(fields[1]) {
		return Package{}, fmt.Errorf("debpkg: %s: unreadable package fields", filepath.Base(path))
	}
	d, err := digestFile(path)
	if err != nil {
		return Package{}, err
	}
	return Package{Name: fields[0], Version: fields[1], Arch: fields[2], SHA256: d}, nil
}

// validName accepts what Debian policy 5.6.7 allows in a package name, which is
// also all that may follow apt-get as an argument here.
func validName(s string) bool {
	return len(s) > 1 && len(s) < 128 && s[0] != '-' && s[0] != '.' && s[0] != '+' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

// validVersion accepts the characters of Debian policy 5.6.12.
func validVersion(s string) bool {
	return s != "" && len(s) < 128 && s[0] != '.' &&
		!slices.ContainsFunc([]byte(s), func(b byte) bool {
			return !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte(".+-~:", b) >= 0)
		})
}

const lockName = "packages.lock.json"

// readLock reads the lock file; none is an empty one.
func readLock(dir string) (*lockFile, error) {
	l := &lockFile{Requests: map[string][]Package{}}
	data, err := os.ReadFile(filepath.Join(dir, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("debpkg: %w", err)
	}
	return l, l.parse(data)
}

func (l *lockFile) write(dir string) error {
	data, err := l.marshal()
	if err != nil {
		return fmt.Errorf("debpkg: writing lock file: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, lockName), data, 0o644); err != nil {
		return fmt.Errorf("debpkg: %w", err)
	}
	return nil
}
