package system

import (
	"context"
	"errors"
	"os"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/image"
)

// MaxSeedTor is by how many bytes a seed that carries Tor may be larger.
const MaxSeedTor = 12 << 20

// TorPath is where a seed that carries Tor has it.
const TorPath = "/usr/bin/tor"

// The package and programs of Tor, as the linker takes them.
const (
	torPackage = "tor"
	torProgram = "bin/tor"
)

// Tor is the program with its libraries. Its lists of the countries that addresses
// are in are left out: they matter to those who choose relays by country.
type Tor struct {
	Files map[string][]byte // programs and libraries by path on the medium, without a leading slash
}

// tor gathers it, if it is wanted.
func (g *gatherer) tor(ctx context.Context) error {
	if !g.Tor {
		return nil
	}
	files, used, err := Programs(ctx, g.cache, g.Arch, torPackage, torProgram)
	if err != nil {
		return err
	}
	g.in.Tor = &Tor{files}
	g.recordPackages(used...)
	return nil
}

// Programs takes programs out of a Debian package, such as bin/tor, with all the
// shared libraries that they need and the loader. It returns them by path, without
// a leading slash, and the packages that they came from.
func Programs(ctx context.Context, cache *debpkg.Cache, arch, pkg string, programs ...string) (map[string][]byte, []debpkg.Package, error) {
	deb, err := DebianArch(arch)
	if err != nil {
		return nil, nil, err
	}
	l := newLinker(arch, func(ctx context.Context, name string) (debpkg.Package, error) { return cache.Get(ctx, name, deb) })
	// What cannot be had is told by who needs it.
	l.fetch = func(ctx context.Context, names []string) { _ = cache.Fetch(ctx, deb, names...) }
	for _, program := range programs {
		if err := l.add(ctx, pkg, program); err != nil {
			return nil, nil, err
		}
	}
	return l.files, l.used, nil
}

// addTor puts it on the medium, but for libraries that Wi-Fi has brought, which are
// of the same packages.
func (b *Build) addTor(t *image.Tree, wifi bool) error {
	if b.Inputs.Tor == nil {
		return errors.New("system: a seed with Tor from inputs without")
	}
	for name, data := range b.Inputs.Tor.Files {
		if wifi && b.Inputs.WiFi.Programs[name] {
			continue
		}
		t.Bytes(name, os.FileMode(0o755), data)
	}
	return t.Err()
}
