package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The sources of the older and of the newer packages.
const (
	debianSigned  = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
	olderPackages = debianSigned + "http://deb.debian.org/debian bookworm main\n"
	newerPackages = olderPackages + debianSigned + "http://deb.debian.org/debian-security bookworm-security main\n"
)

// debianMore is what a server has beside the packages of priority required and
// important.
var debianMore = []string{"openssh-server", "ca-certificates", "curl"}

// debianPreferred is the package of the small update, if it has two versions.
const debianPreferred = "libssl3"

// An update is a small Debian server for which the archive has newer packages.
type update struct {
	older, newer map[string]string // package: file
	changed      []string          // packages with two versions, the largest first
}

// An apt keeps lists and packages in a folder of its own; it needs no root.
type apt struct{ dir string }

func (a apt) run(ctx context.Context, tool, sources string, args ...string) (string, error) {
	list := filepath.Join(a.dir, "sources.list")
	if err := os.WriteFile(list, []byte(sources), 0o644); err != nil {
		return "", err
	}
	options := []string{
		"-q", "-o", "APT::Get::Assume-Yes=true", "-o", "Dir::Etc::sourcelist=" + list, "-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::State=" + a.dir, "-o", "Dir::State::status=" + filepath.Join(a.dir, "status"),
		"-o", "Dir::Cache=" + a.dir, "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
		"-o", "APT::Install-Recommends=false", "-o", "APT::Architecture=amd64",
	}
	cmd := exec.CommandContext(ctx, tool, append(options, args...)...)
	var chatter strings.Builder
	cmd.Stderr = &chatter
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", tool, args[0], err, chatter.String())
	}
	return string(out), nil
}

// debianUpdates downloads a small Debian server in the versions of the stable
// release, and what its security archive has newer.
func debianUpdates(ctx context.Context, dir string) (*update, error) {
	a := apt{dir}
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "status"), nil, 0o644); err != nil {
		return nil, err
	}
	if _, err := a.run(ctx, "apt-get", newerPackages, "update"); err != nil {
		return nil, err
	}
	names, err := a.base(ctx)
	if err != nil {
		return nil, err
	}
	u := &update{}
	if u.older, err = a.download(ctx, olderPackages, names); err != nil {
		return nil, err
	}
	if u.newer, err = a.download(ctx, newerPackages, names); err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for name, file := range u.newer {
		if old, ok := u.older[name]; ok && old != file {
			info, err := os.Stat(file)
			if err != nil {
				return nil, err
			}
			sizes[name] = info.Size()
		}
	}
	u.changed = slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b))
	})
	if len(u.changed) < 13 {
		return nil, fmt.Errorf("the archive has two versions of only %d packages of a small Debian 12: the real updates can no longer be measured", len(u.changed))
	}
	return u, nil
}

// base lists the packages of a small system.
func (a apt) base(ctx context.Context) ([]string, error) {
	out, err := a.run(ctx, "apt-cache", olderPackages, "dumpavail")
	if err != nil {
		return nil, err
	}
	names := slices.Clone(debianMore)
	name := ""
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "Package: "); ok {
			name = strings.TrimSpace(rest)
		}
		if line == "Priority: required\n" || line == "Priority: important\n" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// download fetches packages and all that they need, and returns their files.
func (a apt) download(ctx context.Context, sources string, names []string) (map[string]string, error) {
	none := filepath.Join(a.dir, "none") // packages that are there already are not named
	if err := os.MkdirAll(filepath.Join(none, "partial"), 0o755); err != nil {
		return nil, err
	}
	out, err := a.run(ctx, "apt-get", sources, append([]string{"-o", "Dir::Cache::archives=" + none, "--print-uris", "install"}, names...)...)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.HasSuffix(fields[1], ".deb") {
			continue
		}
		name, _, _ := strings.Cut(fields[1], "_")
		files[name] = filepath.Join(a.dir, "archives", fields[1])
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("apt-get names no packages")
	}
	_, err = a.run(ctx, "apt-get", sources, append([]string{"--download-only", "install"}, names...)...)
	return files, err
}

// one is the package of the small update.
func (u *update) one() []string {
	if slices.Contains(u.changed, debianPreferred) {
		return []string{debianPreferred}
	}
	return u.changed[:1]
}

// many is the n largest changes.
func (u *update) many(n int) []string { return u.changed[:min(n, len(u.changed))] }

// image returns the server's squashfs with these packages in their newer version.
func (u *update) image(ctx context.Context, work string, changed []string) ([]byte, error) {
	root, err := os.MkdirTemp(work, "root-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(root)
	for _, name := range slices.Sorted(maps.Keys(u.older)) {
		file := u.older[name]
		if slices.Contains(changed, name) {
			file = u.newer[name]
		}
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", file, root).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("dpkg-deb -x %s: %w: %s", filepath.Base(file), err, out)
		}
	}
	t, err := folderTree(root)
	if err != nil {
		return nil, err
	}
	return squash(ctx, work, t)
}
