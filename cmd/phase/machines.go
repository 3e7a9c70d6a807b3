package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/doctor"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/manifest"
)

// architectures are those that media can be for, in the order of an image's parts.
var architectures = []string{manifest.ArchX8664, manifest.ArchARM64}

const allArchitectures = "all"

// archsFlag adds --arch to a command that can build for several architectures at once.
func archsFlag(cmd *cobra.Command, arch *string) {
	cmd.Flags().StringVar(arch, "arch", "", "architecture of the machines: x86_64, arm64, or all for one image that boots either (default those whose programs are built)")
	choices := cobra.FixedCompletions(append(slices.Clone(architectures), allArchitectures), cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("arch", choices) // fails for a flag that does not exist
}

// archs reads --arch: one, all, or those whose programs are there.
func (w *workshop) archs() ([]string, error) {
	switch w.arch {
	case allArchitectures:
		return architectures, nil
	case "":
		var built []string
		for _, arch := range architectures {
			if _, err := os.Stat(filepath.Join(w.targetOf(arch, true), "phase-init")); err == nil {
				built = append(built, arch)
			}
		}
		if len(built) == 0 {
			built = architectures[:1] // who opens it says what is missing
		}
		return built, nil
	}
	arch, err := manifest.ParseArch(w.arch)
	if err != nil {
		return nil, usageError{fmt.Errorf("--arch %s: choose x86_64, arm64 or all", w.arch)}
	}
	return []string{arch}, nil
}

// targetOf is the folder with the programs for an architecture's machines.
func (w *workshop) targetOf(arch string, several bool) string {
	switch {
	case w.target == "":
		return filepath.Join("build", "target", arch)
	case several:
		return filepath.Join(w.target, arch)
	}
	return w.target
}

// prepareAll builds the seeds of one medium.
func (w *workshop) prepareAll(ctx context.Context, archs []string) ([]*lab.Lab, error) {
	if err := w.checkMachines(len(archs) > 1); err != nil {
		return nil, err
	}
	var labs []*lab.Lab
	for _, arch := range archs {
		one := *w
		one.arch, one.target = arch, w.targetOf(arch, len(archs) > 1)
		l, err := one.prepare(ctx)
		if err != nil {
			return nil, err
		}
		labs = append(labs, l)
	}
	return labs, nil
}

// parts are files and folders that a person gives instead of packages.
type parts struct {
	system.Files
	folder string // with all of them, by their usual names
}

// machineFlags is for the commands that build for the machines of others.
func (w *workshop) machineFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.flavour, "flavour", string(system.FlavourGeneric), "for which machines: generic (real ones, and virtual ones as well) or cloud (virtual ones: smaller)")
	choices := cobra.FixedCompletions([]string{string(system.FlavourGeneric), string(system.FlavourCloud)}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("flavour", choices) // fails for a flag that does not exist
	flags.BoolVar(&w.wifi, "wifi", false, "carry wpa_supplicant and the drivers of wireless cards, to join WPA2, WPA3 and open networks")
	flags.StringArrayVar(&w.firmware, "firmware", nil, "`PACKAGE` of Debian, or folder (with a / in its name), whose firmware to carry as far as the drivers ask for it; repeatable")
	flags.StringVar(&w.kernel, "kernel-package", "", "Debian `PACKAGE` of the kernel (default the one of the flavour)")
	flags.StringVar(&w.parts.KernelImage, "kernel", "", "kernel `FILE` instead of a package; with --modules")
	flags.StringVar(&w.parts.ModulesDir, "modules", "", "`FOLDER` with that kernel's modules, as /lib/modules/<release>")
	flags.StringVar(&w.parts.Loader, "loader", "", "EFI boot loader `FILE` instead of systemd-boot's package")
	flags.StringVar(&w.parts.CACerts, "ca-certificates", "", "PEM `FILE` with certificate authorities instead of the package ca-certificates")
	flags.StringVar(&w.parts.folder, "parts", "", "`FOLDER` with vmlinuz, modules, systemd-boot*.efi and ca-certificates.crt instead of packages, or with such a folder for each architecture")
}

// checkMachines refuses flags that do not fit together.
func (w *workshop) checkMachines(several bool) error {
	if w.flavour == "" {
		return nil // a command that does not ask
	}
	flavour, err := system.ParseFlavour(w.flavour)
	given := w.parts.Files != (system.Files{})
	cloud := flavour == system.FlavourCloud
	switch {
	case err != nil:
		return usageError{fmt.Errorf("--flavour: %w", err)}
	case w.wifi && cloud:
		return usageError{errors.New("--wifi is for real machines, and --flavour cloud for virtual ones: leave out one of them")}
	case len(w.firmware) > 0 && cloud:
		return usageError{errors.New("--firmware is for real machines, and --flavour cloud for virtual ones: leave out one of them")}
	case w.kernel != "" && (w.parts.KernelImage != "" || w.parts.folder != ""):
		return usageError{errors.New("--kernel-package is for a kernel from a package: leave out --kernel and --parts, or that")}
	case (w.parts.KernelImage == "") != (w.parts.ModulesDir == ""):
		return usageError{errors.New("--kernel and --modules belong together: give both")}
	case given && w.parts.folder != "":
		return usageError{errors.New("--parts names a folder with all parts: put the others into it, or name each file")}
	case given && several:
		return usageError{errors.New("a kernel, a loader and modules are for one architecture: name it with --arch, or give a folder for each with --parts")}
	}
	return nil
}

// files are the parts for an architecture, and the firmware among them.
func (w *workshop) files(arch string) (system.Files, []string, error) {
	if w.parts.folder == "" {
		return w.parts.Files, w.firmware, nil
	}
	dir := w.parts.folder
	if info, err := os.Stat(filepath.Join(dir, arch)); err == nil && info.IsDir() {
		dir = filepath.Join(dir, arch)
	}
	files, firmware, err := system.FindFiles(dir)
	if err != nil || firmware == "" {
		return files, w.firmware, err
	}
	return files, append(slices.Clone(w.firmware), firmware), nil
}

// toolsFor makes sure that what building needs is here: without apt and its like
// where nothing comes from packages.
func (w *workshop) toolsFor(ctx context.Context, task doctor.Task, arch string, files system.Files) error {
	if !files.Complete() || w.wifi || w.tor || w.shell {
		return ensureTools(ctx, task, arch, w.install)
	}
	host := doctor.This(os.Getenv("PATH"))
	found, err := host.Check(ctx, task, arch)
	if err != nil {
		return usageError{err}
	}
	notNeeded := func(f doctor.Finding) bool {
		return slices.Contains([]string{"apt-get", "dpkg-deb", "CA certificates", "go", "git"}, f.Name)
	}
	return lacking(host, slices.DeleteFunc(found, notNeeded))
}
