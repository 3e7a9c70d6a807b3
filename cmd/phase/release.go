package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newRelease() *cobra.Command {
	cmd := group("release", "Build, sign and lay out releases")
	cmd.AddCommand(newReleaseBuild())
	return cmd
}

func newReleaseBuild() *cobra.Command {
	var w workshop
	var out string
	var number int64
	var bases []string
	cmd := &cobra.Command{
		Use: "build", Short: "Build the node system and sign it with the keys of the work folder", Args: noArgs,
		Long: `Builds kernel, initramfs and root file system of a node, signs a manifest and a
pointer, and lays everything out as plasmd or any static web server can serve
it. All keys of the work folder are used by this one machine, which suits a
trial; a publisher keeps them apart.`,
		Example: "  phase release build --number 2 --base http://192.168.1.2:8080\n  plasmd serve --artifacts build/published",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := w.prepare(cmd.Context())
			if err != nil {
				return err
			}
			r := l.Release(number, "")
			r.Bases = bases
			published, err := l.Publish(out, r, "")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), published.Dir)
			return err
		},
	}
	w.flags(cmd)
	w.archFlag(cmd)
	cmd.Flags().StringVar(&out, "out", filepath.Join("build", "published"), "folder to publish in")
	cmd.Flags().Int64Var(&number, "number", 1, "manifest version; machines refuse one below the newest they have booted")
	cmd.Flags().StringArrayVar(&bases, "base", nil, "base URL under which the folder will be served, repeatable")
	return cmd
}
