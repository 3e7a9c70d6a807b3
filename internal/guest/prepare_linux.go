package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/kmod"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/vm"
)

// lackError is something that this machine does not have, and another may.
type lackError struct{ err error }

func (e *lackError) Error() string {
	var h interface{ Hint() string }
	if errors.As(e.err, &h) && h.Hint() != "" {
		return fmt.Sprintf("guest: %v (%s)", e.err, h.Hint())
	}
	return "guest: " + e.err.Error()
}
func (e *lackError) Unwrap() error { return e.err }

// kernelPackages are tried in this order.
var kernelPackages = map[string][]string{
	vm.X8664: {"linux-image-cloud-amd64", "linux-image-amd64"},
	vm.ARM64: {"linux-image-cloud-arm64", "linux-image-arm64"},
}

// ownModules are what every guest has: the way to the report port, and its own
// random numbers.
var ownModules = []string{"virtio_pci", "virtio_console", "virtio_rng"}

// arch is the guest's architecture: the test binary's.
func arch() string {
	if runtime.GOARCH == "arm64" {
		return vm.ARM64
	}
	return vm.X8664
}

// prepare makes everything that a machine needs to boot into the test, its
// initramfs in dir.
func prepare(ctx context.Context, cfg Config, dir string, s spec) (vm.Config, error) {
	cache, err := openCache()
	if err != nil {
		return vm.Config{}, err
	}
	defer cache.Close()
	kernel, modules, err := cache.kernel(ctx, cfg)
	if err != nil {
		return vm.Config{}, err
	}
	b := &builder{}
	b.skeleton()
	if s.Modules, err = b.modules(kernel, modules, cfg.Modules); err != nil {
		return vm.Config{}, err
	}
	if err := b.fill(ctx, cache, cfg, &s); err != nil {
		return vm.Config{}, err
	}
	initrd := filepath.Join(dir, "initramfs.cpio")
	if err := b.write(initrd); err != nil {
		return vm.Config{}, err
	}
	return vm.Config{
		Arch: arch(), Memory: cfg.Memory, CPUs: cfg.CPUs, ProbeCache: cache.dir, Dir: filepath.Join(dir, "machine"), Report: true,
		Kernel: kernel.Image, Initrd: initrd, Append: commandLine(cfg.Append, s.Args[0]),
	}, nil
}

// commandLine: a panic resets the machine, which ends it. The words behind "--"
// are process 1's arguments; the pattern brings it to the right Run.
func commandLine(more, pattern string) string {
	console := "ttyS0"
	if arch() == vm.ARM64 {
		console = "ttyAMA0"
	}
	return "console=" + console + " quiet panic=-1 mitigations=off " + more + " -- " + pattern
}

// modules adds the module files and returns them in the order of loading.
func (b *builder) modules(k system.Kernel, files, wanted []string) ([]module, error) {
	params := map[string]string{}
	for _, w := range wanted {
		name, p, _ := strings.Cut(w, " ")
		params[kmod.Name(name)] = p
	}
	var list []module
	for _, file := range files {
		data, err := k.ReadModule(file)
		if err != nil {
			return nil, err
		}
		name := kmod.Name(file)
		m := module{File: path.Join("/usr/lib/modules", k.Release, name+".ko"), Params: params[name]}
		b.tree.Bytes(place(m.File), 0o644, data)
		list = append(list, m)
	}
	return list, b.tree.Err()
}

// fill adds the test binary, programs, files and the list of what to do.
func (b *builder) fill(ctx context.Context, c *cache, cfg Config, s *spec) error {
	finder := &supplier{cache: c, seen: map[string]bool{}}
	b.supply = func(ctx context.Context, soname string) (bool, error) { return finder.next(ctx, b) }
	for _, name := range cfg.Packages {
		if err := finder.add(ctx, b, name); err != nil {
			return &lackError{err}
		}
	}
	b.roots = append(b.roots, "/")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := b.executable(ctx, "/init", self); err != nil {
		return err
	}
	for _, name := range cfg.Programs {
		if err := b.program(ctx, name); err != nil {
			return &lackError{err}
		}
	}
	if s.Dir, err = os.Getwd(); err != nil {
		return err
	}
	b.tree.Dir(place(s.Dir), 0o755)
	for _, entry := range cfg.Files {
		if err := b.add(fileNames(s.Dir, entry)); err != nil {
			return fmt.Errorf("guest: file %s: %w", entry, err)
		}
	}
	data, err := json.Marshal(s)
	b.tree.Bytes(place(specFile), 0o644, data)
	return err
}

// write writes the archive without compression: unpacking would cost the
// emulated processor more than reading does.
func (b *builder) write(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(image.WriteCPIO(f, &b.tree, time.Unix(0, 0)), f.Close())
}
