package ceremony

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/verity"
	"github.com/phasebased/phase/manifest"
)

func newManifest(cfg Config) *cobra.Command {
	return group("manifest", "Make, sign and read manifests: what machines boot",
		newManifestCreate(cfg), newManifestSign(cfg), newManifestInspect(cfg))
}

// parts are the files of a release, as flags.
type parts struct {
	kernel, initramfs, rootfs string
	dtbs                      []string // NAME=FILE
}

func (a *parts) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.kernel, "kernel", "", "kernel image `file`")
	cmd.Flags().StringVar(&a.initramfs, "initramfs", "", "initramfs `file`")
	cmd.Flags().StringVar(&a.rootfs, "rootfs", "", "root file system `file`, if the release has one")
	cmd.Flags().StringArrayVar(&a.dtbs, "dtb", nil, "device tree as `NAME=FILE`, repeatable")
}

// paths returns the files by the names of artifacts; device trees are
// "dtb NAME".
func (a *parts) paths() (map[string]string, error) {
	paths := map[string]string{}
	for name, path := range map[string]string{"kernel": a.kernel, "initramfs": a.initramfs, "rootfs": a.rootfs} {
		if path != "" {
			paths[name] = path
		}
	}
	for _, pair := range a.dtbs {
		name, path, ok := strings.Cut(pair, "=")
		if !ok || name == "" || path == "" {
			return nil, usage("--dtb %q: write NAME=FILE", pair)
		}
		if _, twice := paths["dtb "+name]; twice {
			return nil, usage("--dtb: %s is named twice", name)
		}
		paths["dtb "+name] = path
	}
	return paths, nil
}

// compare refuses a manifest that does not name exactly these files. Only what
// was given is compared; the rows tell which that was.
func (a *parts) compare(cmd *cobra.Command, m manifest.Manifest) (rows []string, err error) {
	paths, err := a.paths()
	if err != nil {
		return nil, err
	}
	named := map[string]manifest.Artifact{}
	for _, artifact := range artifactsOf(m) {
		named[artifact.name] = artifact.Artifact
		if path, given := paths[artifact.name]; given {
			rows = append(rows, fmt.Sprintf("compared\t%s is your %s", artifact.name, path))
		} else {
			rows = append(rows, "not compared\t"+artifact.name)
		}
	}
	for _, artifact := range artifactsOf(m) {
		if len(artifact.Deltas) > 0 {
			rows = append(rows, fmt.Sprintf("not compared\tpatches of %s; machines check what a patch makes", artifact.name))
		}
	}
	err = hashFiles(cmd, paths, func(name, path string, f release.File) error {
		want, ok := named[name]
		switch {
		case !ok || want.Hash != f.Digest || want.Size != f.Size:
			return refuse("Find out which of the two is right before anybody signs.",
				"%s is not the %s of this manifest (it has %s, %d bytes)", path, name, f.Digest, f.Size)
		case !want.Chunks.IsZero() && want.Chunks != blob.Of(f.Chunks.Bytes()):
			return refuse("Have the manifest made anew: machines would take good parts of the file for damaged ones.",
				"the chunk list that this manifest names is not that of its %s", name)
		}
		return compareTree(cmd, path, want.Verity)
	})
	return rows, err
}

// compareTree refuses a root hash that is not that of the file: a machine that
// opens the file in its cache goes by nothing else.
func compareTree(cmd *cobra.Command, path string, v *manifest.Verity) error {
	if v == nil {
		return nil
	}
	err := release.CheckTree(path, *v, watchTree(cmd))
	if errors.Is(err, verity.ErrTree) {
		return refuse("Find out who made this manifest, and how: machines would open another root file system than the one it names, or none.",
			"the hash tree that this manifest names is not that of its rootfs (%v)", err)
	}
	return err
}

func watchTree(cmd *cobra.Command) func(done, size int64) error {
	meter := newMeter(cmd)
	return func(done, size int64) error { return meter.progress("hash tree", done, size) }
}

// hashFiles hashes files, given by their names in a manifest, until the person
// interrupts it.
func hashFiles(cmd *cobra.Command, paths map[string]string, found func(name, path string, f release.File) error) error {
	meter := newMeter(cmd)
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		f, err := release.Describe(paths[name], func(done, size int64) error { return meter.progress(name, done, size) })
		if err != nil {
			return fmt.Errorf("hash the %s: %w", name, err)
		}
		if err := found(name, paths[name], f); err != nil {
			return err
		}
	}
	return nil
}

// creation is a manifest to be made.
type creation struct {
	parts
	number, securityFloor  int64
	channel, arch, cmdline string
	expires, out           string
	urls, bases            []string
	previous               []string // FOLDER or MANIFEST=FOLDER
	patches                string
	made                   []release.Patch
	tree                   bool   // the root file system ends with its hash tree
	salt                   string // of the tree, in hexadecimal
}

