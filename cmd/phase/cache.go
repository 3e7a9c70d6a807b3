package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

const cacheHelp = `Looks after the blobs that downloads share: what is there, whether it is still
right, and how much room it takes. Blobs are named by their hash, and hashed
again whenever they are used, so nothing here has to be trusted.

Exit status: 0 all is well, 1 rot was found or something failed, 2 wrong usage.`

// cacheOptions are the flags that all commands of the cache have.
type cacheOptions struct{ dir, format string }

func newCache() *cobra.Command {
	cmd := group("cache", "List, verify and trim the cache of downloads")
	cmd.Long = cacheHelp
	cmd.AddCommand(newCacheList(), newCacheVerify(), newCacheCollect(), newCachePath())
	return cmd
}

func (o *cacheOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.dir, "dir", "", "the cache's `folder` (default: phase/blobs in the user's cache folder)")
	cmd.Flags().StringVarP(&o.format, "format", "f", "text", "text or json")
}

// complete checks the flags and fills in the folder.
func (o *cacheOptions) complete() (err error) {
	if o.format != "text" && o.format != "json" {
		return usageError{fmt.Errorf("--format %s: choose text or json", o.format)}
	}
	if o.dir == "" {
		o.dir, err = store.DefaultDir()
	}
	return err
}

// noCacheError says that there is nothing to look after.
type noCacheError struct{ dir string }

func (e *noCacheError) Error() string { return "there is no cache in " + e.dir }

// Hint says what to do next.
func (*noCacheError) Hint() string {
	return "Name another folder with --dir; phase cache path says which one is looked at without it."
}

// open opens the cache with one of the ways that make none.
func (o *cacheOptions) open(how func(dir string) (*store.Store, error)) (*store.Store, error) {
	s, err := how(o.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &noCacheError{o.dir}
	}
	return s, err
}

func newCachePath() *cobra.Command {
	return &cobra.Command{
		Use: "path", Short: "Print the folder of the cache", Args: noArgs,
		Example: "  du -sh $(phase cache path)",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := store.DefaultDir()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), dir)
			return err
		},
	}
}

