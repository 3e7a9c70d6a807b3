package disks

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// machine is a Linux machine made of files: each line of a description is
// "path content", or "path -> target" for a symbolic link. Paths begin with sys,
// proc, dev or udev.
func machine(t *testing.T, description string) Roots {
	t.Helper()
	root := t.TempDir()
	for line := range strings.Lines(description) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if target, ok := strings.CutPrefix(rest, "-> "); ok {
			if strings.HasPrefix(target, "/") {
				target = root + target
			}
			must(t, os.Symlink(target, path))
			continue
		}
		rest = strings.ReplaceAll(strings.ReplaceAll(rest, `\n`, "\n"), "$DEV", root+"/dev")
		must(t, os.WriteFile(path, []byte(rest+"\n"), 0o644))
	}
	r := Roots{Sys: filepath.Join(root, "sys"), Proc: filepath.Join(root, "proc"), Dev: filepath.Join(root, "dev"), Udev: filepath.Join(root, "udev")}
	for _, dir := range []string{filepath.Join(r.Proc, "self"), filepath.Join(r.Sys, "block"), r.Dev} {
		must(t, os.MkdirAll(dir, 0o755))
	}
	if _, err := os.Stat(filepath.Join(r.Proc, "self", "mountinfo")); err != nil {
		must(t, os.WriteFile(filepath.Join(r.Proc, "self", "mountinfo"), nil, 0o644))
	}
	return r
}

var must = nettest.Check

// add describes a disk with partitions of a MiB each.
func add(name, dir, dev string, partitions ...string) string {
	var b strings.Builder
	at := "sys/devices/" + dir + "/block/" + name
	b.WriteString("sys/block/" + name + " -> /" + at + "\nsys/class/block/" + name + " -> /" + at + "\nsys/dev/block/" + dev + " -> /" + at + "\n")
	b.WriteString(at + "/dev " + dev + "\n" + at + "/size 62333952\n" + at + "/removable 0\n" + at + "/ro 0\n" + at + "/device -> /sys/devices/" + dir + "\n" + at + "/diskseq 9\n")
	major, _, _ := strings.Cut(dev, ":")
	for i, p := range partitions {
		sub := at + "/" + p
		number := string(rune('1' + i))
		b.WriteString("sys/class/block/" + p + " -> /" + sub + "\nsys/dev/block/" + major + ":10" + number + " -> /" + sub + "\n")
		b.WriteString(sub + "/partition " + number + "\n" + sub + "/dev " + major + ":10" + number + "\n" + sub + "/start " + number + "048\n" + sub + "/size 2048\n")
	}
	return b.String()
}

// mounted is a mount of a device in this process's namespace.
func mounts(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		f := strings.Fields(l) // device number, mount point, type, source
		b.WriteString(`36 35 ` + f[0] + ` / ` + f[1] + ` rw,relatime shared:1 - ` + f[2] + ` ` + f[3] + ` rw\n`)
	}
	return "proc/self/mountinfo " + strings.TrimSuffix(b.String(), `\n`) + "\n"
}

func only(t *testing.T, r Roots, name string) Disk {
	t.Helper()
	all, err := r.List()
	must(t, err)
	i := slices.IndexFunc(all, func(d Disk) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("no %s among %v", name, all)
	}
	return all[i]
}

const (
	usbDir  = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0"
	ataDir  = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0"
	nvmeDir = "pci0000:00/0000:01:00.0/nvme/nvme0"
	sdDir   = "pci0000:00/0000:02:00.0/mmc_host/mmc0/mmc0:aaaa"
)