func newManifestCreate(cfg Config) *cobra.Command {
	var c creation
	cmd := &cobra.Command{
		Use: "create", Short: "Describe a release: hash its files and write the unsigned manifest", Args: arguments(0, 0, ""),
		Long: `Hashes the files of a release and writes the unsigned manifest. Of every file that
is larger than 1 MiB it names the list of its chunks' hashes as well; "publish" lays
that list out.

With --rootfs-verity it names the hash tree with which the root file system ends, and
refuses a file without one. Machines then leave the file in their cache and open it
there, so this release's initramfs must be able to; "phase release build" makes both,
and "veritysetup format --no-superblock --salt=-" such trees.

With --previous it makes patches, so that machines which have that release fetch
little more than what has changed. A patch that is larger than half of the file is
not kept. The others are written to the folder --patches, applied once, and named in
the manifest; carry that folder to where you publish, or let it be the published
folder itself.`,
		Example: `  phase release manifest create --number 42 --kernel vmlinuz --initramfs initrd.img --rootfs root.squashfs \
    --cmdline quiet --base https://boot.example.org
  phase release manifest create --number 43 --kernel vmlinuz --initramfs initrd.img --rootfs root.squashfs \
    --previous published --patches patches`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.draft(cmd, cfg.today())
			if err != nil {
				return err
			}
			data, err := d.Bytes()
			if err != nil {
				return err
			}
			if err := writeNew(c.out, data); err != nil {
				return err
			}
			rows := append([]string{c.out + "\tmanifest, to be signed"}, manifestRows(d.Manifest(), cfg.today())...)
			rows = append(rows, patchRows(c.made)...)
			return table(cmd.OutOrStdout(), append(rows, digestRows(d)...))
		},
	}
	c.parts.flags(cmd)
	flags := cmd.Flags()
	flags.Int64Var(&c.number, "number", 0, "number of the release, above every earlier one of its channel")
	flags.StringVar(&c.channel, "channel", manifest.ChannelStable, "stable, testing or nightly")
	flags.StringVar(&c.arch, "arch", manifest.ArchX8664, "x86_64 or arm64")
	flags.StringVar(&c.cmdline, "cmdline", "", "command line of the kernel")
	flags.Int64Var(&c.securityFloor, "security-floor", 0, "oldest release that machines may still boot from their cache")
	flags.StringVar(&c.expires, "expires", "90d", "end of its life: a time span or a date, at most 180 days from now")
	flags.StringArrayVar(&c.urls, "url", nil, "where a file can be fetched, as `NAME=URL` (kernel, initramfs, rootfs or a device tree), repeatable")
	flags.StringArrayVar(&c.bases, "base", nil, "base `URL` of a published folder, for all files, repeatable")
	flags.StringArrayVar(&c.previous, "previous", nil, "make patches from the release in this published `FOLDER`, or from that of MANIFEST=FOLDER; repeatable, at most 8")
	flags.BoolVar(&c.tree, "rootfs-verity", false, "name the hash tree (dm-verity) behind the root file system, which machines then open in their cache")
	flags.StringVar(&c.salt, "rootfs-salt", "", "salt of that tree in `HEX`; none if not given")
	flags.StringVar(&c.patches, "patches", "patches", "`folder` to put patches in")
	flags.StringVarP(&c.out, "out", "o", "manifest.json", "`file` to write")
	return cmd
}

func (c *creation) draft(cmd *cobra.Command, now time.Time) (*manifest.Draft, error) {
	arch, err := manifest.ParseArch(c.arch)
	if err != nil {
		return nil, usage("--arch: %w", err)
	}
	if err := manifest.CheckChannel(c.channel); err != nil {
		return nil, usage("--channel: %w", err)
	}
	switch {
	case c.number < 1:
		return nil, needFlag(cmd, "--number", "the number of the release")
	case c.kernel == "" || c.initramfs == "":
		return nil, needFlag(cmd, "--kernel and --initramfs", "what to boot")
	case c.tree && c.rootfs == "":
		return nil, needFlag(cmd, "--rootfs", "the file that --rootfs-verity is about")
	case c.salt != "" && !c.tree:
		return nil, needFlag(cmd, "--rootfs-verity", "what --rootfs-salt is about")
	}
	expires, err := expiry(c.expires, now, "manifest", 0, maxManifestLife)
	if err != nil {
		return nil, err
	}
	m := manifest.Manifest{
		ManifestVersion: c.number, Channel: c.channel, Arch: arch, CreatedAt: now, ExpiresAt: expires,
		Cmdline: c.cmdline, SecurityFloor: c.securityFloor,
	}
	if err := c.describe(cmd, &m); err != nil {
		return nil, err
	}
	return manifest.DraftManifest(m)
}

