package ceremony

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/manifest"
)

// edit is a change to a root. Made to a complete root it begins the next
// version; made to a draft it is one more change in the same version.
type edit struct {
	in, out, expires string
	weak             bool
}

func (e *edit) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.in, "in", "", "root `file` to start from: the newest complete one, or the draft of the next")
	cmd.Flags().StringVarP(&e.out, "out", "o", "", "`file` to write (default: N.root.json for a new version, the draft itself for a draft)")
	cmd.Flags().StringVar(&e.expires, "expires", "", "end of its life: a time span or a date, at most two years from now (default: a year from now; a draft keeps its own)")
	cmd.Flags().BoolVar(&e.weak, "allow-weak", false, "accept fewer than 3 root keys, or a threshold of 1; for trials only")
}

// editCommand makes the cobra command of one kind of edit.
func editCommand(cfg Config, cmd *cobra.Command, change func(spec *manifest.RootSpec) error) *cobra.Command {
	var e edit
	cmd.Args = arguments(0, 0, "")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if e.in == "" {
			return needFlag(cmd, "--in", "the root to change")
		}
		var p person
		p.attend(cmd, cfg)
		return e.run(cmd, &p, cfg.today(), change)
	}
	e.flags(cmd)
	return cmd
}

func (e *edit) run(cmd *cobra.Command, p *person, now time.Time, change func(*manifest.RootSpec) error) error {
	from, spec, fresh, err := e.begin(now)
	if err != nil {
		return err
	}
	if e.expires != "" {
		if spec.Expires, err = expiry(e.expires, now, "root", 0, maxRootLife); err != nil {
			return err
		}
	}
	if err := change(&spec); err != nil {
		return err
	}
	d, err := draftRoot(p, spec, e.weak)
	if err != nil {
		return err
	}
	file, err := e.write(p, from, d, fresh)
	if err != nil {
		return err
	}
	n := findNames(file, e.in)
	rows := []string{fmt.Sprintf("from %s\tversion %d", e.in, from.draft.Spec().Version)}
	rows = append(rows, difference(from.draft.Spec(), d.Spec(), n)...)
	if err := table(cmd.OutOrStdout(), rows); err != nil {
		return err
	}
	return announceRoot(cmd, file, d, n)
}

// begin reads the root to change and returns what its successor, or the same
// draft, looks like before the change. fresh says that it is a successor.
func (e *edit) begin(now time.Time) (from document, spec manifest.RootSpec, fresh bool, err error) {
	if from, err = openRootDraft(e.in); err != nil {
		return from, spec, false, err
	}
	if len(strangeRoles(from.draft.Spec())) > 0 {
		return from, spec, false, refuse("Look at it with `phase release root inspect`, and ask who made it.",
			"%s has a role that means nothing to machines", e.in)
	}
	trusted, err := manifest.ParseRoot(from.raw)
	var refused *manifest.Error
	switch {
	case err == nil:
		if spec, err = trusted.Spec(); err != nil {
			return from, spec, false, fmt.Errorf("%s: %w", e.in, err)
		}
		spec.Version++
		spec.Expires = now.Add(rootLife)
		return from, spec, true, nil
	case !errors.As(err, &refused) || refused.Rule != manifest.RuleSignature:
		return from, spec, false, fmt.Errorf("%s: %w", e.in, err)
	}
	// A draft. What this program would drop in silence, it refuses to edit.
	spec = from.draft.Spec()
	again, err := manifest.DraftRoot(spec)
	if err != nil {
		return from, spec, false, fmt.Errorf("%s: %w", e.in, err)
	}
	if again.Digest() != from.draft.Digest() {
		return from, spec, false, refuse("Change it with the program that made it.",
			"%s holds something that this program does not know and would lose", e.in)
	}
	return from, spec, false, nil
}

// write puts a new version into a file of its own and a draft back into its
// file, without the signatures, which were for other bytes.
func (e *edit) write(p *person, from document, d *manifest.Draft, fresh bool) (string, error) {
	data, err := d.Bytes()
	if err != nil {
		return "", err
	}
	if fresh {
		file := e.out
		if file == "" {
			file = fmt.Sprintf("%d.root.json", d.Spec().Version)
		}
		return file, writeNew(file, data)
	}
	if n := len(from.draft.KeyIDs()); n > 0 {
		p.warn(fmt.Sprintf("%s dropped from the draft: they were for what it said before", plural(int64(n), "signature")))
	}
	if e.out == "" || e.out == e.in {
		return e.in, replace(e.in, data)
	}
	return e.out, writeNew(e.out, data)
}

