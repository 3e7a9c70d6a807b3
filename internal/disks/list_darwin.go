package disks

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// maxPlist bounds what is taken of diskutil's output.
const maxPlist = 16 << 20

// List describes every disk of this machine, as diskutil(8) has them.
func List(ctx context.Context) ([]Disk, error) {
	all, err := diskutil(ctx, "list", "-plist")
	if err != nil {
		return nil, err
	}
	whole, err := parseWholeDisks(all)
	if err != nil {
		return nil, err
	}
	mounts, err := parseMountPoints(all)
	if err != nil {
		return nil, err
	}
	var out []Disk
	for _, name := range whole {
		info, err := diskutil(ctx, "info", "-plist", name)
		if err != nil {
			return nil, err
		}
		d, err := parseDiskInfo(info)
		if err != nil {
			return nil, err
		}
		d.Uses, d.Partitions = mounts[name].uses, mounts[name].partitions
		out = append(out, d)
	}
	return out, nil
}

// Find describes the disk at a path; part is the name of the partition if the path
// is one's.
func Find(ctx context.Context, path string) (d Disk, part string, err error) {
	name := strings.TrimPrefix(filepath.Base(path), "r")
	disks, err := List(ctx)
	if err != nil {
		return Disk{}, "", err
	}
	for _, d := range disks {
		if d.Name == name {
			return d, "", nil
		}
		if strings.HasPrefix(name, d.Name+"s") {
			return d, name, nil
		}
	}
	return Disk{}, "", fmt.Errorf("disks: %s is no disk that diskutil knows", path)
}

// Holds reports whether the file at an absolute path without symbolic links lies on
// the disk.
func Holds(_ context.Context, d Disk, path string) (bool, error) {
	for _, u := range d.Uses {
		if u.Kind == Mounted && u.What != "/" && strings.HasPrefix(path, strings.TrimSuffix(u.What, "/")+"/") {
			return true, nil
		}
	}
	return false, nil
}

func diskutil(ctx context.Context, args ...string) ([]byte, error) {
	var out limited
	cmd := exec.CommandContext(ctx, "/usr/sbin/diskutil", args...)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("disks: diskutil %s: %w", strings.Join(args, " "), err)
	}
	return out.Bytes(), nil
}

// limited keeps no more than maxPlist bytes.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxPlist {
		return 0, fmt.Errorf("disks: diskutil says more than %d bytes", maxPlist)
	}
	return l.Buffer.Write(p)
}
