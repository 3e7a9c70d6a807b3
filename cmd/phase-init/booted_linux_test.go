package main

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/phasebased/phase/internal/sysinit"
)

const mediumID, loaderID = "01234567-89ab-cdef-0123-456789abcdef", "11234567-89ab-cdef-0123-456789abcdef"

// ids are the unique GUIDs of a disk's partitions by their devices.
type ids map[string]string

func (t ids) Is(device, id string) bool { return t[device] == id }

func (t ids) Has(id string) bool {
	for _, has := range t {
		if has == id {
			return true
		}
	}
	return false
}

// machineDisks are a machine's: each with a boot partition, a seed partition and a cache.
func machineDisks(names ...string) fstest.MapFS {
	sys := fstest.MapFS{}
	for _, disk := range names {
		for n, label := range map[string]string{"1": "phase-esp", "2": seedLabel, "3": cacheLabel} {
			sys["class/block/"+disk+n+"/uevent"] = &fstest.MapFile{Data: []byte("DEVNAME=" + disk + n + "\nPARTNAME=" + label + "\n")}
			sys["class/block/"+disk+"/"+disk+n+"/partition"] = &fstest.MapFile{Data: []byte(n + "\n")}
		}
	}
	return sys
}

func tablesOf(disks map[string]ids) func(string) (table, error) {
	return func(disk string) (table, error) {
		if t, ok := disks[disk]; ok {
			return t, nil
		}
		return nil, errors.New("cannot be read")
	}
}

// TestOnlyTheBootedMedium: by a name alone no partition is the medium's where the boot
// entry or the loader says which is.
func TestOnlyTheBootedMedium(t *testing.T) {
	disks := map[string]ids{
		"sda": {"/dev/sda1": "x", "/dev/sda2": "y"},                             // prepared, with GUIDs of its own
		"sdb": {"/dev/sdb1": loaderID, "/dev/sdb2": mediumID, "/dev/sdb3": "z"}, // the medium
		"sdc": {"/dev/sdc1": "x", "/dev/sdc2": "y", "/dev/sdc3": mediumID},      // its GUID on another partition
	}
	for name, b := range map[string]*booted{
		"entry":  {seed: mediumID, table: tablesOf(disks)},
		"loader": {loader: loaderID, table: tablesOf(disks)},
	} {
		for _, disk := range []string{"sda", "sdb", "sdc", "sdd"} {
			if got := b.is(sysinit.Partition{Device: "/dev/" + disk + "2", Disk: disk}); got != (disk == "sdb") {
				t.Errorf("%s: %s: %v", name, disk, got)
			}
		}
		if got := strings.Join(b.passed, " "); !b.known() || got != "/dev/sda2 /dev/sdc2 /dev/sdd2" {
			t.Errorf("%s: passed over %s", name, got)
		}
	}
	var nobody booted
	if nobody.known() || !nobody.is(sysinit.Partition{Device: "/dev/sda2", Disk: "sda"}) {
		t.Error("where nobody says which, the name counts")
	}
}

// TestDoubles: before anything is started, no other disk may say that it is the medium
// or its cache, also one that was found after it.
func TestDoubles(t *testing.T) {
	genuine, copied, other := ids{"/dev/sda2": mediumID}, ids{"/dev/sdb2": mediumID}, ids{"/dev/sdb2": "y"}
	for _, c := range []struct {
		name    string
		bound   bool
		disks   []string
		second  ids
		volumes map[string]string
		label   string // of what is refused; "": nothing
	}{
		{"alone", true, []string{"sda"}, nil, map[string]string{"/dev/sda3": "u"}, ""},
		{"another medium", true, []string{"sda", "sdb"}, other, map[string]string{"/dev/sda3": "u", "/dev/sdb3": "v"}, ""},
		{"a copy", true, []string{"sda", "sdb"}, copied, map[string]string{"/dev/sda3": "u"}, seedLabel},
		{"a copy of the cache", true, []string{"sda", "sdb"}, other, map[string]string{"/dev/sda3": "u", "/dev/sdb3": "u"}, cacheLabel},
		{"nobody says which", false, []string{"sda", "sdb"}, other, map[string]string{"/dev/sda3": "u"}, seedLabel},
	} {
		s := &seed{seedDisk: "sda", cacheID: "u", cacheDevice: "/dev/sda3"}
		s.booted = &booted{table: tablesOf(map[string]ids{"sda": genuine, "sdb": c.second})}
		if c.bound {
			s.booted.seed = mediumID
		}
		s.booted.volume = func(device string) (string, error) {
			if id, ok := c.volumes[device]; ok {
				return id, nil
			}
			return "", errors.New("no file system")
		}
		err := s.doubles(machineDisks(c.disks...))
		var double *MediaError
		if errors.As(err, &double); (double == nil) != (c.label == "") || double != nil && (double.Label != c.label || double.Code() != "BOOT-010" || !strings.Contains(err.Error(), "/dev/sdb")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
