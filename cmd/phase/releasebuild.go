package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/cmd/internal/ceremony"
	"github.com/phasebased/phase/internal/bom"
	"github.com/phasebased/phase/internal/diskformat"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/sums"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/manifest"
)

// releaseBuild is what `phase release build` was asked.
type releaseBuild struct {
	w              workshop
	out, changelog string
	number         int64
	bases          []string
	previous       []string
	images         []string // formats
	chain          string
	check          bool

	archs   []string
	created time.Time // of the documents: the same when it is built again
	changes string
	patches io.Writer // what is told of patches
}

func newReleaseBuild() *cobra.Command {
	var b releaseBuild
	cmd := &cobra.Command{
		Use: "build", Short: "Build node system and images, and sign them with the keys of the work folder", Args: noArgs,
		Long: `Builds kernel, initramfs and root file system of a node, signs a manifest and a
pointer, and lays everything out as plasmd or any static web server can serve
it. Beside that it builds the images for people to download, in the formats that
--images names, each with its bill of materials (CycloneDX), and release notes,
SHA256SUMS and its signatures; they are published in media/<channel>-<number>. How strangers
check them is in docs/downloads.md.

All keys of the work folder are used by this one machine, which suits a trial; a
publisher keeps them apart: docs/keys.md.

With --previous, machines that have that release get patches: they fetch little more
than what has changed. With --check, everything is built a second time in an empty
folder, and every byte compared.`,
		Example: `  phase release build --number 2 --base http://192.168.1.2:8080
  phase release build --number 3 --previous build/published --images raw,qcow2 --check
  plasmd serve --artifacts build/published`,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	b.w.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&b.w.arch, "arch", manifest.ArchX8664, "architecture of the machines: x86_64, arm64 or all")
	_ = cmd.RegisterFlagCompletionFunc("arch", cobra.FixedCompletions([]string{manifest.ArchX8664, manifest.ArchARM64, "all"}, cobra.ShellCompDirectiveNoFileComp))
	b.w.machineFlags(cmd)
	b.w.rootfsFlags(cmd)
	flags.StringVar(&b.out, "out", filepath.Join("build", "published"), "folder to publish in")
	flags.Int64Var(&b.number, "number", 1, "manifest version; machines refuse one below the newest they have booted")
	flags.StringArrayVar(&b.previous, "previous", nil, "make patches from the release in this published `FOLDER`, or from that of MANIFEST=FOLDER; repeatable, at most 8")
	flags.StringArrayVar(&b.bases, "base", nil, "base URL under which the folder will be served, repeatable")
	flags.StringSliceVar(&b.images, "images", []string{formatRaw}, fmt.Sprintf("formats of images to build, of raw, %s; or none", strings.Join(diskformat.Formats(), ", ")))
	chainFlag(cmd, &b.chain)
	flags.StringVar(&b.changelog, "changelog", "", "Markdown `file` whose section about this version goes into the release notes")
	flags.BoolVar(&b.check, "check", false, "build everything again in another folder, and compare every byte")
	return cmd
}

func (b *releaseBuild) run(cmd *cobra.Command) error {
	if err := b.read(); err != nil {
		return err
	}
	unlock, err := release.Lock(b.out)
	if err != nil {
		return err
	}
	defer unlock()
	b.patches = cmd.ErrOrStderr()
	b.created = time.Now().UTC().Truncate(time.Second)
	places, err := b.build(cmd.Context(), b.w, b.out)
	if err != nil {
		return err
	}
	if b.check {
		if err := b.again(cmd.Context()); err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "built twice: every byte is the same")
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(places, "\n"))
	return err
}

