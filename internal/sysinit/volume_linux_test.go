package sysinit

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// sticks is a /sys with a SATA disk that is the boot medium, a stick on USB that
// does not call itself removable, a card without partitions, and what is no disk.
func sticks() fstest.MapFS {
	fsys := fstest.MapFS{}
	add := func(name string, files map[string]string) {
		for file, content := range files {
			fsys["class/block/"+name+"/"+file] = &fstest.MapFile{Data: []byte(content)}
		}
	}
	disk := func(name, removable string) {
		add(name, map[string]string{"uevent": "DEVNAME=" + name + "\nDEVTYPE=disk\n", "size": "4096\n", "removable": removable + "\n", "device/model": "Stick   \n", "device/vendor": "ACME \n"})
	}
	part := func(disk, name, label string) {
		uevent := "DEVNAME=" + name + "\nDEVTYPE=partition\n"
		if label != "" {
			uevent += "PARTNAME=" + label + "\n"
		}
		add(name, map[string]string{"uevent": uevent, "size": "2048\n", "partition": "1\n"})
		add(disk+"/"+name, map[string]string{"partition": "1\n"})
	}
	disk("vda", "0")
	part("vda", "vda1", "phase-esp")
	disk("sdc", "1")
	part("sdc", "sdc1", "")
	disk("mmcblk0", "1")
	add("loop0", map[string]string{"uevent": "DEVNAME=loop0\n", "size": "8\n"})
	add("sr0", map[string]string{"uevent": "DEVNAME=sr0\n", "size": "0\n", "device/model": "CD", "removable": "1"})
	add("bad", map[string]string{"uevent": "DEVNAME=../sda\n", "size": "8\n", "device/model": "x"})
	return fsys
}

func TestVolumes(t *testing.T) {
	list, err := Volumes(sticks())
	if err != nil {
		t.Fatal(err)
	}
	want := []Volume{
		{Device: "/dev/mmcblk0", Disk: "mmcblk0", Model: "ACME Stick", Size: 2 << 20, Portable: true},
		{Device: "/dev/sdc1", Disk: "sdc", Model: "ACME Stick", Size: 1 << 20, Portable: true},
		{Device: "/dev/vda1", Disk: "vda", Label: "phase-esp", Model: "ACME Stick", Size: 1 << 20},
	}
	if !slices.Equal(list, want) {
		t.Errorf("got  %+v\nwant %+v", list, want)
	}
	if _, err := Volumes(fstest.MapFS{}); err == nil {
		t.Error("no error where there is no list")
	}
}

func TestFileSystem(t *testing.T) {
	at := func(offset int, magic string) []byte {
		image := make([]byte, 4096)
		copy(image[offset:], magic)
		return image
	}
	for name, c := range map[string]struct {
		image []byte
		want  string
	}{
		"exFAT": {at(3, "EXFAT   "), "exfat"}, "FAT32": {at(82, "FAT32   "), "vfat"}, "FAT16": {at(54, "FAT16   "), "vfat"},
		"ext4": {at(1080, "\x53\xef"), "ext4"}, "empty": {make([]byte, 4096), ""}, "short": {[]byte("FAT32"), ""}, "NTFS": {at(3, "NTFS    "), ""},
	} {
		if got := FileSystem(bytes.NewReader(c.image)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	lines, err := splitLines(strings.NewReader("tmpfs /run tmpfs rw 0 0\n/dev/sda1 /mnt/my\\040stick\\134x vfat ro 0 0\nrubbish\n\nproc /proc proc rw 0 0"))
	if err != nil {
		t.Fatal(err)
	}
	got := mountsIn(lines)
	want := []mounted{{"tmpfs", "/run"}, {"vfat", `/mnt/my stick\x`}, {"proc", "/proc"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
