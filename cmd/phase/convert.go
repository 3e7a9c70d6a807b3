package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/appliance"
	"github.com/phasebased/phase/internal/diskformat"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

// Formats of media beside those of package diskformat.
const (
	formatRaw = "raw"
	formatISO = "iso"
	formatUTM = "utm"
)

// discVolume is the name by which the seed knows its disc.
const discVolume = "PHASE_BOOT"

// imageFormats are the formats of --format, the raw one first.
func imageFormats() []string {
	return slices.Concat([]string{formatRaw}, diskformat.Formats(), []string{formatISO, formatUTM})
}

const convertHelp = `Writes a raw image, as "phase image build" makes it, in the format of a hypervisor
or as a disc. The image stays as it is. The same image gives the same file.

  qcow2   QEMU, libvirt, UTM
  vmdk    VMware Workstation and Fusion, VirtualBox, Parallels; not ESXi
  vhd     Azure
  vhdx    Hyper-V generation 2
  iso     discs, and the remote consoles of servers; without a cache
  utm     a zipped machine for UTM on Macs, of --arch
  vmdk-stream  compressed and read-only: for appliances and uploads to ESXi

docs/virtual-machines.md says how each of them is started.

Exit status: 0 written, 1 refused or failed, 2 wrong usage.`

// conversion is what image convert was asked for.
type conversion struct {
	formats []string
	out     string
	arch    string // of machines; "": what the image starts, arm64 if it starts both
	force   bool
	json    bool
}

func newImageConvert() *cobra.Command {
	var c conversion
	cmd := &cobra.Command{
		Use: "convert IMAGE", Short: "Write an image in the format of a hypervisor, or as a disc", Args: oneImage,
		Long:    convertHelp,
		Example: "  phase image convert build/phase.img --format qcow2\n  phase image convert build/phase.img --format vhdx,iso --force",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			written, err := c.run(cmd.Context(), args[0])
			if c.json && err == nil {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string][]string{"files": written})
			}
			for _, path := range written {
				fmt.Fprintln(cmd.OutOrStdout(), term.Clean(path))
			}
			return err
		},
	}
	cmd.Flags().StringSliceVar(&c.formats, "format", nil, "formats to write: "+strings.Join(imageFormats()[1:], ", "))
	cmd.Flags().StringVarP(&c.out, "out", "o", "", "file to write (default beside the image, with the format's ending)")
	cmd.Flags().StringVar(&c.arch, "arch", "", "with --format utm: architecture of the machine (default the image's, or arm64 if it starts both)")
	cmd.Flags().BoolVar(&c.force, "force", false, "replace files that exist")
	cmd.Flags().BoolVar(&c.json, "json", false, "print the names of the files as a JSON object")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(imageFormats()[1:], cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func oneImage(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("needs one image (see %s --help)", cmd.CommandPath())}
	}
	return nil
}

func (c *conversion) check() error {
	if len(c.formats) == 0 {
		return usageError{fmt.Errorf("--format is missing: choose from %s", strings.Join(imageFormats()[1:], ", "))}
	}
	if err := checkImageFormats("--format", c.formats, imageFormats()[1:]); err != nil {
		return err
	}
	if _, err := manifest.ParseArch(c.arch); c.arch != "" && err != nil {
		return usageError{fmt.Errorf("--arch %s: choose x86_64 or arm64", c.arch)}
	}
	if c.out != "" && len(c.formats) > 1 {
		return usageError{errors.New("--out names one file, and there are several formats")}
	}
	return nil
}

// buildFlag is --format of image build, which writes the raw image in any case.
func (c *conversion) buildFlag(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&c.formats, "format", []string{formatRaw}, "formats to write: the raw image always, and beside it "+strings.Join(imageFormats()[1:], ", "))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(imageFormats(), cobra.ShellCompDirectiveNoFileComp))
}

func (c *conversion) checkBuild() error {
	return checkImageFormats("--format", c.formats, imageFormats())
}

// built converts the image that was built, replaces what an earlier build has left,
// and names all files.
func (c *conversion) built(cmd *cobra.Command, raw string) error {
	written, err := c.rest(cmd.Context(), raw)
	for _, path := range append([]string{raw}, written...) {
		fmt.Fprintln(cmd.OutOrStdout(), term.Clean(path))
	}
	return err
}

// rest writes the formats but the raw one, in place of what was there.
func (c *conversion) rest(ctx context.Context, raw string) ([]string, error) {
	more := conversion{force: true}
	for _, f := range c.formats {
		if f != formatRaw {
			more.formats = append(more.formats, f)
		}
	}
	return more.run(ctx, raw)
}