// read looks at what was asked before anything is built.
func (b *releaseBuild) read() error {
	if b.archs = []string{manifest.ArchX8664, manifest.ArchARM64}; b.w.arch != "all" {
		arch, err := parseArch(b.w.arch)
		if err != nil {
			return err
		}
		b.archs = []string{arch}
	} else if b.w.target != "" {
		return usageError{errors.New("--target is for one architecture")}
	}
	if slices.Equal(b.images, []string{"none"}) {
		b.images = nil
	}
	for _, format := range b.images {
		if format != formatRaw && !slices.Contains(diskformat.Formats(), format) {
			return usageError{fmt.Errorf("--images: %w", &diskformat.FormatError{Format: format})}
		}
	}
	if b.changelog != "" {
		text, err := durable.ReadSmall(b.changelog, 1<<20, durable.FollowLinks)
		if err != nil {
			return fmt.Errorf("--changelog: %w", err)
		}
		if b.changes = release.Changes(string(text), version.Version); b.changes == "" {
			return fmt.Errorf("--changelog: %s has no section about version %s", b.changelog, version.Version)
		}
	}
	for _, arch := range b.archs {
		w := b.w
		w.arch = arch
		if _, err := w.previous(b.previous); err != nil {
			return err
		}
		if _, err := chainOf(b.chain, []string{arch}); err != nil && b.chain != "" {
			return err
		}
	}
	return nil
}

// build builds everything with the workshop w, and publishes it in out. It returns
// the folders that it has written.
func (b *releaseBuild) build(ctx context.Context, w workshop, out string) (places []string, err error) {
	var notes release.Notes
	var keys *release.Keys
	shop, err := os.MkdirTemp(w.work, "downloads-") // of the same file system as the work
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(w.work, 0o755); err != nil {
			return nil, err
		}
		shop, err = os.MkdirTemp(w.work, "downloads-")
	}
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(shop)
	for _, arch := range b.archs {
		w := w
		w.arch = arch
		l, err := w.prepare(ctx)
		if err != nil {
			return nil, err
		}
		keys = l.Keys
		published, kernel, err := b.publish(ctx, &w, l, out)
		if err != nil {
			return nil, err
		}
		places = append(places, published.Dir)
		notes.Systems = append(notes.Systems, release.NotesSystem{
			Channel: lab.Channel, Arch: arch, Number: published.Version, Manifest: published.Manifest, Kernel: kernel,
		})
		files, err := b.download(ctx, &w, l, shop)
		if err != nil {
			return nil, err
		}
		notes.Files = append(notes.Files, files...)
	}
	if len(b.images) == 0 {
		return places, nil
	}
	notes.Changes = b.changes
	media, err := b.offer(ctx, shop, out, notes, keys.Media)
	return append(places, media), err
}

// publish signs the node system and lays it out.
func (b *releaseBuild) publish(ctx context.Context, w *workshop, l *lab.Lab, out string) (*release.Published, string, error) {
	earlier, err := w.previous(b.previous)
	if err != nil {
		return nil, "", err
	}
	r := l.Release(b.number, "")
	r.Created, r.Expires, r.PointerExpiry = b.created.Add(-time.Minute), b.created.AddDate(0, 0, 90), b.created.AddDate(0, 0, 7)
	r.Bases, r.Previous = b.bases, earlier
	r.Progress = func(string, int64, int64) error { return ctx.Err() }
	published, err := l.Publish(out, r, "")
	if err != nil {
		return nil, "", err
	}
	for _, p := range published.Patches {
		fmt.Fprintln(b.patches, "patch of", ceremony.PatchText(p))
	}
	return published, l.KernelRelease(), nil
}

// download builds the images of a lab with their bills of materials into dir, and
// says what each file is.
func (b *releaseBuild) download(ctx context.Context, w *workshop, l *lab.Lab, dir string) ([]release.NotesFile, error) {
	if len(b.images) == 0 {
		return nil, nil
	}
	chain, err := chainOf(b.chain, []string{l.Arch()})
	if err != nil {
		return nil, err
	}
	raw := filepath.Join(dir, fmt.Sprintf("phase-%s-%s.img", l.Arch(), l.Flavour()))
	report, err := l.Image(ctx, lab.ImageOptions{Out: raw, Mode: "internet", Menu: 10, Chain: chain})
	if err != nil {
		return nil, err
	}
	var files []release.NotesFile
	for _, format := range b.images {
		path := raw
		if format != formatRaw {
			path = strings.TrimSuffix(raw, ".img") + "." + format
			if err := convertTo(ctx, raw, path, format, l.Time()); err != nil {
				return nil, err
			}
		}
		image, err := fileNote(ctx, path, fmt.Sprintf("image for %s, %s, by %s", l.Arch(), l.Flavour(), chain))
		if err != nil {
			return nil, err
		}
		if err := b.bill(w, l, report, path, image); err != nil {
			return nil, err
		}
		bill, err := fileNote(ctx, bom.Path(path), "what is in it")
		if err != nil {
			return nil, err
		}
		files = append(files, image, bill)
	}
	if !slices.Contains(b.images, formatRaw) {
		return files, os.Remove(raw)
	}
	return files, nil
}

