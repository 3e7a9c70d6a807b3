package ceremony

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// inspection shows one file, and whether it holds against what the person
// trusts.
type inspection struct {
	roots            []string
	format           string
	proof, logPolicy string
}

func (i *inspection) flags(cmd *cobra.Command, trusted string) {
	cmd.Flags().StringArrayVar(&i.roots, "root", nil, trusted)
	cmd.Flags().StringVarP(&i.format, "format", "f", "text", "text or json")
}

const trustedRoots = "root `file`, or folder with N.root.json, to check against: the lowest version is trusted, the others must follow from it; repeatable"

// finding is what an inspection found out. Its JSON is what machines read.
type finding struct {
	File    string      `json:"file"`
	Object  string      `json:"object"`
	Status  string      `json:"status"` // verified, refused, unverified
	Reason  string      `json:"reason,omitempty"`
	Code    string      `json:"code,omitempty"`
	Digest  blob.Digest `json:"digest"` // of the signed bytes
	Version int64       `json:"version"`
	Channel string      `json:"channel,omitempty"`
	Arch    string      `json:"arch,omitempty"`
	Created *time.Time  `json:"created_at,omitempty"`
	Expires time.Time   `json:"expires_at"`
	KeyIDs  []string    `json:"key_ids"` // that the signatures claim
	Tallies []tally     `json:"signatures,omitempty"`
	Roles   []roleJSON  `json:"roles,omitempty"`
	under   string      // what it was checked against, in words
	rows    []string
	verdict error
}

type roleJSON struct {
	Role      string   `json:"role"`
	Threshold int      `json:"threshold"`
	KeyIDs    []string `json:"key_ids"`
}

// judge enters the outcome of the check, if there was one.
func (f *finding) judge(checked bool, under string, err error) {
	f.Status, f.under, f.verdict = "unverified", under, err
	if !checked {
		return
	}
	f.Status = "verified"
	if err != nil {
		f.Status, f.Reason, f.Code = "refused", err.Error(), failure.Code(err)
	}
}

// write shows the finding; a refusal is an error as well.
func (f *finding) write(cmd *cobra.Command, format string, n names) error {
	if format == "json" {
		if err := writeJSON(cmd.OutOrStdout(), f); err != nil {
			return err
		}
		if f.verdict != nil {
			return ErrReported
		}
		return nil
	}
	if err := f.text(cmd.OutOrStdout(), n); err != nil {
		return err
	}
	if f.verdict != nil {
		return fmt.Errorf("%s: %w", f.File, f.verdict)
	}
	return nil
}

func (f *finding) text(out io.Writer, n names) error {
	rows := []string{fmt.Sprintf("%s\t%s version %d", f.File, f.Object, f.Version)}
	switch f.Status {
	case "verified":
		rows = append(rows, "VERIFIED\tagainst "+f.under)
	case "refused":
		rows = append(rows, "REFUSED\tagainst "+f.under)
	default:
		rows = append(rows, "UNVERIFIED\tanybody may have written this; check it with --root")
	}
	rows = append(append(rows, f.rows...), tallyRows(f.Tallies, n)...)
	if len(f.Tallies) > 0 {
		rows = append(rows, strangerRows(f.Tallies, f.KeyIDs)...)
	}
	return table(out, append(rows, append([]string{"digest\t" + f.Digest.String()}, spokenRows("read aloud", f.Digest)...)...))
}

// command shows the file that open reads as look finds it.
func (i *inspection) command(open func(file string) (document, error), look func(document, names) (*finding, error)) *cobra.Command {
	return &cobra.Command{
		Use: "inspect FILE",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(i.format); err != nil {
				return err
			}
			d, err := open(args[0])
			if err != nil {
				return err
			}
			n := findNames(append(i.roots, d.file)...)
			f, err := look(d, n)
			if err != nil {
				return err
			}
			return f.write(cmd, i.format, n)
		},
	}
}

func newRootInspect(cfg Config) *cobra.Command {
	var i inspection
	cmd := i.command(openRootDraft, func(d document, n names) (*finding, error) { return i.root(d, n, cfg.today()) })
	cmd.Short, cmd.Args = "Show a root, and whether it follows from one that you trust", arguments(1, 1, "the root")
	cmd.Example = `  phase release root inspect 2.root.json --root 1.root.json`
	i.flags(cmd, "root `file` or folder that you trust, and those between it and FILE; repeatable")
	return cmd
}

func (i *inspection) root(d document, n names, now time.Time) (*finding, error) {
	spec := d.draft.Spec()
	f := &finding{
		File: d.file, Object: "root", Digest: d.draft.Digest(), Version: spec.Version, Expires: spec.Expires,
		KeyIDs: d.draft.KeyIDs(), rows: rootRows(spec, n, d.draft, now),
	}
	for _, r := range rolesOf(spec) {
		f.Roles = append(f.Roles, roleJSON{r.name, r.keys.Threshold, ids(r.keys.Keys)})
	}
	if len(i.roots) == 0 {
		f.Tallies = rootTallies(d.draft, nil)
		f.judge(false, "", nil)
		return f, nil
	}
	trusted, err := openChain(i.roots)
	if err != nil {
		return nil, err
	}
	under, old, err := followsFrom(trusted, d)
	f.Tallies = rootTallies(d.draft, old)
	f.judge(true, under, err)
	return f, nil
}

// followsFrom checks d against the part of a chain that comes before it.
func followsFrom(trusted chain, d document) (under string, old *manifest.Root, err error) {
	version := d.draft.Spec().Version
	under = fmt.Sprintf("%s, version %d", trusted[0].Name, trusted[0].Root.Version())
	for at, known := range trusted {
		switch known.Root.Version() {
		case version:
			if !known.Same(d.draft) {
				err = fmt.Errorf("another root than %s, which has the same version", known.Name)
			} else if at == 0 {
				_, err = manifest.ParseRoot(d.raw)
			} else {
				_, err = trusted[at-1].Root.Update(d.raw)
			}
			return under, old, asPublisher(err)
		case version - 1:
			old = known.Root
		}
	}
	if old == nil {
		return under, nil,
			refuse("Name the roots in between with --root as well.", "it has version %d, and the newest root given has version %d", version, trusted.newest().Version())
	}
	_, err = old.Update(d.raw)
	return under, old, asPublisher(err)
}

// verifier is what a machine with these roots holds documents to.
func (i *inspection) verifier() (v manifest.Verifier, c chain, err error) {
	if c, err = openChain(i.roots); err != nil {
		return v, c, err
	}
	v = manifest.Verifier{Root: c.newest(), Want: manifest.Want{Channel: manifest.Any, Arch: manifest.Any}}
	if i.logPolicy != "" {
		if v.Log, err = openPolicy(i.logPolicy); err != nil {
			return v, c, err
		}
	}
	return v, c, nil
}

func openPolicy(file string) (*logproof.Policy, error) {
	raw, err := release.ReadDocument(file)
	if err != nil {
		return nil, err
	}
	policy, err := logproof.ParsePolicy(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return policy, nil
}

// readOptional reads a file that may not have been named.
func readOptional(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	return release.ReadDocument(file)
}

func underRoot(c chain) string {
	return fmt.Sprintf("%s, root version %d", c[len(c)-1].Name, c.newest().Version())
}
