package oneshot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/internal/guid"
)

// LoaderPartition is the unique GUID, in lower case, of the partition that the boot
// loader came from, as GRUB has said it on the kernel's command line, or systemd-boot
// in the firmware's variables, which are mounted at vars; "": nobody has said it, as
// where a kernel came over the network or from a disc.
func LoaderPartition(cmdline, vars string) string {
	id := ParseTold(cmdline).Partition
	if id == "" {
		text, err := variables{vars}.text(varDevice)
		if _, bad := guid.Parse(text); err != nil || bad != nil {
			return ""
		}
		id = text
	}
	return strings.ToLower(id)
}

// A Table is the partition table of a disk.
type Table struct {
	partitions []partition
	numbers    map[string]int // by the names of the devices in /dev
}

// ReadTable reads the table of a disk as the kernel names it ("sda").
func ReadTable(disk string) (*Table, error) { return readTable("/", disk) }

func readTable(root, disk string) (*Table, error) {
	if disk == "" || strings.ContainsAny(disk, "/\x00") || strings.HasPrefix(disk, ".") {
		return nil, fmt.Errorf("%.40q is no disk", disk)
	}
	sys := filepath.Join(root, "/sys/class/block", disk)
	f, err := os.Open(filepath.Join(root, "/dev", disk))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sector, err := number(filepath.Join(sys, "queue/logical_block_size"))
	if err != nil {
		return nil, err
	}
	t := &Table{numbers: map[string]int{}}
	if t.partitions, err = readGPT(f, sector); err != nil {
		return nil, err
	}
	list, err := os.ReadDir(sys)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		// What has no number is no partition, or was unplugged meanwhile.
		if n, err := number(filepath.Join(sys, e.Name(), "partition")); err == nil {
			t.numbers[e.Name()] = n
		}
	}
	return t, nil
}

// Has reports whether the disk has a partition with a unique GUID.
func (t *Table) Has(id string) bool { return t.find(id, func(int) bool { return true }) }

// Is reports whether the partition with a unique GUID is this device ("/dev/sda2").
func (t *Table) Is(device, id string) bool {
	n, known := t.numbers[filepath.Base(device)]
	return known && t.find(id, func(number int) bool { return number == n })
}

func (t *Table) find(id string, number func(int) bool) bool {
	want, err := guid.Parse(id)
	if err != nil {
		return false
	}
	for _, p := range t.partitions {
		if p.ID == want && number(p.Number) {
			return true
		}
	}
	return false
}
