package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/doctor"
	"github.com/phasebased/phase/internal/term"
)

func newDoctor() *cobra.Command {
	var task, format, arch string
	var install bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine lacks, all at once, and install it", Args: noArgs,
		Long: `Looks for everything that a task needs and names all that is missing at once, with
the one command that installs it: with Debian's packages, which --install runs,
or with those of Fedora, Arch Linux or Homebrew, whose names nobody has tried.
"without" marks what the task can do without, and what that means.
Exit status: 0 nothing is missing, 1 something is, 2 wrong usage.`,
		Example: "  phase doctor\n  phase doctor --task vm --arch arm64\n  phase doctor --task test --install",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return usageError{fmt.Errorf("--format %s: choose text or json", format)}
			}
			canonical, err := parseArch(arch)
			if err != nil {
				return err
			}
			return examine(cmd.Context(), cmd.OutOrStdout(), doctor.Task(task), canonical, format, install)
		},
	}
	cmd.Flags().StringVar(&task, "task", string(doctor.Demo), fmt.Sprintf("what you want to do: one of %v", doctor.Tasks()))
	archFlag(cmd, &arch)
	cmd.Flags().BoolVar(&install, "install", false, "install what is missing from Debian's packages")
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	return cmd
}

// examine prints every finding; it fails if something is (still) missing.
func examine(ctx context.Context, out io.Writer, task doctor.Task, arch, format string, install bool) error {
	host, found, err := look(ctx, task, arch, install)
	if err != nil {
		return err
	}
	notes, err := host.Notes(ctx, task, arch)
	if err != nil {
		return err
	}
	diagnosis := diagnosis{
		Task: task, Arch: arch, OK: len(doctor.Missing(found)) == 0, Remedy: host.Remedy(found), Findings: append(found, notes...),
	}
	if err := diagnosis.print(out, format); err != nil {
		return err
	}
	return lacking(host, found)
}

// diagnosis is what --format json prints.
type diagnosis struct {
	Task     doctor.Task      `json:"task"`
	Arch     string           `json:"arch"` // of the machines
	OK       bool             `json:"ok"`   // nothing that is needed is missing
	Remedy   doctor.Remedy    `json:"remedy"`
	Findings []doctor.Finding `json:"findings"`
}

func (d diagnosis) print(out io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(d)
	}
	for _, f := range d.Findings {
		text := term.Clean(f.String()) + "\n"
		if f.Optional && !f.OK {
			text += "         " + f.Hint + "\n"
		}
		if _, err := io.WriteString(out, text); err != nil {
			return err
		}
	}
	return nil
}

// ensureTools makes sure that a task can be done, installing if told to.
func ensureTools(ctx context.Context, task doctor.Task, arch string, install bool) error {
	host, found, err := look(ctx, task, arch, install)
	if err != nil {
		return err
	}
	return lacking(host, found)
}

// look checks this machine, installs what is missing if told to, and checks
// again.
func look(ctx context.Context, task doctor.Task, arch string, install bool) (doctor.Host, []doctor.Finding, error) {
	host := doctor.This(os.Getenv("PATH"))
	found, err := host.Check(ctx, task, arch)
	if err != nil {
		return host, nil, usageError{err}
	}
	if !install || len(doctor.Missing(found)) == 0 {
		return host, found, nil
	}
	if err := host.Install(ctx, found, os.Stderr); err != nil {
		return host, nil, err
	}
	found, err = host.Check(ctx, task, arch)
	return host, found, err
}

// lackingError names what is missing and the one command that brings it.
type lackingError struct {
	missing []doctor.Finding
	remedy  doctor.Remedy
}

func lacking(host doctor.Host, found []doctor.Finding) error {
	missing := doctor.Missing(found)
	if len(missing) == 0 {
		return nil
	}
	return &lackingError{missing, host.Remedy(found)}
}

func (e *lackingError) Error() string {
	var names []string
	for _, f := range e.missing {
		names = append(names, fmt.Sprintf("%s (%s)", f.Name, f.Why))
	}
	return "missing on this machine: " + strings.Join(names, ", ")
}

// Hint is the command that installs what is missing, and what to do about the rest.
func (e *lackingError) Hint() string {
	var hints []string
	if e.remedy.Command != "" {
		hints = append(hints, e.remedy.Command)
	}
	if e.remedy.Untested {
		hints = append(hints, "(untested: this project tries Debian's packages only)")
	}
	for _, f := range e.missing {
		if slices.Contains(e.remedy.Rest, f.Name) && f.Hint != "" {
			hints = append(hints, f.Hint)
		}
	}
	if len(hints) == 0 {
		hints = append(hints, "Install these with your system's package manager: "+strings.Join(e.remedy.Rest, ", ")+".")
	}
	return strings.Join(hints, " ")
}