func newRootAddKey(cfg Config) *cobra.Command {
	var name, file string
	var threshold int
	cmd := &cobra.Command{
		Use: "add-key", Short: "Add a key to a role",
		Example: `  phase release root add-key --in 1.root.json --role targets --key grace.pub`,
	}
	cmd.Flags().StringVar(&name, "role", "", "root, targets, timestamp or snapshot")
	cmd.Flags().StringVarP(&file, "key", "k", "", "public key `file`")
	cmd.Flags().IntVar(&threshold, "threshold", 0, "how many of the role must sign from now on (default: as before)")
	return editCommand(cfg, cmd, func(spec *manifest.RootSpec) error {
		if file == "" {
			return needFlag(cmd, "--key", "the key")
		}
		keys, err := roleNamed(*spec, name)
		if err != nil {
			return err
		}
		pub, err := keyfile.ReadPublic(file)
		if err != nil {
			return err
		}
		keys.Keys = append(keys.Keys, pub)
		setRole(spec, name, keys, threshold)
		return nil
	})
}

func newRootRemoveKey(cfg Config) *cobra.Command {
	var meant string
	var threshold int
	cmd := &cobra.Command{
		Use: "remove-key", Short: "Remove a key from the role that holds it",
		Example: `  phase release root remove-key --in 1.root.json --key dave.pub
  phase release root remove-key --in 1.root.json --key 5f3c1a2b9d0e77aa   # by its id`,
	}
	cmd.Flags().StringVarP(&meant, "key", "k", "", "public key `file`, key id, or the beginning of the id")
	cmd.Flags().IntVar(&threshold, "threshold", 0, "how many of the role must sign from now on (default: as before)")
	return editCommand(cfg, cmd, func(spec *manifest.RootSpec) error {
		if meant == "" {
			return needFlag(cmd, "--key", "the key")
		}
		in, pub, err := findKey(*spec, meant)
		if err != nil {
			return err
		}
		keys := in.keys
		keys.Keys = without(keys.Keys, pub)
		setRole(spec, in.name, keys, threshold)
		return reachable(*spec, in.name)
	})
}

func newRootRotate(cfg Config) *cobra.Command {
	var old, next string
	cmd := &cobra.Command{
		Use: "rotate", Short: "Put a new key in the place of an old one, in the same role",
		Example: `  phase release root rotate --in 1.root.json --old timestamp.pub --new timestamp2.pub`,
	}
	cmd.Flags().StringVar(&old, "old", "", "the key to replace: public key `file`, key id, or the beginning of the id")
	cmd.Flags().StringVar(&next, "new", "", "public key `file` of the new one")
	return editCommand(cfg, cmd, func(spec *manifest.RootSpec) error {
		if old == "" || next == "" {
			return needFlag(cmd, "--old and --new", "the key")
		}
		in, pub, err := findKey(*spec, old)
		if err != nil {
			return err
		}
		fresh, err := keyfile.ReadPublic(next)
		if err != nil {
			return err
		}
		if fresh.Equal(pub) {
			return refuse("Name the new key with --new; to keep all keys, use `phase release root renew`.", "%s and %s are the same key", old, next)
		}
		keys := in.keys
		keys.Keys = append(without(keys.Keys, pub), fresh)
		setRole(spec, in.name, keys, 0)
		return nil
	})
}

func newRootRenew(cfg Config) *cobra.Command {
	return editCommand(cfg, &cobra.Command{
		Use: "renew", Short: "Make a successor with the same keys and a new expiry",
		Example: `  phase release root renew --in 1.root.json`,
	}, func(*manifest.RootSpec) error { return nil })
}

func newRootThreshold(cfg Config) *cobra.Command {
	var name string
	var threshold int
	cmd := &cobra.Command{
		Use: "set-threshold", Short: "Change how many keys of a role must sign",
		Example: `  phase release root set-threshold --in 2.root.json --role root --threshold 3`,
	}
	cmd.Flags().StringVar(&name, "role", "", "root, targets or timestamp")
	cmd.Flags().IntVar(&threshold, "threshold", 0, "how many must sign")
	return editCommand(cfg, cmd, func(spec *manifest.RootSpec) error {
		keys, err := roleNamed(*spec, name)
		if err != nil {
			return err
		}
		if threshold < 1 {
			return needFlag(cmd, "--threshold", "the number of keys")
		}
		setRole(spec, name, keys, threshold)
		return reachable(*spec, name)
	})
}

