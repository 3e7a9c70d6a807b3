package system

import (
	"context"
	"errors"
	"fmt"

	"github.com/phasebased/phase/internal/image"
)

// MaxSeedShell is by how many bytes a seed that carries a shell may be larger.
const MaxSeedShell = 2 << 20

// ShellPath is where a seed that carries a shell has it: Debian's busybox, which is
// the shell and the programs that go with it in one file without libraries.
const ShellPath = "/bin/busybox"

// The package of the shell, and where in it the program is.
const (
	shellPackage = "busybox-static"
	shellProgram = "bin/busybox"
)

// shell gathers it, if it is wanted.
func (g *gatherer) shell(ctx context.Context) error {
	if !g.Shell {
		return nil
	}
	pkg, err := g.cache.Get(ctx, shellPackage, g.platform.deb)
	if err != nil {
		return err
	}
	c, err := readPackage(ctx, pkg, func(name string) bool { return name == shellProgram })
	if err != nil {
		return err
	}
	data, ok := c.find(shellProgram)
	if !ok {
		return fmt.Errorf("system: package %s has no %s", shellPackage, shellProgram)
	}
	if err := checkStatic(data, g.Arch); err != nil {
		return fmt.Errorf("system: %s of package %s: %w", shellProgram, shellPackage, err)
	}
	g.in.Shell = data
	g.recordPackages(pkg)
	return nil
}

// checkStatic refuses a program that would not start on its own.
func checkStatic(data []byte, arch string) error {
	needs, interp, err := readELF(data, arch)
	if err == nil && (interp != "" || len(needs) > 0) {
		err = errors.New("it needs libraries")
	}
	return err
}

// addShell puts it on the medium.
func (b *Build) addShell(t *image.Tree) error {
	if len(b.Inputs.Shell) == 0 {
		return errors.New("system: a seed with a shell from inputs without")
	}
	t.Bytes(ShellPath[1:], 0o755, b.Inputs.Shell)
	return t.Err()
}
