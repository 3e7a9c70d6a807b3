package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/manual"
	"github.com/phasebased/phase/internal/deb"
	"github.com/phasebased/phase/internal/version"
)

func newDeb() *cobra.Command {
	var programs, arch, out string
	cmd := &cobra.Command{
		Use: "deb", Short: "Pack the programs as Debian packages", Args: noArgs,
		Long: `Packs plasmd, the node with its service, and phase, these commands, as Debian packages.
No root is needed, and the same programs give the same bytes in every folder.
make deb builds the programs for both architectures and runs this.`,
		Example: "  phase deb --programs build/deb/programs/arm64 --arch arm64",
		RunE: func(cmd *cobra.Command, _ []string) error {
			canonical, err := parseArch(arch)
			if err != nil {
				return err
			}
			made, err := packDebs(cmd.Context(), programs, canonical, out)
			for _, path := range made {
				fmt.Fprintln(cmd.OutOrStdout(), path)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&programs, "programs", filepath.Join("build", "deb", "programs", "x86_64"), "folder of the programs, built for that architecture")
	archFlag(cmd, &arch)
	cmd.Flags().StringVarP(&out, "out", "o", filepath.Join("build", "deb"), "folder for the packages")
	return cmd
}

// packDebs asks the plasmd beside this program for its page and its configuration:
// the one that is packed may be for another architecture.
func packDebs(ctx context.Context, programs, arch, out string) ([]string, error) {
	at, err := sourcesTime()
	if err != nil {
		return nil, err
	}
	plasmd, err := beside("plasmd")
	if err != nil {
		return nil, err
	}
	page, err := exec.CommandContext(ctx, plasmd, "manual").Output()
	if err != nil {
		return nil, fmt.Errorf("%s manual: %w", plasmd, err)
	}
	dir, err := os.MkdirTemp("", "phase-deb-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	config := filepath.Join(dir, "config.json")
	if err := exec.CommandContext(ctx, plasmd, "init", "--config", config).Run(); err != nil {
		return nil, fmt.Errorf("%s init: %w", plasmd, err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		return nil, err
	}
	return deb.Build(ctx, deb.Config{
		Programs: programs, Arch: arch, Version: version.Version, Time: at, Config: text, Out: out,
		Manuals: map[string][]byte{"plasmd": page, "phase": manual.Page(newRoot(), at)},
	})
}
