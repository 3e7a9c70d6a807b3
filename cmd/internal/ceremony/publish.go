package ceremony

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/term"
)

// publication is a release to be laid out.
type publication struct {
	parts
	to, pointer, manifest, proof, logPolicy, patches string
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
release that is published already, give only --pointer.`,
		Example: `  phase release publish --to published --root 1.root.json --manifest manifest.json --pointer pointer.json \
    --kernel vmlinuz --initramfs initrd.img --rootfs root.squashfs
  phase release publish --to published --pointer pointer.json`,
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
	flags.StringArrayVar(&p.blobs, "blob", nil, "further `file` to serve by its hash, repeatable")
	return cmd
}

func (p *publication) run(cmd *cobra.Command, cfg Config) error {
	switch {
	case p.to == "":
		return needFlag(cmd, "--to", "the folder to publish in")
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
	return table(cmd.OutOrStdout(), append(rows, patchRows(checked.Patches)...))
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
