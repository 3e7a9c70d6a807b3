package stick

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/disks"
	"github.com/phasebased/phase/internal/guest"
)

// TestDisk is the whole of it on a removable SCSI disk that the kernel simulates: one
// that claims sixteen times the room that it has, fails, is used by others, and goes
// away; and in between is a good one.
func TestDisk(t *testing.T) {
	if !guest.Run(t, guest.Config{
		Modules:  []string{"sd_mod", "dm_mod", "scsi_debug dev_size_mb=64 virtual_gb=1 removable=1 delay=0"},
		Programs: []string{"dmsetup", "mkswap", "swapon", "swapoff", "sgdisk"},
	}) {
		return
	}
	img := testImage(t, 24*mib, "new")
	d := simulated(t, 1<<30)
	if !d.Stick() || !strings.Contains(d.Title(), "scsi_debug") {
		t.Errorf("%+v", d)
	}
	o := Options{Image: img, Device: d.Path}

	_, err := write(t, o)
	expect(t, err, FakeCapacity, "about 67.1 MB (67108864 bytes), not 1.1 GB (1073741824 bytes)")

	set(t, "/sys/bus/pseudo/drivers/scsi_debug/virtual_gb", "0")
	set(t, filepath.Join("/sys/block", d.Name, "device/rescan"), "1")
	simulated(t, 64*mib)
	if _, err = write(t, o); err != nil {
		t.Fatal(err)
	}
	if out := tool(t, "sgdisk", "-v", d.Path); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	d, _, err = disks.Find(t.Context(), d.Path)
	if err != nil || len(d.Partitions) != 3 || d.Partitions[2].Label != "phase-cache" || d.Partitions[0].FileSystem != "vfat" {
		t.Errorf("the kernel sees %+v, %v", d.Partitions, err)
	}
	_, err = Prepare(t.Context(), Options{Image: img, Device: d.Path + "2"})
	expect(t, err, IsPartition, d.Path+"2 is a partition of "+d.Path)

	tool(t, "dmsetup", "--noudevsync", "create", "held", "--table", "0 2048 linear "+d.Path+"3 0")
	_, err = Prepare(t.Context(), o)
	expect(t, err, InUse, "the mapped device (LVM, encryption) held stands on "+d.Name+"3")
	tool(t, "dmsetup", "--noudevsync", "remove", "held")

	tool(t, "mkswap", d.Path+"3")
	tool(t, "swapon", d.Path+"3")
	_, err = Prepare(t.Context(), o)
	expect(t, err, IsSystem, "it swaps to "+d.Path+"3")
	tool(t, "swapoff", d.Path+"3")

	const readsFail = "2" // at sector 0x1234
	set(t, "/sys/bus/pseudo/drivers/scsi_debug/opts", readsFail)
	_, err = write(t, o)
	expect(t, err, DeviceError, "reports an error while reading at byte")
	set(t, "/sys/bus/pseudo/drivers/scsi_debug/opts", "0")

	p, err := Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, err = p.Write(t.Context(), func(phase Phase, done, _ int64) {
		if phase == Writing && done == 0 {
			set(t, filepath.Join("/sys/block", d.Name, "device/delete"), "1")
		}
	})
	expect(t, err, Gone, "it was unplugged")
}

func set(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Error(err)
	}
}

// simulated waits until the simulated disk has this size: the kernel looks for disks
// in its own time.
func simulated(t *testing.T, size int64) disks.Disk {
	t.Helper()
	const within = 30 * time.Second
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		all, err := disks.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			if d.Bus == disks.SCSI && d.Size == size {
				return d
			}
		}
	}
	t.Fatal(errors.New("the simulated disk does not appear"))
	return disks.Disk{}
}
