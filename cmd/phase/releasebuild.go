package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/cmd/internal/ceremony"
	"github.com/phasebased/phase/internal/bom"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/sums"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/manifest"
)

// releaseBuild is what `phase release build` was asked.
type releaseBuild struct {
	w              workshop
	out, changelog string
	nodeConfig     string // file
	format         string
	number         int64
	bases          []string
	previous       []string
	images         []string // formats
	chain          string
	sign           signing
	check          bool

	archs   []string
	medium  lab.ImageOptions // of the images
	created time.Time        // of the documents: the same when it is built again
	changes string
	patches io.Writer // what is told of patches
}

func newReleaseBuild() *cobra.Command {
	var b releaseBuild
	cmd := &cobra.Command{
		Use: "build", Short: "Build node system and images, and sign them with the keys of the work folder", Args: noArgs,
		Long: `Builds kernel, initramfs and root file system of a node, signs a manifest and a
pointer, and lays everything out as plasmd or any static web server can serve
it. Beside that it builds for people to download what "phase image build" builds:
one image for all architectures that are asked for, in the formats that --images
names, each with its bill of materials (CycloneDX). With them come release notes,
the root.json that the image trusts, SHA256SUMS and its signatures; they are
published in media/<channel>-<number>. How strangers check them, and make them
again, is in docs/downloads.md.

All keys of the work folder are used by this one machine, which suits a trial; a
publisher keeps them apart: docs/keys.md.

--node-config puts a configuration of plasmd into the system, for instance with the
keys whose jobs the machines run; docs/reference/configuration.md has its keys. It is a
part of the release: everybody can read it. If it does not name boot_jobs, machines run
the hello job.

With --previous, machines that have that release get patches: they fetch little more
than what has changed. With --check, everything is built a second time in an empty
folder, and every byte compared.`,
		Example: `  phase release build --number 2 --base http://192.168.1.2:8080
  phase release build --number 3 --previous build/published --images raw,qcow2 --check
  phase release build --arch all --flavour cloud --images raw,qcow2,vmdk,iso
  phase release build --number 4 --node-config node.json --images none
  plasmd serve --artifacts build/published`,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	b.w.flags(cmd)
	flags := cmd.Flags()
	archsFlag(cmd, &b.w.arch)
	b.w.machineFlags(cmd)
	b.w.rootfsFlags(cmd)
	flags.StringVar(&b.nodeConfig, "node-config", "", "configuration `file` of plasmd for the node system")
	flags.StringVarP(&b.out, "out", "o", filepath.Join("build", "published"), "folder to publish in")
	flags.Int64Var(&b.number, "number", 1, "manifest version; machines refuse one below the newest they have booted")
	flags.StringArrayVar(&b.previous, "previous", nil, "make patches from the release in this published `FOLDER`, or from that of MANIFEST=FOLDER; repeatable, at most 8")
	flags.StringArrayVar(&b.bases, "base", nil, "base `URL` under which the folder will be served, repeatable")
	flags.StringSliceVar(&b.images, "images", []string{formatRaw}, fmt.Sprintf("formats of the image to publish, of %s; or none", strings.Join(imageFormats(), ", ")))
	_ = cmd.RegisterFlagCompletionFunc("images", cobra.FixedCompletions(append(imageFormats(), "none"), cobra.ShellCompDirectiveNoFileComp))
	chainFlag(cmd, &b.chain)
	b.sign.flags(cmd)
	flags.StringVar(&b.changelog, "changelog", "", "Markdown `file` whose section about this version goes into the release notes")
	flags.BoolVar(&b.check, "check", false, "build everything again in another folder, and compare every byte")
	flags.StringVarP(&b.format, "format", "f", "text", "text or json, for what is said in the end")
	return cmd
}

func (b *releaseBuild) run(cmd *cobra.Command) error {
	err := b.read(cmd.Context())
	if err != nil {
		return err
	}
	if b.medium.Signing, err = b.sign.open(cmd, b.medium.Chain); err != nil {
		return ownError(err)
	}
	unlock, err := release.Lock(b.out)
	if err != nil {
		return err
	}
	defer unlock()
	b.patches = cmd.ErrOrStderr()
	b.warn(cmd.ErrOrStderr())
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
	if b.format == "json" {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(b.built(places))
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(places, "\n"))
	return err
}

// builtRelease is what --format json says.
type builtRelease struct {
	Release  int64    `json:"release"`
	Channel  string   `json:"channel"`
	Archs    []string `json:"archs"`
	Folders  []string `json:"folders"` // that were written, below the published one
	Compared bool     `json:"compared"`
}

func (b *releaseBuild) built(places []string) builtRelease {
	return builtRelease{Release: b.number, Channel: lab.Channel, Archs: b.archs, Folders: places, Compared: b.check}
}

// warn says what machines that have booted what is published already will make of the
// release. It is no error: a folder of trials begins anew as often as its owner likes.
func (b *releaseBuild) warn(out io.Writer) {
	for _, arch := range b.archs {
		raw, err := release.ReadDocument(filepath.Join(b.out, lab.Channel, arch, "manifest.json"))
		if err != nil {
			continue // the first there
		}
		there, err := manifest.OpenManifestDraft(raw)
		if err != nil {
			continue // replaced by one that can be read
		}
		switch last := there.Manifest().ManifestVersion; {
		case b.number < last:
			fmt.Fprintf(out, "phase: warning: release %d for %s is published in %s already: machines that have booted it refuse release %d; the next is --number %d\n",
				last, arch, term.Clean(b.out), b.number, last+1)
		case b.number == last:
			fmt.Fprintf(out, "phase: warning: release %d for %s in %s is replaced: machines that have booted it refuse another one of the same number; the next is --number %d\n",
				last, arch, term.Clean(b.out), last+1)
		}
	}
}

// readNodeConfig reads the node's configuration, and has the plasmd beside this program
// say whether a node would start with it.
func readNodeConfig(ctx context.Context, path string) ([]byte, error) {
	text, err := durable.ReadSmall(path, 64<<10, durable.FollowLinks)
	if err != nil {
		return nil, fmt.Errorf("--node-config: %w", err)
	}
	plasmd, err := beside("plasmd")
	if err != nil {
		return nil, fmt.Errorf("--node-config: %w", err)
	}
	said, err := exec.CommandContext(ctx, plasmd, "doctor", "--config-only", "--config", path, "--format", "json").Output()
	if err == nil {
		return text, nil
	}
	var found struct {
		Findings []struct {
			Detail string `json:"detail"`
		} `json:"findings"`
	}
	if json.Unmarshal(said, &found) != nil || len(found.Findings) == 0 {
		return nil, fmt.Errorf("--node-config: %s doctor: %w", plasmd, err)
	}
	return nil, &nodeConfigError{found.Findings[0].Detail}
}

// nodeConfigError is a configuration with which no node would start.
type nodeConfigError struct{ reason string }

func (e *nodeConfigError) Error() string { return "--node-config: " + e.reason }

// Hint says what to do next.
func (e *nodeConfigError) Hint() string {
	return "Correct the file; plasmd init --config FILE writes a correct one to compare with."
}

// read looks at what was asked before anything is built.
func (b *releaseBuild) read(ctx context.Context) (err error) {
	if err := checkFormat(b.format); err != nil {
		return err
	}
	if b.nodeConfig != "" {
		if b.w.nodeConfig, err = readNodeConfig(ctx, b.nodeConfig); err != nil {
			return err
		}
	}
	if b.archs, err = b.w.archs(); err != nil {
		return err
	}
	if err := b.w.checkMachines(len(b.archs) > 1); err != nil {
		return err
	}
	b.medium = lab.ImageOptions{Mode: defaultMode, Menu: defaultMenu}
	if b.medium.Chain, err = chainOf(b.chain, b.archs); err != nil {
		return err
	}
	if slices.Equal(b.images, []string{"none"}) {
		b.images = nil
	}
	if err := checkImageFormats("--images", b.images, imageFormats()); err != nil {
		return err
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
		if _, err := previousReleases(b.previous, arch); err != nil {
			return err
		}
	}
	return nil
}

// build builds everything with the workshop w, and publishes it in out. It returns
// the folders that it has written.
func (b *releaseBuild) build(ctx context.Context, w workshop, out string) (places []string, err error) {
	labs, err := w.prepareAll(ctx, b.archs)
	if err != nil {
		return nil, err
	}
	var notes release.Notes
	for _, l := range labs {
		published, err := b.publish(ctx, l, out)
		if err != nil {
			return nil, err
		}
		places = append(places, published.Dir)
		notes.Systems = append(notes.Systems, release.NotesSystem{
			Channel: lab.Channel, Arch: l.Arch(), Number: published.Version, Manifest: published.Manifest, Kernel: l.KernelRelease(),
		})
	}
	if len(b.images) == 0 {
		return places, nil
	}
	shop, err := os.MkdirTemp(w.work, "downloads-") // of the same file system as the work
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(shop)
	if notes.Files, err = b.download(ctx, labs, shop); err != nil {
		return nil, err
	}
	notes.Changes = b.changes
	media, err := b.offer(ctx, shop, out, notes, labs[0].Keys.Media)
	return append(places, media), err
}

// publish signs the node system and lays it out.
func (b *releaseBuild) publish(ctx context.Context, l *lab.Lab, out string) (*release.Published, error) {
	earlier, err := previousReleases(b.previous, l.Arch())
	if err != nil {
		return nil, err
	}
	r := l.Release(b.number, "")
	r.Created, r.Expires, r.PointerExpiry = b.created.Add(-time.Minute), b.created.AddDate(0, 0, 90), b.created.AddDate(0, 0, 7)
	r.Bases, r.Previous = b.bases, earlier
	r.Progress = func(string, int64, int64) error { return ctx.Err() }
	published, err := l.Publish(out, r, "")
	if err != nil {
		return nil, err
	}
	for _, p := range published.Patches {
		fmt.Fprintln(b.patches, "patch of", ceremony.PatchText(p))
	}
	return published, nil
}

// download builds the image of all labs into dir, in every format, with bills of
// materials and the root that it trusts, and says what each file is.
func (b *releaseBuild) download(ctx context.Context, labs []*lab.Lab, dir string) ([]release.NotesFile, error) {
	o := b.medium
	o.Out = filepath.Join(dir, imageName(b.archs, b.w.flavour))
	report, bill, err := writeMedium(ctx, labs, o)
	if err != nil {
		return nil, err
	}
	images, err := (&conversion{formats: b.images}).rest(ctx, o.Out)
	if err != nil {
		return nil, err
	}
	if slices.Contains(b.images, formatRaw) {
		images = append(images, o.Out)
	} else if err := errors.Join(os.Remove(o.Out), os.Remove(bill)); err != nil {
		return nil, err
	}
	about := "image for " + starts(b.archs, o.Chain) + ", " + b.w.flavour
	var files []release.NotesFile
	for _, path := range images {
		image, err := fileNote(ctx, path, about)
		if err != nil {
			return nil, err
		}
		if err := writeBill(labs, report, path, image); err != nil {
			return nil, err
		}
		bill, err := fileNote(ctx, bom.Path(path), "what is in it")
		if err != nil {
			return nil, err
		}
		files = append(files, image, bill)
	}
	root := filepath.Join(dir, rootName)
	if err := durable.WriteFile(root, labs[0].Root, 0o644); err != nil {
		return nil, err
	}
	note, err := fileNote(ctx, root, "the root of trust of the image")
	return append(files, note), err
}

// starts says by which chain each architecture's machines start.
func starts(archs []string, chain system.Chain) string {
	var list []string
	for _, arch := range archs {
		if !slices.Contains(system.Chains(arch), chain) {
			list = append(list, fmt.Sprintf("%s (%s)", arch, system.ChainSystemdBoot))
			continue
		}
		list = append(list, fmt.Sprintf("%s (%s)", arch, chain))
	}
	return strings.Join(list, " and ")
}

// rootName is the file with the root that images trust, among the downloads.
const rootName = "root.json"

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

// writeBill writes the bill of materials of an image, with its digest.
func writeBill(labs []*lab.Lab, report system.ImageReport, path string, image release.NotesFile) error {
	s := mediumSubject(labs, report)
	s.Name, s.Digest, s.Size = image.Name, image.SHA256, image.Size
	var archs, kernels []string
	for _, l := range labs {
		archs, kernels = append(archs, l.Arch()), append(kernels, l.KernelRelease())
	}
	s.Notes = map[string]string{"arch": strings.Join(archs, " "), "kernel": strings.Join(kernels, " ")}
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
