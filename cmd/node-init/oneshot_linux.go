package main

import (
	"context"
	"os"
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
	ctx, cancel := context.WithTimeout(ctx, seedWithin)
	defer cancel()
	partitions, err := sysinit.WaitPartition(ctx, seedLabel)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		medium.Disks = append(medium.Disks, p.Disk)
	}
	return medium.Clear()
}