// fileNote describes a file.
func fileNote(ctx context.Context, path, about string) (release.NotesFile, error) {
	n := release.NotesFile{Name: filepath.Base(path), About: about}
	var err error
	n.SHA256, err = sums.Digest(path, n.Name, func(_ string, done, _ int64) error {
		n.Size = done
		return ctx.Err()
	})
	return n, err
}

func convertTo(ctx context.Context, from, to, format string, at time.Time) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return diskformat.Write(ctx, in, info.Size(), diskformat.Config{Format: format, Out: to, Time: at})
}

// bill writes the bill of materials of an image.
func (b *releaseBuild) bill(w *workshop, l *lab.Lab, report system.ImageReport, path string, image release.NotesFile) error {
	s := bom.Subject{
		Name: image.Name, Version: version.Version, Time: l.Time(), Digest: image.SHA256, Size: image.Size, Materials: report.Materials,
		Notes: map[string]string{"arch": l.Arch(), "kernel": report.Kernel},
	}
	target := w.target
	if target == "" {
		target = filepath.Join("build", "target", l.Arch())
	}
	for _, program := range []string{"phase-pid1", "phase-init"} {
		s.Programs = append(s.Programs, filepath.Join(target, program))
	}
	for _, f := range report.Files {
		s.Files = append(s.Files, bom.File{Name: f.Path, SHA256: f.SHA256, Size: f.Size})
	}
	bill, err := bom.Of(s)
	if err != nil {
		return err
	}
	return bom.Write(bom.Path(path), bill)
}

// offer adds the notes and the signed list to the downloads, and publishes them.
func (b *releaseBuild) offer(ctx context.Context, shop, out string, notes release.Notes, key ed25519.PrivateKey) (string, error) {
	at, err := sourcesTime()
	if err != nil {
		return "", err
	}
	notes.Version, notes.Time = version.Version, at
	var list sums.List
	for _, f := range notes.Files {
		list = append(list, sums.Entry{Name: f.Name, SHA256: f.SHA256})
	}
	text := notes.Markdown()
	if err := durable.WriteFile(filepath.Join(shop, release.NotesName), text, 0o644); err != nil {
		return "", err
	}
	list = append(list, sums.Entry{Name: release.NotesName, SHA256: blob.Of(text)})
	if err := release.SignMedia(shop, key, list, at); err != nil {
		return "", err
	}
	return release.Media{
		From: shop, Dir: out, Name: fmt.Sprintf("%s-%d", lab.Channel, b.number),
		Key:   key.Public().(ed25519.PublicKey),
		Watch: func(string, int64, int64) error { return ctx.Err() },
	}.Publish()
}

// again builds everything a second time, in a folder that has nothing but the keys
// and the packages of the first, with other dates, and compares.
func (b *releaseBuild) again(ctx context.Context) error {
	other, err := os.MkdirTemp(filepath.Dir(filepath.Clean(b.out)), ".again-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(other)
	w := b.w
	w.work, w.offline, w.install = filepath.Join(other, "work"), true, false
	for _, part := range []string{"keys", filepath.Join("inputs", "packages")} {
		to := filepath.Join(w.work, part)
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		if err := os.CopyFS(to, os.DirFS(filepath.Join(b.w.work, part))); err != nil {
			return err
		}
	}
	b.patches = io.Discard // told already
	out := filepath.Join(other, "published")
	if _, err := b.build(ctx, w, out); err != nil {
		return fmt.Errorf("build it again: %w", err)
	}
	return release.CompareTrees(b.out, out, ctx.Err)
}
