package ceremony

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/manifest"
)

func newRoot(cfg Config) *cobra.Command {
	return group("root", "Make, change, sign and read root metadata: which keys machines trust",
		newRootInit(cfg), newRootAddKey(cfg), newRootRemoveKey(cfg), newRootRotate(cfg), newRootRenew(cfg),
		newRootThreshold(cfg), newRootSetChannel(cfg), newRootResetFloor(cfg),
		newRootSign(cfg), newRootInspect(cfg))
}

// init1 is what the first root is made of.
type init1 struct {
	out, expires string
	weak         bool
	keys         map[manifest.Role]*[]string
	thresholds   map[manifest.Role]*int
}

func newRootInit(cfg Config) *cobra.Command {
	in := init1{keys: map[manifest.Role]*[]string{}, thresholds: map[manifest.Role]*int{}}
	cmd := &cobra.Command{
		Use: "init", Short: "Make version 1 of a root from public keys", Args: arguments(0, 0, ""),
		Long: `Makes the first root from the .pub files of everybody. It is unsigned: carry it
to the root people, each of whom runs "phase release root sign". We propose five
root people of whom three sign, on machines without a network. Two of three is
the least, because one stolen key must not be enough, and one lost key not the end.`,
		Example: `  phase release root init --root-key alice.pub --root-key bob.pub --root-key carol.pub \
    --targets-key dave.pub --targets-key erin.pub --targets-key frank.pub --timestamp-key timestamp.pub`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p person
			p.attend(cmd, cfg)
			d, err := in.draft(cmd, &p, cfg.today())
			if err != nil {
				return err
			}
			return in.finish(cmd, d)
		},
	}
	for _, role := range []manifest.Role{manifest.RoleRoot, manifest.RoleTargets, manifest.RoleTimestamp} {
		in.keys[role], in.thresholds[role] = new([]string), new(int)
		cmd.Flags().StringArrayVar(in.keys[role], string(role)+"-key", nil, "public key `file` of a person or machine with this role; repeatable")
		cmd.Flags().IntVar(in.thresholds[role], string(role)+"-threshold", 0, "how many of them must sign (default: more than half)")
	}
	cmd.Flags().StringVarP(&in.out, "out", "o", "1.root.json", "`file` to write")
	cmd.Flags().StringVar(&in.expires, "expires", "365d", "end of its life: a time span or a date, at most two years from now")
	cmd.Flags().BoolVar(&in.weak, "allow-weak", false, "accept fewer than 3 root keys, or a threshold of 1; for trials only")
	return cmd
}

func (in init1) draft(cmd *cobra.Command, p *person, now time.Time) (*manifest.Draft, error) {
	expires, err := expiry(in.expires, now, "root", 0, maxRootLife)
	if err != nil {
		return nil, err
	}
	spec := manifest.RootSpec{Version: 1, Expires: expires, Roles: map[manifest.Role]manifest.RoleKeys{}}
	for role, files := range in.keys {
		if len(*files) == 0 {
			return nil, needFlag(cmd, "--"+string(role)+"-key", "a key for the role "+string(role))
		}
		keys, err := readPublics(*files)
		if err != nil {
			return nil, err
		}
		spec.Roles[role] = manifest.RoleKeys{Keys: keys, Threshold: orMajority(*in.thresholds[role], len(keys))}
	}
	return draftRoot(p, spec, in.weak)
}

func (in init1) finish(cmd *cobra.Command, d *manifest.Draft) error {
	data, err := d.Bytes()
	if err != nil {
		return err
	}
	if err := writeNew(in.out, data); err != nil {
		return err
	}
	n := findNames(append(append(append([]string{in.out}, *in.keys[manifest.RoleRoot]...), *in.keys[manifest.RoleTargets]...), *in.keys[manifest.RoleTimestamp]...)...)
	return announceRoot(cmd, in.out, d, n)
}

// announceRoot tells about a root that waits for its signatures.
func announceRoot(cmd *cobra.Command, file string, d *manifest.Draft, n names) error {
	spec := d.Spec()
	rows := append([]string{fmt.Sprintf("%s\troot version %d, to be signed", file, spec.Version)}, digestRows(d)...)
	rows = append(rows, count("root keys", spec.Roles[manifest.RoleRoot], d).row(n))
	return table(cmd.OutOrStdout(), rows)
}

