package system

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/phasebased/phase/internal/kmod"
)

// PrepareKernel obtains and checks only the kernel of a build.
func PrepareKernel(ctx context.Context, src Sources) (Kernel, error) {
	p, ok := platforms[src.Arch]
	if !ok {
		return Kernel{}, fmt.Errorf("system: unknown architecture %q", src.Arch)
	}
	g := &gatherer{Sources: src, platform: p, in: &Inputs{Arch: src.Arch},
		cache: src.packages()}
	err := g.kernel(ctx)
	return g.in.Kernel, err
}

// ModuleFiles names the files of modules and of all that they need, relative to
// k.Modules, in an order in which they can be loaded. What the kernel has built in
// has no file. A module that it lacks is a *kmod.MissingError.
func (k Kernel) ModuleFiles(names ...string) ([]string, error) {
	_, x, err := k.index()
	if err != nil {
		return nil, err
	}
	files, err := x.Closure(names...)
	if err != nil {
		return nil, fmt.Errorf("system: kernel %s: %w", k.Release, err)
	}
	return files, nil
}

// index reads what the kernel's modules need and offer, and gives the files too.
func (k Kernel) index() (map[string][]byte, *kmod.Index, error) {
	files, err := indexFiles(k.Modules)
	if err != nil {
		return nil, nil, err
	}
	x, err := kmod.Load(mapFS(files), ".")
	if err != nil {
		return nil, nil, fmt.Errorf("system: kernel %s: %w", k.Release, err)
	}
	return files, x, nil
}

// ReadModule returns a module as the kernel takes it, uncompressed.
func (k Kernel) ReadModule(file string) ([]byte, error) {
	return readModuleFile(filepath.Join(k.Modules, filepath.FromSlash(file)))
}
