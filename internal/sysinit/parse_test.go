package sysinit

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

func TestParseUevent(t *testing.T) {
	data := "add@/devices/pci0000:00/virtio0\x00ACTION=add\x00DEVPATH=/devices/pci0000:00/virtio0\x00SUBSYSTEM=virtio\x00MODALIAS=virtio:d00000001v00001AF4\x00odd\x00SEQNUM=7\x00"
	u, err := parseUevent([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if u.Action != "add" || u.DevPath != "/devices/pci0000:00/virtio0" || u.Env["MODALIAS"] != "virtio:d00000001v00001AF4" || len(u.Env) != 5 {
		t.Errorf("got %+v", u)
	}
}

func TestParseUeventRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"empty":    "",
		"no NUL":   "add@/devices/x",
		"no at":    "libudev\x00\xfe\xed\xca\xfe",
		"no path":  "add@devices\x00",
		"nothing":  "@/\x00",
		"too long": "add@/" + strings.Repeat("x", maxUevent) + "\x00",
	} {
		if _, err := parseUevent([]byte(data)); !errors.Is(err, errUevent) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00A=b\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := parseUevent(data)
		if err == nil && (u.Action == "" || !strings.HasPrefix(u.DevPath, "/")) {
			t.Errorf("accepted %+v", u)
		}
	})
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// disks has the names that break guesses: NVMe, MMC, two disks with one label.
func disks() fstest.MapFS {
	return fstest.MapFS{
		"class/block/sda/removable":                      file("1\n"),
		"class/block/sda/sda2/partition":                 file("2\n"),
		"class/block/sda/uevent":                         file("DEVNAME=sda\nDEVTYPE=disk\n"),
		"class/block/sda2/uevent":                        file("MAJOR=8\nMINOR=2\nDEVNAME=sda2\nDEVTYPE=partition\nPARTN=2\nPARTNAME=phase-seed\n"),
		"class/block/sda2/size":                          file("32768\n"),
		"class/block/nvme0n1/removable":                  file("0\n"),
		"class/block/nvme0n1/nvme0n1p2/partition":        file("2\n"),
		"class/block/nvme0n1p2/uevent":                   file("DEVNAME=nvme0n1p2\nPARTNAME=phase-seed\n"),
		"class/block/nvme0n1p2/size":                     file("junk\n"),
		"class/block/evil/uevent":                        file("DEVNAME=../etc/passwd\nPARTNAME=phase-seed\n"),
		"class/block/mmcblk0p1/uevent":                   file("DEVNAME=mmcblk0p1\nPARTNAME=phase-seed2\n"),
		"class/block/loop0/uevent":                       file("DEVNAME=loop0\n"),
		"class/tty/console/active":                       file("tty0 ttyS0 ../evil\n"),
		"class/virtio-ports/vport1p1/name":               file("org.phase.report\n"),
		"bus/virtio/devices/virtio0/modalias":            file("virtio:d00000001v00001AF4\n"),
		"bus/pci/devices/0000:00:02.0/modalias":          file("pci:v00001AF4d00001000sv0sd0bc02sc00i00\n"),
		"bus/pci/devices/0000:00:03.0/class":             file("0x020000\n"),
		"bus/cpu/devices/cpu0/modalias":                  file("cpu:type:x86,ven0000fam0006mod0006:feature:,0000\n"),
		"bus/workqueue/drivers_probe":                    file(""),
		"bus/usb/devices/1-1:1.0/modalias":               file("usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00\n"),
		"bus/usb/devices/1-1/bMaxPower":                  file("100mA"),
		"bus/acpi/devices/LNXSYSTM:00/unreadable/ignore": file(""),
	}
}

func TestPartitions(t *testing.T) {
	got, err := Partitions(disks(), "phase-seed")
	want := []Partition{
		{Device: "/dev/nvme0n1p2", Disk: "nvme0n1", Label: "phase-seed"},
		{Device: "/dev/sda2", Disk: "sda", Label: "phase-seed", Size: 32768 * 512, Removable: true},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Partitions = %+v, %v\nwant %+v", got, err, want)
	}
	for _, label := range []string{"", "phase", "PHASE-SEED", "none"} {
		if got, err := Partitions(disks(), label); err != nil || len(got) != 0 {
			t.Errorf("Partitions(%q) = %+v, %v", label, got, err)
		}
	}
	if _, err := Partitions(fstest.MapFS{}, "x"); err == nil {
		t.Error("no /sys: no error")
	}
}

func TestParseMeminfo(t *testing.T) {
	const text = "MemTotal:        1014480 kB\nMemFree:          790720 kB\nMemAvailable:     724692 kB\nHugePages_Total:       0\n"
	got, err := parseMeminfo(strings.NewReader(text), "MemAvailable")
	if err != nil || got != 724692<<10 {
		t.Errorf("MemAvailable = %d, %v", got, err)
	}
	for name, in := range map[string]string{
		"absent":   "MemTotal: 1 kB\n",
		"no unit":  "MemAvailable: 5\n",
		"negative": "MemAvailable: -5 kB\n",
		"text":     "MemAvailable: much kB\n",
		"huge":     "MemAvailable: 9999999999999999999 kB\n",
		"late":     strings.Repeat("x: 1 kB\n", 10000) + "MemAvailable: 5 kB\n",
	} {
		if n, err := parseMeminfo(strings.NewReader(in), "MemAvailable"); err == nil {
			t.Errorf("%s: %d, no error", name, n)
		}
	}
}
