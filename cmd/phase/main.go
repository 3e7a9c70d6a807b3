// Command phase is the operator's tool: it shows the whole system at work
// (demo), builds media (image build) and releases (release build), tells how media
// boot (policy), looks after the cache of downloads (cache), runs jobs on a node
// (job), and says what this machine lacks (doctor).
//
// Results go to standard output, progress to standard error. Exit status: 0
// done, 1 failed, 2 wrong usage; job run exits with the module's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/cmd/internal/manual"
	"github.com/phasebased/phase/cmd/internal/typo"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not listen
	root := newRoot()
	if err := root.ExecuteContext(ctx); err != nil {
		report(err)
		os.Exit(exitStatus(err))
	}
}

func newRoot() *cobra.Command {
	root := group("phase", "Build, publish and try out Phase Boot")
	root.Long = `Makes media and releases, signs them, writes sticks, starts virtual machines, gives
jobs to nodes, and says what a machine lacks for that.

Results go to standard output, progress and remarks to standard error.

Exit status: 0 done, 1 failed or refused, 2 wrong usage. Commands that have others
say so.`
	root.Version, root.SilenceErrors, root.SilenceUsage = version.Version, true, true
	root.Flags().Bool("version", false, "print the version; phase version says more") // without a letter: -v is --verbose
	root.SetVersionTemplate("phase {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", typo.Flag(cmd, err), cmd.CommandPath())}
	})
	root.AddCommand(newDemo(), newImage(), newRelease(), newPolicy(), newCache(), newVM(), newJob(), newDeb(), newDoctor(), newVersion())
	manual.Complete(root)
	manual.Fit(root)
	return root
}

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// silentError has been reported already.
type silentError struct{ error }

func (e silentError) Unwrap() error { return e.error }

func exitStatus(err error) int {
	var told statusError
	switch {
	case errors.As(err, new(usageError)):
		return 2
	case errors.As(err, &told):
		return told.status
	}
	return 1
}

// report tells a person what failed and what to do next.
func report(err error) {
	if !errors.As(err, new(silentError)) {
		fmt.Fprint(os.Stderr, explain(err))
	}
}

// explain returns the lines of report. An error may quote the names of files and
// what documents say, so it is cleaned for the terminal.
func explain(err error) string {
	var text strings.Builder
	said := err.Error()
	if code := failure.Code(err); code != "" && !strings.Contains(said, code) {
		said += " [" + code + "]" // for docs/codes.md
	}
	for line := range strings.SplitSeq(said, "\n") {
		fmt.Fprintln(&text, "phase:", term.Clean(line))
	}
	if hint := failure.Hint(err); hint != "" {
		fmt.Fprintln(&text, "phase: hint:", term.Clean(hint))
	}
	return text.String()
}

// group is a command that only holds others.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
}

// knownCommand refuses a misspelt command and says which one was likely meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if err := typo.Command(cmd, args); err != nil {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	}
	return nil
}

// noArgs refuses arguments as a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q (see %s --help)", args[0], cmd.CommandPath())}
	}
	return nil
}

func newVersion() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version, and what the program was built from", Args: noArgs,
		Long: `Prints the version, the date and the commit of the sources, and the compiler. With
--format json also every module of other projects that is in the program, each with the
checksum that go.sum has.`,
		Example: "  phase version\n  phase version --format json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			this := version.This("phase")
			switch format {
			case "text":
				return this.Write(cmd.OutOrStdout())
			case "json":
				return writeJSON(cmd.OutOrStdout(), this)
			}
			return usageError{fmt.Errorf("--format %s: choose text or json", format)}
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	return cmd
}
