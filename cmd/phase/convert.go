package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/diskformat"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/term"
)

// Formats of media beside those of package diskformat.
const (
	formatRaw = "raw"
	formatISO = "iso"
)

// discVolume is the name by which the seed knows its disc.
const discVolume = "PHASE_BOOT"

// imageFormats are the formats of --format, the raw one first.
func imageFormats() []string {
	return slices.Concat([]string{formatRaw}, diskformat.Formats(), []string{formatISO})
}

const convertHelp = `Writes a raw image, as "phase image build" makes it, in the format of a hypervisor
or as a disc. The image stays as it is. The same image gives the same file.

  qcow2   QEMU, libvirt, UTM
  vmdk    VMware Workstation and Fusion, VirtualBox, Parallels (ESXi: see the guide)
  vhd     Azure, Hyper-V generation 1
  vhdx    Hyper-V generation 2
  iso     discs and the remote consoles of servers; UEFI only, without a cache

docs/virtual-machines.md says how each of them is started.

Exit status: 0 written, 1 refused or failed, 2 wrong usage.`

// conversion is what image convert was asked for.
type conversion struct {
	formats []string
	out     string
	force   bool
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
			for _, path := range written {
				fmt.Fprintln(cmd.OutOrStdout(), term.Clean(path))
			}
			return err
		},
	}
	cmd.Flags().StringSliceVar(&c.formats, "format", nil, "formats to write: "+strings.Join(imageFormats()[1:], ", "))
	cmd.Flags().StringVar(&c.out, "out", "", "file to write (default beside the image, with the format's ending)")
	cmd.Flags().BoolVar(&c.force, "force", false, "replace files that exist")
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
	if err := checkImageFormats(c.formats, imageFormats()[1:]); err != nil {
		return err
	}
	if c.out != "" && len(c.formats) > 1 {
		return usageError{errors.New("--out names one file, and there are several formats")}
	}
	return nil
}

// checkImageFormats refuses formats that are unknown or named twice.
func checkImageFormats(formats, known []string) error {
	for i, f := range formats {
		if !slices.Contains(known, f) || slices.Contains(formats[:i], f) {
			return usageError{fmt.Errorf("--format %s: choose each once from %s", f, strings.Join(known, ", "))}
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
			out = strings.TrimSuffix(path, filepath.Ext(path)) + "." + format
		}
		if err := raw.write(ctx, format, out, at, c.force); err != nil {
			return written, err
		}
		written = append(written, out)
	}
	return written, nil
}

// unshown is how long something may take before its progress is shown.
const unshown = 2 * time.Second

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
func (r *rawImage) write(ctx context.Context, format, out string, at time.Time, force bool) error {
	bar, begun := newConsole(os.Stderr).Progress(filepath.Base(out), r.size), time.Now()
	err := r.convert(ctx, format, out, at, force, func(done, _ int64) {
		if time.Since(begun) > unshown {
			bar.Set(done)
		}
	})
	bar.End()
	if err != nil {
		return err
	}
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%-28s %10s\n", term.Clean(filepath.Base(out)), term.Bytes(info.Size()))
	return nil
}

func (r *rawImage) convert(ctx context.Context, format, out string, at time.Time, force bool, progress func(done, total int64)) error {
	c := diskformat.Config{Format: format, Out: out, Time: at, Replace: force, Progress: progress}
	if format == formatISO {
		return diskformat.Produce(out, force, func(f *os.File) error {
			size, err := image.ISO{Label: discVolume, Name: "phase", Time: at}.Write(f, r, r.size)
			if err != nil {
				return err
			}
			return f.Truncate(size)
		})
	}
	return diskformat.Write(ctx, r.File, r.size, c)
}
