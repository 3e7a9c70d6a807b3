package ceremony

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/manifest"
)

// endorsement is one person signing a manifest.
type endorsement struct {
	signature
	parts
	roots []string
}

func newManifestSign(cfg Config) *cobra.Command {
	var e endorsement
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "Show what a manifest says, and sign it", Args: arguments(1, 1, "the manifest to sign"),
		Long: `Shows what the manifest says and the digest of what is signed, asks, and adds
your signature to FILE. Build or fetch the files yourself and name them with
--kernel and so on: then nothing is signed that does not name them.`,
		Example: `  phase release manifest sign manifest.json --root 1.root.json --key dave.key \
    --kernel vmlinuz --initramfs initrd.img --rootfs root.squashfs`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e.attend(cmd, cfg)
			return e.run(cmd, args[0], cfg.today())
		},
	}
	e.signature.flags(cmd)
	e.parts.flags(cmd)
	cmd.Flags().StringArrayVar(&e.roots, "root", nil, "root `file` or folder, to tell whose signatures count and how many are missing; repeatable")
	return cmd
}

func (e *endorsement) run(cmd *cobra.Command, file string, now time.Time) error {
	d, err := openManifestDraft(file)
	if err != nil {
		return err
	}
	m := d.draft.Manifest()
	r := review{
		title: fmt.Sprintf("%s: manifest of release %d. This is what machines will boot.", d.file, m.ManifestVersion),
		rows:  manifestRows(m, now),
	}
	var c chain
	if len(e.roots) > 0 {
		if c, err = openChain(e.roots); err != nil {
			return err
		}
		r.may = []role{signersOf(c.newest(), m.Channel)}
	}
	compared, err := e.compare(cmd, m)
	if err != nil {
		return err
	}
	r.rows = append(r.rows, compared...)
	if !m.ExpiresAt.After(now) {
		e.warn("the manifest has expired already")
	}
	if m.CreatedAt.After(now.Add(manifest.MaxSkew)) {
		e.warn("the manifest says that it was made at " + moment(m.CreatedAt) + ", which is yet to come: machines refuse it until then")
	}
	if err := e.sign(cmd, d, r); err != nil {
		return err
	}
	return e.report(cmd, d, c, now)
}

// signersOf is who signs the manifests of a channel under root.
func signersOf(root *manifest.Root, channel string) role {
	keys, own := root.ManifestKeys(channel)
	if own {
		return role{fmt.Sprintf("%s keys of root version %d", channel, root.Version()), keys}
	}
	return role{fmt.Sprintf("targets keys of root version %d", root.Version()), keys}
}

// report says how far the manifest is; that it is complete is the
// verifier's word.
func (e *endorsement) report(cmd *cobra.Command, d document, c chain, now time.Time) error {
	rows := []string{e.file(d) + "\tsigned with " + e.key}
	if len(c) == 0 {
		rows = append(rows, fmt.Sprintf("signatures\t%d; name the root with --root to see how many are missing", len(d.draft.KeyIDs())))
		return table(cmd.OutOrStdout(), rows)
	}
	signers := signersOf(c.newest(), d.draft.Manifest().Channel)
	t := count(signers.name, signers.keys, d.draft)
	rows = append(rows, t.row(findNames(append([]string{d.file, e.key}, c.files()...)...)))
	if t.missing() == 0 {
		raw, err := d.draft.Bytes()
		if err != nil {
			return err
		}
		v := manifest.Verifier{Root: c.newest(), Want: manifest.Want{Channel: manifest.Any, Arch: manifest.Any}}
		if _, err := v.Manifest(raw, nil, nil, now); err != nil {
			return fmt.Errorf("%s: %w", e.file(d), err)
		}
		rows = append(rows, e.file(d)+"\tcomplete: a pointer can be made for it")
	}
	return table(cmd.OutOrStdout(), rows)
}
