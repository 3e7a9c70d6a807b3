package ceremony

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/term"
)

// publication is a release to be laid out.
type publication struct {
	parts
	to, pointer, manifest, proof, logPolicy, patches string
	media, mediaKey, mediaName                       string
	roots, blobs                                     []string
}

func newPublish(cfg Config) *cobra.Command {
	var p publication
	cmd := &cobra.Command{
		Use: "publish", Short: "Check signed documents and files, and lay them out to be served", Args: arguments(0, 0, ""),
		Long: `Lays a release out in DIR/<channel>/<arch>, for plasmd or any web server. Before
anything is written it makes every check that a machine makes: the roots from
version 1 to the newest, pointer, manifest, log proof, and the hash of every file
and of each of its chunks.
It never replaces what is published by something older. The pointer is written
last, so that a machine never meets half a release.

What you leave out is taken from the folder: to put a fresh pointer beside a
release that is published already, give only --pointer.

With --media, a folder of downloads whose SHA256SUMS is signed is verified and laid out as
DIR/media/NAME, in one step and before the release that it comes with; alone or together
with that.`,
		Example: `  phase release publish --to published --root 1.root.json --manifest manifest.json --pointer pointer.json \
    --kernel vmlinuz --initramfs initrd.img --rootfs root.squashfs
  phase release publish --to published --pointer pointer.json
  phase release publish --to published --media downloads --media-key media.pub --media-name stable-41`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.run(cmd, cfg) },
	}
	p.parts.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&p.to, "to", "", "`folder` that is served")
	flags.StringVar(&p.pointer, "pointer", "", "signed pointer `file`")
	flags.StringVarP(&p.manifest, "manifest", "m", "", "complete manifest `file`")
	flags.StringVar(&p.proof, "proof", "", "log proof `file` of the manifest; needs --log-policy")
	flags.StringVar(&p.logPolicy, "log-policy", "", "log policy `file` that media carry, to check the proof")
	flags.StringArrayVar(&p.roots, "root", nil, "root `file`, or folder with N.root.json; repeatable")
	flags.StringVar(&p.patches, "patches", "", "`folder` in which \"manifest create\" has put patches, if it is not the published one")
	flags.StringVar(&p.media, "media", "", "`folder` of downloads with a signed SHA256SUMS")
	flags.StringVar(&p.mediaKey, "media-key", "", "public key `file` (or ed25519:HEX) that has to have signed it")
	flags.StringVar(&p.mediaName, "media-name", "", "`name` to publish it under (default that of the folder)")
	flags.StringArrayVar(&p.blobs, "blob", nil, "further `file` to serve by its hash, repeatable")
	return cmd
}

func (p *publication) run(cmd *cobra.Command, cfg Config) error {
	switch {
	case p.to == "":
		return needFlag(cmd, "--to", "the folder to publish in")
	case p.media != "" && p.mediaKey == "":
		return needFlag(cmd, "--media-key", "who has to have signed the downloads")
	case p.media == "" && p.mediaKey+p.mediaName != "":
		return needFlag(cmd, "--media", "the folder of downloads")
	case p.media != "" && p.pointer == "":
		return p.mediaAlone(cmd)
	case p.pointer == "":
		return needFlag(cmd, "--pointer", "the pointer")
	case p.proof != "" && p.logPolicy == "":
		return needFlag(cmd, "--log-policy", "what media ask of a log proof")
	}
	set, err := p.set(cmd, cfg)
	if err != nil {
		return err
	}
	unlock, err := release.Lock(p.to)
	if err != nil {
		return err
	}
	defer unlock()
	checked, err := set.Check()
	if err != nil {
		return asPublisher(err)
	}
	for _, note := range checked.Notes {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", term.Clean(note))
	}
	media, err := p.layMedia(cmd)
	if err != nil {
		return err
	}
	if err := checked.Write(); err != nil {
		return err
	}
	var roots []string
	for _, version := range checked.Roots {
		roots = append(roots, fmt.Sprint(version))
	}
	rows := []string{
		fmt.Sprintf("%s\trelease %d for %s, %s", checked.Dir(), checked.Release, checked.Channel, checked.Arch),
		"roots\t" + strings.Join(roots, ", "),
		fmt.Sprintf("pointer\texpires %s (%s)", moment(checked.Expires), until(checked.Expires, set.Now)),
	}
	return table(cmd.OutOrStdout(), slices.Concat(rows, patchRows(checked.Patches), media))
}

// mediaAlone publishes downloads without a release.
func (p *publication) mediaAlone(cmd *cobra.Command) error {
	if p.manifest != "" || len(p.roots) > 0 {
		return needFlag(cmd, "--pointer", "the pointer")
	}
	unlock, err := release.Lock(p.to)
	if err != nil {
		return err
	}
	defer unlock()
	rows, err := p.layMedia(cmd)
	if err != nil {
		return err
	}
	return table(cmd.OutOrStdout(), rows)
}

// layMedia publishes downloads, if there are any, and says where.
func (p *publication) layMedia(cmd *cobra.Command) ([]string, error) {
	if p.media == "" {
		return nil, nil
	}
	key, err := release.ReadMediaKey(p.mediaKey)
	if err != nil {
		return nil, err
	}
	name := p.mediaName
	if name == "" {
		name = filepath.Base(filepath.Clean(p.media))
	}
	to, err := release.Media{From: p.media, Dir: p.to, Name: name, Key: key, Watch: newMeter(cmd).progress}.Publish()
	return []string{"downloads\t" + to}, err
}

// set reads what was named.
func (p *publication) set(cmd *cobra.Command, cfg Config) (set release.Set, err error) {
	meter := newMeter(cmd)
	set = release.Set{Dir: p.to, Blobs: p.blobs, Patches: p.patches, Now: cfg.today(), Progress: meter.progress}
	if set.Files, err = p.paths(); err != nil {
		return set, err
	}
	if p.logPolicy != "" {
		if set.Log, err = openPolicy(p.logPolicy); err != nil {
			return set, err
		}
	}
	pointer, err := openPointerDraft(p.pointer)
	if err != nil {
		return set, err
	}
	set.Pointer = pointer.raw
	if p.manifest != "" {
		m, err := openManifestDraft(p.manifest)
		if err != nil {
			return set, err
		}
		set.Manifest = m.raw
	}
	if set.Proof, err = readOptional(p.proof); err != nil {
		return set, err
	}
	files, err := rootFiles(p.roots)
	if err != nil {
		return set, err
	}
	for _, file := range files {
		raw, err := release.ReadDocument(file)
		if err != nil {
			return set, err
		}
		set.Roots = append(set.Roots, raw)
	}
	return set, nil
}