func newCacheList() *cobra.Command {
	var o cacheOptions
	var manifests []string
	cmd := &cobra.Command{
		Use: "ls", Short: "List what is in the cache, the most recently used first", Args: noArgs,
		Long: `Lists what is in the cache, the most recently used first, and changes nothing.
Blobs are not read: phase cache verify says whether they are right.`,
		Example: "  phase cache ls\n  phase cache ls --dir /mnt/store --manifest manifest.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			names, err := partOf(manifests)
			if err != nil {
				return err
			}
			return o.list(cmd.OutOrStdout(), names)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringArrayVarP(&manifests, "manifest", "m", nil, "say which blobs this manifest `file` names; it is not verified; repeatable")
	return cmd
}

// partOf says which blobs the manifests in these files name, and as what. They
// are only shown, so nobody has to have signed them.
func partOf(files []string) (map[string][]string, error) {
	names := map[string][]string{}
	for _, file := range files {
		raw, err := durable.ReadSmall(file, manifest.MaxManifestBytes, durable.FollowLinks)
		if err != nil {
			return nil, err
		}
		draft, err := manifest.OpenManifestDraft(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		m := draft.Manifest()
		release := fmt.Sprintf("%s %d (%s)", m.Channel, m.ManifestVersion, m.Arch)
		add := func(digest interface{ String() string }, what string) {
			names[digest.String()] = append(names[digest.String()], what+" of "+release)
		}
		for _, name := range []string{"kernel", "initramfs", "rootfs"} {
			a, ok := m.Artifact(name)
			if !ok {
				continue
			}
			add(a.Hash, name)
			add(a.Chunks, "chunk list of the "+name)
			for _, d := range a.Deltas {
				add(d.Hash, "patch for the "+name)
			}
		}
	}
	return names, nil
}

func (o *cacheOptions) list(out io.Writer, names map[string][]string) error {
	s, err := o.open(store.OpenReadOnly)
	if err != nil {
		return err
	}
	defer s.Close()
	l := cacheList{Dir: s.Dir(), Blobs: []cacheBlob{}, Parts: []cachePart{}, Quarantined: []cacheRotten{}}
	blobs, err := s.List()
	if err != nil {
		return err
	}
	for _, b := range blobs {
		l.addBlob(b, names[b.Digest.String()])
	}
	parts, err := s.Partials()
	if err != nil {
		return err
	}
	for _, p := range parts {
		l.addPart(p, names[p.Digest.String()])
	}
	for _, r := range s.Quarantined() {
		l.addRotten(r)
	}
	_, pinErr := s.Pins() // which is said after all that can be said
	show := l.text
	if o.format == "json" {
		show = func(w io.Writer) error { return writeJSON(w, l) }
	}
	return errors.Join(show(out), pinErr)
}

func newCacheVerify() *cobra.Command {
	var o cacheOptions
	cmd := &cobra.Command{
		Use: "verify", Short: "Read every blob from its medium and compare it with its hash", Args: noArgs,
		Long: `Reads every blob from its medium and compares it with its hash. One that is wrong
or cannot be read is moved into the folder "corrupt" of the cache, so that it is
fetched again when it is needed; on a read-only medium it is only named.`,
		Example: "  phase cache verify\n  phase cache verify --dir /mnt/store --format json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			return o.verify(cmd.Context(), cmd.OutOrStdout())
		},
	}
	o.flags(cmd)
	return cmd
}

// rotError is what verify ends with if it found any.
type rotError struct{ rotten, blobs, left int }

func (e *rotError) Error() string {
	return fmt.Sprintf("%d of %d blobs are rotten or cannot be read", e.rotten, e.blobs)
}

// Hint says what to do next.
func (e *rotError) Hint() string {
	if e.left > 0 {
		return "What was left in its place is not used either; remove it, or fetch the release again onto another medium."
	}
	return "They are fetched again when they are needed. If it happens again, replace the medium."
}

func (o *cacheOptions) verify(ctx context.Context, out io.Writer) error {
	s, err := o.open(store.OpenExisting)
	if err != nil {
		return err
	}
	defer s.Close()
	bar := newLateBar(newConsole(os.Stderr), "verify")
	report, err := s.VerifyAll(ctx, bar.set)
	bar.end()
	if err != nil {
		return err
	}
	v := newCacheVerified(s.Dir(), report)
	show := v.text
	if o.format == "json" {
		show = func(w io.Writer) error { return writeJSON(w, v) }
	}
	if err := show(out); err != nil {
		return err
	}
	if len(v.Findings) == 0 {
		return nil
	}
	failed := &rotError{rotten: len(v.Findings), blobs: v.Blobs}
	for _, f := range v.Findings {
		if f.Moved == "" {
			failed.left++
		}
	}
	return failed
}

func newCacheCollect() *cobra.Command {
	var o cacheOptions
	var limit string
	cmd := &cobra.Command{
		Use: "gc", Short: "Remove what interrupted downloads left and, with --limit, what was used longest ago", Args: noArgs,
		Long: `Removes what interrupted downloads left more than seven days ago. With --limit it
also removes what is in quarantine, and then what was used longest ago, until no
more than that is left. What is pinned stays: the release that is being booted and
the last one that came up.`,
		Example: "  phase cache gc\n  phase cache gc --limit 2G",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			var bytes int64
			var err error
			if cmd.Flags().Changed("limit") {
				bytes, err = term.ParseBytes(limit)
			}
			if err != nil {
				return usageError{fmt.Errorf("--limit: %w", err)}
			}
			return o.collect(cmd.Context(), cmd.OutOrStdout(), bytes)
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&limit, "limit", "", "the most that may be left: a `size` such as 500M, 2G (powers of 1000) or 2Gi (of 1024)")
	return cmd
}

func (o *cacheOptions) collect(ctx context.Context, out io.Writer, limit int64) error {
	s, err := o.open(store.OpenExisting)
	if err != nil {
		return err
	}
	defer s.Close()
	report, gcErr := s.GC(ctx, store.Limit{Bytes: limit})
	if gcErr != nil && report.Used == 0 && report.Freed == 0 { // it did not come to look
		return gcErr
	}
	c := newCacheCollected(s.Dir(), report)
	show := c.text
	if o.format == "json" {
		show = func(w io.Writer) error { return writeJSON(w, c) }
	}
	return errors.Join(show(out), gcErr)
}