func newRootSetChannel(cfg Config) *cobra.Command {
	var channel string
	var files []string
	var threshold int
	var remove bool
	cmd := &cobra.Command{
		Use: "set-channel", Short: "Give a channel signing keys of its own, instead of the targets keys",
		Long: `Gives a channel keys of its own. Its manifests are then signed by these and no
longer by the targets keys. The keys replace those that the channel had before.`,
		Example: `  phase release root set-channel --in 1.root.json --channel nightly --key builder.pub
  phase release root set-channel --in 1.root.json --channel nightly --remove`,
	}
	cmd.Flags().StringVar(&channel, "channel", "", "stable, testing or nightly")
	cmd.Flags().StringArrayVarP(&files, "key", "k", nil, "public key `file`, repeatable")
	cmd.Flags().IntVar(&threshold, "threshold", 0, "how many of them must sign (default: more than half)")
	cmd.Flags().BoolVar(&remove, "remove", false, "let the targets keys sign this channel again")
	return editCommand(cfg, cmd, func(spec *manifest.RootSpec) error {
		if err := manifest.CheckChannel(channel); err != nil {
			return usage("--channel: %w", err)
		}
		if remove == (len(files) > 0) {
			return usage("give the keys with --key, or none with --remove")
		}
		if remove {
			delete(spec.Channels, channel)
			return nil
		}
		keys, err := readPublics(files)
		if err != nil {
			return err
		}
		if spec.Channels == nil {
			spec.Channels = map[string]manifest.RoleKeys{}
		}
		spec.Channels[channel] = manifest.RoleKeys{Keys: keys, Threshold: orMajority(threshold, len(keys))}
		return nil
	})
}

func newRootResetFloor(cfg Config) *cobra.Command {
	var channel string
	var release int64
	cmd := &cobra.Command{
		Use: "reset-floor", Short: "After forged releases: let machines forget the numbers they saw",
		Long: `Machines refuse a release with a lower number than one they booted. Whoever
held enough stolen keys may have signed a release with an enormous number, and
machines that saw it would refuse yours for ever. With this change, whatever
they accepted under an older root counts as the release you name: choose the last
genuine one. Keep the reset in later roots, for machines that come late.`,
		Example: `  phase release root reset-floor --in 2.root.json --channel stable --release 41`,
	}
	cmd.Flags().StringVar(&channel, "channel", "", "stable, testing or nightly")
	cmd.Flags().Int64Var(&release, "release", 0, "number of the last genuine release")
	return editCommand(cfg, cmd, func(spec *manifest.RootSpec) error {
		if err := manifest.CheckChannel(channel); err != nil {
			return usage("--channel: %w", err)
		}
		if release < 1 {
			return needFlag(cmd, "--release", "the last genuine release")
		}
		if spec.Floors == nil {
			spec.Floors = map[string]manifest.FloorReset{}
		}
		spec.Floors[channel] = manifest.FloorReset{Root: spec.Version, Version: release}
		return nil
	})
}

func without(keys []ed25519.PublicKey, gone ed25519.PublicKey) []ed25519.PublicKey {
	return slices.DeleteFunc(slices.Clone(keys), func(key ed25519.PublicKey) bool { return key.Equal(gone) })
}

// roleNamed returns the keys of a role that a person names. Snapshot may be
// missing so far.
func roleNamed(spec manifest.RootSpec, name string) (manifest.RoleKeys, error) {
	switch role := manifest.Role(name); role {
	case manifest.RoleRoot, manifest.RoleTargets, manifest.RoleTimestamp, manifest.RoleSnapshot:
		return spec.Roles[role], nil
	}
	return manifest.RoleKeys{}, usage("--role %q: choose root, targets, timestamp or snapshot", name)
}

// setRole replaces the keys of a role, or of "channel NAME". Threshold 0 means
// as before.
func setRole(spec *manifest.RootSpec, name string, keys manifest.RoleKeys, threshold int) {
	if threshold != 0 {
		keys.Threshold = threshold
	}
	if channel, ok := strings.CutPrefix(name, "channel "); ok {
		spec.Channels[channel] = keys
		return
	}
	spec.Roles[manifest.Role(name)] = keys
}

// reachable explains a threshold that the remaining keys cannot meet.
func reachable(spec manifest.RootSpec, name string) error {
	for _, r := range rolesOf(spec) {
		if n := len(r.keys.Keys); r.name == name && r.keys.Threshold > n && n > 0 {
			return refuse("Add a key to the role first, or lower the threshold with --threshold.",
				"%s would need %d signatures and have %s", name, r.keys.Threshold, plural(int64(n), "key"))
		}
	}
	return nil
}
