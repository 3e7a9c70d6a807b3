package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/doctor"
)

func newDoctor() *cobra.Command {
	var task, format, arch string
	var install bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine lacks, all at once, and install it", Args: noArgs,
		Example: "  phase doctor\n  phase doctor --task test --install",
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
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

// examine prints every finding; it fails if something is (still) missing.
func examine(ctx context.Context, out io.Writer, task doctor.Task, arch, format string, install bool) error {
	host, found, err := look(ctx, task, arch, install)
	if err != nil {
		return err
	}
	if err := printFindings(out, found, format); err != nil {
		return err
	}
	return lacking(host, found)
}

func printFindings(out io.Writer, found []doctor.Finding, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(found)
	}
	for _, f := range found {
		if _, err := fmt.Fprintln(out, f); err != nil {
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
	command string
}

func lacking(host doctor.Host, found []doctor.Finding) error {
	missing := doctor.Missing(found)
	if len(missing) == 0 {
		return nil
	}
	return &lackingError{missing, host.Command(found)}
}

func (e *lackingError) Error() string {
	var names []string
	for _, f := range e.missing {
		names = append(names, fmt.Sprintf("%s (%s)", f.Name, f.Why))
	}
	return "missing on this machine: " + strings.Join(names, ", ")
}

// Hint is the command that installs everything that is missing.
func (e *lackingError) Hint() string {
	if e.command == "" {
		return e.missing[0].Hint
	}
	return e.command
}
