package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/mediacheck"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/sums"
	"github.com/phasebased/phase/internal/term"
)

// verification is what `phase image verify` was asked.
type verification struct {
	key, list, format string
	structure         bool
	console           *term.Console
	bar               *term.Progress
	barName           string
}

func newImageVerify() *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use: "verify IMAGE|DEVICE|FOLDER", Short: "Check an image, a stick or a folder of downloads against the publisher's signature",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("name one image, device or folder (see %s --help)", cmd.CommandPath())}
			}
			return nil
		},
		Long: `Verifies SHA256SUMS with the publisher's key for media, and with it the image: the
file, or as many bytes of a stick as the image has. Then it looks at the image
itself: both partition tables, the boot partition with the files that its papers
name, and the root of trust that the medium carries, which it shows.

The key is a PEM file, minisign's, the .pub file of keygen, or ed25519:HEX. Take it
from another place than the download: who can change one can change the other.

Of a FOLDER every file must stand in its SHA256SUMS, and every one that stands there must
be there. Images of other formats than raw are verified by their digest alone. A stick
that was booted differs from its image: the cache partition was written to.

Exit status: 0 everything is in order, 1 something is not, 2 wrong usage.`,
		Example: `  phase image verify phase-x86_64-cloud.img --key media-key.pem
  phase image verify /dev/sdX --key media-key.pem --sums downloads/SHA256SUMS
  phase image verify downloads --key media-key.minisign --format json
  phase image verify phase.img --structure`,
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&v.key, "key", "k", "", "the publisher's key for media: a `file`, or ed25519:HEX")
	flags.StringVar(&v.list, "sums", "", "SHA256SUMS `file`, with its signature beside it (default: beside the image)")
	flags.BoolVar(&v.structure, "structure", false, "without a key: look only whether the image is whole, whoever made it")
	flags.StringVarP(&v.format, "format", "f", "text", "text or json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// verified is what was found, as --format json writes it.
type verified struct {
	Status   string            `json:"status"` // "verified", "whole" (nobody vouches for it) or "failed"
	Object   string            `json:"object"`
	Key      string            `json:"key,omitempty"`
	Images   []*verifiedImage  `json:"images"`
	Files    int               `json:"files,omitempty"` // of a folder
	Findings []verifiedFinding `json:"findings,omitempty"`
	key      ed25519.PublicKey
	list     sums.List
}

type verifiedImage struct {
	Path   string             `json:"path"`
	Size   int64              `json:"size"` // bytes of the image
	SHA256 *blob.Digest       `json:"sha256,omitempty"`
	Names  []string           `json:"names,omitempty"` // in the list
	Report *mediacheck.Report `json:"structure,omitempty"`
}

type verifiedFinding struct {
	Object string `json:"object"`
	Code   string `json:"code,omitempty"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

func (v *verification) run(cmd *cobra.Command, object string) error {
	switch {
	case v.format != "text" && v.format != "json":
		return usageError{fmt.Errorf("--format %s: choose text or json", v.format)}
	case v.key == "" && !v.structure:
		return usageError{errors.New("--key is missing: name the publisher's key for media, or ask with --structure whether the image is whole, whoever made it")}
	case v.key != "" && v.structure:
		return usageError{errors.New("--key and --structure exclude each other: with a key the structure is looked at as well")}
	}
	v.console = newConsole(os.Stderr)
	out := &verified{Object: object}
	if err := v.verify(cmd.Context(), object, out); err != nil {
		return err
	}
	switch {
	case len(out.Findings) > 0:
		out.Status = "failed"
	case v.structure:
		out.Status = "whole"
	default:
		out.Status = "verified"
	}
	if err := v.write(cmd.OutOrStdout(), out); err != nil {
		return err
	}
	if out.Status == "failed" {
		return silentError{errors.New("not verified")}
	}
	return nil
}

// verify fills out; it fails only where nothing can be said.
func (v *verification) verify(ctx context.Context, object string, out *verified) error {
	if v.key != "" {
		key, err := release.ReadMediaKey(v.key)
		if err != nil {
			return err
		}
		out.key, out.Key = key, fmt.Sprintf("%s%x", release.KeyPrefix, []byte(key))
	}
	info, err := os.Stat(object)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return v.folder(ctx, object, out)
	}
	if v.key != "" {
		path := v.list
		if path == "" && !info.Mode().IsRegular() {
			return usageError{errors.New("--sums is missing: name the SHA256SUMS that was downloaded with the image")}
		}
		if path == "" {
			path = filepath.Join(filepath.Dir(object), sums.Name)
		}
		list, err := sums.OpenFile(path, out.key)
		if err != nil {
			return out.note(object, err)
		}
		out.list = list
	}
	return v.image(ctx, object, out, false)
}

// note keeps what speaks against the medium; other errors end the command.
func (o *verified) note(object string, err error) error {
	var coded interface {
		error
		Code() string
		Hint() string
	}
	if !errors.As(err, &coded) {
		return err
	}
	o.Findings = append(o.Findings, verifiedFinding{object, coded.Code(), coded.Error(), coded.Hint()})
	return nil
}

// folder verifies downloads that lie together.
func (v *verification) folder(ctx context.Context, dir string, out *verified) error {
	if v.list != "" {
		return usageError{errors.New("--sums is for a single image: a folder has its own")}
	}
	var names []string
	if v.structure {
		list, err := filepath.Glob(filepath.Join(dir, "*.img"))
		if err != nil {
			return err
		}
		for _, path := range list {
			names = append(names, filepath.Base(path))
		}
	} else {
		list, err := sums.OpenFolder(dir, out.key)
		if err != nil {
			return out.note(dir, err)
		}
		if err := list.Check(dir, v.watch(ctx)); err != nil {
			return out.note(dir, err)
		}
		out.Files = len(list)
		for _, e := range list {
			names = append(names, e.Name)
		}
	}
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if !isRaw(path) {
			continue
		}
		if err := v.image(ctx, path, out, true); err != nil {
			return err
		}
	}
	return nil
}

// isRaw reports whether a file can be looked into: the other formats of images are
// verified by their digests.
func isRaw(path string) bool {
	return slices.Contains([]string{".img", ".raw"}, strings.ToLower(filepath.Ext(path)))
}

// anySize is more than any medium has, for systems that do not tell the size of a
// device: what is read behind its end is an error there.
const anySize = 1 << 50

// image verifies one image or device; sure says that its digest was compared.
func (v *verification) image(ctx context.Context, path string, out *verified, sure bool) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	device := info.Mode()&fs.ModeDevice != 0
	if !device && !info.Mode().IsRegular() { // opening a pipe would wait
		return fmt.Errorf("%s is neither an image nor a device nor a folder", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	im := &verifiedImage{Path: path, Size: info.Size()}
	if device {
		if im.Size, err = f.Seek(0, io.SeekEnd); err != nil || im.Size == 0 {
			im.Size = anySize
		}
	}
	out.Images = append(out.Images, im)
	if device || isRaw(path) {
		if err := v.look(ctx, f, im, device, out); err != nil {
			return err
		}
	} else if v.structure {
		return usageError{fmt.Errorf("%s is no raw image (.img): convert it, or verify its digest with --key", path)}
	}
	if sure || v.structure || device && im.Report.Layout == nil {
		return nil
	}
	return v.compare(ctx, f, im, device, out)
}

// look looks at the structure.
func (v *verification) look(ctx context.Context, f *os.File, im *verifiedImage, device bool, out *verified) (err error) {
	if im.Report, err = mediacheck.Structure(ctx, f, im.Size, nil); err != nil {
		return err
	}
	if device && im.Report.Layout != nil {
		im.Size = im.Report.Layout.Size
	} else if !device {
		im.Report.SameSize(im.Size)
	}
	for _, finding := range im.Report.Findings {
		if err := out.note(im.Path, finding); err != nil {
			return err
		}
	}
	return nil
}

// compare looks for the digest in the list.
func (v *verification) compare(ctx context.Context, f *os.File, im *verifiedImage, device bool, out *verified) error {
	name := filepath.Base(im.Path)
	got, err := sums.ReaderDigest(io.NewSectionReader(f, 0, im.Size), name, im.Size, v.watch(ctx))
	if err != nil {
		return err
	}
	im.SHA256, im.Names = &got, out.list.Named(got)
	if len(im.Names) > 0 {
		return nil
	}
	want, ok := out.list.Find(name)
	switch {
	case device:
		return out.note(im.Path, sums.ErrDiffers.Of(name, "its first %d bytes have %s, which no file of the list has; if it was booted before, that is why", im.Size, got))
	case ok:
		return out.note(im.Path, sums.ErrDiffers.Of(name, "it has %s, expected %s", got, want))
	}
	return out.note(im.Path, sums.ErrUnlisted.Of(name, "nor does its digest, %s", got))
}

// watch shows how far the reading of a large file is.
func (v *verification) watch(ctx context.Context) sums.Watch {
	return func(name string, done, size int64) error {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if size < 64<<20 {
			return nil
		}
		if v.bar == nil || v.barName != name {
			v.bar, v.barName = v.console.Progress(name, size), name
		}
		v.bar.Set(done)
		if done >= size {
			v.bar.End()
			v.bar = nil
		}
		return nil
	}
}

// write writes the result: for machines, or for people.
func (v *verification) write(w io.Writer, out *verified) error {
	if v.format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(out)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, term.Clean(fmt.Sprintf(format, args...)))
	}
	if out.list != nil || out.Files > 0 {
		row("signature", "of SHA256SUMS, by %s", out.Key)
	}
	if out.Files > 0 {
		row("folder", "%s: %d files, all as in SHA256SUMS", out.Object, out.Files)
	}
	for _, im := range out.Images {
		showImage(row, im)
	}
	for _, f := range out.Findings {
		row("NOT IN ORDER", "[%s] %s", f.Code, f.Text)
		row("", "%s", f.Hint)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	verdict := map[string]string{
		"verified": "VERIFIED", "failed": "FAILED",
		"whole": "WHOLE, but nobody vouches for it: name the publisher's key with --key",
	}[out.Status]
	_, err := fmt.Fprintln(w, verdict)
	return err
}

func showImage(row func(name, format string, args ...any), im *verifiedImage) {
	row("image", "%s, %s", im.Path, term.Bytes(im.Size))
	if len(im.Names) > 0 {
		row("digest", "%s, in the list as %s", im.SHA256, strings.Join(im.Names, ", "))
	}
	r := im.Report
	if r == nil {
		row("structure", "not looked at: not a raw image")
		return
	}
	if r.Layout != nil {
		var parts []string
		for _, p := range r.Layout.Partitions {
			parts = append(parts, p.Label+" "+term.Bytes(p.Size))
		}
		row("partitions", "%s; both tables are whole", strings.Join(parts, ", "))
	}
	for _, c := range r.Chains {
		row("starts on", "%s by %s (Secure Boot tier %s)", c.Arch, c.Name, c.Tier)
	}
	if b := r.Build; b != nil {
		row("version", "%s of %s, kernel %s, %d parts of others", b.Version, b.BuildTime.UTC().Format(time.DateOnly), b.Kernel, r.Parts)
	}
	if r.Root == nil {
		return
	}
	row("root", "version %d, expires %s, %s", r.Root.Version, r.Root.Expires.UTC().Format(time.DateOnly), r.Root.Digest)
	for _, role := range r.Root.Roles {
		for i, id := range role.KeyIDs {
			if i == 0 {
				row("  "+role.Role, "%d of: %s", role.Threshold, id)
			} else {
				row("", "      %s", id)
			}
		}
	}
}
