package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/phasebased/phase/internal/sysinit"
)

// ids are a disk's partitions, by their GUIDs.
type ids []string

func (t ids) Has(id string) bool { return slices.Contains(t, id) }

// TestOwnMedium: of several media the one counts that the boot loader came from, and of
// its copies none.
func TestOwnMedium(t *testing.T) {
	from := loaderDisk{"own", func(disk string) (table, error) {
		there, ok := map[string]ids{"sda": {"other", "seed"}, "sdb": {"seed", "own"}, "sdd": {"own"}}[disk]
		if !ok {
			return nil, errors.New("unplugged")
		}
		return there, nil
	}}
	for _, tt := range []struct {
		there []sysinit.Partition
		want  []string // nil: refused, or none
		fails bool
	}{
		{[]sysinit.Partition{{Disk: "sda"}, {Disk: "sdb"}}, []string{"sdb"}, false},
		{[]sysinit.Partition{{Disk: "sdb", Device: "/dev/sdb2"}, {Disk: "sdb", Device: "/dev/sdb3"}, {Disk: "sdc"}}, []string{"sdb"}, false},
		{[]sysinit.Partition{{Disk: "sda"}, {Disk: "sdc"}}, nil, false},
		{[]sysinit.Partition{{Disk: "sdd"}, {Disk: "sda"}, {Disk: "sdb"}}, nil, true},
	} {
		left := slices.DeleteFunc(slices.Clone(tt.there), func(p sysinit.Partition) bool { return !from.has(p) })
		got, err := onlyDisk(left)
		if !slices.Equal(got, tt.want) || (err != nil) != tt.fails {
			t.Errorf("%v: %v, %v", tt.there, got, err)
		}
	}
}
