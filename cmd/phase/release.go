package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/ceremony"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

func newRelease() *cobra.Command { return releaseCommand(ceremony.Config{}) }

// releaseCommand holds the commands of key ceremonies, which need no network,
// beside the one that builds.
func releaseCommand(cfg ceremony.Config) *cobra.Command {
	cmd := group("release", "Make keys, sign, build and lay out releases")
	cmd.Long = `Makes keys, signs with them, and lays out releases. Several people sign, each on
their own machine, and carry the files between them; docs/keys.md tells the whole
story. Nothing but "build" uses a network.`
	cmd.AddCommand(ceremony.Commands(cfg)...)
	cmd.AddCommand(newReleaseBuild())
	ownErrors(cmd)
	return cmd
}

// ownErrors lets errors of ceremony commands end this program as its own do.
func ownErrors(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return ownError(run(cmd, args)) }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return ownError(check(cmd, args)) }
	}
	for _, below := range cmd.Commands() {
		ownErrors(below)
	}
}

func ownError(err error) error {
	switch {
	case errors.As(err, new(ceremony.UsageError)):
		return usageError{err}
	case errors.Is(err, ceremony.ErrReported):
		return silentError{err}
	}
	return err
}

func newReleaseBuild() *cobra.Command {
	var w workshop
	var out string
	var number int64
	var bases, previous []string
	cmd := &cobra.Command{
		Use: "build", Short: "Build the node system and sign it with the keys of the work folder", Args: noArgs,
		Long: `Builds kernel, initramfs and root file system of a node, signs a manifest and a
pointer, and lays everything out as plasmd or any static web server can serve
it. All keys of the work folder are used by this one machine, which suits a
trial; a publisher keeps them apart.

With --previous, machines that have that release get patches: they fetch little more
than what has changed.`,
		Example: `  phase release build --number 2 --base http://192.168.1.2:8080
  phase release build --number 3 --previous build/published
  plasmd serve --artifacts build/published`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			earlier, err := w.previous(previous)
			if err != nil {
				return err
			}
			l, err := w.prepare(cmd.Context())
			if err != nil {
				return err
			}
			r := l.Release(number, "")
			r.Bases, r.Previous = bases, earlier
			r.Progress = func(string, int64, int64) error { return cmd.Context().Err() }
			published, err := l.Publish(out, r, "")
			if err != nil {
				return err
			}
			for _, p := range published.Patches {
				fmt.Fprintln(cmd.ErrOrStderr(), "patch of", ceremony.PatchText(p))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), published.Dir)
			return err
		},
	}
	w.flags(cmd)
	archFlag(cmd, &w.arch)
	w.wifiFlags(cmd)
	w.rootfsFlags(cmd)
	cmd.Flags().StringVar(&out, "out", filepath.Join("build", "published"), "folder to publish in")
	cmd.Flags().Int64Var(&number, "number", 1, "manifest version; machines refuse one below the newest they have booted")
	cmd.Flags().StringArrayVar(&previous, "previous", nil, "make patches from the release in this published `FOLDER`, or from that of MANIFEST=FOLDER; repeatable, at most 8")
	cmd.Flags().StringArrayVar(&bases, "base", nil, "base URL under which the folder will be served, repeatable")
	return cmd
}

// previous opens the releases that --previous means, before anything is built.
func (w *workshop) previous(list []string) ([]release.Previous, error) {
	arch, err := parseArch(w.arch)
	if err != nil {
		return nil, err
	}
	if len(list) > manifest.MaxDeltas {
		return nil, usageError{fmt.Errorf("--previous: %d releases, at most %d are allowed", len(list), manifest.MaxDeltas)}
	}
	var found []release.Previous
	for _, text := range list {
		p, err := release.ParsePrevious(text, lab.Channel, arch)
		if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	return found, nil
}
