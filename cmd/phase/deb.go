package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/manual"
	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/internal/deb"
	"github.com/phasebased/phase/internal/version"
)

func newDeb() *cobra.Command {
	var programs, arch, out, format string
	cmd := &cobra.Command{
		Use: "deb", Short: "Pack the programs as Debian packages", Args: noArgs,
		Long: `Packs plasmd, the node with its service, and phase, these commands, as Debian packages.
No root is needed, and the same programs give the same bytes in every folder.
make deb builds the programs for both architectures and runs this.`,
		Example: "  phase deb --programs build/deb/programs/arm64 --arch arm64",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			canonical, err := parseArch(arch)
			if err != nil {
				return err
			}
			made, err := packDebs(cmd.Context(), programs, canonical, out)
			if format == "json" && err == nil {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string][]string{"files": made})
			}
			for _, path := range made {
				fmt.Fprintln(cmd.OutOrStdout(), path)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&programs, "programs", filepath.Join("build", "deb", "programs", "x86_64"), "folder of the programs, built for that architecture")
	archFlag(cmd, &arch)
	cmd.Flags().StringVarP(&out, "out", "o", filepath.Join("build", "deb"), "folder for the packages")
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	return cmd
}

// packDebs asks the plasmd beside this program for its page, its completions and its
// configuration: the one that is packed may be for another architecture.
func packDebs(ctx context.Context, programs, arch, out string) ([]string, error) {
	at, err := sourcesTime()
	if err != nil {
		return nil, err
	}
	plasmd, err := beside("plasmd")
	if err != nil {
		return nil, err
	}
	described, err := describe(described(), at)
	if err == nil {
		err = described.ask(ctx, plasmd)
	}
	if err != nil {
		return nil, err
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
		Manuals: described.manuals, Completions: described.completions,
	})
}

// A description is what packages tell of their programs: manual pages by program, and
// completions by program and by their place below /usr/share.
type description struct {
	manuals     map[string][]byte
	completions map[string]map[string][]byte
}

// describe describes programs by their commands.
func describe(roots []*cobra.Command, at time.Time) (description, error) {
	d := description{map[string][]byte{}, map[string]map[string][]byte{}}
	for _, root := range roots {
		d.manuals[root.Name()] = manual.Page(root, at)
		for _, shell := range manual.Shells() {
			script, err := manual.Completion(root, shell)
			if err != nil {
				return d, err
			}
			d.add(shell, root.Name(), script)
		}
	}
	return d, nil
}

// ask has a program that cannot be a part of this one describe itself.
func (d description) ask(ctx context.Context, program string) error {
	name := filepath.Base(program)
	page, err := exec.CommandContext(ctx, program, "manual").Output()
	if err != nil {
		return fmt.Errorf("%s manual: %w", program, err)
	}
	d.manuals[name] = page
	for _, shell := range manual.Shells() {
		script, err := exec.CommandContext(ctx, program, "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("%s completion %s: %w", program, shell, err)
		}
		d.add(shell, name, script)
	}
	return nil
}

func (d description) add(shell, program string, script []byte) {
	if d.completions[program] == nil {
		d.completions[program] = map[string][]byte{}
	}
	d.completions[program][manual.CompletionPath(shell, program)] = script
}

// described are the programs in the package of phase.
func described() []*cobra.Command { return append(steps.Commands(), newRoot()) }
