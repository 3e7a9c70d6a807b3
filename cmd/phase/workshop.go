package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/phasebased/phase/internal/doctor"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/system"
	phaseterm "github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/manifest"
)

// workshop is what demo, image build and release build have in common: where
// things are and how they are built.
type workshop struct {
	arch, work, target string
	install, offline   bool
	minVersion         int64
	root               []byte // that media trust; nil: that of the work folder's keys
	logPolicy          []byte // of the media; nil: none
	wifi, tor, shell   bool
	flavour            string   // for which machines; "": virtual ones
	firmware           []string // packages and folders
	kernel             string   // package
	parts              parts    // instead of packages
	format             string   // of the root file system
	noVerity           bool
	nodeConfig         []byte // of the node system, as plasmd's file; nil: its defaults
	mediumOnly         bool   // nothing is published
	verbose            bool
}

func (w *workshop) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.work, "work", filepath.Join("build", "lab"), "folder for packages, keys and outputs; kept for the next time")
	flags.StringVar(&w.target, "target", "", "folder with phase-pid1, phase-init, node-init and plasmd for the machine (default build/target/<arch>)")
	flags.BoolVar(&w.install, "install", false, "install missing tools from Debian's packages first")
	flags.BoolVar(&w.offline, "offline", false, "download no packages; use what an earlier run has left in the work folder")
	flags.BoolVarP(&w.verbose, "verbose", "v", false, "log what is being done")
}

// archFlag adds --arch to a command that works for machines of both architectures,
// whatever that of this machine is.
func archFlag(cmd *cobra.Command, arch *string) {
	cmd.Flags().StringVar(arch, "arch", manifest.ArchX8664, "architecture of the machines: x86_64 or arm64")
	choices := cobra.FixedCompletions([]string{manifest.ArchX8664, manifest.ArchARM64}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("arch", choices) // fails for a flag that does not exist
}

// parseArch reads what --arch was given.
func parseArch(text string) (string, error) {
	arch, err := manifest.ParseArch(text)
	if err != nil {
		return "", usageError{fmt.Errorf("--arch %s: choose x86_64 or arm64", text)}
	}
	return arch, nil
}

// rootfsFlags is for the command that builds what is published.
func (w *workshop) rootfsFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.format, "rootfs-format", system.FormatSquashfs, "format of the root file system: squashfs, which is smaller, or erofs")
	flags.BoolVar(&w.noVerity, "no-verity", false, "put no hash tree behind the root file system; machines then load it into memory at every boot")
	choices := cobra.FixedCompletions([]string{system.FormatSquashfs, system.FormatEROFS}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("rootfs-format", choices) // fails for a flag that does not exist
}

// prepare is what the commands that only build begin with.
func (w *workshop) prepare(ctx context.Context) (*lab.Lab, error) {
	arch, err := parseArch(w.arch)
	if err != nil {
		return nil, err
	}
	if err := w.checkMachines(false); err != nil {
		return nil, err
	}
	files, _, err := w.files(arch)
	if err != nil {
		return nil, err
	}
	if err := w.toolsFor(ctx, doctor.Image, arch, files); err != nil {
		return nil, err
	}
	step := newConsole(os.Stderr).Step("Build " + arch) // packages are fetched and unpacked the first time
	l, err := w.open(ctx)
	if err != nil {
		step.Fail("")
		return nil, err
	}
	step.Done("seed " + phaseterm.Bytes(l.Built["seed"].Size))
	return l, nil
}

// tools makes sure that what a task needs is here.
func (w *workshop) tools(ctx context.Context, task doctor.Task) error {
	arch, err := parseArch(w.arch)
	if err != nil {
		return err
	}
	return ensureTools(ctx, task, arch, w.install)
}

// open builds the systems, as far as they are not built.
func (w *workshop) open(ctx context.Context) (*lab.Lab, error) {
	arch, err := parseArch(w.arch)
	if err != nil {
		return nil, err
	}
	files, firmware, err := w.files(arch)
	if err != nil {
		return nil, err
	}
	if w.format != "" && w.format != system.FormatSquashfs && w.format != system.FormatEROFS {
		return nil, usageError{&system.FormatError{Format: w.format}}
	}
	w.target = w.targetOf(arch, false)
	plasmd, err := beside("plasmd")
	if err != nil {
		return nil, err
	}
	for _, program := range []string{"phase-pid1", "phase-init", "node-init", "plasmd"} {
		if _, err := os.Stat(filepath.Join(w.target, program)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is not in %s: run `make target ARCH=%s` in the source folder, or name the folder with --target", program, w.target, arch)
		}
	}
	at, err := sourcesTime()
	if err != nil {
		return nil, err
	}
	work, err := filepath.Abs(w.work)
	if err != nil {
		return nil, err
	}
	return lab.New(ctx, lab.Config{
		Arch: arch, Target: w.target, Plasmd: plasmd, Work: work, Version: version.Version,
		Time: at, MinVersion: w.minVersion, Root: w.root, LogPolicy: w.logPolicy, Offline: w.offline, Log: w.log(),
		WiFi: w.wifi, Tor: w.tor, Shell: w.shell, Firmware: firmware, Kernel: w.kernel,
		Flavour: system.Flavour(w.flavour), Files: files,
		Format: w.format, NoVerity: w.noVerity, MediumOnly: w.mediumOnly, NodeConfig: w.nodeConfig,
	})
}

func (w *workshop) log() *slog.Logger {
	if !w.verbose {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil))
}

// beside finds a program next to this one.
func beside(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s must lie beside %s: %w", name, filepath.Base(self), err)
	}
	return path, nil
}

// sourcesTime dates what is built: SOURCE_DATE_EPOCH, or the date of the
// sources that this program was built from.
func sourcesTime() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		text = version.Epoch
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q: set it to the seconds since 1970 that date the build", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// newConsole writes for people to out: live and coloured only on a terminal.
func newConsole(out *os.File) *phaseterm.Console {
	started := time.Now()
	terminal := term.IsTerminal(int(out.Fd()))
	plain := os.Getenv("NO_COLOR") != "" // no-color.org
	return phaseterm.New(phaseterm.Config{
		Out: out, Now: func() time.Duration { return time.Since(started) },
		Live: terminal, Color: terminal && !plain,
	})
}