// TestBuses: what a disk is follows from where it hangs.
func TestBuses(t *testing.T) {
	usb := "sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/"
	for _, tt := range []struct {
		name, text string
		want       Disk
		stick      bool
	}{
		{"usb stick", add("sdb", usbDir, "8:16") + "sys/devices/" + usbDir + "/vendor SanDisk \nsys/devices/" + usbDir + "/model Ultra\n" +
			usb + "idVendor 0781\n" + usb + "serial 4C530001234567894821\nsys/devices/" + usbDir + "/block/sdb/removable 1\n",
			Disk{Name: "sdb", Vendor: "SanDisk", Model: "Ultra", Serial: "4C530001234567894821", Bus: USB, Removable: true}, true},
		{"usb disk that names itself only on the bus", add("sdb", usbDir, "8:16") + usb + "idVendor 0781\n" + usb + "manufacturer Acme\n" + usb + "product Bridge\n",
			Disk{Name: "sdb", Vendor: "Acme", Model: "Bridge", Bus: USB}, true},
		{"sata", add("sda", ataDir, "8:0") + "sys/devices/" + ataDir + "/vendor ATA\nsys/devices/" + ataDir + "/model Samsung SSD 870\n",
			Disk{Name: "sda", Vendor: "ATA", Model: "Samsung SSD 870", Bus: ATA}, false},
		{"nvme", add("nvme0n1", nvmeDir, "259:0") + "sys/devices/" + nvmeDir + "/subsystem -> /sys/class/nvme\nsys/class/nvme/x x\nsys/devices/" + nvmeDir + "/model WD_BLACK\nsys/devices/" + nvmeDir + "/serial 2148\n",
			Disk{Name: "nvme0n1", Model: "WD_BLACK", Serial: "2148", Bus: NVMe}, false},
		{"sd card", add("mmcblk0", sdDir, "179:0") + "sys/devices/" + sdDir + "/subsystem -> /sys/bus/mmc\nsys/bus/mmc/x x\nsys/devices/" + sdDir + "/type SD\nsys/devices/" + sdDir + "/name SC64G\nsys/devices/" + sdDir + "/serial 0x1234abcd\n",
			Disk{Name: "mmcblk0", Model: "SC64G", Serial: "0x1234abcd", Bus: SD}, true},
		{"emmc", add("mmcblk0", sdDir, "179:0") + "sys/devices/" + sdDir + "/subsystem -> /sys/bus/mmc\nsys/bus/mmc/x x\nsys/devices/" + sdDir + "/type MMC\nsys/devices/" + sdDir + "/name DG4064\n",
			Disk{Name: "mmcblk0", Model: "DG4064", Bus: EMMC}, false},
		{"virtio", add("vda", "pci0000:00/0000:00:05.0/virtio2", "254:0") + "sys/devices/pci0000:00/0000:00:05.0/virtio2/subsystem -> /sys/bus/virtio\nsys/bus/virtio/x x\nsys/devices/pci0000:00/0000:00:05.0/virtio2/vendor 0x1af4\n",
			Disk{Name: "vda", Bus: Virtio}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := machine(t, tt.text)
			got := only(t, r, tt.want.Name)
			want := tt.want
			want.Path, want.Size, want.SectorSize, want.Sequence = filepath.Join(r.Dev, want.Name), 62333952*512, 512, 9
			if got.Partitions != nil || got.Uses != nil {
				t.Errorf("%+v", got)
			}
			got.Partitions, got.Uses = nil, nil
			if got.Name != want.Name || got.Path != want.Path || got.Vendor != want.Vendor || got.Model != want.Model ||
				got.Serial != want.Serial || got.Size != want.Size || got.Bus != want.Bus || got.Removable != want.Removable ||
				got.SectorSize != want.SectorSize || got.Sequence != want.Sequence {
				t.Errorf("\n%+v, want\n%+v", got, want)
			}
			if got.Stick() != tt.stick {
				t.Errorf("a stick: %v", got.Stick())
			}
		})
	}
}

// TestSerialTail shows as much as tells sticks apart.
func TestSerialTail(t *testing.T) {
	for serial, want := range map[string]string{"": "", "12": "12", "4C530001234567894821": "4821"} {
		if got := (&Disk{Serial: serial}).SerialTail(); got != want {
			t.Errorf("%q: %q", serial, got)
		}
	}
}

// stacked describes a device that stands on others.
func stacked(name, dev, kind string, below ...string) string {
	text := add(name, "virtual", dev)
	text = strings.Replace(text, "sys/devices/virtual/block/"+name+"/device -> /sys/devices/virtual\n", "", 1)
	text += "sys/devices/virtual/block/" + name + "/" + kind + "\n"
	for _, b := range below {
		text += b + "/holders/" + name + " -> /sys/devices/virtual/block/" + name + "\n"
	}
	return text
}

