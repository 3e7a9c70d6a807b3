package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/kmod"
	"github.com/phasebased/phase/internal/system"
)

// cache is the user's folder with kernels and unpacked packages. Test binaries
// that run at the same time take turns.
type cache struct {
	dir  string
	lock *os.File
}

func openCache() (*cache, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	dir := filepath.Join(user, "phase", "guest")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return &cache{dir: dir, lock: f}, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("guest: lock %s: %w", f.Name(), err), f.Close())
		}
	}
}

// Close lets the next one in.
func (c *cache) Close() { _ = c.lock.Close() } // nothing was written

// kernel returns the first kernel that has the modules, and their files in the
// order of loading.
func (c *cache) kernel(ctx context.Context, cfg Config) (system.Kernel, []string, error) {
	packages := kernelPackages[arch()]
	if cfg.Kernel != "" {
		packages = []string{cfg.Kernel}
	}
	names := slices.Clone(ownModules)
	for _, m := range cfg.Modules {
		name, _, _ := strings.Cut(m, " ")
		names = append(names, name)
	}
	var errs []error
	for _, name := range packages {
		k, err := system.PrepareKernel(ctx, system.Sources{Arch: arch(), Dir: c.dir, KernelPackage: name})
		if err != nil {
			return k, nil, &lackError{err}
		}
		files, err := k.ModuleFiles(names...)
		if err == nil {
			return k, files, nil
		}
		if missing := (*kmod.MissingError)(nil); !errors.As(err, &missing) {
			return k, nil, err
		}
		errs = append(errs, err)
	}
	return system.Kernel{}, nil, fmt.Errorf("guest: %w", errors.Join(errs...))
}

// unpack returns a Debian package and the folder in which it is unpacked.
func (c *cache) unpack(ctx context.Context, name string) (debpkg.Package, string, error) {
	packages := debpkg.Cache{Dir: filepath.Join(c.dir, "packages")}
	p, err := packages.Get(ctx, name, runtime.GOARCH)
	if err != nil {
		return p, "", err
	}
	root := filepath.Join(c.dir, "unpacked", p.Name+"_"+p.SHA256.Hex()[:16])
	if _, err := os.Stat(root); err == nil {
		return p, root, nil
	}
	tmp := root + ".new" // nobody else is here: the cache is locked
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o755)); err != nil {
		return p, "", err
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", p.Path(), tmp).CombinedOutput(); err != nil {
		return p, "", fmt.Errorf("unpack %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return p, root, os.Rename(tmp, root)
}

// supplier unpacks the packages that the packages asked for depend on, one by
// one, as long as a library is missing.
type supplier struct {
	cache *cache
	seen  map[string]bool
	queue []string
}

// maxSupplied bounds the walk through the dependencies.
const maxSupplied = 200

// add unpacks a package before the host's own root and queues the libraries that
// it depends on.
func (s *supplier) add(ctx context.Context, b *builder, name string) error {
	s.seen[name] = true
	p, root, err := s.cache.unpack(ctx, name)
	if err != nil {
		return err
	}
	at := len(b.roots)
	if at > 0 && b.roots[at-1] == "/" {
		at--
	}
	b.roots = slices.Insert(b.roots, at, root)
	depends, err := p.Depends(ctx)
	if err != nil {
		return err
	}
	for _, dep := range depends {
		library := strings.HasPrefix(dep, "lib") && dep != "libc6" // the host has that
		if library && !s.seen[dep] && len(s.seen) < maxSupplied {
			s.seen[dep] = true
			s.queue = append(s.queue, dep)
		}
	}
	return nil
}

// next unpacks one more package; false: there is none left.
func (s *supplier) next(ctx context.Context, b *builder) (bool, error) {
	if len(s.queue) == 0 {
		return false, nil
	}
	name := s.queue[0]
	s.queue = s.queue[1:]
	return true, s.add(ctx, b, name)
}
