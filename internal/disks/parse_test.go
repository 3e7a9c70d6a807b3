package disks

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func FuzzMounts(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		out, err := parseMounts(strings.NewReader(text))
		if err == nil && len(out) > strings.Count(text, "\n")+1 {
			t.Errorf("%d mounts in %d bytes", len(out), len(text))
		}
	})
}

func FuzzPlist(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = parseWholeDisks(data)
		_, _ = parseMountPoints(data)
		if d, err := parseDiskInfo(data); err == nil && (d.Name == "" || d.Size < 0) {
			t.Errorf("%+v", d)
		}
	})
}

func FuzzProbe(f *testing.F) {
	f.Fuzz(func(t *testing.T, head []byte) {
		kind, label := probe(head)
		if kind == "" && label != "" || len(label) > 3*64 {
			t.Errorf("%q %q", kind, label)
		}
	})
}

// TestProbe recognises what people have on sticks.
func TestProbe(t *testing.T) {
	at := func(n int, text string) []byte {
		b := make([]byte, probed)
		copy(b[n:], text)
		return b
	}
	fat := at(82, "FAT32   ")
	copy(fat[71:], "PHOTOS     ")
	unnamed := at(82, "FAT32   ")
	copy(unnamed[71:], "NO NAME    ")
	for _, tt := range []struct {
		head        []byte
		kind, label string
	}{
		{fat, "vfat", "PHOTOS"}, {unnamed, "vfat", ""}, {at(3, "NTFS    "), "ntfs", ""}, {at(0, "LUKS\xba\xbe"), "crypto_LUKS", ""},
		{at(65600, "_BHRfS_M"), "btrfs", ""}, {at(32769, "CD001"), "iso9660", ""}, {make([]byte, probed), "", ""}, {nil, "", ""}, {at(4086, "SWAPSPACE2"), "swap", ""},
	} {
		if kind, label := probe(tt.head); kind != tt.kind || label != tt.label {
			t.Errorf("%q %q, want %q %q", kind, label, tt.kind, tt.label)
		}
	}
}

func load(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	must(t, err)
	return b
}

// TestDiskutil reads what macOS says of a machine with a stick: see testdata.
func TestDiskutil(t *testing.T) {
	list := load(t, "diskutil-list.plist")
	whole, err := parseWholeDisks(list)
	must(t, err)
	if got := strings.Join(whole, " "); got != "disk0 disk3 disk4" {
		t.Errorf("disks %q", got)
	}
	found, err := parseMountPoints(list)
	must(t, err)
	internal := Disk{Uses: found["disk0"].uses}
	if !internal.System() { // by way of the container on it
		t.Errorf("disk0 is used by %+v", found["disk0"].uses)
	}
	stick := found["disk4"]
	if len(stick.uses) != 1 || stick.uses[0].What != "/Volumes/PHOTOS" || stick.uses[0].System || len(stick.partitions) != 1 || stick.partitions[0].Label != "PHOTOS" {
		t.Errorf("disk4: %+v", stick)
	}
	d, err := parseDiskInfo(load(t, "diskutil-info.plist"))
	must(t, err)
	if d.Name != "disk4" || d.Path != "/dev/disk4" || d.Model != "Ultra" || d.Size != 31914983424 || d.Bus != USB || !d.Stick() || d.ReadOnly || d.SectorSize != 512 {
		t.Errorf("%+v", d)
	}
}

// TestDiskutilRefuses what is no property list.
func TestDiskutilRefuses(t *testing.T) {
	for _, text := range []string{
		"", "<plist>", "<plist><dict><key>a</dict></plist>", "<plist><dict><string>a</string></dict></plist>", "<plist><array/></plist>",
		"<plist><dict><key>a</key><integer>x</integer></dict></plist>", "<plist>" + strings.Repeat("<array>", 100) + strings.Repeat("</array>", 100) + "</plist>",
	} {
		if _, err := plistRoot([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
		if _, err := parseWholeDisks([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
		if _, err := parseDiskInfo(bytes.TrimSpace([]byte(text))); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
