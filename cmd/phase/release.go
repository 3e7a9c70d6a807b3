package main

import (
	"errors"
	"fmt"

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

// previousReleases opens the releases for an architecture that --previous means.
func previousReleases(list []string, arch string) ([]release.Previous, error) {
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