// TestUses: whoever uses something that stands on a disk, uses the disk.
func TestUses(t *testing.T) {
	sda := "sys/devices/" + ataDir + "/block/sda/"
	disk := add("sda", ataDir, "8:0", "sda1", "sda2")
	nvme := add("nvme0n1", nvmeDir, "259:0", "nvme0n1p1", "nvme0n1p2")
	for _, tt := range []struct {
		name, text string
		disk       string
		system     bool
		want       []string // kind node what
	}{
		{"nothing", disk, "sda", false, nil},
		{"root on a partition", disk + mounts("8:101 / ext4 /dev/sda1"), "sda", true, []string{"mounted sda1 /"}},
		{"root on NVMe", nvme + mounts("259:102 / ext4 /dev/root"), "nvme0n1", true, []string{"mounted nvme0n1p2 /"}},
		{"a stick in use", disk + mounts("8:101 /media/me/PHOTOS vfat /dev/sda1"), "sda", false, []string{"mounted sda1 /media/me/PHOTOS"}},
		{"a blank in the mount point", disk + `proc/self/mountinfo 36 35 8:101 / /media/my\040stick rw - vfat /dev/sda1 rw`, "sda", false, []string{"mounted sda1 /media/my stick"}},
		{"the boot partition", disk + mounts("8:101 /boot/efi vfat /dev/sda1"), "sda", true, []string{"mounted sda1 /boot/efi"}},
		{"the whole disk, without partitions", disk + mounts("8:0 /mnt ext4 /dev/sda"), "sda", false, []string{"mounted sda /mnt"}},
		{"swap on a partition", disk + `proc/swaps Filename Type Size Used Priority\n$DEV/sda2 partition 1 0 -2` + "\ndev/sda2 x", "sda", true, []string{"swap sda2"}},
		{"swap in a file", disk + mounts("8:101 /data ext4 /dev/sda1") + `proc/swaps Filename Type Size Used Priority\n/data/swap\040file file 1 0 -2`, "sda", true, []string{"mounted sda1 /data", "swap sda1 /data/swap file"}},
		{"LVM on LUKS", disk + stacked("dm-0", "253:0", "dm/name luks-x", sda+"sda2") + stacked("dm-1", "253:1", "dm/name vg-root", "sys/devices/virtual/block/dm-0") + mounts("253:1 / ext4 /dev/mapper/vg-root"),
			"sda", true, []string{"mapped sda2 luks-x", "mapped dm-0 vg-root", "mounted dm-1 /"}},
		{"RAID of two", disk + nvme + stacked("md0", "9:0", "md/level raid1", sda+"sda1", "sys/devices/"+nvmeDir+"/block/nvme0n1/nvme0n1p1") + mounts("9:0 /home ext4 /dev/md0"),
			"nvme0n1", true, []string{"raid nvme0n1p1 md0", "mounted md0 /home"}},
		{"RAID that nobody mounts", disk + stacked("md127", "9:127", "md/level raid0", sda+"sda1"), "sda", false, []string{"raid sda1 md127"}},
		{"bcache", disk + stacked("bcache0", "252:0", "bcache/x x", sda+"sda1") + mounts("252:0 / xfs /dev/bcache0"), "sda", true, []string{"held sda1 bcache0", "mounted bcache0 /"}},
		{"the other disk of a btrfs", disk + nvme + "sys/fs/btrfs/1-2/devices/sda1 x\nsys/fs/btrfs/1-2/devices/nvme0n1p1 x\n" + mounts("0:31 / btrfs $DEV/nvme0n1p1") + "dev/nvme0n1p1 x\ndev/sda1 x\n",
			"sda", true, []string{"mounted nvme0n1p1 /"}},
		{"a loop device on it", disk + "dev/sda x\n" + stacked("loop0", "7:0", "loop/backing_file $DEV/sda"), "sda", false, []string{"loop sda loop0"}},
		{"root in a file on it", disk + mounts("8:101 /isodevice ext4 /dev/sda1", "7:0 / squashfs /dev/loop0") + stacked("loop0", "7:0", "loop/backing_file /isodevice/live.squashfs"),
			"sda", true, []string{"mounted sda1 /isodevice", "mounted loop0 /"}},
		{"mounted in a container", disk + `proc/812/mountinfo 36 35 8:101 / /data rw - ext4 /dev/sda1 rw` + "\nproc/812/ns/mnt -> mnt:[2]\nproc/self/ns/mnt -> mnt:[1]\n", "sda", false, []string{"mounted sda1 /data elsewhere"}},
		{"root of a container is not the system's", disk + `proc/812/mountinfo 36 35 8:101 / / rw - ext4 /dev/sda1 rw` + "\nproc/812/ns/mnt -> mnt:[2]\n", "sda", false, []string{"mounted sda1 / elsewhere"}},
		{"the neighbour's mounts", disk + nvme + mounts("259:101 / ext4 /dev/nvme0n1p1"), "sda", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := tt.text
			r := machine(t, text)
			d := only(t, r, tt.disk)
			var got []string
			for _, u := range d.Uses {
				what := u.What
				if strings.HasPrefix(what, r.Dev) {
					what = ""
				}
				text := strings.TrimSpace(string(u.Kind) + " " + u.Node + " " + what)
				if u.Other {
					text += " elsewhere"
				}
				got = append(got, text)
			}
			if !slices.Equal(got, tt.want) || d.System() != tt.system {
				t.Errorf("uses %q, system %v; want %q, %v", got, d.System(), tt.want, tt.system)
			}
		})
	}
}

