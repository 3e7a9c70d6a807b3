package ceremony

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

func newPointer(cfg Config) *cobra.Command {
	return group("pointer", "Sign and read pointers: which manifest is current",
		newPointerSign(cfg), newPointerInspect(cfg))
}

// pointing is a pointer to be made.
type pointing struct {
	signature
	inspection
	manifest, expires string
	bases, urls       []string
}

func newPointerSign(cfg Config) *cobra.Command {
	var p pointing
	cmd := &cobra.Command{
		Use: "sign", Short: "Make and sign the pointer to a complete manifest", Args: arguments(0, 0, ""),
		Long: `Makes the short-lived document that says which manifest is current, and signs it
with the timestamp key. It refuses a manifest that machines would refuse. Run it
for every release, and from cron every day in between, so that the pointer never
expires.`,
		Example: `  phase release pointer sign --manifest manifest.json --root 1.root.json --key timestamp.key \
    --base https://boot.example.org --yes`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p.attend(cmd, cfg)
			return p.run(cmd, cfg.today())
		},
	}
	p.signature.flags(cmd)
	p.logFlags(cmd)
	cmd.Flags().Lookup("out").Usage = "`file` to write; an older pointer in it is replaced"
	cmd.Flags().Lookup("out").DefValue = "pointer.json"
	p.out = "pointer.json"
	cmd.Flags().StringVarP(&p.manifest, "manifest", "m", "", "complete manifest `file`")
	cmd.Flags().StringArrayVar(&p.roots, "root", nil, trustedRoots)
	cmd.Flags().StringVar(&p.expires, "expires", "7d", "end of its life, 3 to 14 days from now")
	cmd.Flags().StringArrayVar(&p.bases, "base", nil, "base `URL` of a published folder, repeatable")
	cmd.Flags().StringArrayVar(&p.urls, "url", nil, "`URL` of the manifest file itself, repeatable")
	return cmd
}

func (p *pointing) run(cmd *cobra.Command, now time.Time) error {
	switch {
	case p.manifest == "":
		return needFlag(cmd, "--manifest", "the manifest to point to")
	case len(p.roots) == 0:
		return needFlag(cmd, "--root", "the root to check the manifest against")
	}
	expires, err := expiry(p.expires, now, "pointer", minPointerLife, maxPointerLife)
	if err != nil {
		return err
	}
	v, c, err := p.verifier()
	if err != nil {
		return err
	}
	meant, err := p.pointTo(v, now)
	if err != nil {
		return err
	}
	meant.CreatedAt, meant.ExpiresAt = now, expires
	if err := p.mayReplace(meant); err != nil {
		return err
	}
	d, err := manifest.DraftPointer(meant)
	if err != nil {
		return err
	}
	return p.finish(cmd, d, c, now)
}

// pointTo verifies the manifest and describes it in a pointer.
func (p *pointing) pointTo(v manifest.Verifier, now time.Time) (manifest.Pointer, error) {
	raw, err := release.ReadDocument(p.manifest)
	if err != nil {
		return manifest.Pointer{}, err
	}
	proof, err := readOptional(p.proof)
	if err != nil {
		return manifest.Pointer{}, err
	}
	verified, err := v.Manifest(raw, proof, nil, now)
	if err != nil {
		return manifest.Pointer{}, asPublisher(fmt.Errorf("%s: %w", p.manifest, err))
	}
	m := verified.Manifest()
	meant := manifest.Pointer{
		Channel: m.Channel, Arch: m.Arch, ManifestVersion: m.ManifestVersion,
		ManifestHash: blob.Of(raw), ManifestSize: int64(len(raw)), RootVersion: v.Root.Version(), URLs: p.urls,
	}
	for _, base := range p.bases {
		meant.URLs = append(meant.URLs, release.ManifestURL(base, m.Channel, m.Arch))
	}
	return meant, nil
}

// mayReplace protects a pointer to something else that lies where this one is
// going to be written.
func (p *pointing) mayReplace(next manifest.Pointer) error {
	old, err := openPointerDraft(p.out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return refuse("Name another file with --out.", "not replacing %s, which is no pointer: %v", p.out, err)
	}
	there := old.draft.Pointer()
	if there.Channel != next.Channel || there.Arch != next.Arch || there.ManifestVersion > next.ManifestVersion {
		return refuse("Name another file with --out, or check which manifest you mean.",
			"not replacing %s, which points to release %d for %s, %s", p.out, there.ManifestVersion, there.Channel, there.Arch)
	}
	return nil
}

func (p *pointing) finish(cmd *cobra.Command, d *manifest.Draft, c chain, now time.Time) error {
	root := c.newest()
	keys, _ := root.Keys(manifest.RoleTimestamp)
	who := role{fmt.Sprintf("timestamp keys of root version %d", root.Version()), keys}
	meant := d.Pointer()
	out := p.out
	p.out = "" // over what mayReplace allowed
	err := p.sign(cmd, document{file: out, draft: d}, review{
		title: fmt.Sprintf("%s: pointer to release %d. Machines will take it for current.", out, meant.ManifestVersion),
		rows:  pointerRows(meant, now), may: []role{who}, routine: true,
	})
	if err != nil {
		return err
	}
	t := count(who.name, who.keys, d)
	rows := []string{
		fmt.Sprintf("%s\tpoints to release %d for %s, %s", out, meant.ManifestVersion, meant.Channel, meant.Arch),
		"expires\t" + moment(meant.ExpiresAt) + " (" + until(meant.ExpiresAt, now) + ")",
		t.row(findNames(append([]string{out, p.key}, c.files()...)...)),
	}
	if root.Expires().Before(meant.ExpiresAt) {
		p.warn(fmt.Sprintf("root version %d expires %s, before this pointer", root.Version(), until(root.Expires(), now)))
	}
	return table(cmd.OutOrStdout(), rows)
}

func newPointerInspect(cfg Config) *cobra.Command {
	var i inspection
	cmd := i.command(openPointerDraft, func(d document, _ names) (*finding, error) { return i.pointer(d, cfg.today()) })
	cmd.Short, cmd.Args = "Show a pointer, and whether machines accept it", arguments(1, 1, "the pointer")
	cmd.Example = `  phase release pointer inspect pointer.json --root 1.root.json`
	i.flags(cmd, trustedRoots)
	return cmd
}

func (i *inspection) pointer(d document, now time.Time) (*finding, error) {
	p := d.draft.Pointer()
	f := &finding{
		File: d.file, Object: "pointer", Digest: d.draft.Digest(), Version: p.ManifestVersion, Channel: p.Channel, Arch: p.Arch,
		Created: &p.CreatedAt, Expires: p.ExpiresAt, KeyIDs: d.draft.KeyIDs(), rows: pointerRows(p, now),
	}
	if len(i.roots) == 0 {
		f.judge(false, "", nil)
		return f, nil
	}
	v, c, err := i.verifier()
	if err != nil {
		return nil, err
	}
	keys, _ := c.newest().Keys(manifest.RoleTimestamp)
	f.Tallies = []tally{count(fmt.Sprintf("timestamp keys of root version %d", c.newest().Version()), keys, d.draft)}
	_, err = v.Pointer(d.raw, now)
	f.judge(true, underRoot(c), err)
	return f, nil
}
