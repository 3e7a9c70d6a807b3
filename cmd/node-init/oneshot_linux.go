package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/oneshot"
	"github.com/phasebased/phase/internal/sysinit"
)

const (
	espDir    = pid1.RunDir + "/esp"
	seedLabel = "phase-seed"
	// seedWithin is how long the medium may take to appear: the firmware has just
	// been through it, but this kernel begins anew.
	seedWithin = 10 * time.Second
)

// dropEntry removes the boot entry by which this system was started, if it was
// started that way: it has done its work. What cannot be removed the next seed
// tries to. It comes before the root file system is entered, whose modules may be
// those of another kernel.
func (n *node) dropEntry(ctx context.Context) error {
	if !n.mode.MayWrite() {
		return nil
	}
	vars := sysinit.EFIVars()
	if n.system.Modules != nil {
		if err := n.system.Modules.Load("efivarfs"); err != nil {
			return nil // no UEFI, and so no entry
		}
	}
	if err := sysinit.MountAll("/", []sysinit.Filesystem{vars}); err != nil {
		return nil
	}
	defer func() { _ = sysinit.Unmount(vars.Target) }()
	// What cannot be read has said nothing.
	cmdline, _ := os.ReadFile("/proc/cmdline")
	medium := &oneshot.Medium{Arch: n.info.Arch, Told: oneshot.ParseTold(string(cmdline)), Vars: vars.Target, Dir: espDir}
	if !medium.Ours() {
		return nil
	}
	if n.system.Modules != nil {
		medium.LoadModule = n.system.LoadModule
	}
	// The entry lies on the partition that the loader came from. The medium is known by
	// that, and not by phase.medium, which is told to the seed alone.
	from := loaderDisk{
		partition: oneshot.LoaderPartition(string(cmdline), vars.Target),
		table:     func(disk string) (table, error) { return oneshot.ReadTable(disk) },
	}
	if from.partition == "" {
		return errNoLoader
	}
	ctx, cancel := context.WithTimeout(ctx, seedWithin)
	defer cancel()
	partitions, err := sysinit.WaitPartitions(ctx, seedLabel, from.has)
	if err != nil {
		return err
	}
	if medium.Disks, err = onlyDisk(partitions); err != nil {
		return err
	}
	return medium.Clear()
}

var errNoLoader = errors.New("the boot loader does not say where it came from; the next start of the medium removes the entry")

// loaderDisk tells the disk that the boot loader came from, from those of other media.
type loaderDisk struct {
	partition string // its unique GUID
	table     func(disk string) (table, error)
}

// table is a disk's partition table.
type table interface{ Has(id string) bool }

// has reports whether a seed partition is on that disk. A disk that cannot be read is
// another one: the firmware has read that one just now.
func (l loaderDisk) has(p sysinit.Partition) bool {
	t, err := l.table(p.Disk)
	return err == nil && t.Has(l.partition)
}

// onlyDisk is the disk of all partitions. Copies of a medium have the same GUIDs; none
// of them is written to.
func onlyDisk(partitions []sysinit.Partition) (disks []string, err error) {
	for _, p := range partitions {
		disks = append(disks, p.Disk)
	}
	slices.Sort(disks)
	if disks = slices.Compact(disks); len(disks) > 1 {
		return nil, fmt.Errorf("%s are copies of one medium, and which of them was started cannot be told; unplug the others", strings.Join(disks, " and "))
	}
	return disks, nil
}