// TestFailsClosed: a list that cannot be read, or not understood, hides no user.
func TestFailsClosed(t *testing.T) {
	disk := add("sda", ataDir, "8:0", "sda1")
	for name, text := range map[string]string{
		"mounts that make no sense": disk + "proc/self/mountinfo 36 35 8:101 nonsense\n",
		"no end of a line":          disk + "proc/self/mountinfo " + strings.Repeat("x", 2<<20) + "\n",
		"a folder for the mounts":   disk + "proc/self/mountinfo/x x\n",
		"a folder for the swaps":    disk + "proc/swaps/x x\n",
	} {
		if _, err := machine(t, text).List(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r := machine(t, disk)
	must(t, os.Remove(filepath.Join(r.Proc, "self", "mountinfo")))
	if _, err := r.List(); err == nil {
		t.Error("no mounts at all: no error")
	}
}

// TestPartitions: from the kernel, from udev, and from the file system itself.
func TestPartitions(t *testing.T) {
	r := machine(t, add("sda", ataDir, "8:0", "sda1", "sda2")+`sys/devices/`+ataDir+`/block/sda/sda1/uevent DEVTYPE=partition\nPARTNAME=phase-esp`+"\n"+
		`udev/b8:101 E:ID_FS_TYPE=vfat\nE:ID_FS_LABEL=PHASE-ESP`+"\n")
	ext4 := make([]byte, 4096)
	copy(ext4[1080:], "\x53\xef")
	copy(ext4[1144:], "phase-cache")
	must(t, os.WriteFile(filepath.Join(r.Dev, "sda2"), ext4, 0o644))
	want := []Partition{
		{"sda1", 1048 * 512, 1 << 20, "phase-esp", "vfat", "PHASE-ESP"},
		{"sda2", 2048 * 512, 1 << 20, "", "ext4", "phase-cache"},
	}
	if got := only(t, r, "sda").Partitions; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	r = machine(t, add("sdb", usbDir, "8:16")+`udev/b8:16 E:ID_FS_TYPE=exfat\nE:ID_FS_LABEL=CAMERA`)
	if d := only(t, r, "sdb"); d.FileSystem != "exfat" || d.FSLabel != "CAMERA" {
		t.Errorf("%+v", d)
	}
}

// TestFind: a disk by the number of its device node, and the disk of a partition.
func TestFind(t *testing.T) {
	r := machine(t, add("nvme0n1", nvmeDir, "259:0", "nvme0n1p1"))
	for minor, part := range map[uint32]string{0: "", 101: "nvme0n1p1"} {
		if d, got, err := r.Find(259, minor); err != nil || d.Name != "nvme0n1" || got != part {
			t.Errorf("%d: %q %q %v", minor, d.Name, got, err)
		}
	}
	if _, _, err := r.Find(8, 0); err == nil {
		t.Error("found what is not there")
	}
}

// TestHolds: a file lies on the disk that its mount is on, by whatever stands between.
func TestHolds(t *testing.T) {
	disk := add("sda", ataDir, "8:0", "sda1") + add("nvme0n1", nvmeDir, "259:0", "nvme0n1p1")
	r := machine(t, disk+mounts("259:101 / ext4 /dev/nvme0n1p1", "8:101 /media/a vfat /dev/sda1"))
	for path, want := range map[string]bool{"/media/a/phase.img": true, "/media/ab/phase.img": false, "/home/phase.img": false} {
		got, err := r.Holds(only(t, r, "sda"), path)
		if err != nil || got != want {
			t.Errorf("%s: %v %v", path, got, err)
		}
	}
}

// TestHere: this machine's own list can be read, and knows that it runs from
// somewhere, if that is a disk at all.
func TestHere(t *testing.T) {
	if _, err := os.Stat("/sys/block"); err != nil {
		t.Skip("no Linux machine")
	}
	all, err := List(t.Context())
	must(t, err)
	for _, d := range all {
		if d.Size <= 0 && d.Bus != USB && d.Bus != SD || d.Path == "" {
			t.Errorf("%+v", d)
		}
	}
}
