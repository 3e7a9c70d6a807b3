package debpkg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// listsAge is how old lists of our own may become before they are fetched anew.
// Older ones name versions that the mirrors no longer have.
const listsAge = 7 * 24 * time.Hour

// apt is how the packages of one architecture are asked for.
//
// Those of another architecture than this machine's are served by an apt whose own
// architecture it is: with lists and caches in a folder of ours, and no package
// installed. Sources, keys, pins and proxies are the machine's, so the same
// signatures count. Nothing of the system changes and no root is needed, as it would
// be for dpkg --add-architecture; and packages for all architectures have their
// names, which apt does not know by a foreign one.
type apt struct {
	arch string
	dir  string // of our own lists; "" asks the machine's apt as it is
}

// apt prepares to ask for packages of an architecture.
func (c *Cache) apt(ctx context.Context, arch string) (apt, error) {
	a := apt{arch: arch}
	if isNative(ctx, arch) {
		return a, nil
	}
	dir := c.Lists
	if dir == "" {
		dir = filepath.Join(c.Dir, "lists")
	}
	dir, err := filepath.Abs(filepath.Join(dir, arch))
	if err != nil {
		return a, fmt.Errorf("debpkg: %w", err)
	}
	a.dir = dir
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return a, fmt.Errorf("debpkg: %w", err)
		}
	}
	if err := os.WriteFile(a.file("status"), nil, 0o644); err != nil { // nothing is installed
		return a, fmt.Errorf("debpkg: %w", err)
	}
	if c.Update || !a.fresh(time.Now()) {
		return a, c.update(ctx, a)
	}
	return a, nil
}

func (a apt) file(name string) string { return filepath.Join(a.dir, name) }

// stamp is the file whose date says when our lists were fetched.
const stamp = "fetched"

func (a apt) fresh(now time.Time) bool {
	info, err := os.Stat(a.file(stamp))
	return err == nil && now.Sub(info.ModTime()) < listsAge
}

// update fetches lists of our own. A source that fails among others is no reason
// to stop: what it would have served is missed when it is asked for.
func (c *Cache) update(ctx context.Context, a apt) error {
	if c.Log != nil {
		c.Log.Info("fetching package lists", "arch", a.arch)
	}
	_, err := a.run(ctx, "", "apt-get", "update")
	if lists, _ := filepath.Glob(a.file("lists/*_Packages*")); err != nil && len(lists) == 0 {
		return missing("apt's lists", a, err)
	}
	if err := os.WriteFile(a.file(stamp), nil, 0o644); err != nil {
		return fmt.Errorf("debpkg: %w", err)
	}
	return nil
}

// run runs apt-get or apt-cache.
func (a apt) run(ctx context.Context, dir, tool string, args ...string) ([]byte, error) {
	return runIn(ctx, dir, tool, append(a.options(), args...)...)
}

func (a apt) options() []string {
	if a.dir == "" {
		return nil
	}
	options := []string{
		"APT::Architecture=" + a.arch, "APT::Architectures=" + a.arch,
		"Dir::State=" + a.dir, "Dir::State::status=" + a.file("status"), "Dir::Cache=" + a.dir,
		"Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false", // descriptions for people
	}
	if os.Geteuid() == 0 {
		// Apt would download as the user _apt, who may not enter our folder.
		options = append(options, "APT::Sandbox::User=root")
	}
	var args []string
	for _, o := range options {
		args = append(args, "-o", o)
	}
	return args
}

// again calls f a second time, with new lists, if a package is missing that our
// lists may be too old for.
func (c *Cache) again(ctx context.Context, a apt, f func() ([]Package, error)) ([]Package, error) {
	began := time.Now()
	pkgs, err := f()
	var gone *MissingError
	info, statErr := os.Stat(a.file(stamp))
	if a.dir == "" || !errors.As(err, &gone) || statErr == nil && began.Sub(info.ModTime()) < time.Minute {
		return pkgs, err
	}
	if err := c.update(ctx, a); err != nil {
		return nil, err
	}
	return f()
}