func readPublics(files []string) ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for _, file := range files {
		pub, err := keyfile.ReadPublic(file)
		if err != nil {
			return nil, err
		}
		keys = append(keys, pub)
	}
	return keys, nil
}

// orMajority is threshold, or more than half of n if none was said.
func orMajority(threshold, n int) int {
	if threshold != 0 {
		return threshold
	}
	return n/2 + 1
}

// draftRoot makes the unsigned root and speaks up about what is unwise in it.
func draftRoot(p *person, spec manifest.RootSpec, allowWeak bool) (*manifest.Draft, error) {
	d, err := manifest.DraftRoot(spec)
	if err != nil {
		return nil, advice{err, "Machines would refuse such a root. A key serves one role, and a threshold needs as many keys."}
	}
	weak := weaknesses(spec)
	if len(weak) > 0 && !allowWeak {
		return nil, refuse("Use at least three root keys of which two must sign; --allow-weak is for trials.",
			"refusing a weak root: %s", strings.Join(weak, "; "))
	}
	for _, text := range append(weak, risks(spec)...) {
		p.warn(text)
	}
	return d, nil
}

// weaknesses are what a root for real machines may not have.
func weaknesses(spec manifest.RootSpec) (list []string) {
	root := spec.Roles[manifest.RoleRoot]
	if len(root.Keys) < 3 {
		list = append(list, fmt.Sprintf("it has %s instead of three or more", plural(int64(len(root.Keys)), "root key")))
	}
	if root.Threshold < 2 {
		list = append(list, "one stolen root key is enough to take over every machine")
	}
	return list
}

// risks are what a publisher may choose, knowingly.
func risks(spec manifest.RootSpec) (list []string) {
	for _, r := range rolesOf(spec) {
		n := len(r.keys.Keys)
		switch {
		case r.name == string(manifest.RoleRoot) && r.keys.Threshold == n:
			list = append(list, "all root keys have to sign: after the loss of one, no machine can be given another root")
		case r.name == string(manifest.RoleTargets) && r.keys.Threshold < 2:
			list = append(list, "one stolen targets key is enough to sign a release")
		case r.name == string(manifest.RoleTargets) && r.keys.Threshold == n:
			list = append(list, "all targets keys have to sign: the loss of one stops releases until the root is changed")
		}
	}
	return list
}

// unwise is everything about a root that its signers should hear before they
// sign, whoever made it.
func unwise(spec manifest.RootSpec, now time.Time) []string {
	list := append(weaknesses(spec), risks(spec)...)
	switch life := spec.Expires.Sub(now); {
	case life <= 0:
		list = append(list, "this root has expired already")
	case life > maxRootLife:
		list = append(list, fmt.Sprintf("this root lives for %s; two years is the most we advise", span(life)))
	}
	return list
}

// findKey returns which role of spec holds the key that a person means: by the
// .pub file, the id, or the beginning of the id (8 digits or more).
func findKey(spec manifest.RootSpec, meant string) (role, ed25519.PublicKey, error) {
	wanted := strings.ToLower(meant)
	if pub, err := keyfile.ReadPublic(meant); err == nil {
		wanted = dsse.KeyID(pub)
	} else if !idPrefix(wanted) {
		return role{}, nil, fmt.Errorf("neither a key id nor a key file: %w", err)
	}
	var found []ed25519.PublicKey
	var in role
	for _, r := range rolesOf(spec) {
		for _, key := range r.keys.Keys {
			if strings.HasPrefix(dsse.KeyID(key), wanted) {
				found, in = append(found, key), r
			}
		}
	}
	switch len(found) {
	case 1:
		return in, found[0], nil
	case 0:
		return role{}, nil, refuse("See the keys with `phase release root inspect`.", "the root has no key %s", meant)
	}
	return role{}, nil, refuse("Give more digits of the id.", "%s fits %d keys", meant, len(found))
}

func idPrefix(s string) bool {
	return len(s) >= 8 && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}
