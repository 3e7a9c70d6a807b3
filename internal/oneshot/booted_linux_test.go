package oneshot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTable tells a disk's partitions by their GUIDs.
func TestTable(t *testing.T) {
	const stranger = "ecb2f0f3-1c3d-4b6a-9f10-0123456789ac"
	root := t.TempDir()
	write := func(name string, data []byte) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, sector := range map[string]int{"sda": 512, "nvme0n1": 4096} {
		at := map[int]string{512: "512\n", 4096: "4096\n"}[sector]
		write("sys/class/block/"+name+"/queue/logical_block_size", []byte(at))
		write("sys/class/block/"+name+"/"+name+"p1/partition", []byte("1\n"))
		write("sys/class/block/"+name+"/"+name+"p3/partition", []byte("3\n"))
		write("dev/"+name, disk(t, sector, espType))
		table, err := readTable(root, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			device, id string
			is, has    bool
		}{
			{"/dev/" + name + "p3", strings.ToLower(testUUID), true, true},
			{"/dev/" + name + "p1", testUUID, false, true},
			{"/dev/" + name + "p9", testUUID, false, true},
			{"/dev/" + name + "p3", stranger, false, false},
			{"/dev/" + name + "p3", "", false, false},
		} {
			if is, has := table.Is(c.device, c.id), table.Has(c.id); is != c.is || has != c.has {
				t.Errorf("%+v: %v, %v", c, is, has)
			}
		}
	}
	write("sys/class/block/sdb/queue/logical_block_size", []byte("512\n"))
	write("dev/sdb", []byte("no table"))
	for _, name := range []string{"", "sdb", "sdz", "..", "../dev/sda"} {
		if _, err := readTable(root, name); err == nil {
			t.Errorf("%q: no error", name)
		}
	}
}

func TestLoaderPartition(t *testing.T) {
	vars := t.TempDir()
	if got := LoaderPartition("quiet", vars); got != "" {
		t.Errorf("nobody has said it: %q", got)
	}
	set := func(text string) {
		raw := append([]byte{7, 0, 0, 0}, encodeText(text)...)
		if err := os.WriteFile(filepath.Join(vars, varDevice), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("HD(1)")
	if got := LoaderPartition("quiet", vars); got != "" {
		t.Errorf("no GUID: %q", got)
	}
	set(testUUID)
	if got := LoaderPartition("quiet", vars); got != strings.ToLower(testUUID) {
		t.Errorf("systemd-boot has said it: %q", got)
	}
	const other = "01234567-89ab-cdef-0123-456789abcdef"
	if got := LoaderPartition("loader.partition="+other, vars); got != other {
		t.Errorf("GRUB has said it: %q", got)
	}
}
