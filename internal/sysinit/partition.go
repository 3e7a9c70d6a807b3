package sysinit

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Partition is a partition of a disk with a GPT.
type Partition struct {
	Device string // "/dev/vda2"
	Disk   string // "vda"
	Label  string // the name in the GPT: PARTLABEL
	Size   int64  // bytes
	// Removable is what the disk says of itself; USB disks often say no.
	Removable bool
	// Disc is set for a whole disc in an optical drive; see WaitMedium.
	Disc bool
}

// Partitions lists what has the given GPT name, in order of its device. sys is
// /sys. Several may: the caller chooses, or refuses.
func Partitions(sys fs.FS, label string) ([]Partition, error) {
	entries, err := fs.ReadDir(sys, "class/block")
	if err != nil {
		return nil, err
	}
	var found []Partition
	for _, e := range entries {
		dir := path.Join("class/block", e.Name())
		env := parseEnv(readLine(sys, path.Join(dir, "uevent")))
		if label == "" || env["PARTNAME"] != label || !plainName(env["DEVNAME"]) {
			continue
		}
		p := Partition{Device: "/dev/" + env["DEVNAME"], Label: label}
		sectors, err := strconv.ParseInt(readLine(sys, path.Join(dir, "size")), 10, 54)
		if err == nil {
			p.Size = sectors * 512 // always 512, whatever the disk's sectors are
		}
		p.Disk, p.Removable = parent(sys, e.Name())
		found = append(found, p)
	}
	slices.SortFunc(found, func(a, b Partition) int { return strings.Compare(a.Device, b.Device) })
	return found, nil
}

// parent finds the disk that a partition is part of: the one whose directory
// has the partition's. Names tell nothing (nvme0n1p2, mmcblk0p1).
func parent(sys fs.FS, partition string) (disk string, removable bool) {
	entries, err := fs.ReadDir(sys, "class/block")
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		dir := path.Join("class/block", e.Name())
		if _, err := fs.Stat(sys, path.Join(dir, partition, "partition")); err == nil {
			return e.Name(), readLine(sys, path.Join(dir, "removable")) == "1"
		}
	}
	return "", false
}

// parseEnv reads lines KEY=value.
func parseEnv(text string) map[string]string {
	env := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		if key, value, ok := strings.Cut(line, "="); ok {
			env[key] = value
		}
	}
	return env
}

// plainName refuses what is no name of a file in /dev itself.
func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// readLine reads a short attribute; what cannot be read is empty.
func readLine(sys fs.FS, name string) string {
	f, err := sys.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(data), "\n")
}
