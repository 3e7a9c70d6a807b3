package sysinit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/kmod"
)

// maxModuleFile bounds what init_module is given; the file comes from the
// image, so that this only catches a broken image.
const maxModuleFile = 128 << 20

// Modules loads kernel modules from one directory. It is safe for use by
// several goroutines; each module is loaded once.
type Modules struct {
	dir   string // "/lib/modules/<release>"
	index *kmod.Index

	mu      sync.Mutex
	done    map[string]error // by path: the outcome of loading, nil for loaded
	seen    map[string]bool  // modaliases that were looked up
	missing []Missing
	took    time.Duration
}

// Missing is a device whose module the image lacks, or could not load.
type Missing struct {
	Device   string // below /sys, or the modalias if no device is known
	Modalias string
	Module   string
	Err      error // wraps fs.ErrNotExist if the image has no such file
}

func (m Missing) String() string {
	if errors.Is(m.Err, fs.ErrNotExist) {
		return fmt.Sprintf("device %s wants module %s, not in this image", m.Device, m.Module)
	}
	return fmt.Sprintf("device %s wants module %s: %v", m.Device, m.Module, m.Err)
}

// OpenModules reads the index of the running kernel's modules below root
// ("/" on a booted system).
func OpenModules(root string) (*Modules, error) {
	release, err := KernelRelease()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join("lib/modules", release)
	index, err := kmod.Load(os.DirFS(root), dir)
	if err != nil {
		return nil, fmt.Errorf("modules of kernel %s: %w", release, err)
	}
	return &Modules{
		dir: filepath.Join(root, dir), index: index,
		done: make(map[string]error), seen: make(map[string]bool),
	}, nil
}

// KernelRelease is the version of the running kernel, as uname -r gives it.
func KernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// Load loads the named modules and what they need. What is built in or loaded
// already is no error. It goes on after a failure and joins the failures.
func (m *Modules) Load(names ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, name := range names {
		if err := m.load(name); err != nil {
			errs = append(errs, fmt.Errorf("module %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// load loads one name or alias; m.mu is held.
func (m *Modules) load(name string) error {
	names := []string{name}
	if !m.index.Has(name) {
		resolved, builtin := m.index.Resolve(name)
		if len(resolved) == 0 && builtin {
			return nil
		}
		if len(resolved) > 0 {
			names = resolved
		}
	}
	paths, err := m.index.Closure(names...)
	if err != nil {
		var missing *kmod.MissingError
		if errors.As(err, &missing) {
			return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
		}
		return err
	}
	for _, path := range paths {
		err := m.insert(path)
		if err != nil && slices.Contains(names, kmod.Name(path)) {
			return err
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			// A soft dependency may be absent; if this was a hard one, the
			// module itself will fail with an unknown symbol.
			m.note(Missing{Device: name, Module: kmod.Name(path), Err: err})
		}
	}
	return nil
}

// insert loads one file, once; m.mu is held.
func (m *Modules) insert(path string) error {
	if err, ok := m.done[path]; ok {
		return err
	}
	start := time.Now()
	err := insertFile(filepath.Join(m.dir, path))
	m.took += time.Since(start)
	m.done[path] = err
	return err
}

// insertFile gives a module to the kernel. A name from modules.dep may have a
// suffix of compression that the image builder took away with the compression.
func insertFile(path string) error {
	f, err := os.Open(path)
	if plain := path[:len(path)-len(kmodSuffix(path))]; errors.Is(err, fs.ErrNotExist) && plain != path {
		path = plain
		f, err = os.Open(path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if kmodSuffix(path) != "" {
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if errors.Is(err, unix.ENOSYS) {
		err = initModule(f)
	}
	if err == nil || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return moduleError(filepath.Base(path), err)
}

// kmodSuffix is ".xz", ".zst", ".gz" or nothing.
func kmodSuffix(path string) string {
	if ext := filepath.Ext(path); ext != ".ko" && strings.HasSuffix(strings.TrimSuffix(path, ext), ".ko") {
		return ext
	}
	return ""
}

func initModule(f *os.File) error {
	data, err := io.ReadAll(io.LimitReader(f, maxModuleFile))
	if err != nil {
		return err
	}
	return unix.InitModule(data, "")
}

// moduleError says what an errno of finit_module(2) means.
func moduleError(file string, err error) error {
	switch {
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("%s is not for this kernel: %w", file, err)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s needs a symbol that no loaded module has: %w", file, unix.ENOEXEC)
	case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EKEYREJECTED), errors.Is(err, unix.EBADMSG):
		return fmt.Errorf("%s has no signature that this kernel accepts: %w", file, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%s is compressed and this kernel cannot unpack it: %w", file, err)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// Device loads what a device asks for by its modalias. Each modalias is looked
// up once. Modules that cannot be loaded are kept for Missing.
func (m *Modules) Device(device, modalias string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if modalias == "" || m.seen[modalias] {
		return
	}
	m.seen[modalias] = true
	names, _ := m.index.Resolve(modalias)
	for _, name := range names {
		// ENODEV: the module looked and has nothing to do here.
		if err := m.load(name); err != nil && !errors.Is(err, unix.ENODEV) {
			m.note(Missing{Device: device, Modalias: modalias, Module: name, Err: err})
		}
	}
}

// note keeps what is missing, up to a bound; m.mu is held.
func (m *Modules) note(missing Missing) {
	if len(m.missing) < 256 {
		m.missing = append(m.missing, missing)
	}
}

// Missing lists the devices that want a module which is not in the image or
// did not load, in the order in which they were found.
func (m *Modules) Missing() []Missing {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.missing)
}

// Loaded is how many module files were given to the kernel and accepted, and
// how long that took altogether.
func (m *Modules) Loaded() (int, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, err := range m.done {
		if err == nil {
			n++
		}
	}
	return n, m.took
}