// checkImageFormats refuses formats that are unknown or named twice.
func checkImageFormats(flag string, formats, known []string) error {
	for i, f := range formats {
		if !slices.Contains(known, f) || slices.Contains(formats[:i], f) {
			return usageError{fmt.Errorf("%s %s: choose each once from %s", flag, f, strings.Join(known, ", "))}
		}
	}
	return nil
}

// run writes all formats and returns the files that are complete.
func (c *conversion) run(ctx context.Context, path string) (written []string, err error) {
	raw, err := openRaw(path)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	at, err := sourcesTime()
	if err != nil {
		return nil, err
	}
	for _, format := range c.formats {
		out := c.out
		if out == "" {
			out = strings.TrimSuffix(path, filepath.Ext(path)) + endings[format]
		}
		if err := raw.write(ctx, c.config(format, out, at)); err != nil {
			return written, err
		}
		written = append(written, out)
	}
	return written, nil
}

// endings are those of file names.
var endings = map[string]string{
	diskformat.QCOW2: ".qcow2", diskformat.VMDK: ".vmdk", diskformat.VMDKStream: ".stream.vmdk", diskformat.VHD: ".vhd",
	diskformat.VHDX: ".vhdx", formatISO: ".iso", formatUTM: ".utm.zip",
}

// target is one file to write.
type target struct {
	diskformat.Config
	arch string
}

func (c *conversion) config(format, out string, at time.Time) target {
	return target{diskformat.Config{Format: format, Out: out, Time: at, Replace: c.force}, c.arch}
}

// rawImage is a raw image as package system writes it.
type rawImage struct {
	*os.File
	size int64
}

// notRawError says what a file is that should have been a raw image.
type notRawError struct {
	path string
	err  error
}

func (e *notRawError) Error() string { return fmt.Sprintf("%s: %v", e.path, e.err) }
func (e *notRawError) Unwrap() error { return e.err }

// Hint says what to do next.
func (e *notRawError) Hint() string {
	return "Convert the raw image that `phase image build` has written; compressed ones are unpacked first."
}

func openRaw(path string) (*rawImage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "convert", Path: path, Err: errors.New("not a file")}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := image.ReadGPT(f, info.Size()); err != nil {
		f.Close()
		return nil, &notRawError{path, err}
	}
	return &rawImage{f, info.Size()}, nil
}

// write writes one format, and shows how far it is.
func (r *rawImage) write(ctx context.Context, t target) error {
	bar := newLateBar(newConsole(os.Stderr), filepath.Base(t.Out))
	bar.set(0, r.size)
	t.Progress = func(done, _ int64) { bar.set(done, r.size) }
	err := r.convert(ctx, t)
	bar.end()
	if err != nil {
		return err
	}
	info, err := os.Stat(t.Out)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%-28s %10s\n", term.Clean(filepath.Base(t.Out)), term.Bytes(info.Size()))
	return nil
}

func (r *rawImage) convert(ctx context.Context, t target) error {
	switch t.Format {
	case formatISO:
		return diskformat.Produce(t.Out, t.Replace, func(f *os.File) error {
			size, err := image.ISO{Label: discVolume, Name: "phase", Time: t.Time}.Write(f, r, r.size)
			if err != nil {
				return err
			}
			return f.Truncate(size)
		})
	case formatUTM:
		arch, err := r.arch(t.arch)
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(filepath.Base(t.Out), ".")
		return appliance.WriteUTM(ctx, r.File, r.size, appliance.Config{
			Out: t.Out, Name: name, Arch: arch, Time: t.Time, Replace: t.Replace, Progress: t.Progress,
		})
	}
	return diskformat.Write(ctx, r.File, r.size, t.Config)
}

// arch is the architecture of a machine that the image starts: the one asked for,
// or the one there is. Of both it is arm64, as Macs are.
func (r *rawImage) arch(asked string) (string, error) {
	boots, err := image.Boots(r, r.size)
	if err != nil {
		return "", err
	}
	if asked == "" && len(boots) > 0 {
		return boots[0], nil
	}
	arch, err := manifest.ParseArch(asked)
	if err != nil || !slices.Contains(boots, arch) {
		return "", fmt.Errorf("the image starts no machines of --arch %s; it starts %s", asked, strings.Join(boots, " and "))
	}
	return arch, nil
}
