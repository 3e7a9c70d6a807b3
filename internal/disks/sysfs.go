package disks

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Roots are where Linux shows what it knows; tests have their own.
type Roots struct {
	Sys, Proc, Dev string
	// Udev has what udev found out about block devices. It need not be there.
	Udev string
}

// maxAttribute bounds what is read of one attribute: a page, as in the kernel.
const maxAttribute = 4096

// sysSector is the unit of all sizes in sysfs, whatever the disk's own is.
const sysSector = 512

// List describes every disk, by name.
func (r Roots) List() ([]Disk, error) {
	s, err := r.survey()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(r.Sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	var out []Disk
	for _, e := range entries {
		d, err := s.disk(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // unplugged meanwhile
		}
		if err != nil {
			return nil, err
		}
		if !unused(d) {
			out = append(out, d)
		}
	}
	return out, nil
}

// unused are the loop devices and memory disks that kernels have in reserve.
func unused(d Disk) bool {
	return d.Size == 0 && (d.Bus == Loop || d.Bus == Virtual)
}

// A survey is what concerns all disks alike, read once.
type survey struct {
	Roots
	mounts []mount
	swaps  []string
	btrfs  []filesystem
	loops  map[string]string // name of a loop device: its file
}

// A filesystem on several devices: mounting any of them uses all.
type filesystem struct{ devices []string }

func (r Roots) survey() (*survey, error) {
	s := &survey{Roots: r, loops: map[string]string{}}
	var err error
	if s.mounts, err = r.mounts(); err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	if s.swaps, err = r.swaps(); err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	// What is not there is not used; Glob fails for bad patterns only.
	several, _ := filepath.Glob(filepath.Join(r.Sys, "fs", "btrfs", "*-*", "devices"))
	for _, dir := range several {
		s.btrfs = append(s.btrfs, filesystem{names(dir)})
	}
	files, _ := filepath.Glob(filepath.Join(r.Sys, "block", "loop*", "loop", "backing_file"))
	for _, file := range files {
		s.loops[filepath.Base(filepath.Dir(filepath.Dir(file)))] = read(file)
	}
	return s, nil
}

// disk describes one.
func (s *survey) disk(name string) (Disk, error) {
	link := filepath.Join(s.Sys, "block", name)
	dir, err := filepath.EvalSymlinks(link)
	if err != nil {
		return Disk{}, fmt.Errorf("disks: %w", err)
	}
	d := Disk{
		Name: name, Path: s.node(name),
		Size: number(dir, "size") * sysSector, SectorSize: int(number(dir, "queue/logical_block_size")),
		Removable: number(dir, "removable") == 1, ReadOnly: number(dir, "ro") == 1,
		ZeroesFast: number(dir, "queue/write_zeroes_max_bytes") > 0, Sequence: number(dir, "diskseq"),
	}
	if d.SectorSize == 0 {
		d.SectorSize = sysSector
	}
	s.identify(&d, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Disk{}, fmt.Errorf("disks: %w", err)
	}
	w := walk{survey: s, disk: &d, seen: map[string]bool{}}
	w.node(name, dir)
	for _, e := range entries {
		part := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(part, "partition")); err != nil {
			continue
		}
		d.Partitions = append(d.Partitions, s.partition(e.Name(), part))
		w.node(e.Name(), part)
	}
	if len(d.Partitions) == 0 && d.Size > 0 {
		d.FileSystem, d.FSLabel = s.fileSystem(name, dir)
	}
	slices.SortFunc(d.Partitions, func(a, b Partition) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	return d, nil
}

func (s *survey) partition(name, dir string) Partition {
	p := Partition{Name: name, Offset: number(dir, "start") * sysSector, Size: number(dir, "size") * sysSector}
	p.Label = property(read(filepath.Join(dir, "uevent")), "PARTNAME")
	p.FileSystem, p.FSLabel = s.fileSystem(name, dir)
	return p
}

// fileSystem is what udev has found on a device, or what is found by looking.
func (s *survey) fileSystem(name, dir string) (kind, label string) {
	if known := read(filepath.Join(s.Udev, "b"+read(filepath.Join(dir, "dev")))); known != "" {
		return property(known, "E:ID_FS_TYPE"), property(known, "E:ID_FS_LABEL")
	}
	return probeDevice(s.node(name))
}

// node is the path of a device.
func (r Roots) node(name string) string {
	return filepath.Join(r.Dev, strings.ReplaceAll(name, "!", "/")) // as in cciss!c0d0
}

// identify finds the bus and the names: those of the drive, then those that the
// USB device around it has for what the drive does not say.
func (s *survey) identify(d *Disk, dir string) {
	device := filepath.Join(dir, "device")
	d.Vendor, d.Model = read(filepath.Join(device, "vendor")), read(filepath.Join(device, "model"))
	if strings.HasPrefix(d.Vendor, "0x") { // virtio: a number, not a name
		d.Vendor = ""
	}
	d.Serial = cmp.Or(read(filepath.Join(device, "serial")), read(filepath.Join(dir, "serial")), page80(filepath.Join(device, "vpd_pg80")))
	d.Bus = Virtual
	if file, ok := s.loops[d.Name]; ok || strings.HasPrefix(d.Name, "loop") {
		d.Bus, d.Model = Loop, filepath.Base(file)
		return
	}
	if _, err := os.Stat(device); err != nil {
		return
	}
	d.Bus = SCSI
	for up := dir; len(up) > len(s.Sys) && up != filepath.Dir(up); up = filepath.Dir(up) {
		if _, err := os.Stat(filepath.Join(up, "idVendor")); err == nil {
			d.Bus = USB
			d.Vendor = cmp.Or(d.Vendor, read(filepath.Join(up, "manufacturer")))
			d.Model = cmp.Or(d.Model, read(filepath.Join(up, "product")))
			// The bridge's own serial of the drive says less than the stick's.
			d.Serial = cmp.Or(read(filepath.Join(up, "serial")), d.Serial)
			return
		}
		s.bus(d, up)
	}
}

var ataPort = regexp.MustCompile(`^ata\d+$`)

// bus recognises the bus that one of the folders above a disk stands for.
func (s *survey) bus(d *Disk, dir string) {
	subsystem, _ := os.Readlink(filepath.Join(dir, "subsystem")) // "" for a folder that has none
	switch kind := filepath.Base(subsystem); {
	case kind == "nvme" || kind == "nvme-subsystem":
		d.Bus = NVMe
	case kind == "virtio" && d.Bus == SCSI:
		d.Bus = Virtio
	case ataPort.MatchString(filepath.Base(dir)):
		d.Bus = ATA
	case kind == "mmc":
		d.Bus, d.Model = EMMC, read(filepath.Join(dir, "name"))
		if t := read(filepath.Join(dir, "type")); t == "SD" || t == "SDcombo" {
			d.Bus = SD
		}
		d.Serial = cmp.Or(d.Serial, read(filepath.Join(dir, "serial")))
	}
}

// A walk collects who uses a disk, upwards from it.
type walk struct {
	*survey
	disk *Disk
	seen map[string]bool // nodes
}

// node adds the uses of a disk, a partition, or something that stands on one.
func (w *walk) node(name, dir string) {
	if w.seen[name] {
		return
	}
	w.seen[name] = true
	w.mountsOf(name, read(filepath.Join(dir, "dev")))
	for _, f := range w.btrfs {
		if slices.Contains(f.devices, name) {
			for _, other := range f.devices {
				w.mountsOf(other, read(filepath.Join(w.Sys, "class", "block", other, "dev")))
			}
		}
	}
	for _, file := range w.swaps {
		if w.isNode(file, name) {
			w.add(Use{Kind: Swap, Node: name, What: file, System: true})
		}
	}
	for loop, file := range w.loops {
		if w.isNode(file, name) {
			w.add(Use{Kind: Looped, Node: name, What: loop})
			w.node(loop, filepath.Join(w.Sys, "block", loop))
		}
	}
	for _, holder := range names(filepath.Join(dir, "holders")) {
		up, err := filepath.EvalSymlinks(filepath.Join(w.Sys, "class", "block", holder))
		if err != nil {
			up = filepath.Join(w.Sys, "block", holder)
		}
		w.add(holding(name, holder, up))
		w.node(holder, up)
	}
}

// mountsOf adds the mounts of a device, and what is in files on them.
func (w *walk) mountsOf(name, dev string) {
	for _, m := range w.mounts {
		if m.dev != dev && !w.isNode(m.source, name) {
			continue
		}
		w.add(Use{Kind: Mounted, Node: name, What: m.point, Other: m.other, System: !m.other && isSystem(m.point)})
		for _, file := range w.swaps {
			if on, ok := below(w.mounts, file); ok && on == m {
				w.add(Use{Kind: Swap, Node: name, What: file, System: true})
			}
		}
		for loop, file := range w.loops {
			if on, ok := below(w.mounts, file); ok && on == m {
				w.node(loop, filepath.Join(w.Sys, "block", loop))
			}
		}
	}
}

// isNode reports whether a path is the device node of name.
func (w *walk) isNode(path, name string) bool {
	if !strings.HasPrefix(path, w.Dev+"/") {
		return false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return path == w.Roots.node(name)
}

func (w *walk) add(u Use) {
	for i, known := range w.disk.Uses {
		if known.Kind == u.Kind && known.Node == u.Node && known.What == u.What {
			w.disk.Uses[i].Other = known.Other && u.Other
			w.disk.Uses[i].System = known.System || u.System
			return
		}
	}
	w.disk.Uses = append(w.disk.Uses, u)
}

// holding says how something stands on a device.
func holding(node, holder, dir string) Use {
	if name := read(filepath.Join(dir, "dm", "name")); name != "" {
		return Use{Kind: Mapped, Node: node, What: name}
	}
	if _, err := os.Stat(filepath.Join(dir, "md")); err == nil {
		return Use{Kind: RAID, Node: node, What: holder}
	}
	return Use{Kind: Held, Node: node, What: holder}
}

// Find returns the disk that a device number belongs to; part is the name of the
// partition if it is one's.
func (r Roots) Find(major, minor uint32) (d Disk, part string, err error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(r.Sys, "dev", "block", fmt.Sprintf("%d:%d", major, minor)))
	if err != nil {
		return Disk{}, "", fmt.Errorf("disks: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		part, dir = filepath.Base(dir), filepath.Dir(dir)
	}
	s, err := r.survey()
	if err != nil {
		return Disk{}, "", err
	}
	d, err = s.disk(filepath.Base(dir))
	return d, part, err
}

// Holds reports whether the file at an absolute path without symbolic links lies on
// the disk.
func (r Roots) Holds(d Disk, path string) (bool, error) {
	mounts, err := r.mounts()
	if err != nil {
		return false, fmt.Errorf("disks: %w", err)
	}
	on, ok := below(mounts, path)
	return ok && slices.ContainsFunc(d.Uses, func(u Use) bool { return u.Kind == Mounted && !u.Other && u.What == on.point }), nil
}

// read returns an attribute; "" if it cannot be read.
func read(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAttribute))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b)), "?")
}

func number(dir, name string) int64 {
	n, err := strconv.ParseInt(read(filepath.Join(dir, name)), 10, 64)
	if err != nil || n < 0 || n > 1<<53 {
		return 0
	}
	return n
}

// page80 is the serial number in a SCSI page (SPC-4, section 7.8.15).
func page80(path string) string {
	page := read(path)
	if len(page) <= 4 {
		return ""
	}
	return strings.TrimSpace(strings.Trim(page[4:], "\x00"))
}

// property returns the value of KEY=value in a list of lines.
func property(lines, key string) string {
	for line := range strings.Lines(lines) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out
}