// describe hashes the files.
func (c *creation) describe(cmd *cobra.Command, m *manifest.Manifest) error {
	paths, err := c.paths()
	if err != nil {
		return err
	}
	urls, err := c.addresses(paths)
	if err != nil {
		return err
	}
	patcher, err := c.patcher(cmd, m)
	if err != nil {
		return err
	}
	if len(patcher.Previous) > 0 { // a publisher removes what looks unfinished there
		unlock, err := release.Lock(c.patches)
		if err != nil {
			return err
		}
		defer unlock()
	}
	return hashFiles(cmd, paths, func(name, path string, f release.File) error {
		a := f.Artifact()
		a.URLs = urls[name]
		for _, base := range c.bases {
			a.URLs = append(a.URLs, release.BlobURL(base, f.Digest))
		}
		made, err := patcher.Make(name, path, &a)
		c.made = append(c.made, made...)
		if err == nil && name == "rootfs" && c.tree {
			a.Verity, err = c.findTree(cmd, path)
		}
		setArtifact(m, name, a)
		return err
	})
}

// findTree is what the manifest says of the tree. That a file happens to end with
// one is not asked: to name it promises something of the initramfs too.
func (c *creation) findTree(cmd *cobra.Command, path string) (*manifest.Verity, error) {
	salt, err := hex.DecodeString(c.salt)
	if err != nil || len(salt) > manifest.MaxVeritySalt {
		return nil, usage("--rootfs-salt: write at most %d bytes in hexadecimal", manifest.MaxVeritySalt)
	}
	v, err := release.FindTree(path, salt, watchTree(cmd))
	if errors.Is(err, verity.ErrTree) {
		return nil, refuse("Put the tree behind the file, name its salt with --rootfs-salt, or leave --rootfs-verity out.",
			"the root file system does not end with its hash tree (%v)", err)
	}
	return &v, err
}

// patcher knows the releases that --previous means.
func (c *creation) patcher(cmd *cobra.Command, m *manifest.Manifest) (release.Patcher, error) {
	p := release.Patcher{Dir: c.patches, Progress: newMeter(cmd).progress}
	if len(c.previous) > manifest.MaxDeltas {
		return p, usage("--previous: %d releases, at most %d are allowed", len(c.previous), manifest.MaxDeltas)
	}
	for _, text := range c.previous {
		previous, err := release.ParsePrevious(text, m.Channel, m.Arch)
		if err != nil {
			return p, err
		}
		p.Previous = append(p.Previous, previous)
	}
	return p, nil
}

func setArtifact(m *manifest.Manifest, name string, a manifest.Artifact) {
	switch name {
	case "kernel":
		m.Kernel = a
	case "initramfs":
		m.Initramfs = a
	case "rootfs":
		m.Rootfs = &a
	default:
		if m.DTBs == nil {
			m.DTBs = map[string]manifest.Artifact{}
		}
		m.DTBs[strings.TrimPrefix(name, "dtb ")] = a
	}
}

// addresses sorts the URLs by artifact.
func (c *creation) addresses(paths map[string]string) (map[string][]string, error) {
	urls := map[string][]string{}
	for _, pair := range c.urls {
		name, url, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usage("--url %q: write NAME=URL", pair)
		}
		if _, known := paths[name]; !known {
			name = "dtb " + name
		}
		if _, known := paths[name]; !known {
			return nil, usage("--url %q: the release has no such file", pair)
		}
		urls[name] = append(urls[name], url)
	}
	return urls, nil
}

func newManifestInspect(cfg Config) *cobra.Command {
	var i inspection
	cmd := i.command(openManifestDraft, func(d document, _ names) (*finding, error) { return i.manifest(d, cfg.today()) })
	cmd.Short, cmd.Args = "Show a manifest, and whether machines accept it", arguments(1, 1, "the manifest")
	cmd.Example = `  phase release manifest inspect manifest.json --root 1.root.json`
	i.flags(cmd, trustedRoots)
	i.logFlags(cmd)
	return cmd
}

func (i *inspection) logFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&i.proof, "proof", "", "log proof `file` of the manifest")
	cmd.Flags().StringVar(&i.logPolicy, "log-policy", "", "log policy `file` that media carry")
}

func (i *inspection) manifest(d document, now time.Time) (*finding, error) {
	m := d.draft.Manifest()
	f := &finding{
		File: d.file, Object: "manifest", Digest: d.draft.Digest(), Version: m.ManifestVersion, Channel: m.Channel, Arch: m.Arch,
		Created: &m.CreatedAt, Expires: m.ExpiresAt, KeyIDs: d.draft.KeyIDs(), rows: manifestRows(m, now),
	}
	if len(i.roots) == 0 {
		f.judge(false, "", nil)
		return f, nil
	}
	v, c, err := i.verifier()
	if err != nil {
		return nil, err
	}
	proof, err := readOptional(i.proof)
	if err != nil {
		return nil, err
	}
	signers := signersOf(c.newest(), m.Channel)
	f.Tallies = []tally{count(signers.name, signers.keys, d.draft)}
	_, err = v.Manifest(d.raw, proof, nil, now)
	f.judge(true, underRoot(c), err)
	return f, nil
}
