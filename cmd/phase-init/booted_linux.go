package main

import (
	"io/fs"
	"os"
	"slices"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/oneshot"
	"github.com/phasebased/phase/internal/sysinit"
)

// booted is what tells the medium that this machine was started from, from others.
type booted struct {
	seed   string // the unique GUID of its seed partition, as its boot entry says; ""
	loader string // else that of the partition that the boot loader came from; "": nobody says
	// passed are the devices that bear the name of a medium's partition and are not
	// of this one.
	passed []string
	table  func(disk string) (table, error)
	volume func(device string) (uuid string, err error)
}

// table is a disk's partition table.
type table interface {
	Is(device, id string) bool
	Has(id string) bool
}

// whichBooted asks the kernel's command line, and then the boot loader.
func whichBooted(cmdline, arch string) (*booted, error) {
	said, err := bootcfg.Parse(cmdline, nil, nil, arch)
	if err != nil {
		return nil, err
	}
	b := &booted{
		seed: said.Medium, volume: sysinit.VolumeUUID,
		table: func(disk string) (table, error) { return oneshot.ReadTable(disk) },
	}
	if b.seed == "" {
		b.loader = oneshot.LoaderPartition(cmdline, sysinit.EFIVars().Target)
	}
	return b, nil
}

// known says whether anything but names tells the medium.
func (b *booted) known() bool { return b != nil && b.seed+b.loader != "" }

// is reports whether a partition with the name of a seed partition is that of the
// medium. Where nobody says which that is, any may be.
func (b *booted) is(p sysinit.Partition) bool {
	if !b.known() {
		return true
	}
	table, err := b.table(p.Disk)
	ours := err == nil && (b.seed != "" && table.Is(p.Device, b.seed) || b.seed == "" && table.Has(b.loader))
	b.passed = slices.DeleteFunc(b.passed, func(device string) bool { return device == p.Device })
	if !ours {
		b.passed = append(b.passed, p.Device)
	}
	return ours
}

// alone refuses to start anything where a second disk says that it is this medium, or
// its cache. Built-in disks appear before sticks do, so the one that was found first
// need not be the one that was booted; by now all of them are there.
func (s *seed) alone() error {
	if s.doubt == nil {
		s.doubt = s.doubles(os.DirFS("/sys"))
	}
	return s.doubt
}

func (s *seed) doubles(sys fs.FS) error {
	seeds, err := sysinit.Partitions(sys, seedLabel)
	if err != nil {
		return nil // nothing can be seen, as on a machine without disks
	}
	seeds = slices.DeleteFunc(seeds, func(p sysinit.Partition) bool {
		return p.Disk == s.seedDisk || s.seedDisk == "" || !s.booted.is(p)
	})
	if len(seeds) > 0 {
		return &MediaError{Label: seedLabel, Partitions: seeds, Late: true}
	}
	if s.cacheID == "" {
		return nil
	}
	caches, err := sysinit.Partitions(sys, cacheLabel)
	if err != nil {
		return nil
	}
	caches = slices.DeleteFunc(caches, func(p sysinit.Partition) bool {
		id, err := s.booted.volume(p.Device)
		return p.Device == s.cacheDevice || err != nil || id != s.cacheID
	})
	if len(caches) > 0 {
		return &MediaError{Label: cacheLabel, Partitions: caches, Late: true}
	}
	return nil
}
