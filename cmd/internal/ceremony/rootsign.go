package ceremony

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/manifest"
)

func newRootSign(cfg Config) *cobra.Command {
	var s signature
	var previous string
	cmd := &cobra.Command{
		Use: "sign FILE", Short: "Show what a root changes, and sign it", Args: arguments(1, 1, "the root to sign"),
		Long: `Shows the difference to the previous root (of version 1: all of it) and the
digest of what is signed, asks, and adds your signature to FILE. A new root needs
enough signatures of the previous root's root keys and of its own: the command
says how many are missing on either side.`,
		Example: `  phase release root sign 1.root.json --key alice-root.key
  phase release root sign 2.root.json --previous 1.root.json --key alice-root.key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.attend(cmd, cfg)
			d, err := openRootDraft(args[0])
			if err != nil {
				return err
			}
			old, row, err := openPrevious(d, previous)
			if err != nil {
				return err
			}
			for _, text := range unwise(d.draft.Spec(), cfg.today()) {
				s.warn(text)
			}
			n := findNames(d.file, previous, s.key)
			if err := s.sign(cmd, d, rootReview(d, old, previous, row, n, cfg.today())); err != nil {
				return err
			}
			return reportRoot(cmd.OutOrStdout(), &s, d, old, n)
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&previous, "previous", "", "the complete root `file` that FILE follows; required from version 2 on")
	return cmd
}

// openPrevious reads the root before d, nil for version 1. The row shows its
// digest: if it were exchanged together with d, so would be what changes.
func openPrevious(d document, file string) (old *manifest.Root, row string, err error) {
	version := d.draft.Spec().Version
	switch {
	case version == 1 && file == "":
		return nil, "", nil
	case version == 1:
		return nil, "", usage("%s is version 1: there is no root before it", d.file)
	case file == "":
		return nil, "", usage("%s is version %d: name version %d with --previous, to see what changes", d.file, version, version-1)
	}
	before, err := openRootDraft(file)
	if err != nil {
		return nil, "", err
	}
	if old, err = manifest.ParseRoot(before.raw); err != nil {
		return nil, "", fmt.Errorf("%s: %w", file, err)
	}
	if old.Version() != version-1 {
		return nil, "", usage("%s is version %d and %s is version %d: a root follows the one right before it", d.file, version, file, old.Version())
	}
	return old, fmt.Sprintf("against\t%s, which must be the one that machines have: %s…", file, spoken(before.draft.Digest())[0]), nil
}

func rootReview(d document, old *manifest.Root, previous, row string, n names, now time.Time) review {
	spec := d.draft.Spec()
	own := role{"root keys of version " + fmt.Sprint(spec.Version), spec.Roles[manifest.RoleRoot]}
	if old == nil {
		return review{
			title: fmt.Sprintf("%s: root version 1, the first. Whoever trusts it trusts these keys.", d.file),
			rows:  rootRows(spec, n, nil, now), may: []role{own},
		}
	}
	before, err := old.Spec()
	rows := difference(before, spec, n)
	if err != nil {
		rows = append([]string{"NOTE\t" + err.Error()}, rootRows(spec, n, nil, now)...)
	}
	keys, _ := old.Keys(manifest.RoleRoot)
	rows = append(rows, row)
	return review{
		title: fmt.Sprintf("%s: root version %d. This changes against %s, version %d.", d.file, spec.Version, previous, old.Version()),
		rows:  rows, may: []role{{fmt.Sprintf("root keys of version %d", old.Version()), keys}, own},
	}
}

// rootTallies counts the signatures that a machine counts.
func rootTallies(d *manifest.Draft, old *manifest.Root) (list []tally) {
	spec := d.Spec()
	if old != nil {
		keys, _ := old.Keys(manifest.RoleRoot)
		list = append(list, count(fmt.Sprintf("root keys of version %d", old.Version()), keys, d))
	}
	return append(list, count(fmt.Sprintf("root keys of version %d", spec.Version), spec.Roles[manifest.RoleRoot], d))
}

// isDraft reports whether a root lacks signatures of its own root keys. (Those
// of the root before it, nobody can tell from the file alone.)
func isDraft(d *manifest.Draft) bool { return d.Object() == "root" && !complete(rootTallies(d, nil)) }

// reportRoot says how far the root is after a signature. That it is complete is
// the verifier's word, not ours.
func reportRoot(out io.Writer, s *signature, d document, old *manifest.Root, n names) error {
	tallies := rootTallies(d.draft, old)
	rows := append([]string{s.file(d) + "\tsigned with " + s.key}, tallyRows(tallies, n)...)
	if complete(tallies) {
		raw, err := d.draft.Bytes()
		if err != nil {
			return err
		}
		verdict := "complete: it can be put on media"
		if old == nil {
			_, err = manifest.ParseRoot(raw)
		} else {
			_, err = old.Update(raw)
			verdict = fmt.Sprintf("complete: machines with version %d accept it", old.Version())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.file(d), err)
		}
		rows = append(rows, s.file(d)+"\t"+verdict)
	}
	return table(out, rows)
}
